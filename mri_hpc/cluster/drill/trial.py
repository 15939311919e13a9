"""The throw-away run of a drill: a small network on a few made-up pictures."""

import csv
import itertools
import secrets
import shlex
from collections.abc import Iterator
from dataclasses import replace

from mri_hpc.base.atomic import publish_new_bytes, remove_folder
from mri_hpc.base.errors import UserError
from mri_hpc.cluster import slurm
from mri_hpc.cluster.choice import name_of, phase_of
from mri_hpc.cluster.drill.folder import DrillFolder
from mri_hpc.cluster.jobs import job_of
from mri_hpc.cluster.launching import Plan
from mri_hpc.cluster.scheduler import Phase, Sizes
from mri_hpc.rundir.manifests import newest_manifest
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, load_job, load_training, save_settings
from mri_hpc.storage.store import Store
from mri_hpc.testing.workbench import Workbench, draw

# It has batch normalisation, as the networks of real runs, and is small.
MODEL = "shufflenet_v2_x0_5"
SIDE = 32
IMAGES_A_RANK = 4
STEPS_AN_EPOCH = 6
OTHERS_A_CLASS = 2
"""Pictures of each class to validate on, and to test on."""
ENDLESS = 1_000_000
"""Epochs, until the signal has come: no machine is so fast that the run ends before."""
MORE_EPOCHS = 2
"""Epochs that end after the signal: the one under way, and a whole one."""
HANG_TIMEOUT_S = 90.0
"""Longer than a cold file system takes to import what a run needs at its end."""
CLASSES = ("a", "b")


def prepare(drill: DrillFolder, job: JobSettings, sizes: Sizes) -> Plan:
    """Make the drill's folder anew, with its store; return the run to be submitted.

    UserError while the job of an earlier drill lives.
    """
    _refuse_beside_another(drill)
    remove_folder(drill.path)
    drill.ways.mkdir(parents=True)
    publish_new_bytes(drill.token, secrets.token_hex(16).encode())
    digest = _make_store(drill, sizes.ranks)
    training = TrainingSettings(
        model=MODEL, store=str(drill.store), snapshot=digest, batch_size=IMAGES_A_RANK * sizes.ranks,
        epochs=ENDLESS, patience=ENDLESS, schedule_epochs=ENDLESS, deterministic=True, flip="off",
        patient_label="majority", hang_timeout_s=HANG_TIMEOUT_S,
    )  # fmt: skip
    return Plan(run=drill.run, training=training, job=job, is_new=True)


def shorten(drill: DrillFolder) -> None:
    """Let the run end soon after its last checkpoint, and the twin with it."""
    manifest = newest_manifest(drill.run)
    epochs = (manifest.progress.epoch if manifest else 0) + MORE_EPOCHS
    job, training = load_job(drill.run), replace(load_training(drill.run), epochs=epochs)
    drill.twin.path.mkdir(exist_ok=True)
    publish_new_bytes(drill.twin.recipe, drill.run.recipe.read_bytes())
    for run in (drill.twin, drill.run):
        save_settings(run, training, job)


def _refuse_beside_another(drill: DrillFolder) -> None:
    """Raise UserError where a job has the drill's run, or Slurm does not answer."""
    newest = drill.run.newest_attempt()
    job = job_of(drill.run, newest.submission) if newest else None
    if job and phase_of(job) is not Phase.GONE:
        cancel = shlex.join(slurm.cancel_command(job.job_id, slurm.elsewhere(job.slurm_cluster)))
        raise UserError(
            f"a drill is under way in {drill.path}: {name_of(job)}; wait for its end, or end it with {cancel}"
        )


def _make_store(drill: DrillFolder, ranks: int) -> str:
    """Make the store; return the digest of its snapshot."""
    bench = Workbench(root=drill.path, side=SIDE, unit_images=ENDLESS)
    rows = list(_pictures(ranks))
    for path, _label, _split in rows:
        bench.write(path, draw(path, 0, SIDE))
    with bench.table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "patient", "split"])
        writer.writerows([path, label, path, split] for path, label, split in rows)
    bench.add()
    return Store.open(bench.path).resolve().digest


def _pictures(ranks: int) -> Iterator[tuple[str, str, str]]:
    """Yield path, class and split of each picture."""
    for_training = IMAGES_A_RANK * STEPS_AN_EPOCH * ranks // len(CLASSES)
    counts = {"train": for_training, "validation": OTHERS_A_CLASS, "test": OTHERS_A_CLASS}
    for (split, count), label in itertools.product(counts.items(), CLASSES):
        for number in range(count):
            yield f"{split}-{label}-{number}.png", label, split
