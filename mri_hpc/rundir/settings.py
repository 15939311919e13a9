"""The settings of a run: what it is (identity) and how it is operated."""

import math
import re
from dataclasses import dataclass
from typing import Annotated, Literal

from mri_hpc.base.errors import UserError
from mri_hpc.base.marks import OFTEN, Word
from mri_hpc.base.network import PortRange
from mri_hpc.base.settings import (
    differences,
    identity,
    identity_digest,
    identity_of,
    load_table,
    nearest,
    operation,
    save_tables,
)  # fmt: skip
from mri_hpc.rundir.following import listed
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.node_range import NodeRange

MAJORITY, SLICES_ONLY, ANY = "majority", "slices", "any:"
"""Rules of a patient's class: that of most slices; none at all; the one that any slice is of."""

FIXED: Literal["fixed-1"] = "fixed-1"
"""Sums of a step that are alike on any number of ranks; another way to add is another word."""
MOST_SEEN = 224
"""Pixels of a side, to which smaller images are enlarged at most: what networks are usually made for."""
MOST_ENLARGED = 4
"""Beyond it, a network sees nothing but blur."""
LEAST_MIXUP = 0.01
"""Below it, no pair of images would be mixed that anyone could see."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Settings of the training itself: model, data, and when it ends."""

    model: Annotated[str, OFTEN] = identity("resnet18")
    """Any torchvision classification model, by its name."""
    weights: Annotated[str, OFTEN] = identity("")
    """File of weights to start from; pretrained: torchvision's ImageNet weights; empty: random ones."""
    continue_from: Annotated[str, OFTEN] = identity("")
    """Finished run whose model this one starts from, to go on with more data."""
    normalise: Literal["auto", "image", "imagenet"] = identity("auto")
    """Grey values by each image's mean and deviation, or by ImageNet's; auto: as the weights want them."""
    freeze: bool = identity(False)
    """Train the head only; all else keeps the weights that it starts from."""
    head_lr: float | None = identity(None)
    """Highest learning rate of the head; by default that of the rest."""
    optimizer: Literal["adamw", "sgd"] = identity("adamw")
    """The optimizer; sgd has momentum 0.9."""
    lr: Annotated[float, OFTEN] = identity(1e-3)
    """Highest learning rate, reached after the warm-up; with --batch-size auto: that of 64 images a step."""
    weight_decay: float = identity(0.01)
    """Weight decay, not applied to biases and normalisation."""
    batch_size: Annotated[int | Literal["auto"], OFTEN] = identity(64)
    """Images a step, over all ranks together; auto: the most that fit, found when the run first starts."""
    accumulate: int = identity(1)
    """Parts into which each rank cuts its share of a step, where the whole does not fit into memory."""
    clip_norm: float = identity(0.0)
    """Largest norm of the gradient; 0: not clipped."""
    label_smoothing: float = identity(0.0)
    """Fraction of the label that is spread over all classes, in training only."""
    ema_decay: float = identity(0.0)
    """Validate and publish weights averaged over steps with this decay, such as 0.999; 0: the last ones."""
    warmup_epochs: float = identity(1.0)
    """Epochs of linear warm-up; afterwards the rate follows a cosine, or is held until the decay."""
    schedule_epochs: int = identity(0)
    """Epochs over which the cosine falls; 0: the epochs of the run when it is made."""
    decay_epochs: int = identity(0, neutral=0)
    """Epochs over which a held rate falls, once patience or --epochs end; 0: a cosine instead."""
    published_epoch: Literal["best", "last"] = identity("best", neutral="best")
    """Epoch whose weights are the model: last, where a held rate has fallen by then; else of least loss."""
    class_weights: Literal["balanced", "none"] = identity("balanced")
    """Count rare classes more in the loss."""
    augment: bool = identity(True)
    """Turn, scale and shift training images, and change their contrast, at random."""
    distort: bool = identity(False, neutral=False)
    """Beside what --augment does, bend, blur and partly cover training images, and curve grey values."""
    enlarge: float = identity(1.0, neutral=1.0)
    """Factor by which the network sees images enlarged, to 224 pixels at most."""
    flip: Literal["auto", "on", "off"] = identity("on", neutral="on")
    """Exchange left and right in half of the training images; auto: unless a class speaks of a side."""
    mixup: float = identity(0.0, neutral=0.0)
    """Mix images and labels of half of the steps in pairs, by a beta distribution of this; 0: none."""
    mirror_answers: bool = identity(False, neutral=False)
    """Answer about an image by it and its mirror image, where training exchanges left and right."""
    seed: int = identity(0)
    """Seed of weights, order, augmentation and dropout."""
    deterministic: bool = identity(False)
    """Only algorithms that give the same bits again; then a resumed run equals the uninterrupted one."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = identity("auto")
    """Arithmetic of the forward pass; auto: bf16 on GPUs that have it (see --matrix-unit too), else fp32."""
    matrix_unit: bool = identity(False, neutral=False)
    """On processors with a matrix unit (AMX), --precision auto is bf16 too, and channels lie last."""
    val_fold: int | None = identity(None)
    """Fold for validation, where the labels name folds."""
    test_fold: int | None = identity(None)
    """Fold for testing, where the labels name folds."""
    from_train: Literal["none", "validation", "test", "both"] = identity("none")
    """Splits for which a hash takes some of the patients named for training, for good."""
    hash_folds: int = identity(0, neutral=0)
    """Folds into which a hash deals the patients, one of them --test-fold; 0: those that the labels name."""
    patient_label: str = identity("auto", neutral="auto")
    """Class of patients with images of several: majority, any:CLASS or slices; auto: asks where many have."""
    calibration_share: float = identity(0.0, neutral=0.0)
    """Share of validation patients who choose no epoch, but calibrate and give thresholds, such as 0.5."""
    train_share: float = identity(1.0, neutral=1.0)
    """Share of the training patients that is trained on, by a hash, such as 0.5; the rest is in no split."""
    pooling: Literal["mean", "attention", "auto"] = identity("mean", neutral="mean")
    """Pooling of a patient's slices; attention: where validation says so; auto: as --patient-label lets."""
    recipe: Annotated[Literal["default", "fast", "thorough", "0.1.0"], OFTEN] = identity(
        "0.1.0", neutral="0.1.0"
    )
    """Named set of defaults; what is typed comes before them."""
    snapshot: str = identity("newest")
    """Digest of the store's snapshot; newest: that when the run is made; follow: by --follow; or a list."""
    sums: Literal["ddp", "fixed-1"] = identity("ddp", neutral="ddp")
    """Sums of a step over its ranks (ddp), or over its micro-batches, alike on any number of ranks."""
    micro_batches: int = identity(0, neutral=0)
    """Parts into which a step is cut for --sums fixed-1; 0: --accumulate for each rank of the most nodes."""
    store: Annotated[str, OFTEN] = operation("data/store")
    """Folder of the store."""
    follow: bool = operation(False)
    """Adopt newer snapshots at epoch boundaries; --no-follow: the newest once more, and then finish."""
    start_images: int = operation(10)
    """Training images of each class with which a run with --follow may begin."""
    start_classes: int = operation(2)
    """Classes with which a run with --follow may begin: one that comes later ends the following."""
    epochs: Annotated[int, OFTEN] = operation(30)
    """Most epochs; early stopping usually ends sooner."""
    patience: int = operation(6)
    """Epochs without improvement of the validation loss before training stops, or decays."""
    min_improvement: float = operation(0.0)
    """Least fall of the validation loss that counts as an improvement."""
    checkpoint_interval_s: float | Literal["auto"] = operation(300.0)
    """Seconds between periodic checkpoints, the most work that a death costs; auto: by what saves cost."""
    checkpoint_keep: int = operation(3)
    """Newest checkpoints to keep, beside that of the best epoch."""
    hang_timeout_s: float = operation(600.0)
    """Seconds without a step after which an attempt counts as hung."""
    allow_leaks: bool = operation(False)
    """Train although some slice, by its looks, is both trained on and judged on."""
    probe: bool = operation(False)
    """Before the first step, time steps on one rank and on all; status says whether so many are worth it."""

    def __post_init__(self) -> None:
        at_least = {
            "batch_size": 2,
            "accumulate": 1,
            "micro_batches": 0,
            "epochs": 1,
            "patience": 1,
            "checkpoint_keep": 1,
            "schedule_epochs": 0,
            "decay_epochs": 0,
            "hash_folds": 0,
            "start_images": 1,
            "start_classes": 2,
        }
        for name, least in at_least.items():
            value = getattr(self, name)
            if value != "auto" and value < least:
                raise UserError(f"{_flag(name)} must be at least {least}, got {value}")
        for name in ("lr", "head_lr", "hang_timeout_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{_flag(name)} must be above 0, got {value}")
        not_negative = (
            "weight_decay",
            "warmup_epochs",
            "min_improvement",
            "checkpoint_interval_s",
            "clip_norm",
        )
        for name in not_negative:
            value = getattr(self, name)
            if value != "auto" and not value >= 0:
                raise UserError(f"{_flag(name)} must not be negative, got {value}")
        for name in ("label_smoothing", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{_flag(name)} must be at least 0 and below 1, got {getattr(self, name)}")
        if self.mixup and not LEAST_MIXUP <= self.mixup <= 1:
            raise UserError(f"--mixup must be 0, or between {LEAST_MIXUP} and 1, got {self.mixup}")
        if not 1 <= self.enlarge <= MOST_ENLARGED:
            raise UserError(f"--enlarge must be between 1 and {MOST_ENLARGED}, got {self.enlarge}")
        if not 0 < self.train_share <= 1:
            raise UserError(f"--train-share must be above 0 and at most 1, got {self.train_share}")
        if not 0 <= self.calibration_share < 1:
            raise UserError(
                f"--calibration-share must be at least 0 and below 1, got {self.calibration_share}"
            )
        if self.batch_size == "auto" and self.accumulate > 1:
            raise UserError(
                "--accumulate is for steps that do not fit into memory, and --batch-size auto finds one that "
                "does: give one of them"
            )
        if self.sums != "ddp" and self.batch_size == "auto":
            raise UserError(
                "--batch-size auto goes by the ranks at hand, and a run of any number of them must not: give "
                "a number"
            )
        if self.decay_epochs and self.schedule_epochs:
            raise UserError(
                "--schedule-epochs is of the cosine, and --decay-epochs has none: give one of them"
            )
        listed(self.snapshot)
        if self.freeze and not (self.weights or self.continue_from):
            raise UserError("--freeze would keep random weights: give --weights or --continue-from too")
        if self.weights and self.continue_from:
            raise UserError("--weights and --continue-from both say what to start from: give one of them")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--seed must be between 0 and 2**63 - 1, got {self.seed}")
        is_val_hashed = self.test_fold is not None and self.from_train == "validation"
        if (self.val_fold is None) != (self.test_fold is None) and not is_val_hashed:
            raise UserError("--val-fold and --test-fold go together: give both or neither")
        if self.hash_folds and (self.test_fold is None or not is_val_hashed or self.val_fold is not None):
            raise UserError("--hash-folds goes with --test-fold K and --from-train validation; see --folds")
        if self.val_fold is not None and self.from_train != "none":
            raise UserError("--val-fold says who validates: --from-train none goes with it")
        if self.patient_label not in ("auto", MAJORITY, SLICES_ONLY) and not positives_of(self.patient_label):
            raise UserError(
                f"--patient-label takes majority, slices or any:CLASS, got {self.patient_label!r}"
                f"{nearest(self.patient_label, (MAJORITY, SLICES_ONLY))}"
            )
        is_majority = self.patient_label in ("auto", MAJORITY)
        if self.pooling == "attention" and not is_majority:
            raise UserError(
                f"--pooling attention learns the class of most slices, and --patient-label "
                f"{self.patient_label} asks for another: leave one of them out"
            )
        if self.val_fold is not None and self.val_fold == self.test_fold:
            raise UserError(f"--val-fold and --test-fold must differ, both are {self.val_fold}")

    @property
    def whole_decay_epochs(self) -> int:
        """Epochs over which a held rate falls: fewer than decay_epochs where all epochs are too few."""
        return min(self.decay_epochs, max(self.epochs - math.ceil(self.warmup_epochs), 1))

    def identity_digest(self) -> str:
        """Return the hex digest of the identity: equal for two runs exactly if they are the same run."""
        return identity_digest(self)


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """Settings of the run's job: its scheduler, and what it asks for."""

    cluster: Literal["auto", "slurm", "local"] = operation("auto")
    """slurm, local (this machine), or auto: slurm if its controller answers."""
    nodes: Annotated[int | str, OFTEN, Word(value="INT", form=r"\d+-\d+")] = operation(1)
    """Nodes of the job, LOW-HIGH as many as are free; here: groups of ranks, or one rank a GPU if any."""
    tasks_per_node: int | None = operation(None)
    """Ranks a node; by default one a GPU, and one where there is none."""
    gpus_per_node: Annotated[int | None, OFTEN] = operation(None)
    """GPUs a node; by default one a rank, where the partition has any."""
    cpus_per_task: int | None = operation(None)
    """Cores, and torch threads, a rank."""
    mem_gb: float | None = operation(None)
    """Memory a node, in GB; by default the partition's."""
    partition: Annotated[str | None, OFTEN] = operation(None)
    """Slurm partition; by default the site's."""
    account: str | None = operation(None)
    """Slurm account to charge."""
    qos: str | None = operation(None)
    """Slurm quality of service."""
    constraint: str | None = operation(None)
    """Features that the nodes must have."""
    time_limit_min: Annotated[int, OFTEN] = operation(240)
    """Time limit of one attempt, in minutes; a run that needs longer requeues itself."""
    signal_ahead_s: int = operation(90)
    """Seconds before the time limit at which the ranks are signalled to save."""
    slurm: tuple[str, ...] = operation(())
    """More sbatch options, as KEY=VALUE."""
    interface: str | None = operation(None)
    """Network interface by which ranks on several nodes talk; by default that of Slurm's addresses."""
    port_range: str | None = operation(None)
    """Ports, as LOW-HIGH, on which ranks listen, where nodes reach each other on these alone."""
    mail: bool = operation(False)
    """Have Slurm mail you once the run has ended for good, whatever the number of requeues."""

    def __post_init__(self) -> None:
        at_least = {
            "tasks_per_node": 1,
            "gpus_per_node": 0,
            "cpus_per_task": 1,
            "time_limit_min": 1,
            "signal_ahead_s": 1,
        }
        for name, least in at_least.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"{_flag(name)} must be at least {least}, got {value}")
        NodeRange.parse(self.nodes)
        limit_s = 60 * self.time_limit_min
        if self.signal_ahead_s >= limit_s:
            raise UserError(
                f"--signal-ahead-s must be below the {limit_s} s of --time-limit-min {self.time_limit_min}, "
                f"got {self.signal_ahead_s}: the ranks would be told to stop at once"
            )
        if self.port_range:
            PortRange.parse(self.port_range)
        for pair in self.slurm:
            if "=" not in pair:
                raise UserError(f"--slurm takes KEY=VALUE, got {pair!r}")

    @property
    def node_range(self) -> NodeRange:
        """The least and the most nodes."""
        return NodeRange.parse(self.nodes)

    @property
    def takes_any_number(self) -> bool:
        """Tell whether an attempt may have another number of nodes than the one before."""
        return isinstance(self.nodes, str)


def positives_of(rule: str) -> tuple[str, ...]:
    """Return the classes of which any slice makes its patient one; none where the rule is another."""
    return tuple(name for name in rule.removeprefix(ANY).split(",") if name) if rule.startswith(ANY) else ()


def save_settings(run: RunDir, training: TrainingSettings, job: JobSettings) -> None:
    """Write settings.toml."""
    save_tables(run.settings, {"training": training, "job": job})


def load_training(run: RunDir) -> TrainingSettings:
    """Read the training settings of a run; raises UserError."""
    return load_table(run.settings, "training", TrainingSettings)


def skim_epochs(run: RunDir) -> int:
    """Read the most epochs that a run may take, and no other setting: for tables. Raises UserError."""
    try:
        text = run.settings.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise UserError(f"{run.settings} does not exist") from None
    found = re.search(r"^epochs = (\d+)$", text, re.MULTILINE)
    # By another hand, or of another version: then as everybody reads it.
    return int(found[1]) if found else load_training(run).epochs


def load_job(run: RunDir) -> JobSettings:
    """Read the job settings of a run; raises UserError."""
    return load_table(run.settings, "job", JobSettings)


def refuse_other_identity(run: RunDir, asked: TrainingSettings) -> None:
    """Raise UserError where the settings would make another run of this one."""
    saved = load_training(run)
    others = differences(saved, asked)
    table = [
        f"  {name:<{max(map(len, others))}}  saved {before}, asked {now}"
        for name, (before, now) in others.items()
        if name in identity_of(saved)
    ]
    if table:
        raise UserError(
            f"{run.path} is another run: what it is cannot change.\n" + "\n".join(table) + "\n"
            "leave these options out to resume it, or choose another --run to start a new one"
        )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
