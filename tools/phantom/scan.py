"""One patient under the scanner: pose, slices in three planes, coil, noise."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from phantom.brain import Brain
from phantom.head import Build, Scene, draw_head
from phantom.lesions import Lesion
from phantom.shapes import Field

PLANES = ("axial", "coronal", "sagittal")
# Where an image's columns and rows lead, and across which axis it is cut: the radiologist's view.
AXES = {
    "axial": ((-1, 0, 0), (0, -1, 0), 2),
    "coronal": ((-1, 0, 0), (0, 0, -1), 1),
    "sagittal": ((0, -1, 0), (0, 0, -1), 0),
}
FIELD_OF_VIEW_MM = 236.0
# The face and the neck take more room than the brain in these: where the middle of the image is, in mm.
MIDDLES = {"axial": (0, 2, 0), "coronal": (0, 0, -18), "sagittal": (0, 6, -18)}


@dataclass(frozen=True, kw_only=True)
class Patient:
    """A person in the scanner."""

    build: Build
    lesion: Lesion | None
    pose: np.ndarray
    """From the scanner's axes to the head's: rotation times scale, float, (3, 3)."""
    shift_mm: np.ndarray
    """float, (3,)."""
    coil: np.ndarray
    """Fall of sensitivity along each axis, per mm: float, (3,)."""
    noise: float
    """Deviation of the receiver's noise, where fat is 0.8."""
    gain: float
    """Contrast of the display."""

    @classmethod
    def random(cls, lesion: Lesion | None, random: np.random.Generator) -> "Patient":
        """Draw someone at random, with this lesion."""
        angles = random.normal(0, np.deg2rad([3.0, 2.5, 4.0]))
        return cls(
            build=Build.random(random),
            lesion=lesion,
            pose=_rotation(angles) @ np.diag(1 / random.normal(1, 0.035, 3)),
            shift_mm=random.normal(0, 3.0, 3),
            coil=random.normal(0, 0.0012, 3),
            noise=random.uniform(0.008, 0.022),
            gain=random.uniform(0.85, 1.1),
        )

    def in_scanner(self, place_mm: np.ndarray) -> np.ndarray:
        """Return the position in the scanner of a point of the head."""
        return np.linalg.solve(self.pose, place_mm - self.shift_mm)

    def slice(
        self, field: Field, plane: str, position_mm: float, side: int, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw an image as a scanner shows it, and the lesion's mask: uint8 and bool, both (side, side)."""
        voxel_mm = FIELD_OF_VIEW_MM / side
        seen = places_of(plane, position_mm, side)
        places = np.tensordot(self.pose.astype(np.float32), seen, axes=1)
        places += self.shift_mm.astype(np.float32)[:, None, None]
        scene = Scene(build=self.build, field=field, places=places, edge_mm=max(1.2, voxel_mm))
        wobble = np.stack([scene.noise(layer, 90) for layer in range(3)])
        scene = replace(scene, places=places + 1.5 * wobble)
        image = np.zeros((side, side), dtype=np.float32)
        mask = np.zeros((side, side), dtype=np.float32)
        draw_head(scene, image)
        if self.lesion is None:
            Brain(scene).draw(image)
        else:
            unpressed = replace(scene, places=self.lesion.unpressed(scene.places))
            # What presses the brain does not press the skull.
            unpressed.__dict__["cavity"] = scene.cavity
            brain = Brain(unpressed)
            brain.draw(image)
            mask = self.lesion.draw(image, scene, brain)
        return self._received(image, seen, voxel_mm, random), mask > 0.5

    def _received(
        self, image: np.ndarray, seen: np.ndarray, voxel_mm: float, random: np.random.Generator
    ) -> np.ndarray:
        """Return the tissue as the coil receives it, in grey levels."""
        image = _blurred(image, 0.55 / voxel_mm)
        image *= np.exp(np.tensordot(self.coil.astype(np.float32), seen, axes=1))
        # Coils around the head: what is near them is brighter.
        image *= 0.96 + 0.08 * (seen**2).sum(axis=0) / 100.0**2
        real, imaginary = random.standard_normal((2, *image.shape), dtype=np.float32) * self.noise
        magnitude = np.hypot(image + real, imaginary)
        return (np.clip(magnitude * self.gain, 0, 1) * 255).astype(np.uint8)


def places_of(plane: str, position_mm: float, side: int) -> np.ndarray:
    """Return positions of the pixels of a slice: mm, float32, (3, side, side)."""
    columns, rows, across = AXES[plane]
    steps = (np.arange(side, dtype=np.float32) - (side - 1) / 2) * (FIELD_OF_VIEW_MM / side)
    places = np.zeros((3, side, side), dtype=np.float32)
    for axis in range(3):
        places[axis] = columns[axis] * steps[None, :] + rows[axis] * steps[:, None] + MIDDLES[plane][axis]
    places[across] = position_mm
    return places


def _blurred(image: np.ndarray, deviation: float) -> np.ndarray:
    """Blur the image by a Gaussian of that deviation, in pixels, cut off at three of them."""
    width = 2 * int(3 * deviation + 0.5) + 1
    return np.asarray(cv2.GaussianBlur(image, (width, width), deviation, borderType=cv2.BORDER_REFLECT))


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Return the rotation about x, then y, then z; angles in radians."""
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        about = np.eye(3)
        about[first, first] = about[second, second] = np.cos(angle)
        about[second, first] = np.sin(angle)
        about[first, second] = -np.sin(angle)
        turn = about @ turn
    return turn
