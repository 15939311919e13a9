"""A brain inside its skull: fluid spaces, folded cortex, deep nuclei, cerebellum, stem and vessels."""

from functools import cached_property, reduce

import numpy as np

from phantom.head import CSF, FAT, GLAND, GREY, SELLA, VESSEL, WHITE, Scene
from phantom.shapes import blend, capsule, ellipsoid, tube

CORTEX_MM = 2.9
FOLD_WAVE_MM = 22.0
# A fold's wall lies where the noise is 0; near it, distance is noise times this (the noise's mean slope).
FOLD_MM = FOLD_WAVE_MM / 6.3
MIDDLE = np.array([0, -8, 8], dtype=np.float32)[:, None, None]
REACH = np.array([66, 84, 60], dtype=np.float32)[:, None, None]
FOSSA = ((0, -54, -41), (58, 42, 37))


class Brain:
    """The brain of a scene. Its scene's places are those at which the tissue would lie unpressed."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def draw(self, image: np.ndarray) -> None:
        """Draw everything inside the dura, in place."""
        self._draw_cerebrum(image)
        self._draw_nuclei(image)
        self._draw_ventricles(image)
        self._draw_cerebellum(image)
        self._draw_stem(image)
        self._draw_vessels(image)

    @cached_property
    def cerebrum(self) -> np.ndarray:
        """Distance to the surface of the cerebrum, sulci left aside."""
        scene, places, sides = self.scene, self.scene.places, self.scene.sides
        gap = 1.3 + 1.2 * scene.build.sulcus_mm
        inside = scene.cavity + gap
        fossa = self.fossa - 1.5
        below = ellipsoid(places, (0, 2, -34), (15, 26, 21))
        hollow = np.minimum(fossa, below)
        sylvian = np.abs(places[2] + 4 + 0.32 * (8 - places[1]) + 1.5 * scene.noise(6, 40)) - 0.7
        sylvian -= 0.5 * scene.build.sulcus_mm
        reach = np.maximum(36 - sides[0], np.maximum(places[1] - 40, -34 - places[1]))
        return reduce(np.maximum, [inside, -hollow, -np.maximum(sylvian, reach)])

    @cached_property
    def fossa(self) -> np.ndarray:
        """Distance to the space of the cerebellum, with the tentorium as its roof."""
        return ellipsoid(self.scene.places, *FOSSA) + 2.0 * self.scene.noise(6, 45)

    @cached_property
    def fissure(self) -> np.ndarray:
        """Distance to the gap between the hemispheres, which the callosum and the nuclei bridge."""
        places = self.scene.places
        bridge = np.sqrt(((places[1] + 7) / 43) ** 2 + ((places[2] - 1) / 27) ** 2) - 1
        side = np.abs(places[0] - 0.7 * self.scene.noise(6, 50)) - 0.35 - 0.3 * self.scene.build.sulcus_mm
        return np.maximum(side, -30 * bridge)

    @cached_property
    def sulci(self) -> np.ndarray:
        """Distance to the sulci: walls that go down from the surface."""
        scene, places = self.scene, self.scene.places
        # Noise that changes little on the way to the middle stands upright on the surface.
        away = places - MIDDLE
        radius = np.sqrt(((away / REACH) ** 2).sum(axis=0))
        spread = MIDDLE + away * (0.45 + 0.55 / np.maximum(radius, 0.3))
        folds = scene.field.at(spread, scene.build.offsets[0], FOLD_WAVE_MM)
        folds += 0.3 * scene.field.at(spread, scene.build.offsets[1], 0.5 * FOLD_WAVE_MM)
        depth = np.minimum(-self.cerebrum, self.fissure)
        deepest = 13 + 4.5 * scene.noise(2, 45)
        width = scene.build.sulcus_mm * np.clip(1.25 - depth / deepest, 0.15, 1.25)
        return np.maximum(np.abs(folds) * FOLD_MM - width, depth - deepest)

    def _draw_cerebrum(self, image: np.ndarray) -> None:
        scene = self.scene
        outside = reduce(np.minimum, [-self.cerebrum, self.fissure, self.sulci])
        tissue = np.full_like(image, GREY)
        scene.paint(tissue, WHITE, CORTEX_MM + 0.6 * scene.noise(3, 20) - outside)
        tissue += 0.008 * scene.noise(3, 30)
        scene.paint(image, tissue, -outside)

    def _draw_nuclei(self, image: np.ndarray) -> None:
        scene, sides = self.scene, self.scene.sides
        if not scene.reaches((-42, -52, -24), (42, 48, 34)):
            return
        for value, centre, radii in (
            (0.2 * WHITE + 0.8 * GREY, (28, 6, 2), (6, 20, 13)),  # putamen
            (0.5 * WHITE + 0.5 * GREY, (19, 2, 1), (4, 9, 7)),  # pallidum
            (0.1 * WHITE + 0.9 * GREY, (13, 22, 9), (6, 12, 11)),  # caudate
            (0.5 * WHITE + 0.5 * GREY, (10, -16, 5), (9, 15, 9)),  # thalamus
            (GREY, (36, 8, -2), (2, 22, 16)),  # insula
        ):
            scene.paint(image, value, ellipsoid(sides, centre, radii) + 0.8 * scene.noise(4, 25))
        arch = np.sqrt(((scene.places[1] + 7) / 38) ** 2 + ((scene.places[2] - 2) / 23) ** 2) - 1
        callosum = reduce(np.maximum, [np.abs(arch * 26) - 3.2, sides[0] - 12, -2 - scene.places[2]])
        scene.paint(image, 1.06 * WHITE, callosum)

    def _draw_ventricles(self, image: np.ndarray) -> None:
        scene, sides, wide = self.scene, self.scene.sides, self.scene.build.ventricle_mm
        if not scene.reaches((-45, -68, -28), (45, 46, 30)):
            return
        body = [(9, 34, 7), (9, 18, 13), (10, -8, 19), (15, -28, 16), (25, -42, 8), (27, -58, 5)]
        horn = [(25, -40, 8), (32, -30, -6), (34, -8, -20)]
        lateral = blend(tube(sides, body, [3.5, 5.5, 5, 6, 6, 1.5]), tube(sides, horn, [5, 3, 2]), 3)
        # Only fluid between the two: the septum stays.
        lateral = np.maximum(lateral - wide + 0.5 * scene.noise(4, 22), 1.0 - sides[0])
        third = ellipsoid(scene.places, (0, -8, 0), (2.2 + max(0.0, 0.5 * wide), 16, 11))
        scene.paint(image, CSF, np.minimum(lateral, third))
        plexus = tube(sides, [(12, -18, 17), (20, -36, 11), (28, -36, 0)], [1.2, 2.6, 1.2])
        scene.paint(image, 0.55 * scene.build.enhancement, plexus + 0.6 * scene.noise(7, 8))

    def _draw_cerebellum(self, image: np.ndarray) -> None:
        scene, places = self.scene, self.scene.places
        if not scene.reaches((-64, -104, -84), (64, 0, 4)):
            return
        whole = self.fossa
        surface = np.maximum(whole + 1.2, scene.cavity + 2.2)
        # Leaves stand across the way from the fourth ventricle to the surface.
        angle = np.arctan2(places[2] + 42, -(places[1] + 30))
        leaves = np.cos(13 * angle + 1.5 * scene.noise(2, 40) + 0.05 * np.abs(places[0]))
        fine = np.cos(34 * angle + 2.0 * scene.noise(2, 30) + 0.10 * np.abs(places[0]))
        core = -surface - 13 - 6 * leaves
        tissue = np.full_like(image, GREY)
        scene.paint(tissue, WHITE, -core)
        groove = np.clip(1 + surface / 16, 0, 1) * np.clip(-0.5 - fine, 0, 1)
        tissue -= groove * 0.45
        scene.paint(image, CSF, reduce(np.maximum, [whole, scene.cavity + 0.5]))
        scene.paint(image, tissue, surface)
        fourth = ellipsoid(places, (0, -34, -38), (6, 5, 10))
        scene.paint(image, CSF, fourth)
        # The vermis stands back between the hemispheres.
        cleft = ellipsoid(places, (0, -92, -50), (3.5, 14, 20))
        scene.paint(image, CSF, np.maximum(cleft, scene.cavity + 0.5))

    def _draw_stem(self, image: np.ndarray) -> None:
        scene, places, sides = self.scene, self.scene.places, self.scene.sides
        if not scene.reaches((-36, -55, -200), (36, 12, 14)):
            return
        stem = tube(places, [(0, -18, -6), (0, -18, -16), (0, -24, -52), (0, -30, -72), (0, -33, -100),
                             (0, -44, -200)], [14, 11, 9.5, 7, 5.5, 5.5])  # fmt: skip
        pons = ellipsoid(places, (0, -15, -34), (17, 13, 14))
        feet = capsule(sides, (6, -14, -22), (15, -6, -6), (6, 7))
        arms = capsule(sides, (10, -20, -36), (26, -34, -42), (8, 9))
        value = 0.35 * GREY + 0.65 * WHITE + 0.01 * scene.noise(3, 14)
        scene.paint(image, value, reduce(lambda a, b: blend(a, b, 4), [stem, pons, feet, arms]))
        scene.paint(image, CSF, capsule(places, (0, -25, -12), (0, -29, -30), (1.1, 1.6)))
        plate = ellipsoid(places, (0, -32, -12), (10, 5, 8))
        scene.paint(image, value, plate)
        scene.paint(image, 0.5 * (GREY + GLAND), ellipsoid(places, (0, -32, 1), (4, 4, 3)))

    def _draw_vessels(self, image: np.ndarray) -> None:
        scene, places, sides = self.scene, self.scene.places, self.scene.sides
        bright = VESSEL * scene.build.enhancement
        wall = scene.cavity
        top = np.maximum(np.hypot(places[0], wall + 2.2) - 2.9, -15 - places[2])
        ridge = self.fossa
        side = np.maximum(np.hypot(ridge, wall + 2) - 3.2, places[1] + 42)
        scene.paint(image, bright, np.minimum(top, side))
        falx = reduce(np.maximum, [np.abs(places[0]) - 0.35, -14 - wall, wall, -4 - places[2]])
        scene.paint(image, 0.45 * scene.build.enhancement, falx)
        tent = reduce(np.maximum, [np.abs(ridge) - 0.5, places[1] + 28, wall])
        scene.paint(image, 0.5 * scene.build.enhancement, tent)
        straight = capsule(places, (0, -40, 0), (0, -86, -20), (1.6, 2.0))
        arteries = [
            tube(sides, [(13, 8, -48), (12, 18, -36), (11, 12, -26), (26, 14, -20), (40, 12, -8)],
                 [2.6, 2.6, 2.2, 1.3, 1.0]),
            capsule(places, (0, -1, -52), (0, 0, -20), (1.6, 1.8)),
            tube(sides, [(2, 28, -22), (2, 42, -4), (2, 40, 18), (2, 10, 36)], [1.2, 1.1, 1.0, 0.8]),
        ]  # fmt: skip
        scene.paint(image, bright, reduce(np.minimum, [straight, *arteries]))
        # Veins run in some of the sulci.
        veins = np.abs(scene.noise(7, 24)) * 4 - 0.45
        some = -12 * scene.noise(6, 60)
        scene.paint(image, 0.8 * bright, reduce(np.maximum, [veins, self.sulci, self.cerebrum, some]))
        scene.paint(image, GLAND * scene.build.enhancement, ellipsoid(places, SELLA, (6.5, 5, 4)))
        scene.paint(image, 0.8 * GLAND, capsule(places, (0, 18, -31), (0, 8, -18), (1.0, 1.2)))
        scene.paint(image, 0.9 * FAT, ellipsoid(places, (0, 12, -42), (6, 3, 4)))
