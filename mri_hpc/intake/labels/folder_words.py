"""Words that folders are called by, and that name no person: planes, kinds of images, studies, sites."""

import re

from mri_hpc.intake.labels.label import PLANE_WORDS, SPLIT_WORDS

# No initials, as in MR and PD.
KIND = re.compile(
    r"t[12]([-_ ]?(w|c|ce|gd|wi|flair|post))?|flair|dwi|adc|swi|anat|dicom"
    r"|(image|img|pic|picture|photo|slice|scan|mri|png|jpe?g|tiff?|bmp|dcm)s?|nii|nifti"
    r"|raw|original|data|dataset|processed|preprocessed|cropped|resized|augmented",
    re.IGNORECASE,
)
# No "scan 12" and no 20240131: where these are ids, all patients of a folder would become one.
STUDY = re.compile(
    r"\d{4}[-_.]\d{2}[-_.]\d{2}|(ses|session|study|series|visit)[-_ ]?\d*",
    re.IGNORECASE,
)
SITE = re.compile(r"(site|cent(er|re)|hospital|clinic|klinik|institut(e|ion)?)[-_ ]?\w{0,3}", re.IGNORECASE)
PERSON_WORDS = "|".join([
    *("p", "pt", "pat", "patients?", "paciente", "paziente", "sub", "subj", "subjects?", "sujet"),
    *("proband", "participant", "volunteer", "person", "pid", "mrn"),
])  # fmt: skip
PERSON = re.compile(rf"({PERSON_WORDS})[-_ ]?\d+", re.IGNORECASE)
"""Names that say of themselves that they are a person's."""


def is_of_images(name: str) -> bool:
    """Tell whether a folder is called by what its images show: a plane, a kind, a split; never a patient."""
    return name.lower() in PLANE_WORDS or name.lower() in SPLIT_WORDS or bool(KIND.fullmatch(name))


def is_study(name: str) -> bool:
    """Tell whether a folder is called as a study or its date; a patient where nothing else is."""
    return bool(STUDY.fullmatch(name))


def is_site(name: str) -> bool:
    """Tell whether a folder is called as a hospital, or one of several."""
    return bool(SITE.fullmatch(name))


def is_person(name: str) -> bool:
    """Tell whether a folder's name says of itself that it is a person's."""
    return bool(PERSON.fullmatch(name))
