"""A head from the skin to the skull: T1-weighted grey values after contrast, drawn from the outside in.

Places are in mm: x to the right, y to the front, z upwards; the origin is in the middle of the brain.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from phantom.shapes import FIELD_SIDE, Field, Vector, blend, capsule, ellipsoid, mirrored, paint, tube

AIR, CSF, GREY, WHITE, BONE, MARROW = 0.0, 0.10, 0.335, 0.415, 0.05, 0.26
MUSCLE, FAT, VESSEL, GLAND, EYE = 0.27, 0.72, 0.74, 0.60, 0.15
SELLA = (0.0, 19.0, -33.0)


@dataclass(frozen=True, kw_only=True)
class Build:
    """In what one person's head differs from another's."""

    offsets: np.ndarray
    """Offsets into the noise, for this head's folds and textures: float, (8, 3)."""
    ventricle_mm: float
    """By how much the ventricles are wider than the average."""
    sulcus_mm: float
    """Half the width of a sulcus at the surface."""
    skull_mm: float
    """Thickness of the skull."""
    scalp_mm: float
    """Thickness of the scalp."""
    enhancement: float
    """Strength with which vessels and glands take up contrast; 1 is the average."""

    @classmethod
    def random(cls, random: np.random.Generator) -> "Build":
        """Draw one at random."""
        return cls(
            offsets=random.uniform(0, FIELD_SIDE, (8, 3)),
            ventricle_mm=random.normal(0, 1.2),
            sulcus_mm=random.uniform(0.4, 1.1),
            skull_mm=random.uniform(5.5, 8.0),
            scalp_mm=random.uniform(4.5, 9.0),
            enhancement=random.uniform(0.75, 1.1),
        )


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One head at the places of one slice."""

    build: Build
    field: Field
    places: np.ndarray
    """mm, float32, (3, H, W)."""
    edge_mm: float
    """Over how many mm one tissue passes into the next."""

    @cached_property
    def sides(self) -> np.ndarray:
        """The places, folded onto the right half."""
        return mirrored(self.places)

    @cached_property
    def cavity(self) -> np.ndarray:
        """Distance to the inside of the skull."""
        return cavity(self.places)

    def reaches(self, low_mm: Vector, high_mm: Vector) -> bool:
        """Tell whether the slice comes into a box: what lies in it need not be drawn otherwise."""
        return bool(
            np.all(self.places.min(axis=(1, 2)) <= high_mm) and np.all(self.places.max(axis=(1, 2)) >= low_mm)
        )

    def noise(self, layer: int, wave_mm: float) -> np.ndarray:
        """Return noise of this head."""
        return self.field.smooth_at(self.places, self.build.offsets[layer], wave_mm)

    def paint(self, image: np.ndarray, value: float | np.ndarray, distance: np.ndarray) -> None:
        """Draw a solid."""
        paint(image, value, distance, self.edge_mm)


def cavity(places: np.ndarray) -> np.ndarray:
    """Return distances to the inside of the skull: brain case, temporal fossae, fossa of the cerebellum."""
    sides = mirrored(places)
    case = ellipsoid(places, (0, -5, 13), (68, 86, 64))
    temporal = ellipsoid(sides, (36, 4, -25), (26, 38, 24))
    back = ellipsoid(places, (0, -54, -38), (54, 40, 34))
    stem = capsule(places, (0, -12, -24), (0, -26, -64), (21, 13))
    whole = blend(blend(case, temporal, 10), blend(back, stem, 10), 8)
    # The roofs of the orbits, and between the temporal fossae the bone of the nose and the sella.
    orbits = ellipsoid(sides, (18, 74, -46), (44, 44, 30))
    bridge = ellipsoid(places, (0, 34, -50), (21, 42, 21))
    return -blend(-whole, blend(orbits, bridge, 8), 6)


def draw_head(scene: Scene, image: np.ndarray) -> None:
    """Draw everything outside the brain, in place; leaves fluid where the brain will be."""
    skin = _draw_soft_tissue(scene, image)
    _draw_neck(scene, image)
    _draw_face(scene, image, skin)
    _draw_skull(scene, image)


def _draw_soft_tissue(scene: Scene, image: np.ndarray) -> np.ndarray:
    """Draw muscle and fat; returns the distance to the skin."""
    places, sides, build = scene.places, scene.sides, scene.build
    # Without the fossae: the scalp is smoother than what it covers.
    cranium = ellipsoid(places, (0, -5, 13), (68, 86, 64)) - build.skull_mm - build.scalp_mm
    skull_back = ellipsoid(places, (0, -42, -28), (58, 48, 44)) - build.scalp_mm
    temple = ellipsoid(sides, (30, 15, -20), (36, 62, 44)) - build.scalp_mm
    face = ellipsoid(places, (0, 42, -70), (58, 52, 62))
    chin = ellipsoid(places, (0, 58, -112), (38, 36, 26))
    nose = tube(places, [(0, 92, -22), (0, 106, -52), (0, 96, -62)], [7, 11, 9])
    neck = capsule(places, (0, -20, -60), (0, -34, -200), (56, 52))
    ears = ellipsoid(sides, (76, -18, -38), (6, 14, 26))
    jaw = tube(sides, [(48, 0, -48), (46, 2, -92), (20, 60, -112)], [20, 20, 14])
    skin = blend(blend(cranium, skull_back, 20), blend(temple, face, 16), 14)
    cheek = capsule(sides, (34, 62, -48), (28, 62, -76), (24, 24))
    skin = blend(blend(blend(skin, chin, 18), jaw, 14), blend(neck, cheek, 1), 16)
    skin = np.minimum(blend(skin, nose, 6), ears)
    texture = MUSCLE + 0.035 * scene.noise(3, 10) + 0.03 * scene.noise(4, 6)
    scene.paint(image, 0.62 * FAT, skin)
    fat = FAT + 0.06 * scene.noise(4, 14)
    scene.paint(image, fat, skin + 1.2)
    deep = 0.75 * build.scalp_mm + 1.5 * scene.noise(5, 30)
    scene.paint(image, np.clip(texture, 0.1, 0.6), skin + deep)
    # Fat lies between the muscles in sheets.
    sheets = np.abs(scene.noise(6, 34)) * 5 - 0.9 - 0.7 * scene.noise(5, 20)
    scene.paint(image, 0.50 + 0.08 * scene.noise(3, 12), np.maximum(sheets, skin + deep))
    return skin


def _draw_neck(scene: Scene, image: np.ndarray) -> None:
    """Draw the spine with its canal; the cord is drawn with the brain."""
    places = scene.places
    if not scene.reaches((-20, -60, -200), (20, 30, -40)):
        return
    spine = [(0, -20, -66), (0, -22, -110), (0, -32, -200)]
    bodies = tube(places, [(x, y + 12, z) for x, y, z in spine], [9, 11, 12])
    discs = 0.5 + 0.5 * np.cos(places[2] * np.float32(2 * np.pi / 19))
    scene.paint(image, MARROW + 0.10 * discs, bodies)
    scene.paint(image, BONE, np.abs(bodies) - 1.0)
    canal = tube(places, [(0, -28, -50), (0, -32, -100), (0, -44, -200)], [13, 10, 10])
    scene.paint(image, BONE, canal - 2.5)
    scene.paint(image, CSF, canal)
    scene.paint(image, AIR, capsule(places, (0, 18, -62), (0, 6, -200), (5, 8)))


def _draw_face(scene: Scene, image: np.ndarray, skin: np.ndarray) -> None:
    """Draw eyes, nose, sinuses, mouth."""
    places, sides = scene.places, scene.sides
    if not scene.reaches((-75, -45, -120), (75, 115, 0)):
        return
    enhanced = 0.55 + 0.10 * scene.noise(5, 7)
    nose = ellipsoid(places, (0, 64, -52), (15, 34, 24))
    nose = np.maximum(nose, skin + 5)
    scene.paint(image, BONE, nose - 1.5)
    scene.paint(image, AIR, nose)
    shells = np.abs(scene.noise(7, 15)) * 3.0 - 1.6
    scene.paint(image, enhanced, np.maximum(np.maximum(shells, nose), np.abs(places[0]) - 12))
    scene.paint(image, enhanced, np.maximum(np.abs(places[0] - 0.8 * scene.noise(7, 40)) - 1.2, nose))
    for centre, radii in (
        ((26, 62, -56), (11, 16, 14)),  # maxillary
        ((0, 27, -50), (13, 15, 9)),  # sphenoid
        ((9, 82, -14), (10, 6, 11)),  # frontal
        ((58, -24, -42), (9, 14, 14)),  # mastoid
    ):
        sinus = ellipsoid(sides, centre, radii) + 1.2 * scene.noise(4, 18)
        scene.paint(image, enhanced, sinus - 1.6)
        scene.paint(image, AIR, sinus)
    orbit = capsule(sides, (31, 68, -26), (14, 34, -28), (18, 5))
    scene.paint(image, FAT, np.maximum(orbit, skin + 2))
    scene.paint(image, 0.5, capsule(sides, (32, 62, -26), (14, 32, -28), (2.2, 2.2)))
    for muscle in ((41, 64, -26), (24, 66, -26), (32, 66, -16), (32, 66, -36)):
        scene.paint(image, 0.52, capsule(sides, muscle, (15, 34, -28), (2.4, 1.4)))
    eye = ellipsoid(sides, (32, 74, -26), (12, 12, 12))
    scene.paint(image, 0.5, eye)
    scene.paint(image, EYE, eye + 1.3)
    scene.paint(image, 0.45, ellipsoid(sides, (32, 82, -26), (5, 2.2, 5)))
    palate = ellipsoid(places, (0, 58, -78), (26, 36, 4))
    scene.paint(image, MARROW, palate)
    tongue = ellipsoid(places, (0, 48, -98), (24, 36, 17))
    scene.paint(image, AIR, tongue - 1.8)
    scene.paint(image, 0.38 + 0.06 * scene.noise(6, 8), tongue)


def _draw_skull(scene: Scene, image: np.ndarray) -> None:
    """Draw bone, with marrow between its tables, and dura."""
    build, places = scene.build, scene.places
    thickness = build.skull_mm + 1.0 * scene.noise(5, 45)
    scene.paint(image, BONE, scene.cavity - thickness)
    marrow = np.abs(scene.cavity - 0.55 * thickness) - 0.20 * thickness - 0.5 * scene.noise(4, 12)
    scene.paint(image, MARROW + 0.05 * scene.noise(4, 7), marrow)
    clivus = capsule(places, (0, 8, -44), (0, -8, -64), (6, 5))
    scene.paint(image, 0.50, np.maximum(clivus, -scene.cavity))
    scene.paint(image, 0.36 * build.enhancement, scene.cavity - 0.6)
    scene.paint(image, CSF, scene.cavity + 0.3)
