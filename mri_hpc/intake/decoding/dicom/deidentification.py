"""De-identification: by which codes what is done here is known, and what files say was done before.

The codes are those of DICOM PS3.16, CID 7050 (De-identification Method), for the profile and the options of
PS3.15, Annex E.

A store with pseudonyms holds of 113100 (Basic Application Confidentiality Profile, Table E.1-1): of a header
nothing stays but place, plane and number of a slice, the kind of sequence, manufacturer and model (which the
table does not list). Ids of patient and study are replaced, all of a patient alike; those of series and
instances are in no file that is shared; dates, descriptors, device, institution, private elements, overlays,
graphics and structured content are gone. What users type, such as the name of a site, is theirs.

With --dates shifted the option 113107 (Retain Longitudinal Temporal Information Modified Dates) holds, and no
other one ever. Not 113101 (Clean Pixel Data): pixels in which text is seen are kept back, not cleaned, and
some text is not seen. Not 113102 (Clean Recognizable Visual Features): faces stay. The rest say that
something was cleaned, or retained, that is not there. With ids as given no code holds.
"""

from mri_hpc.intake.decoding.dicom.elements import Elements, Tag
from mri_hpc.intake.decoding.dicom.header import Values
from mri_hpc.intake.decoding.recipe import Recipe

BASIC, SHIFTED_DATES = "113100", "113107"
MEANINGS = {
    BASIC: "Basic Application Confidentiality Profile",
    "113101": "Clean Pixel Data Option",
    "113102": "Clean Recognizable Visual Features Option",
    "113103": "Clean Graphics Option",
    "113104": "Clean Structured Content Option",
    "113105": "Clean Descriptors Option",
    "113106": "Retain Longitudinal Temporal Information Full Dates Option",
    SHIFTED_DATES: "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
    "113109": "Retain Device Identity Option",
    "113110": "Retain UIDs Option",
    "113111": "Retain Safe Private Option",
    "113112": "Retain Institution Identity Option",
}
"""Of CID 7050, by code."""
REMOVED, MODIFIED = "REMOVED", "MODIFIED"
"""Of dates, as LongitudinalTemporalInformationModified has it."""
ANSWERS = {
    Tag.IDENTITY_REMOVED: ("PatientIdentityRemoved", ("YES", "NO")),
    Tag.DATES_MODIFIED: ("LongitudinalTemporalInformationModified", ("UNMODIFIED", MODIFIED, REMOVED)),
    Tag.BURNED_IN: ("BurnedInAnnotation", ("YES", "NO")),
    Tag.VISUAL_FEATURES: ("RecognizableVisualFeatures", ("YES", "NO")),
}
"""Words that a file may have there. Any other word may be a person's, and is counted as another one."""
OTHER = "other"
OTHER_CODE = "another code"


def codes_of(recipe: Recipe) -> tuple[str, ...]:
    """Return the codes of what is done to DICOM by a recipe; none where ids stay as given."""
    if recipe.ids != "pseudonym":
        return ()
    return (BASIC, SHIFTED_DATES) if recipe.dates == "shifted" else (BASIC,)


def dates_of(recipe: Recipe) -> str:
    """Return what a recipe does to dates, in the words of LongitudinalTemporalInformationModified."""
    return MODIFIED if recipe.dates == "shifted" else REMOVED


def statements_of(elements: Elements) -> frozenset[str]:
    """Return what a file says of its own de-identification: codes, and ``BurnedInAnnotation NO``.

    Its DeidentificationMethod is a text of whoever wrote it, and is not read.
    """
    values = Values(elements)
    statements = {code if code in MEANINGS else OTHER_CODE for code in elements.codes}
    for tag, (name, answers) in ANSWERS.items():
        if answer := values.text(tag).upper():
            statements.add(f"{name} {answer if answer in answers else OTHER}")
    return frozenset(statements)
