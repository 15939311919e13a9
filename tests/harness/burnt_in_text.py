"""Text drawn into real slices, as screens and printers do it, and the figures of docs/privacy.md.

python -m tests.harness.burnt_in_text FOLDER_OF_REAL_IMAGES
"""

import argparse
import collections
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib
import nibabel
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.burnt_in import shows_text
from mri_hpc.intake.decoding.dicom.header import header_of
from mri_hpc.intake.decoding.dicom.pixels import FramePixels
from mri_hpc.intake.decoding.dicom.reader import read_elements

DICOM = ("dicom", "decubitus", "ge_t1", "twelve_bit", "enhanced", "renamed_private")
BASES = ("cheng", "decubitus", "ge_t1", "nifti")
"""Into slices of these text is drawn: of 8 and of 12 bits and more, 512 and 256 rows."""
TEXTS = (
    "DOE^JANE", "Doe, Jane", "Schmidt", "19580312", "1958-03-12", "12.03.1958", "ID 4711023", "PLANTED-ID",
    "M 045Y", "St. Mary Hospital",
)  # fmt: skip
HEIGHTS = (10, 12, 16, 22)
"""Of a capital, in rows of 256."""
PLACES = ("left above", "right above", "left below", "right below", "over the head")
HERSHEY = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_PLAIN,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
)
TRUE_TYPE = ("", "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf", "DejaVuSerif.ttf")
"""Pillow's own, and those that Matplotlib brings."""
LEVELS = ("brightest", "full", "nearly")
"""As the picture's brightest, as the most that its bits hold, and 5 % below its brightest."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PlantedText:
    """A picture with text in it."""

    picture: np.ndarray
    height: int
    """Of a capital, in rows of 256."""
    how: tuple[str, ...]
    """Font, place, level and what lies behind it, to be shown."""


def real_slices(root: Path, folder: str, *, step: int = 1) -> Iterator[np.ndarray]:
    """Yield the pictures in a folder of the real images as their files hold them; one file in so many."""
    files = [path for path in sorted((root / folder).rglob("*")) if path.is_file()][::step]
    for path in files:
        if path.suffix == ".jpg":
            yield np.asarray(Image.open(path).convert("L"))
        elif path.name.endswith(".nii.gz"):
            yield from (
                np.asarray(nibabel.Nifti1Image.from_filename(path).dataobj)
                .astype(np.uint16)
                .transpose(2, 1, 0)
            )
        elif folder in DICOM and path.suffix not in (".md", ".txt") and path.name != "LICENSE":
            yield from _frames(path)


def _frames(path: Path) -> list[np.ndarray]:
    try:
        elements = read_elements(path.read_bytes())
        layout = header_of(elements).format
        pixels = FramePixels(elements, layout)
        return [pixels.read(number) for number in range(layout.num_frames)]
    except BadSource:
        return []


def plant(slices: Sequence[np.ndarray], count: int, seed: int) -> Iterator[PlantedText]:
    """Yield pictures with text of every height, font, place and level."""
    chance = random.Random(seed)
    fonts: list[tuple[int | str, bool]] = [
        (font, smooth) for font in (*HERSHEY, *TRUE_TYPE) for smooth in (True, False)
    ]
    while count:
        picture, height, text = chance.choice(slices), chance.choice(HEIGHTS), chance.choice(TEXTS)
        font, is_smooth = chance.choice(fonts)
        place, level = chance.choice(PLACES), chance.choice(LEVELS)
        behind = chance.choice(("picture", "picture", "box", "outline"))
        drawn = _drawn(text, round(height * len(picture) / 256), font, is_smooth)
        if drawn.shape[1] < picture.shape[1] - 4 and picture.max():
            count -= 1
            yield PlantedText(
                picture=_laid_upon(picture, drawn, place, level, behind),
                height=height,
                how=(text, f"{font}{' smooth' if is_smooth else ''}", place, level, behind),
            )


def _drawn(text: str, height: int, font: int | str, is_smooth: bool) -> np.ndarray:
    """Draw a text, (h, w), from 0 to 1. font: one of OpenCV's, or the file of one. height: of a capital."""
    if isinstance(font, int):
        scale, thick = height / cv2.getTextSize("X", font, 1.0, 1)[0][1], max(1, round(height / 12))
        (width, above), below = cv2.getTextSize(text, font, scale, thick)
        made = np.zeros((above + below + 6, width + 6), np.uint8)
        line = cv2.LINE_AA if is_smooth else cv2.LINE_8
        return cv2.putText(made, text, (3, above + 3), font, scale, 255, thick, line) / 255
    size = height
    while True:
        fonts = Path(matplotlib.get_data_path(), "fonts", "ttf")
        made_font = ImageFont.truetype(fonts / font, size) if font else ImageFont.load_default(size)
        _left, top, _right, bottom = made_font.getbbox("X")
        if bottom - top >= height:
            break
        size += 1
    box = made_font.getbbox(text)
    image = Image.new("L" if is_smooth else "1", (int(box[2]) + 6, int(box[3]) + 6))
    ImageDraw.Draw(image).text((3, 3), text, font=made_font, fill=255 if is_smooth else 1)
    return np.asarray(image).astype(float) / (255 if is_smooth else 1)


def _laid_upon(picture: np.ndarray, drawn: np.ndarray, place: str, level: str, behind: str) -> np.ndarray:
    height, width = drawn.shape
    rows, columns = picture.shape
    top = {"above": 2, "below": rows - height - 2}.get(place.split()[1], (rows - height) // 2)
    left = {"left": 2, "right": columns - width - 2}.get(place.split()[0], (columns - width) // 2)
    brightest = int(picture.max())
    full = 255 if picture.dtype == np.uint8 else max(4095, brightest)
    made = picture.astype(float)
    part = made[top : top + height, left : left + width]
    if behind == "box":
        part[:] = 0
    elif behind == "outline":
        part[cv2.dilate((drawn > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0] = 0
    grey = {"brightest": brightest, "full": full, "nearly": 0.95 * brightest}[level]
    part[:] = part * (1 - drawn) + grey * drawn
    return np.rint(made).astype(picture.dtype)


def main() -> None:
    """Print recall and false alarms."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("images", type=Path)
    root = parser.parse_args().images
    for folder in ("cheng", *DICOM, "nifti"):
        found = [shows_text(picture) for picture in real_slices(root, folder)]
        print(f"{folder}: false alarms {sum(found)} of {len(found)}")
    bases = [
        picture
        for folder in BASES
        for picture in list(real_slices(root, folder))[:: 20 if folder == "cheng" else 2]
    ]
    by_height = collections.defaultdict[int, list[bool]](list)
    for planted in plant(bases, 4000, seed=1):
        by_height[planted.height].append(shows_text(planted.picture))
    for height, seen in sorted(by_height.items()):
        print(f"text of {height} rows of 256: recall {np.mean(seen):.1%} of {len(seen)}")
    print(f"recall {np.mean([one for seen in by_height.values() for one in seen]):.1%}")


if __name__ == "__main__":
    main()
