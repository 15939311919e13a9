"""Words by which a series' description, or the name of a file, tells which sequence it is."""

import re
from collections.abc import Iterable

from mri_hpc.intake.decoding.sequence import ADC, DWI, FLAIR, T1, T1CE, T2, UNKNOWN

OTHERS = re.compile(
    r"\b(tof|mra|mrv|angio\w*|swi|swan|venobold|t2 ?star\w*|t2 ?\*|t2s|hemo|medic|fmri|bold|resting|asl|pcasl"
    r"|perf\w*|dsc|dce|pwi|r?cb[fv]|mtt|ttp|tmax|field ?map\w*|fmap|field mapping|b[01] ?map\w*|b0 ns|survey"
    r"|scout|locali[sz]er|3 ?plane|stir|ciss|fiesta\w*|trufi\w*|truefisp|pd|pdw|proton\w*|colfa|tensor"
    r"|spectro\w*|mrs|svs|csi|eadc|exp\w* adc|exponential|t[12] ?map\w*|mp2rage\w*)\b"
)
"""Sequences that are none of the kinds, though their descriptions may name one."""
NATIVE = re.compile(
    r"\b(pre|pre ?(contrast|gad\w*|gd|km)|without|w o|wo|nativ\w*|ohne|(no|non) ?contrast|unenhanced)\b"
)
CONTRAST = re.compile(
    r"\+ ?(c|gd|km|k|cm|contrast)\b|\bc\+|\b(post|post ?(contrast|gad\w*|gd|km)|gad\w*|gd|ce|contrast|km"
    r"|enhanced|t1c|t1ce|t1gd|t1w?post)\b"
)
RULES = (
    (ADC, re.compile(r"\badc\b|apparent diffusion")),
    (DWI, re.compile(r"\b(dwi\w*|diff\w*|dti\w*|trace\w*|ep b\d+\w*|resolve)\b")),
)
FLAIR_WORDS = re.compile(r"flair|dark ?fluid|spcir")
T1_WORDS = re.compile(r"t1|mp ?rage|bravo|spgr|\btfl3d|vibe")
T2_WORDS = re.compile(r"t2")
SPACES = re.compile(r"[\s_\-/.,()\[\]:;&]+")

VOLUME_ENDS = (".nii", ".nii.gz", ".mgh", ".mgz", ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr", ".img")
"""Ends of names of files that hold a volume, and say nothing of its sequence in themselves."""
BIDS = re.compile(r"(?P<entities>(?:[a-z]+-[a-z0-9]+_)+)(?P<suffix>[a-z0-9]+)")
OF_SUFFIX = {"t1w": T1, "t2w": T2, "flair": FLAIR, "dwi": DWI, "adc": ADC}
OF_PART = {
    "t1": T1, "t1w": T1, "t1n": T1, "mprage": T1, "t1c": T1CE, "t1ce": T1CE, "t1gd": T1CE, "t1post": T1CE,
    "ct1": T1CE, "t2": T2, "t2w": T2, "flair": FLAIR, "t2f": FLAIR, "t2flair": FLAIR, "dwi": DWI, "dti": DWI,
    "adc": ADC,
}  # fmt: skip
WITH_AGENT = frozenset(("ce", "gd", "gad", "km", "contrast"))
LABELS = frozenset(("mask", "masks", "seg", "segmentation", "label", "labels", "dseg", "probseg", "roi"))
"""Last parts of the names of files that are drawn, not measured."""


def simplified(texts: Iterable[str]) -> list[str]:
    """Return texts as rules are written for them: lower case, one space in place of what parts words."""
    return [SPACES.sub(" ", text.lower()).strip() for text in texts]


def says_other(text: str) -> bool:
    """Tell whether a text, simplified, names a sequence that is none of the kinds."""
    return bool(OTHERS.search(text))


def says_native(text: str) -> bool:
    """Tell whether a text, simplified, says that no contrast agent was given."""
    return bool(NATIVE.search(text))


def says_contrast(text: str) -> bool:
    """Tell whether a text, simplified, says that a contrast agent was given."""
    return bool(CONTRAST.search(text)) and not says_native(text)


def says_flair(text: str) -> bool:
    """Tell whether a text, simplified, names a FLAIR."""
    return bool(FLAIR_WORDS.search(text)) and not T1_WORDS.search(text)


def kind_in(text: str) -> str:
    """Return the kind that a text, simplified, names; empty where it names none."""
    if says_other(text):
        return UNKNOWN
    for kind, words in RULES:
        if words.search(text):
            return kind
    is_t1, is_t2 = bool(T1_WORDS.search(text)), bool(T2_WORDS.search(text))
    if is_t1 and is_t2:
        return UNKNOWN
    if is_t1:
        return T1CE if says_contrast(text) else T1
    if FLAIR_WORDS.search(text):
        return FLAIR
    return T2 if is_t2 else ""


def is_volume_name(path: str) -> bool:
    """Tell whether a file's name promises a volume."""
    return path.lower().endswith(VOLUME_ENDS)


def kind_of_file(path: str) -> str:
    """Return the kind that the name of a volume's file tells; empty of what is no measured volume."""
    name = path.rpartition("/")[2].lower()
    stem = next(
        (name[: -len(end)] for end in sorted(VOLUME_ENDS, key=len, reverse=True) if name.endswith(end)), ""
    )
    parts = [part for part in re.split(r"[^a-z0-9]+", stem) if part]
    if not parts or parts[-1] in LABELS:
        return ""
    if found := BIDS.fullmatch(stem):
        kind = OF_SUFFIX.get(found["suffix"], UNKNOWN)
        return T1CE if kind == T1 and "ce-" in found["entities"] else kind
    kinds = {OF_PART[part] for part in parts if part in OF_PART}
    if kinds in ({T1}, {T1, T1CE}) and WITH_AGENT & set(parts):
        return T1CE
    if kinds == {T2, FLAIR} and "t2 flair" in " ".join(parts):
        return FLAIR
    return kinds.pop() if len(kinds) == 1 else UNKNOWN
