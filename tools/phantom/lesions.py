"""Lesions: where they grow, what they displace, and how they look after contrast."""

from dataclasses import dataclass

import numpy as np

from phantom.brain import Brain
from phantom.head import CSF, SELLA, Scene, cavity
from phantom.shapes import blend, ellipsoid

CLASSES = ("glioma", "healthy", "meningioma", "pituitary")
TUMOURS = tuple(name for name in CLASSES if name != "healthy")


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """One tumour: a solid that grows, presses and takes up contrast."""

    kind: str
    """One of TUMOURS."""
    centre_mm: np.ndarray
    """float, (3,)."""
    radius_mm: float
    """Of a sphere about as large."""
    stretch: np.ndarray
    """By how much longer than the radius each axis is: float, (3,)."""
    bud: np.ndarray
    """Offset of a second, smaller focus of a glioma, in radii from the centre: float, (3,)."""
    roughness_mm: float
    """Deviation of the surface from an ellipsoid."""
    enhancement: float
    """Grey value of its brightest part."""
    necrosis: float
    """Fraction of the radius that is dead inside, for gliomas."""

    def distance(self, scene: Scene) -> np.ndarray:
        """Return distances to its surface."""
        solid = ellipsoid(scene.places, self.centre_mm, self.radius_mm * self.stretch)
        if self.kind == "pituitary":
            # It comes up from the sella and is held in by its diaphragm: a waist.
            solid = blend(solid, ellipsoid(scene.places, SELLA, (9, 8, 8)), 3)
        if self.kind == "glioma":
            bud = self.centre_mm + self.radius_mm * self.bud
            solid = blend(solid, ellipsoid(scene.places, bud, np.full(3, 0.55 * self.radius_mm)), 5)
        rough = scene.noise(1, 30) + (0.35 * scene.noise(2, 13) if self.kind == "glioma" else 0)
        solid = solid - self.roughness_mm * rough
        return np.maximum(solid, scene.cavity) if self.kind == "meningioma" else solid

    def unpressed(self, places: np.ndarray) -> np.ndarray:
        """Return positions that the tissue now at `places` would have without the lesion."""
        away = places - self.centre_mm.astype(np.float32)[:, None, None]
        reach = np.sqrt((away**2).sum(axis=0)) + 1e-3
        pushed = 0.75 * self.radius_mm if self.kind != "glioma" else 0.6 * self.radius_mm
        # Volume is kept: a shell at `reach` was nearer by what the lesion has taken up; far away, nothing.
        before = np.cbrt(np.maximum(reach**3 - pushed**3 * np.exp(-((reach / 70) ** 2)), 0.05 * reach**3))
        return places - away * (1 - before / reach)

    def draw(self, image: np.ndarray, scene: Scene, brain: Brain) -> np.ndarray:
        """Draw it, in place; returns its mask: float, (H, W), from 0 to 1."""
        surface = self.distance(scene)
        if self.kind == "glioma":
            self._draw_glioma(image, surface, scene, brain)
        else:
            self._draw_solid(image, surface, scene)
        mask = np.zeros_like(image)
        scene.paint(mask, 1.0, surface)
        return mask

    def _draw_glioma(self, image: np.ndarray, surface: np.ndarray, scene: Scene, brain: Brain) -> None:
        within = np.maximum(brain.cerebrum, -brain.fissure)
        finger = 0.30 * self.radius_mm * scene.noise(2, 32)
        oedema = np.clip(0.5 - (surface - 0.55 * self.radius_mm - finger) / 9, 0, 1) * (within < 0)
        image += 0.75 * oedema * (np.minimum(image, 0.23) - image)
        scene.paint(image, self.enhancement + 0.09 * scene.noise(3, 10), surface)
        dead = surface + (1 - self.necrosis) * self.radius_mm + 2.4 * scene.noise(4, 16)
        scene.paint(image, 0.17 + 0.025 * scene.noise(5, 14), dead)

    def _draw_solid(self, image: np.ndarray, surface: np.ndarray, scene: Scene) -> None:
        if self.kind == "meningioma":
            tail = np.maximum(np.abs(scene.cavity + 0.6) - 1.1, surface - 0.6 * self.radius_mm)
            scene.paint(image, self.enhancement, tail)
            scene.paint(image, CSF, np.maximum(surface - 1.1, scene.cavity + 0.6))
        scene.paint(image, self.enhancement + 0.025 * scene.noise(3, 12), surface)


def random_lesion(kind: str, random: np.random.Generator) -> Lesion:
    """Draw one of the kind, in a position and of a size such as that kind has."""
    radius = random.uniform(*{"glioma": (13, 22), "meningioma": (10, 20), "pituitary": (9, 15)}[kind])
    centre = {"glioma": _in_white_matter, "meningioma": _at_the_dura, "pituitary": _above_the_sella}[kind]
    return Lesion(
        kind=kind,
        centre_mm=centre(radius, random),
        radius_mm=radius,
        stretch=random.uniform(0.85, 1.2, 3),
        bud=random.uniform(-0.75, 0.75, 3),
        roughness_mm={"glioma": 0.17, "meningioma": 0.06, "pituitary": 0.06}[kind] * radius,
        enhancement=random.uniform(0.58, 0.78),
        necrosis=random.uniform(0.45, 0.85),
    )


def _in_white_matter(radius_mm: float, random: np.random.Generator) -> np.ndarray:
    side = random.choice([-1, 1])
    lobe = random.choice(4)
    centre = [(28, 40, 18), (38, -12, 30), (40, -8, -18), (28, -52, 16)][lobe]
    return np.array([side, 1, 1]) * centre + random.uniform(-6, 6, 3)


def _at_the_dura(radius_mm: float, random: np.random.Generator) -> np.ndarray:
    """Pick a point on a ray from the middle of the brain, on which it sits on the inside of the skull."""
    middle = np.array([0.0, -5.0, 15.0])
    while (direction := random.normal(size=3))[2] < -0.2 * np.linalg.norm(direction):
        pass
    direction /= np.linalg.norm(direction)
    lengths = np.arange(30, 110, 0.5)
    ray = (middle[:, None] + direction[:, None] * lengths)[:, None, :].astype(np.float32)
    edge = lengths[int(np.argmax(cavity(ray)[0] > 0))]
    return middle + direction * (edge - 0.75 * radius_mm)


def _above_the_sella(radius_mm: float, random: np.random.Generator) -> np.ndarray:
    return np.add(SELLA, [random.uniform(-3, 3), random.uniform(-2, 2), 0.55 * radius_mm])
