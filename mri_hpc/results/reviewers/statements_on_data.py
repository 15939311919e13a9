"""Statements about the data of a run, each made of what the run has written down.

One that returns no words has nothing to go by: a run of before did not write it down.
"""

from mri_hpc.cohort.splits import TEST_FRACTION, VALIDATION_FRACTION
from mri_hpc.results.pages.record import Record
from mri_hpc.results.statistics.subgroups import SLICES

FITS = {"letterbox": "with their proportions, on black", "stretch": "stretched to fill it"}
NORMALISED = {
    "auto": "as its first weights want it; where these were random, by each image's mean and deviation",
    "image": "by each image's mean and deviation",
    "imagenet": "by the mean and deviation of ImageNet",
}


def design(_record: Record) -> str:
    """Say what kind of study one run is."""
    return "Development, and internal testing on a split held apart, on images that were there before the run"


def study_goal(record: Record) -> str:
    """Say what is to be told apart."""
    return f"Making a model that tells {', '.join(record.evaluation.classes)} apart, and testing it"


def source(record: Record) -> str:
    """Name the stored data, by digest."""
    known = record.provenance
    digests = [
        f"{title} {known[key]}"
        for title, key in (("snapshot", "snapshot"), ("stored content", "content_digest"))
        if known.get(key)
    ]
    return f"One store of images: {', '.join(digests)}" if digests else ""


def counts(record: Record) -> str:
    """Count images and patients of each split."""
    parts = []
    for split in record.splits:
        cell = record.cohort_totals[split]
        patients = "" if cell.patients is None else f" of {cell.patients} patients"
        parts.append(f"{split} {'unknown' if cell.images is None else cell.images} images{patients}")
    return f"Splits: {'; '.join(parts)}"


def class_counts(record: Record) -> str:
    """Count images and patients of each class in each split."""
    parts = []
    for name, cells in record.cohort.items():
        of_splits = [
            f"{split} {cell.images}" + ("" if cell.patients is None else f" ({cell.patients} patients)")
            for split, cell in cells.items()
            if cell.images is not None
        ]
        parts.append(f"{name}: {', '.join(of_splits)}")
    return f"Images by class: {'; '.join(parts)}"


def test_counts(record: Record) -> str:
    """Count the units of each class in the test split."""
    found = record.evaluation
    of_classes = ", ".join(f"{name} {values.support}" for name, values in found.headline.classes.items())
    return f"Test split by {found.unit}: {found.headline.num} ({of_classes})"


def taken(record: Record) -> str:
    """Say by which rules images were taken out of their source."""
    recipe = record.recipe
    if recipe is None:
        return ""
    rules = [
        f"series {recipe.series}" if recipe.series else "",
        f"slices of volumes {recipe.slices}, of those that show a head",
        f"plane of volumes {recipe.plane}",
        f"masks {', '.join(recipe.masks)}" if recipe.masks else "",
        f"slices without a lesion are {recipe.without_lesion}" if recipe.without_lesion else "",
    ]
    return f"Taken by the store: {'; '.join(rule for rule in rules if rule)}"


def unused(record: Record) -> str:
    """Count images that are in no split."""
    found = record.provenance.get("images_in_no_split")
    return "" if found is None else f"{found} stored images are in no split, as no class or fold is known"


def preprocessing(record: Record) -> str:
    """Say how images became arrays."""
    recipe = record.recipe
    if recipe is None:
        return ""
    return (
        f"Images are fitted into {recipe.size} × {recipe.size} pixels, {FITS[recipe.fit]}, with grey "
        f"values of {recipe.bits} bits by the rules {recipe.decoder}; the network sees them normalised "
        f"{NORMALISED[record.training.normalise]}"
    )


def deidentification(record: Record) -> str:
    """Say what the store keeps of who patients are."""
    recipe = record.recipe
    if recipe is None:
        return ""
    if recipe.ids == "as-given":
        ids = "Ids of patients are kept as they were given"
    else:
        ids = "Ids of patients and studies are pseudonyms by a keyed hash"
    dates = "shifted, by patient" if recipe.dates == "shifted" else "dropped"
    return f"{ids}; dates are {dates}; faces in the pixels are left as they are"


def missing(record: Record) -> str:
    """Say what is done where something is not known."""
    nameless = record.provenance.get("images_without_patient")
    of_patients = "" if nameless is None else f"; {nameless} images of the run name no patient"
    return f"Nothing is imputed: what is not known is a group of its own in tables{of_patients}"


def acquisition(record: Record) -> str:
    """Count the test images of each group that the store tells of: plane, kind, scanner, site."""
    groups: dict[str, list[str]] = {}
    for group in record.evaluation.subgroups:
        if group.column != SLICES:
            groups.setdefault(group.column, []).append(f"{group.value or 'not known'} ({group.images})")
    if not groups:
        return ""
    return "Test images by " + "; by ".join(f"{column}: {', '.join(of)}" for column, of in groups.items())


def reference(record: Record) -> str:
    """Say whose word the classes are."""
    model = record.evaluation.patient_model
    rule = f"; of a patient with images of several classes, {model.label_in_words()}" if model else ""
    return f"The class of an image is the one that the data give{rule}. The program judges no image itself"


def predictors_by_machine(_record: Record) -> str:
    """Say that no one judges what goes in."""
    return "Pixels alone go in: nobody judges them beforehand"


def partition(record: Record) -> str:
    """Say who decided on the splits."""
    t = record.training
    if t.hash_folds:
        how = f"a hash deals patients to {t.hash_folds} folds, of which {t.test_fold} is the test split"
    elif t.test_fold is not None:
        how = f"by folds that the data name: {t.test_fold} is the test split"
        how += "" if t.val_fold is None else f", {t.val_fold} validation"
    else:
        how = (
            "as the data name it for a patient, else by a hash of the patient: "
            f"{VALIDATION_FRACTION:.0%} validation, {TEST_FRACTION:.0%} test".replace("%", " %")
        )
    if t.from_train != "none":
        taken = "validation and test" if t.from_train == "both" else t.from_train
        how += f"; a hash takes {taken} from patients of the others"
    if t.calibration_share:
        how += f"; of validation a hash sets a share of {t.calibration_share:g} apart, to choose no epoch"
    return f"Who is in which split: {how}"


def disjointness(record: Record) -> str:
    """Say on which level splits are held apart, and what an audit by looks found."""
    found = record.evaluation
    nameless = found.counts.images_without_patient_in_run
    if not found.has_patients:
        level = "Splits are apart by image only: the data name no patients"
    elif nameless:
        level = f"A patient is in one split only, but for {nameless} images that name none"
    else:
        level = "A patient is in one split only"
    leaks = record.provenance.get("test_images_trained_on")
    if leaks is None:
        return f"{level}. Whether test images have near-copies among training images was not looked at"
    seen = "none looks" if leaks == 0 else f"{leaks} look"
    return f"{level}. Of the test images {seen} like an image that was trained on"
