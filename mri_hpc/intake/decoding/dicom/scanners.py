"""Scanners: maker and model, as far as both are words that are known. All else in them is dropped."""

import functools
import re

from mri_hpc.intake.decoding.dicom.elements import Elements, Tag

MAKERS = {
    "siemens": "Siemens", "ge": "GE", "philips": "Philips", "canon": "Canon", "toshiba": "Toshiba",
    "uih": "UIH", "united": "UIH", "hitachi": "Hitachi", "fujifilm": "Fujifilm", "bruker": "Bruker",
    "hyperfine": "Hyperfine",
}  # fmt: skip
MODELS = frozenset((
    "achieva", "aera", "airis", "allegra", "altaire", "altea", "ambition", "amira", "architect", "artist",
    "atlas", "avanto", "biograph", "centauri", "cima", "discovery", "dstream", "echelon", "elan", "elition",
    "espree", "essenza", "evolution", "excelart", "excite", "expert", "explorer", "fit", "flow", "focus",
    "free", "galan", "genesis", "gyroscan", "harmony", "hdx", "hdxt", "hero", "infinity", "ingenia",
    "ingenuity", "intera", "jupiter", "lumina", "max", "mmr", "mr", "nova", "nt", "nx", "oasis",
    "omega", "openmark", "optima", "orian", "panorama", "pet", "pioneer", "plus", "premier", "prisma",
    "prodiva", "saturn", "scenaria", "signa", "skyra", "sola", "sonata", "spectra", "star", "symphony",
    "systems", "terra", "tim", "titan", "trillium", "trio", "triotim", "trioatim", "ultra", "umr", "vantage",
    "verio", "vida", "viato", "vision", "voyager", "x", "xr", "zgv",
))  # fmt: skip
"""Words of the names under which scanners are sold."""
NUMBERED = re.compile(r"(mr|pet|umr)?(\d{3}[a-z]?|[137](\.5)?t?)")
"""Numbers of models and field strengths: MR750w, 790, 1.5T."""
MOST_WORDS = 4


def scanner_in(elements: Elements) -> str:
    """Return maker and model, such as "Siemens Prisma fit"; empty where none is known."""
    # All words that are known are ASCII.
    return scanner_of(elements.values.get(Tag.MANUFACTURER, b""), elements.values.get(Tag.MODEL, b""))


@functools.lru_cache(maxsize=1024)
def scanner_of(maker: bytes, model: bytes) -> str:
    """Return the known words of both, so that no text of a file gets out that may be anything."""
    made_by = next((name for word in _words(maker) if (name := MAKERS.get(word))), "")
    known = [word for word in _words(model) if word in MODELS or NUMBERED.fullmatch(word)]
    return " ".join(part for part in (made_by, " ".join(map(_shown, known[:MOST_WORDS]))) if part)


def _words(text: bytes) -> list[str]:
    return re.findall(r"[a-z0-9.]+", text.decode("ascii", "replace").lower())


def _shown(word: str) -> str:
    return word.upper() if len(word) < 3 or any(letter.isdigit() for letter in word) else word.capitalize()
