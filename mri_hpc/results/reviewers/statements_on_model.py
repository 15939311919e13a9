"""Statements about the model of a run, each made of what the run has written down.

One that returns no words has nothing to go by: a run of before did not write it down.
"""

from mri_hpc.base.command import counted
from mri_hpc.results.pages.record import Record
from mri_hpc.results.reviewers.statements import sentences
from mri_hpc.rundir.settings import MOST_SEEN


def technique(record: Record) -> str:
    """Name the network, and what it answers."""
    classes = record.evaluation.classes
    return (
        f"Deep learning: a {record.training.model} as torchvision defines it, which gives each image a "
        f"probability for each of {len(classes)} classes: {', '.join(classes)}"
    )


def architecture(record: Record) -> str:
    """Describe the network: its input, its size and its answer."""
    known = record.provenance
    shape = " × ".join(map(str, known.get("image_shape") or ()))
    size = known.get("num_parameters")
    return sentences(
        (
            technique(record),
            f"input: one grey image of {shape} pixels" if shape else "",
            f"{size} parameters" if size else "",
            pooling(record),
        )
    )


def pooling(record: Record) -> str:
    """Say what a patient's answer is."""
    model = record.evaluation.patient_model
    if model is None or not record.evaluation.counts.patients:
        return "No patient is judged, images only"
    return f"A patient's probabilities are {model.in_words('slices')}; the answer is the most probable class"


def software(record: Record) -> str:
    """List versions, and the machine."""
    known = record.provenance
    versions = ", ".join(f"{name} {v}" for name, v in sorted((known.get("versions") or {}).items()) if v)
    on = f"; {counted(known['ranks'], 'rank')} on {known['device']}" if known.get("device") else ""
    return f"Versions: {versions}{on}" if versions else ""


def start(record: Record) -> str:
    """Say which weights the training began with."""
    t = record.training
    digest = record.provenance.get("initial_weights_digest")
    named = f" (digest {digest})" if digest else ""
    if t.continue_from:
        return f"The weights of a run before{named}"
    if t.weights == "pretrained":
        return f"Weights that torchvision publishes, trained on ImageNet{named}"
    if t.weights:
        return f"Weights of a file that was given{named}"
    return f"Random weights, by seed {t.seed}"


def training(record: Record) -> str:
    """List how the network was trained."""
    t, known = record.training, record.provenance
    rate, batch = known.get("lr", t.lr), known.get("batch_size", t.batch_size)
    falls = f"held, then falls over {t.decay_epochs} epochs" if t.decay_epochs else "falls by a cosine"
    done = f"; {known['epochs']} epochs, {known['steps']} steps were done" if known.get("steps") else ""
    augmented = "turned, scaled, shifted and changed in contrast at random" if t.augment else "as they are"
    if t.augment and t.distort:
        augmented = f"bent, blurred, partly covered, {augmented}"
    if t.enlarge > 1 and max(known.get("image_shape") or (0,)) < MOST_SEEN:
        augmented = f"{augmented}, enlarged {t.enlarge:g} times, to {MOST_SEEN} pixels at most"
    sides = (
        "left and right exchanged at random"
        if t.augment and t.flip != "off"
        else "left and right as they are"
    )
    return (
        f"Recipe {t.recipe}: {t.optimizer}, highest rate {rate:g} after {t.warmup_epochs:g} epochs of "
        f"warm-up, {falls}; weight decay {t.weight_decay:g}, {batch} images a step, label smoothing "
        f"{t.label_smoothing:g}, "
        f"{f'weights averaged with decay {t.ema_decay:g}' if t.ema_decay else 'weights as they are'}, mixup "
        f"{t.mixup:g}; images "
        f"{augmented}, {sides}; at most {t.epochs} epochs, patience {t.patience}{done}; precision "
        f"{t.precision}, seed {t.seed}, {'' if t.deterministic else 'not '}deterministic to the bit"
    )


def imbalance(record: Record) -> str:
    """Say what is done about rare classes."""
    if record.training.class_weights == "none":
        return "Rare classes do not count more in the loss"
    return f"Rare classes count more in the loss (class weights {record.training.class_weights})"


def selection(record: Record) -> str:
    """Say which weights are the model, and who chose them."""
    known = record.provenance
    epoch = known.get("model_epoch", known.get("best_epoch"))
    which = "" if epoch is None else f": epoch {epoch}"
    chosen = f"The weights of the epoch with the least loss on validation images{which}"
    if record.training.published_epoch == "last" and epoch is not None and epoch == known.get("epochs"):
        chosen = (
            f"The weights of the last epoch{which}. The loss on validation images decided from when on "
            "the learning rate fell"
        )
    return (
        f"{chosen}. Test images had no part. "
        "Whether settings were chosen by comparing runs, this run cannot know"
    )


def ensembling(record: Record) -> str:
    """Say whether several models answer."""
    t = record.training
    mirror = t.mirror_answers and t.augment and t.flip != "off"
    also = ", each answer about an image and its mirror image" if mirror else ""
    return f"None: one network answers{also}"


def how_predicted(_record: Record) -> str:
    """Say how predictions are made."""
    return "By mri-hpc predict RUN IMAGES, of model.safetensors and recipe.json; needs no store"


def quality_of_input(_record: Record) -> str:
    """Say what becomes of input that cannot be used."""
    return "Predict rejects what it cannot read, with the reason; all else is judged, be it poor"


def identity(record: Record) -> str:
    """Give the digests of the model."""
    known = record.provenance
    parts = [
        f"{title} {known[key]}"
        for title, key in (("model", "model_digest"), ("samples in their order", "samples_digest"))
        if known.get(key)
    ]
    return f"Digests: {', '.join(parts)}" if parts else ""


def protocol(record: Record) -> str:
    """Say what was written down of the run."""
    return sentences(("all settings stand in settings.toml of the run, and on its page", identity(record)))


def use(_record: Record) -> str:
    """Say for what it may be used."""
    return "Research only: no medical device; not for diagnosis or treatment"
