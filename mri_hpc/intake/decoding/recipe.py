"""The recipe: how a source becomes pixels. One store has one recipe; a run keeps a copy."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mri_hpc.base.access import publish_shared
from mri_hpc.base.documents import convert, refuse_newer, with_format
from mri_hpc.base.errors import UserError
from mri_hpc.base.sealed_json import seal, unseal
from mri_hpc.intake.decoding.sequence import NO_CHOICE, check_choice, choice_text

FORMAT, DEEP_FORMAT = 2, 3
"""Of a recipe of 8 bits, and of 16, which earlier versions must not take for one of 8."""
FIRST_DECODER = "grey601-dct-area-1"
"""The rules of 0.1.0, by which its stores grow on."""
STEPPED_DECODER = "grey601-dct-area-2"
"""Since the first: one window for a group of pictures of more than 8 bits, not each one's own range."""
DECODER = "grey601-dct-area-3"
"""Names the rules of pictures.py, grey_values.py, window.py and square.py; changes with any of them.

Since the second: the window of a volume has exact ends, in place of whole steps.
"""
DECODERS = (FIRST_DECODER, STEPPED_DECODER, DECODER)
DEEP_STEP = 257
"""Levels of 16 bits from one level of 8 to the next: 65,535 / 255."""

Fit = Literal["letterbox", "stretch"]
Ids = Literal["pseudonym", "as-given"]
Plane = Literal["acquired", "axial", "coronal", "sagittal", "all"]
Oblique = Literal["refuse", "resample"]
Bits = Literal[8, 16]
Dates = Literal["dropped", "shifted"]
ALL = "all"
SLICES = re.compile(r"all|(middle|every):[1-9][0-9]{0,4}")
NEUTRAL = {
    "plane": "acquired",
    "slices": ALL,
    "oblique": "refuse",
    "bits": 8,
    "series": NO_CHOICE,
    "dates": "dropped",
    "masks": (),
    "without_lesion": "",
}
"""Values of parameters that came later, as before they existed: a recipe with these is as it was then."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The rule by which sources become arrays, and patients get names."""

    size: int = 224
    """Side of the square image, in pixels."""
    fit: Fit = "letterbox"
    """letterbox keeps the proportions, on black; stretch fills the square."""
    ids: Ids = "pseudonym"
    """Keyed pseudonyms, or the ids given."""
    site: str = ""
    """Fingerprint of the site's key, which names the patients; empty where ids are as given."""
    decoder: str = DECODER
    """The set of decoding rules."""
    plane: Plane = "acquired"
    """Plane in which volumes are cut into slices."""
    slices: str = ALL
    """Slices of a volume that are taken: all, middle:N or every:N, of those that show a head."""
    oblique: Oblique = "refuse"
    """Refuse volumes that lie too oblique to the planes, or resample them."""
    bits: Bits = 8
    """Of each pixel: white is 255, or 65,535."""
    series: str = NO_CHOICE
    """Series that are taken: kinds, a pattern on their descriptions, or all; empty: it was not said."""
    dates: Dates = "dropped"
    """Dates of sources are dropped, or kept, those of a patient shifted by the same number of days."""
    masks: tuple[str, ...] = ()
    """Patterns of the masks beside volumes, KIND:PATTERN, as of masks.read_patterns; empty: none is used."""
    without_lesion: str = ""
    """Class of slices without a lesion, where masks show these; empty: they are left out."""
    probe: tuple[tuple[str, int], ...] = ()
    """Name and pixel CRC of each probe image, as this machine decodes it; empty: not probed."""

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 4096:
            raise UserError(f"--size must be between 8 and 4096, got {self.size}")
        if not SLICES.fullmatch(self.slices):
            raise UserError(f"--slices is all, middle:N or every:N, such as middle:32, got {self.slices!r}")
        if self.series != NO_CHOICE:
            check_choice(self.series)
        if self.dates == "shifted" and self.ids == "as-given":
            raise UserError("--dates shifted goes by the site's key, which --ids as-given does without")
        if self.without_lesion and not any(one.startswith("lesion:") for one in self.masks):
            raise UserError("--without-lesion goes with masks of lesions: --masks lesion:PATTERN")

    @property
    def has_windows(self) -> bool:
        """Tell whether pictures of more than 8 bits have one window a group."""
        return self.decoder != FIRST_DECODER

    @property
    def has_exact_volumes(self) -> bool:
        """Tell whether volumes have windows with exact ends."""
        return self.decoder not in (FIRST_DECODER, STEPPED_DECODER)

    @property
    def image_bytes(self) -> int:
        """Bytes of the pixels of an image."""
        return self.size**2 * self.bits // 8

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width of every image."""
        return self.size, self.size

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that decide about pixels and names."""
        there = asdict(self)
        left_out = {"probe", *(name for name, neutral in NEUTRAL.items() if there[name] == neutral)}
        return {name: value for name, value in there.items() if name not in left_out}

    def digest(self) -> str:
        """Return the hex digest of the parameters; the same on every machine."""
        text = json.dumps({"format": self._format, **self.parameters()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def to_json(self) -> bytes:
        """Write the recipe as it lies on disk."""
        return seal(with_format(self._format, {**self.parameters(), "probe": dict(self.probe)}))

    @property
    def _format(self) -> int:
        return FORMAT if self.bits == NEUTRAL["bits"] else DEEP_FORMAT


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; UserError where there is none, a damaged one, or one of another version."""
    try:
        values = unseal(path.read_bytes())
        written_by, decoder = values["format"], values["decoder"]
        refuse_newer(path, written_by, reads=DEEP_FORMAT)
        if written_by not in (FORMAT, DEEP_FORMAT) or decoder not in DECODERS:
            raise UserError(
                f"{path} asks for decoder {decoder!r}, format {written_by}; this version has {DECODER!r}, "
                f"format {DEEP_FORMAT}: use the version that made it, or make a new store"
            )
        return convert({**values, "probe": list(values["probe"].items())}, Recipe)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: copy it from the store, or from another run of it") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a recipe ({error}); restore it from a backup or a run") from None


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """The fields of a recipe that are asked for; None or empty: as in the store, in a new one as usual."""

    size: int | None = None
    fit: Fit | None = None
    ids: Ids | None = None
    plane: Plane | None = None
    slices: str | None = None
    oblique: Oblique | None = None
    bits: Bits | None = None
    series: Sequence[str] = ()
    """Kinds, or a pattern, as typed."""
    dates: Dates | None = None
    masks: Sequence[str] = ()
    """Patterns as typed."""
    without_lesion: str = ""


def wanted_recipe(path: Path, wishes: Wishes) -> Recipe:
    """Complete the recipe asked for by that of the store, at `path`.

    A store that was made without a choice of series keeps none: what is chosen later holds for that time.
    """
    is_there = path.exists()
    base = load_recipe(path) if is_there else Recipe()
    has_choice = not is_there or base.series != NO_CHOICE
    # Loaded where it is wanted: it is rare.
    if wishes.masks:
        from mri_hpc.intake.decoding.masks import read_patterns
    return Recipe(
        size=base.size if wishes.size is None else wishes.size,
        fit=wishes.fit or base.fit,
        ids=wishes.ids or base.ids,
        decoder=base.decoder,
        plane=wishes.plane or base.plane,
        slices=wishes.slices or base.slices,
        oblique=wishes.oblique or base.oblique,
        bits=wishes.bits or base.bits,
        series=choice_text(wishes.series) if wishes.series and has_choice else base.series,
        dates=wishes.dates or base.dates,
        masks=read_patterns(wishes.masks) if wishes.masks else base.masks,
        without_lesion=wishes.without_lesion or base.without_lesion,
    )


def publish_recipe(path: Path, wanted: Recipe) -> Recipe:
    """Publish `wanted` as the recipe of a store, or return the one that is there, which must agree.

    UserError where parameters or the site's key differ, or this machine decodes the probe to other pixels.
    """
    if not path.exists():
        publish_shared(path, wanted.to_json())
    return agreed_recipe(path, wanted)


def _shown(value: object) -> str:
    """Write a value as it was typed."""
    return " ".join(map(str, value)) if isinstance(value, tuple | list) and value else str(value or "none")


def agreed_recipe(path: Path, wanted: Recipe) -> Recipe:
    """Return the recipe of a store, which must agree with `wanted`; UserError as of publish_recipe."""
    saved = load_recipe(path)
    there, here = NEUTRAL | saved.parameters(), NEUTRAL | wanted.parameters()
    different = [name for name in there if name != "site" and there[name] != here[name]]
    if different:
        shown = "; ".join(
            f"{name} {_shown(there[name])} there, {_shown(here[name])} here" for name in different
        )
        raise UserError(f"{path.parent} was made with another recipe: {shown}; use another --store")
    if saved.site != wanted.site:
        raise UserError(
            f"{path.parent} was made with another site key: the same patient would get another pseudonym; "
            "set MRI_KEY_FILE to that key"
        )
    here_probe = dict(wanted.probe)
    moved = [name for name, crc in saved.probe if here_probe.get(name, crc) != crc]
    if moved:
        raise UserError(
            f"this machine decodes {', '.join(moved)} to other pixels than the one that made {path.parent}: "
            "install the versions that h5dump -A shows of any of its chunks, or use another --store"
        )
    return saved
