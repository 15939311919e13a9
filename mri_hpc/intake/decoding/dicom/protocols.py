"""Protocols: which sequence a DICOM file is of, told by what was measured, and where that leaves it open by
what the file calls it. The texts are looked into in memory, and never leave it.

Times are those of clinical brain protocols at 1.5 and 3 tesla. What they leave between the kinds (proton
density, STIR, T2*) is unknown, rather than the nearest.
"""

import functools
import math
from dataclasses import dataclass

from mri_hpc.intake.decoding.dicom.elements import Elements, Private, Tag
from mri_hpc.intake.decoding.dicom.header import Values, b_value_of, component_of, protocol_of
from mri_hpc.intake.decoding.dicom.screening import why_no_mr
from mri_hpc.intake.decoding.sequence import ADC, DWI, FLAIR, T1, T1CE, T2, UNKNOWN
from mri_hpc.intake.decoding.sequence_words import (
    kind_in,
    says_contrast,
    says_flair,
    says_native,
    says_other,
    simplified,
)

ENHANCED = b"1.2.840.10008.5.1.4.1.1.4.1"
READ = (
    Tag.CHARACTER_SET, Tag.IMAGE_TYPE, Tag.SOP_CLASS, Tag.MODALITY, Tag.CONVERSION_TYPE, Tag.BURNED_IN,
    Tag.SERIES_DESCRIPTION, Tag.COMPLEX_COMPONENT, Tag.ACQUISITION_CONTRAST, Tag.CONTRAST_AGENT,
    Tag.AGENT_SEQUENCE, Tag.SCANNING_SEQUENCE, Tag.SEQUENCE_VARIANT, Tag.SEQUENCE_NAME, Tag.ANGIO_FLAG,
    Tag.REPETITION_TIME, Tag.ECHO_TIME, Tag.INVERSION_TIME, Tag.PROTOCOL_NAME, Tag.FLIP_ANGLE,
    Tag.PULSE_SEQUENCE_NAME, Tag.ECHO_PULSE_SEQUENCE, Tag.ECHO_PLANAR, Tag.B_VALUE, Tag.NUM_TIMES,
)  # fmt: skip
"""Elements that the kind follows from."""
READ_OF_VENDORS = (
    Private.SIEMENS_B_VALUE, Private.GE_COMPONENT, Private.GE_B_VALUE, Private.PHILIPS_B_VALUE,
    Private.UIH_B_VALUE,
)  # fmt: skip
NO_AGENT = ("", "NONE", "NO", "N", "0", "OFF", "WITHOUT")
# Contrasts that enhanced files name, beside those that are kinds.
OTHER_CONTRASTS = (
    "FLOW_ENCODED",
    "PERFUSION",
    "PROTON_DENSITY",
    "STIR",
    "TAGGING",
    "T2_STAR",
    "TOF",
    "TEMPERATURE",
)
MAPS = frozenset(
    ("FA", "COLFA", "TENSOR", "TENSOR_B0", "EADC", "EXP", "CBF", "CBV", "RCBF", "RCBV", "MTT", "TTP")
)
PARTS_OF_COMPLEX = frozenset(("P", "PHASE", "R", "REAL", "I", "IMAGINARY", "PHASE MAP", "FIELD_MAP", "B0"))
FUNCTIONAL = ("PERFUSION", "FMRI", "ASL")

# Milliseconds and degrees.
T1_MOST_ECHO, T1_MOST_REPETITION = 35.0, 1300.0
T1_INVERSION = (300.0, 1400.0)
T2_LEAST_ECHO, T2_LEAST_REPETITION = 60.0, 1800.0
FLAIR_LEAST_INVERSION = 1400.0
GRADIENT_MOST_ECHO = 10.0
STEADY_MOST_REPETITION, STEADY_FLIP = 50.0, (8.0, 50.0)
FLASH_LEAST_FLIP = 45.0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All that tells a sequence by its physics; NaN or empty where the file does not say."""

    image_type: tuple[str, ...] = ()
    contrast: str = ""
    """As an enhanced file names it."""
    component: str = ""
    sequence: frozenset[str] = frozenset()
    """SE spin echo, GR gradient echo, IR inversion recovery, EP echo planar."""
    variant: frozenset[str] = frozenset()
    """Among others MP magnetisation prepared, SP spoiled, SS steady state."""
    repetition_ms: float = math.nan
    echo_ms: float = math.nan
    inversion_ms: float = math.nan
    flip_deg: float = math.nan
    b_value: float = math.nan
    num_times: float = math.nan
    """Points in time at which the same was measured."""
    is_angiography: bool = False
    has_agent: bool = False


def kind_of(elements: Elements) -> str:
    """Return the kind of sequence of a file: "unknown" where nothing tells, empty of what is no MR."""
    if elements.sequences:
        return _kind_in(elements)
    # Files of a series differ in little else than their place.
    values = tuple((tag, elements.values[tag]) for tag in READ if tag in elements.values)
    private = tuple((tag, elements.private[tag]) for tag in READ_OF_VENDORS if tag in elements.private)
    return _kind_of_values(values, private, elements.is_big_endian)


def tells_in_groups(elements: Elements) -> bool:
    """Tell whether the kind of a file stands in its functional groups, behind what has been read."""
    named = elements.values.get(Tag.SOP_CLASS, b"").rstrip(b"\0 ")
    if elements.sequences or named != ENHANCED:
        return False
    return Values(elements).text(Tag.ACQUISITION_CONTRAST).upper() in ("", "UNKNOWN")


@functools.lru_cache(maxsize=1024)
def _kind_of_values(
    values: tuple[tuple[Tag, bytes], ...], private: tuple[tuple[Private, bytes], ...], is_big_endian: bool
) -> str:
    return _kind_in(
        Elements(syntax="", is_big_endian=is_big_endian, values=dict(values), private=dict(private))
    )


def _kind_in(elements: Elements) -> str:
    values = Values(elements)
    if why_no_mr(protocol_of(values, elements), _image_type(values)):
        return ""
    try:
        measured = measured_in(values, elements)
    except (ValueError, TypeError, AttributeError, KeyError, NotImplementedError, OverflowError):
        return UNKNOWN
    return _kind(measured, tuple(simplified(texts_in(values))))


def _image_type(values: Values) -> tuple[str, ...]:
    return tuple(part.upper() for part in values.texts(Tag.IMAGE_TYPE))


def texts_in(values: Values) -> list[str]:
    """Return the texts by which whoever scanned called a series, the most telling first. Never printed."""
    tags = (Tag.SERIES_DESCRIPTION, Tag.PROTOCOL_NAME, Tag.SEQUENCE_NAME, Tag.PULSE_SEQUENCE_NAME)
    return [" ".join(values.texts(tag)) for tag in tags if values.texts(tag)]


def measured_in(values: Values, elements: Elements) -> Measured:
    """Read what was measured: of an enhanced file, of its first frame."""
    from mri_hpc.intake.decoding.dicom.frames import first_frame_of

    groups = first_frame_of(elements)
    sequence = set(values.texts(Tag.SCANNING_SEQUENCE))
    pulse = values.text(Tag.ECHO_PULSE_SEQUENCE)
    sequence |= {"SPIN": {"SE"}, "GRADIENT": {"GR"}, "BOTH": {"SE", "GR"}}.get(pulse, set())
    sequence |= {"EP"} if values.text(Tag.ECHO_PLANAR) == "YES" else set()
    inversion_ms = groups.number("MRModifierSequence", "InversionTimes", values.number(Tag.INVERSION_TIME))
    sequence |= {"IR"} if "YES" in groups.texts("MRModifierSequence", "InversionRecovery") else set()
    agent = values.text(Tag.CONTRAST_AGENT).upper()
    return Measured(
        image_type=_image_type(values),
        contrast=values.text(Tag.ACQUISITION_CONTRAST).upper(),
        component=component_of(values),
        sequence=frozenset(sequence),
        variant=frozenset(values.texts(Tag.SEQUENCE_VARIANT)),
        repetition_ms=groups.number(
            "MRTimingAndRelatedParametersSequence", "RepetitionTime", values.number(Tag.REPETITION_TIME)
        ),
        echo_ms=groups.number("MREchoSequence", "EffectiveEchoTime", values.number(Tag.ECHO_TIME)),
        inversion_ms=inversion_ms,
        flip_deg=groups.number(
            "MRTimingAndRelatedParametersSequence", "FlipAngle", values.number(Tag.FLIP_ANGLE)
        ),
        b_value=groups.number("MRDiffusionSequence", "DiffusionBValue", b_value_of(values)),
        num_times=values.number(Tag.NUM_TIMES),
        is_angiography=values.text(Tag.ANGIO_FLAG).upper() == "Y",
        has_agent=agent not in NO_AGENT or _has_agents(elements),
    )


def _has_agents(elements: Elements) -> bool:
    """Tell whether an enhanced file lists agents."""
    return bool(elements.sequences.get(Tag.AGENT_SEQUENCE) or elements.values.get(Tag.AGENT_SEQUENCE))


def _kind(measured: Measured, texts: tuple[str, ...]) -> str:
    """Return the kind: by what was measured, else by the first text that names one."""
    named = " ".join(texts)
    kind = kind_of_measured(measured)
    if not kind:
        kind = next((found for found in map(kind_in, texts) if found), UNKNOWN)
    elif kind in (T1, T2) and says_other(named):
        kind = UNKNOWN
    elif kind == T2 and math.isnan(measured.inversion_ms) and says_flair(named):
        kind = FLAIR
    if kind in (T1, T1CE):
        return _with_agent(measured, named, kind)
    return kind


def _with_agent(measured: Measured, named: str, kind: str) -> str:
    if measured.has_agent and says_native(named):
        # One of both is a slip.
        return UNKNOWN
    return T1CE if measured.has_agent or says_contrast(named) else kind


def kind_of_measured(measured: Measured) -> str:
    """Return the kind that tags tell; "unknown" where they tell that it is none, empty where they do not."""
    parts = frozenset(measured.image_type[2:])
    if any(part.startswith("ADC") for part in parts):
        return ADC
    if parts & MAPS or parts & PARTS_OF_COMPLEX or measured.component not in ("", "MAGNITUDE"):
        return UNKNOWN
    if measured.b_value > 0 or measured.contrast == "DIFFUSION" or any(p.startswith("TRACE") for p in parts):
        return DWI
    if "DIFFUSION" in parts:
        return DWI
    if (
        measured.is_angiography
        or measured.num_times > 1
        or measured.contrast in OTHER_CONTRASTS
        or any(part.startswith(FUNCTIONAL) for part in parts)
    ):
        return UNKNOWN
    if "EP" in measured.sequence:
        return UNKNOWN if "GR" in measured.sequence else ""
    if measured.contrast in ("T1", "T2", "FLUID_ATTENUATED"):
        return _named_contrast(measured)
    return _by_times(measured)


def _named_contrast(measured: Measured) -> str:
    if measured.contrast == "FLUID_ATTENUATED":
        return T1 if measured.echo_ms <= T1_MOST_ECHO else FLAIR
    return T1 if measured.contrast == "T1" else T2


def _by_times(measured: Measured) -> str:
    if not measured.sequence or math.isnan(measured.repetition_ms) or math.isnan(measured.echo_ms):
        return ""
    is_gradient = "GR" in measured.sequence and "SE" not in measured.sequence
    return _of_gradient_echo(measured) if is_gradient else _of_spin_echo(measured)


def _of_gradient_echo(measured: Measured) -> str:
    is_prepared = "MP" in measured.variant or _is_within(measured.inversion_ms, T1_INVERSION)
    if measured.echo_ms > GRADIENT_MOST_ECHO:
        return UNKNOWN
    if is_prepared:
        return T1
    if "SS" in measured.variant and "SP" not in measured.variant:
        # A balanced steady state shows fluid bright.
        return UNKNOWN
    if measured.repetition_ms <= STEADY_MOST_REPETITION:
        return T1 if _is_within(measured.flip_deg, STEADY_FLIP) else UNKNOWN
    return T1 if measured.flip_deg >= FLASH_LEAST_FLIP else UNKNOWN


def _of_spin_echo(measured: Measured) -> str:
    echo_ms, inversion_ms = measured.echo_ms, measured.inversion_ms
    if inversion_ms > 0:
        if inversion_ms >= FLAIR_LEAST_INVERSION:
            return FLAIR if echo_ms >= T2_LEAST_ECHO else UNKNOWN
        return T1 if _is_within(inversion_ms, T1_INVERSION) and echo_ms <= T1_MOST_ECHO else UNKNOWN
    if "IR" in measured.sequence:
        return ""
    if echo_ms <= T1_MOST_ECHO and measured.repetition_ms <= T1_MOST_REPETITION:
        return T1
    is_t2 = echo_ms >= T2_LEAST_ECHO and measured.repetition_ms >= T2_LEAST_REPETITION
    return T2 if is_t2 else UNKNOWN


def _is_within(number: float, ends: tuple[float, float]) -> bool:
    return ends[0] <= number <= ends[1]
