"""Commands, settings and data that cannot be meant so."""

import os

from tests.cli.rubbish.bad_places import words
from tests.cli.rubbish.case import Case
from tests.cli.rubbish.desk import CLASSES, Desk, Outcome, call, draw

LAUNCH = ("launch", "--cluster", "local", "--dry-run")
# Patients on the desk have an image of each class.
BY_MOST = ("--patient-label", "majority")


def launch(*options: object):
    """Launch a new run on the store."""
    return lambda desk: words(*LAUNCH, "--store", desk.store, "--run", desk.root / "new", *BY_MOST, *options)


def typed(*parts: object):
    """A command line that needs nothing on the desk."""
    return lambda desk: words(*parts)


def store_of(*pictures: tuple[str, str], labels: str = ""):
    """Launch on a store of other pictures, each a class and a patient."""

    def make(desk: Desk) -> list[str]:
        for number, (label, patient) in enumerate(pictures):
            draw(desk.root / "other" / label / patient / f"{number}.png", number, 0)
        options = ["--labels", desk.file("labels.csv", labels)] if labels else []
        store = desk.root / "few"
        made = call(
            words("preprocess", "--source", desk.root / "other", "--store", store, "--size", 32,
                  "--ids", "as-given", *options),
            desk.root, {},
        )  # fmt: skip
        assert made.status == 0, made.err
        return words(*LAUNCH, "--store", store, "--run", desk.root / "new")

    return make


def no_run(desk: Desk, outcome: Outcome) -> None:
    """Nothing is left of the run that could not be."""
    assert not (desk.root / "new").exists()


def refused(name: str, make, *says: str, lines: int | None = 1) -> Case:
    """A command line that is refused in one line, before anything is done."""
    return Case(name=name, make=make, says=says, lines=lines, after=no_run)


def on_slurm(sbatch: str, *options: object, partition: str = "gpuu"):
    """Launch on a cluster with the partitions cpu and gpu, whose sbatch refuses with these words."""
    answers = {
        "scontrol": "echo 'Slurmctld(primary) at node1 is UP'",
        "sinfo": "printf 'cpu*|(null)\\ngpu|gpu:4\\n'",
        "sbatch": f"echo '{sbatch}' >&2; exit 1",
    }

    def make(desk: Desk) -> list[str]:
        for name, answer in answers.items():
            desk.file(f"bin/{name}", f"#!/bin/sh\n{answer}\n").chmod(0o755)
        desk.environment["PATH"] = f"{desk.root / 'bin'}:{os.environ['PATH']}"
        new = ("--store", desk.store, "--run", desk.root / "new")
        return words("launch", "--cluster", "slurm", "--partition", partition, *new, *BY_MOST, *options)

    return make


CASES = (
    refused("an unknown command", typed("lunch"), "no command 'lunch'; did you mean 'launch'?"),
    refused(
        "an unknown option: preprocess",
        typed("preprocess", "--sorce", "raw"),
        "unrecognized options: --sorce, raw; did you mean --source?",
    ),
    refused(
        "an unknown option: launch",
        typed("launch", "--epoch", "3"),
        "unrecognized options: --epoch, 3; did you mean --epochs?",
    ),
    refused(
        "an unknown option: predict",
        typed("predict", "run", "scans", "--ot", "x"),
        "unrecognized options: --ot, x; did you mean --out?",
    ),
    refused(
        "a word for a number",
        typed("launch", "--epochs", "many"),
        "--epochs takes INT, found 'many'; see: mri-hpc launch --help",
    ),
    refused("an option without its value", typed("launch", "--model"), "--model needs a value; see:"),
    refused(
        "an unknown word",
        typed("evaluate", "run", "--split", "tset"),
        "--split takes test, validation, calibration, found 'tset'; see: mri-hpc evaluate --help",
    ),
    refused(
        "an action of the store that is none",
        typed("store", "infoo", "x"),
        "unrecognized options: infoo, x; did you mean 'info'?",
    ),
    refused(
        "permission for nothing: doctor",
        typed("doctor", "--yes"),
        "--yes goes with --bundle RUN, --fix or --drill",
    ),
    refused(
        "settings of a job without one: doctor",
        typed("doctor", "--nodes", "2"),
        "those of a drill: give --drill",
    ),
    refused(
        "a drill without Slurm: doctor",
        typed("doctor", "--drill", "--cluster", "local"),
        "--drill is a job of Slurm, and --cluster local asks for none",
    ),
    refused("a store without an action", typed("store"), "expected one of {info, verify"),
    refused(
        "no run: evaluate",
        typed("evaluate"),
        "PATH is missing: folder of the run; see: mri-hpc evaluate --help",
    ),
    refused("no published weights: weights", typed("weights", "fetch", "resnet81"), "resnet81", "resnet18"),
    refused("an unknown model", launch("--model", "resnet81"), "resnet81", "resnet18"),
    refused("a batch below two", launch("--batch-size", 1), "--batch-size must be at least 2, got 1"),
    refused(
        "a batch too small for its ranks",
        launch("--nodes", 8, "--batch-size", 8),
        "--batch-size 8 gives 8 ranks less than 2 images each: ask for at least 16, or for fewer ranks",
    ),
    refused("a learning rate of zero", launch("--lr", 0), "--lr must be above 0, got 0.0"),
    refused(
        "patients with images of several classes",
        lambda desk: words(*LAUNCH, "--store", desk.store),
        "20 of 20 patients have images of several classes: say which class is a patient's",
        "--patient-label any:glioma (as soon as one image is of it), --patient-label majority",
    ),
    refused(
        "a class of patients that is none",
        lambda desk: words(*LAUNCH, "--store", desk.store, "--patient-label", "any:gliom"),
        "--patient-label any:gliom: there is no class 'gliom'; did you mean 'glioma'?",
    ),
    refused(
        "a rule for patients that is none",
        lambda desk: words(*LAUNCH, "--store", desk.store, "--patient-label", "most"),
        "--patient-label takes majority, slices or any:CLASS, got 'most'",
    ),
    refused(
        "a cosine and a held rate",
        launch("--schedule-epochs", 9, "--decay-epochs", 3),
        "--schedule-epochs is of the cosine, and --decay-epochs has none: give one of them",
    ),
    refused("no epochs", launch("--epochs", 0), "--epochs must be at least 1, got 0"),
    refused("one fold of two", launch("--val-fold", 1), "--val-fold and --test-fold go together"),
    refused("the same fold twice", launch("--val-fold", 1, "--test-fold", 1), "must differ, both are 1"),
    refused(
        "a fold that the data do not name",
        launch("--val-fold", 1, "--test-fold", 2),
        "--val-fold 1 holds no image: the data name no fold",
    ),
    refused(
        "a snapshot that is not there",
        launch("--snapshot", "feed"),
        "has no snapshot 'feed'; there are:",
        "or newest",
    ),
    refused("weights that are not there", launch("--weights", "none.pth"), "none.pth"),
    refused(
        "ports that only root has",
        launch("--port-range", "80-90"),
        "--port-range takes LOW-HIGH within 1024-65535, such as 50000-50999, got '80-90'",
    ),
    refused("nodes below one", launch("--nodes", 0), "--nodes must be at least 1, got 0"),
    refused(
        "nodes that are no number",
        launch("--nodes", "many"),
        "--nodes takes INT, found 'many'",
    ),
    refused(
        "a range of nodes that ends before it begins",
        launch("--nodes", "4-1"),
        "--nodes 4-1 ends before it begins: give LOW-HIGH such as 1-4",
    ),
    refused(
        "a batch by the ranks of a run of any number",
        launch("--nodes", "1-4", "--batch-size", "auto"),
        "--batch-size auto goes by the ranks at hand, and a run of any number of them must not: give a "
        "number",
    ),
    refused(
        "parts of a step that its ranks cut",
        launch("--micro-batches", 4),
        "--micro-batches goes with --nodes LOW-HIGH, or with --sums fixed-1",
    ),
    refused(
        "more ranks than parts of a step",
        launch("--nodes", "1-4", "--micro-batches", 3),
        "4 ranks are too many for the 3 micro-batches of a step: ask for fewer, or for a new run with "
        "--micro-batches 4",
    ),
    refused(
        "a time limit that is over at once",
        launch("--time-limit-min", 1),
        "--signal-ahead-s must be below the 60 s of --time-limit-min 1, got 90",
    ),
    refused(
        "an option for sbatch that is none",
        launch("--slurm", "exclusive"),
        "--slurm takes KEY=VALUE, got 'exclusive'",
    ),
    refused(
        "no store to train on",
        typed(*LAUNCH, "--store", "data/stroe"),
        "data/stroe is not a store (found nothing, no recipe.json); make one with:",
    ),
    refused(
        "one class only",
        store_of(*((CLASSES[0], f"P{n}") for n in range(12))),
        "holds one class only (glioma): a classifier needs two",
    ),
    refused(
        "one patient only",
        store_of(*((CLASSES[n % 2], "P1") for n in range(12))),
        "split of 12 images is empty",
        "add images of more patients, or name the splits",
    ),
    refused(
        "a split without images",
        store_of((CLASSES[0], "P1"), (CLASSES[1], "P2")),
        "split of 2 images is empty",
        "add images of more patients, or name the splits",
    ),
    Case(
        name="a folder of something else in place of a new run",
        make=lambda desk: words(*LAUNCH, "--store", desk.store, "--run", desk.raw),
        says=("raw holds other things (glioma, ...): choose a new folder for --run",),
    ),
    Case(
        name="a file in place of a new run",
        make=lambda desk: words(*LAUNCH, "--store", desk.store, "--run", desk.file("a.txt")),
        says=("a.txt is a file: choose a new folder for --run",),
    ),
    Case(
        name="other settings for an existing run",
        make=lambda desk: words(
            *LAUNCH, "--run", desk.unfinished.path, "--store", desk.patterns.store, "--seed", 7
        ),
        says=("is another run: what it is cannot change.",),
        lines=None,
    ),
    Case(
        name="more epochs for a finished run",
        make=lambda desk: words("launch", "--cluster", "local", "--run", desk.run.path, "--epochs", 90),
        says=("not applied: --epochs 90: the run is finished", "choose another --run"),
    ),
    Case(
        name="cancelling a run that is not there",
        make=typed("launch", "--cancel", "--run", "runs/a"),
        says=("runs/a does not exist",),
    ),
    refused(
        "a partition that does not exist",
        on_slurm(""),
        "--partition gpuu does not exist; this cluster has: cpu, gpu",
    ),
    refused(
        "a job that Slurm refuses",
        on_slurm("sbatch: error: invalid account", "--gpus-per-node", 0, partition="gpu"),
        "Slurm refused the job: invalid account",
    ),
)
