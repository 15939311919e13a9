"""Kinds of sequence, told by tags: a table of typical values of clinical brain protocols, generated."""

import numpy as np
import pytest

from mri_hpc.intake.decoding.dicom.elements import SEQUENCES, Elements
from mri_hpc.intake.decoding.dicom.protocols import kind_of, tells_in_groups
from mri_hpc.intake.decoding.dicom.reader import read_elements
from mri_hpc.intake.decoding.dicom.scanners import scanner_in, scanner_of
from mri_hpc.intake.decoding.dicom.walk import walk_to_ids
from tests.harness import dicom_phantoms as phantoms

M = ["ORIGINAL", "PRIMARY", "M", "ND"]
SE, GR, IR, EP = "SE", "GR", ["SE", "IR"], ["SE", "EP"]
SPOILED = ["SP", "OSP"]


AGENT = {"ContrastBolusAgent": "Gadovist"}


def named(text):
    return {"SeriesDescription": text}


def original(*parts):
    return {"ImageType": ["ORIGINAL", "PRIMARY", *parts]}


def derived(*parts):
    return {"ImageType": ["DERIVED", "PRIMARY", *parts]}


# Sequence, variant, repetition, echo, inversion and flip; then what else is told; then the kind.
PROTOCOLS = {
    "Siemens 1.5T T1 SE": (SE, "SP", 500, 8.4, None, 90, {}, "t1"),
    "Siemens 3T T1 TSE": (SE, ["SK", "SP"], 700, 9.1, None, 120, {}, "t1"),
    "Siemens 3T MPRAGE": (["GR", "IR"], ["SK", "SP", "MP"], 2300, 2.32, 900, 8, {}, "t1"),
    "Siemens 1.5T MPRAGE": (["GR", "IR"], ["SP", "MP"], 2200, 2.67, 900, 8, {}, "t1"),
    "Siemens 3T FLASH 2D": (GR, SPOILED, 300, 2.46, None, 80, {}, "t1"),
    "Siemens 3T VIBE": (GR, ["SK", "SP"], 5.2, 2.3, None, 12, {}, "t1"),
    "Siemens 3T T1 SPACE": (SE, ["SK", "SP"], 700, 11, None, 120, {"MRAcquisitionType": "3D"}, "t1"),
    "Siemens 3T T2 TSE": (SE, ["SK", "SP"], 6000, 99, None, 150, {}, "t2"),
    "Siemens 3T T2 SPACE": (SE, ["SK", "SP"], 3200, 408, None, 120, {"MRAcquisitionType": "3D"}, "t2"),
    "Siemens 1.5T FLAIR": (IR, ["SK", "SP", "MP"], 9000, 86, 2500, 150, {}, "flair"),
    "Siemens 3T FLAIR SPACE": (IR, ["SK", "SP", "MP"], 5000, 387, 1800, 120, {}, "flair"),
    "Siemens 3T STIR": (IR, ["SK", "SP"], 4000, 38, 220, 150, {}, "unknown"),
    "Siemens 3T PD": (SE, ["SK", "SP"], 3000, 11, None, 150, {}, "unknown"),
    "Siemens 3T DWI": (EP, ["SK", "SP"], 6000, 80, None, 90, {"DiffusionBValue": 1000.0}, "dwi"),
    "Siemens 3T TRACE": (EP, "SK", 6000, 80, None, 90, derived("DIFFUSION", "TRACEW"), "dwi"),
    "Siemens 3T ADC": (EP, "SK", 6000, 80, None, 90, derived("DIFFUSION", "ADC"), "adc"),
    "Siemens 3T FA": (EP, "SK", 6000, 80, None, 90, derived("DIFFUSION", "FA"), "unknown"),
    "Siemens 3T BOLD": (["EP", "GR"], "SK", 2000, 30, None, 76, {}, "unknown"),
    "Siemens 3T SWI": (GR, ["SP"], 27, 20, None, 15, {}, "unknown"),
    "Siemens 3T T2*": (GR, SPOILED, 620, 20, None, 20, {}, "unknown"),
    "Siemens 3T CISS": (GR, ["SS"], 5.4, 2.4, None, 50, {}, "unknown"),
    "Siemens 3T TOF": (GR, SPOILED, 21, 3.4, None, 18, named("TOF_3D_multi-slab"), "unknown"),
    "Siemens 3T angiography": (GR, SPOILED, 21, 3.4, None, 18, {"AngioFlag": "Y"}, "unknown"),
    "Siemens 3T field map": (GR, SPOILED, 488, 4.9, None, 60, named("gre_field_mapping"), "unknown"),
    "Siemens 3T phase": (GR, SPOILED, 488, 7.4, None, 60, original("P", "ND"), "unknown"),
    "GE 3T BRAVO": (GR, ["SS", "SP", "SK"], 7.0, 2.8, 400, 11, original("OTHER"), "t1"),
    "GE 1.5T FSPGR": (GR, ["SS", "SP", "SK"], 9.1, 3.7, None, 20, original("OTHER"), "t1"),
    "GE 3T T1 FLAIR": (IR, "SK", 2500, 24, 860, 111, named("Ax T1 FLAIR"), "t1"),
    "GE 3T T2 FSE": (SE, "SK", 4800, 102, None, 111, named("Ax T2 FSE"), "t2"),
    "GE 3T T2 CUBE": (SE, "SK", 2500, 85, None, 90, {}, "t2"),
    "GE 1.5T T2 FLAIR": (IR, "SK", 8800, 120, 2200, 90, {}, "flair"),
    "GE 3T CUBE FLAIR": (IR, "SK", 6500, 122, 1850, 90, {}, "flair"),
    "GE 3T FIESTA": (GR, ["SS", "SK"], 5.2, 2.1, None, 55, {}, "unknown"),
    "GE 3T DWI by its name": (EP, "NONE", 8000, 70, None, 90, named("Ax DWI b1000"), "dwi"),
    "GE 3T ADC by its name": (EP, "NONE", 8000, 70, None, 90, named("Apparent Diffusion Coefficient"), "adc"),
    "GE 3T perfusion": (["EP", "GR"], "SS", 1500, 30, None, 60, {"NumberOfTemporalPositions": 40}, "unknown"),
    "Philips 3T T1 TFE": (GR, "MP", 8.1, 3.7, None, 8, original("M_FFE", "M", "FFE"), "t1"),
    "Philips 1.5T T1 SE": (SE, "NONE", 450, 15, None, 69, original("M_SE", "M", "SE"), "t1"),
    "Philips 3T T2 TSE": (SE, "SK", 3000, 80, 0, 90, {}, "t2"),
    "Philips 3T FLAIR": ("IR", "SK", 11000, 125, 2800, 90, original("M_IR", "M", "IR"), "flair"),
    "Philips FLAIR, no inversion time": (SE, "SK", 11000, 125, None, 90, named("FLAIR_longTR"), "flair"),
    "Philips 3T ADC": ("SE", "SK", 3300, 73, None, 90, original("ADC_UNSPECIFIED", "ADC"), "adc"),
    "an agent": (SE, "SP", 500, 8.4, None, 90, AGENT, "t1ce"),
    "an agent that is none": (SE, "SP", 500, 8.4, None, 90, {"ContrastBolusAgent": "NONE"}, "t1"),
    "an agent in the name alone": (SE, "SP", 500, 8.4, None, 90, named("t1_se_tra_KM"), "t1ce"),
    "plus C": (SE, "SP", 500, 8.4, None, 90, named("AX T1 +C"), "t1ce"),
    "post Gd": (GR, "MP", 8, 3, None, 9, named("3D T1 post-Gd"), "t1ce"),
    "without contrast": (SE, "SP", 500, 8.4, None, 90, named("T1 without contrast"), "t1"),
    "an agent and a name that says none": (SE, "SP", 500, 8.4, None, 90, AGENT | named("T1 pre"), "unknown"),
    "T2 after an agent": (SE, "SP", 4000, 100, None, 90, AGENT, "t2"),
}  # fmt: skip


def file_of(sequence=None, variant=None, repetition=None, echo=None, inversion=None, flip=None, **others):
    elements = {
        "ImageType": M, "ScanningSequence": sequence, "SequenceVariant": variant,
        "RepetitionTime": repetition, "EchoTime": echo, "InversionTime": inversion, "FlipAngle": flip,
        **others,
    }  # fmt: skip
    made = phantoms.header(**elements)
    return phantoms.as_bytes(phantoms.with_pixels(made, np.zeros((4, 4), np.uint16)))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_is_told_by_what_was_measured(name):
    *times, others, kind = PROTOCOLS[name]
    data = file_of(*times, **others)
    assert kind_of(walk_to_ids(data)) == kind
    assert kind_of(read_elements(data)) == kind


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        ({"SeriesDescription": "t1_mprage_sag_p2_iso"}, "t1"),
        ({"SeriesDescription": "sT1W_3D_TFE"}, "t1"),
        ({"SeriesDescription": "Ax T2 FLAIR"}, "flair"),
        ({"SeriesDescription": "t2_tirm_tra_dark-fluid"}, "flair"),
        ({"SeriesDescription": "T2W_TSE"}, "t2"),
        ({"SeriesDescription": "ep2d_diff_3scan_trace_p2"}, "dwi"),
        ({"SeriesDescription": "ep2d_diff_3scan_trace_p2_ADC"}, "adc"),
        ({"SeriesDescription": "eADC"}, "unknown"),
        ({"SeriesDescription": "t2_fl2d_tra_hemo"}, "unknown"),
        ({"SeriesDescription": "T1 T2 PD"}, "unknown"),
        ({"SeriesDescription": "head"}, "unknown"),
        ({"SeriesDescription": "head", "ProtocolName": "T1 KM"}, "t1ce"),
        ({"SeriesDescription": "head", "ProtocolName": "head", "SequenceName": "*spcir_242ns"}, "flair"),
        ({}, "unknown"),
    ],
)
def test_where_tags_tell_nothing_the_first_text_that_names_a_kind_does(texts, kind):
    assert kind_of(read_elements(file_of(**texts))) == kind


@pytest.mark.parametrize(
    "others",
    [
        {"Modality": "CT"},
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        {"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE"]},
        {"ConversionType": "WSD"},
    ],
)
def test_what_is_rejected_as_no_slice_of_mr_has_no_kind(others):
    assert kind_of(read_elements(file_of("SE", "SP", 500, 8.4, None, 90, **others))) == ""


@pytest.mark.parametrize(
    ("contrast", "kind"),
    [
        ("T1", "t1"),
        ("T2", "t2"),
        ("FLUID_ATTENUATED", "flair"),
        ("DIFFUSION", "dwi"),
        ("PROTON_DENSITY", "unknown"),
    ],
)
def test_an_enhanced_file_names_its_contrast(contrast, kind):
    made = phantoms.enhanced(np.zeros((4, 4, 2), np.uint16), np.eye(4), [0, 1])
    made.AcquisitionContrast = contrast
    elements = walk_to_ids(phantoms.as_bytes(made))
    assert not tells_in_groups(elements)
    assert kind_of(elements) == kind


def test_an_enhanced_file_that_names_none_is_told_by_its_functional_groups():
    made = phantoms.enhanced(np.zeros((4, 4, 2), np.uint16), np.eye(4), [0, 1])
    made.AcquisitionContrast, made.EchoPulseSequence = "UNKNOWN", "SPIN"
    shared = made.SharedFunctionalGroupsSequence[0]
    shared.MRTimingAndRelatedParametersSequence = phantoms.item(RepetitionTime=9000.0, FlipAngle=150.0)
    shared.MREchoSequence = phantoms.item(EffectiveEchoTime=90.0)
    shared.MRModifierSequence = phantoms.item(InversionRecovery="YES", InversionTimes=[2500.0])
    data = phantoms.as_bytes(made)
    assert tells_in_groups(walk_to_ids(data))
    elements = read_elements(data)
    assert any(tag in elements.sequences for tag in SEQUENCES)
    assert kind_of(elements) == "flair"
    made.ContrastBolusAgentSequence = phantoms.item(ContrastBolusAgentNumber=1)
    shared.MRModifierSequence = phantoms.item(InversionRecovery="NO")
    shared.MRTimingAndRelatedParametersSequence = phantoms.item(RepetitionTime=600.0, FlipAngle=90.0)
    shared.MREchoSequence = phantoms.item(EffectiveEchoTime=9.0)
    assert kind_of(read_elements(phantoms.as_bytes(made))) == "t1ce"


def test_damaged_numbers_tell_nothing():
    elements = read_elements(file_of("SE", "SP", 500, 8.4))
    values = {**elements.values, 0x00180080: b"abc "}
    assert kind_of(Elements(syntax="", is_big_endian=False, values=values, private={})) == "unknown"


@pytest.mark.parametrize(
    ("folder", "pattern", "kind", "scanner"),
    [
        ("dicom", "*mosaic*.dcm", "unknown", "Siemens Triotim"),
        ("dicom", "structured*", "", "Siemens Prisma"),
        ("twelve_bit", "*.dcm", "unknown", "Siemens Triotim"),
        ("decubitus", "*/*.dcm", "t1", "Siemens Prisma Fit"),
        ("ge_t1", "*.dcm", "t1", "GE Signa Hdxt"),
        ("enhanced/philips", "*.dcm", "unknown", "Philips Achieva Dstream"),
        ("enhanced/siemens", "*.dcm", "unknown", "Siemens Vida"),
        ("renamed_private", "*/*.img", "unknown", "Siemens Vida"),
    ],
)
def test_real_files_are_told(real_data, folder, pattern, kind, scanner):
    """Mosaics here are of BOLD, multi-frame files of field maps, BOLD and perfusion: none of the kinds."""
    files = sorted((real_data / folder).glob(pattern))
    assert files
    for file in files:
        elements = walk_to_ids(file.read_bytes())
        assert (kind_of(elements), scanner_in(elements)) == (kind, scanner), file.name


@pytest.mark.parametrize(
    ("maker", "model", "shown"),
    [
        ("SIEMENS", "MAGNETOM Skyra", "Siemens Skyra"),
        ("Siemens Healthineers", "Prisma_fit", "Siemens Prisma Fit"),
        ("GE MEDICAL SYSTEMS", "DISCOVERY MR750w", "GE Discovery MR750W"),
        ("Philips Medical Systems", "Ingenia Elition X", "Philips Ingenia Elition X"),
        ("UIH", "uMR 790", "UIH Umr 790"),
        ("Müller, Hans", "Müller", ""),
        ("SIEMENS", "Hans Müller's 3T", "Siemens 3T"),
        ("", "", ""),
    ],
)
def test_of_a_scanner_known_words_alone_are_told(maker, model, shown):
    assert scanner_of(maker.encode(), model.encode()) == shown
