"""Contents of the archive: a few texts about a run, from each of which names have been taken out."""

import contextlib
import json
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

from mri_hpc.base.command import counted
from mri_hpc.base.errors import UserError
from mri_hpc.base.version import version
from mri_hpc.cluster.bundle.masking import Masks
from mri_hpc.cluster.doctor.finding import Check, Finding, in_words
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import Kind, read_events
from mri_hpc.rundir.provenance import read_provenance

ATTEMPTS_KEPT = 3
"""Newest attempts of which logs are taken."""
FILES_OF_SLURM_KEPT = 8
LAST_LINES, TAIL_BYTES, LINE_LETTERS = 100, 16_384, 500
VARIABLES = re.compile("(MRI|SLURM|SBATCH|SRUN|NCCL|GLOO|OMP|CUDA|TORCH|XDG)_[A-Z_]+|TMPDIR|HOSTNAME")
"""Names of variables that what is run here reads; what others are called, a token may be in."""
SECRETIVE = re.compile("KEY|TOKEN|SECRET|PASS|JWT|AUTH|CRED")

Answers = Sequence[tuple[Check, Sequence[Finding]]]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One file of the archive."""

    name: str
    holds: str
    """In a few words, for the list."""
    text: str


def pieces_of(run: RunDir, answers: Answers, masks: Masks, environment: Mapping[str, str]) -> list[Piece]:
    """Gather all pieces; what cannot be read is said in its place."""
    pieces = [
        _piece(name, holds, make)
        for name, holds, make in (
            ("versions.json", "versions of Python, libraries and system", lambda: _versions(run, masks)),
            ("doctor.txt", "what doctor finds", lambda: masks.masked(_findings(answers))),
            (
                "variables.json",
                "variables of the shell that are read",
                lambda: _variables(environment, masks),
            ),
            ("settings.toml", "settings of the run", lambda: _settings(run, masks)),
            ("status.json", "state of the run", lambda: _status(run, masks)),
            ("decisions.txt", "why each attempt ended, and what was decided", lambda: _decisions(run, masks)),
            ("ledger.jsonl", "all events of the run", lambda: _ledger(run, masks)),
        )
    ]
    pieces += [
        _piece(str(path.relative_to(run.path)), holds, partial(_tail, path, masks))
        for path, holds in _logs(run)
    ]
    return [Piece(name="README.txt", holds="what is in it, and what is not", text=_about(masks)), *pieces]


def _piece(name: str, holds: str, make: Callable[[], str]) -> Piece:
    try:
        text = make()
    except (UserError, OSError, LookupError, ValueError, TypeError, AttributeError) as error:
        # A damaged run is what a help desk is asked about. By its kind alone: its words may hold names.
        text = f"could not be read: {type(error).__name__}\n"
    return Piece(name=name, holds=holds, text=text)


def _about(masks: Masks) -> str:
    known = f"{counted(masks.known, 'name')} of patients and studies were looked for, of the store and of"
    where = f"{known} the run's predictions." if not masks.unseen else f"Names of patients: {masks.unseen}."
    if masks.too_short:
        where += (
            f"\nToo short to be looked for, and perhaps still in logs: {counted(masks.too_short, 'name')}."
        )
    return f"""\
About one run of mri_hpc, for a help desk. Made by mri-hpc doctor --bundle.

Not in it: pixels, weights, predictions, pages with pictures, anything of the folder called private.
Taken out of every text, and replaced by a word in brackets, or by ***: names, ids and pseudonyms of
patients and studies, keys and files of images, the site's key, passwords, names of users and what they
are called. {where}
Still in it: names of nodes, partitions and accounts, job numbers, folders of programs, store and run.
Of logs the last {LAST_LINES} lines each. Read it before you send it on.
"""


def _versions(run: RunDir, masks: Masks) -> str:
    libraries = {}
    for requirement in _requirements():
        name = re.split(r"[ >=<;\[]", requirement)[0]
        if "extra ==" not in requirement:
            try:
                libraries[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                libraries[name] = "not installed"
    provenance = read_provenance(run)
    return _json(masks.values({
        "mri_hpc": version(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "c_library": " ".join(platform.libc_ver()),
        "libraries": libraries,
        "of_the_run": {name: provenance.get(name, {}) for name in ("versions", "conditions")},
    }))  # fmt: skip


def _requirements() -> list[str]:
    # A checkout runs also where it is not installed.
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.requires("mri_hpc") or []
    return []


def _findings(answers: Answers) -> str:
    return (
        "\n".join(
            line
            for check, found in answers
            for line in (check.title, *chain.from_iterable(map(in_words, found)))
        )
        + "\n"
    )


def _variables(environment: Mapping[str, str], masks: Masks) -> str:
    names = [name for name in sorted(environment) if VARIABLES.fullmatch(name)]
    shown = {name: environment[name] for name in names if not SECRETIVE.search(name)}
    hidden = {name: "(set)" for name in names if name not in shown}
    return _json({**masks.values(shown), **hidden})


def _settings(run: RunDir, masks: Masks) -> str:
    import tomllib

    import tomli_w

    try:
        return tomli_w.dumps(masks.values(tomllib.loads(run.settings.read_text(encoding="utf-8"))))
    except ValueError as error:
        # Damaged settings are what the help desk is asked about.
        return masks.masked(f"{error}\n") + _tail(run.settings, masks)


def _status(run: RunDir, masks: Masks) -> str:
    from mri_hpc.cluster.views import Watcher

    return _json(masks.values(Watcher(run).look().summary.to_dict()))


def _decisions(run: RunDir, masks: Masks) -> str:
    lines = []
    for event in read_events(run):
        if event.kind == Kind.DECIDED:
            values = {name: event.values.get(name, "") for name in ("cause", "decision", "reason")}
            lines.append("{attempt}  {cause}: {decision} ({reason})".format(attempt=event.attempt, **values))
            lines += [f"      {word}" for word in event.values.get("last_words", ())]
    return masks.masked("\n".join(lines or ["none so far"]) + "\n")


def _ledger(run: RunDir, masks: Masks) -> str:
    # Whoever cancelled it may be somebody else.
    events = [asdict(event) for event in read_events(run)]
    for event in events:
        event["values"] = {name: value for name, value in event["values"].items() if name != "by"}
    return "".join(json.dumps(masks.values(event)) + "\n" for event in events)


def _logs(run: RunDir) -> Iterator[tuple[Path, str]]:
    """Yield files of logs and what they hold: of the newest attempts, newest first."""
    for attempt in reversed(run.all_attempts()[-ATTEMPTS_KEPT:]):
        folder = run.attempt_folder(attempt)
        for path in sorted(folder.glob("rank*.log"), key=lambda path: int(re.sub(r"\D", "", path.stem) or 0)):
            yield path, f"last lines of a rank of attempt {attempt}"
        for path in sorted([*folder.glob("*.json"), *folder.glob("supervisor.log")]):
            yield path, f"how attempt {attempt} was started, or ended"
    for pattern, holds in (("*_log.*", "last lines of a file of Slurm"), ("*.sh", "a script as submitted")):
        files = sorted(run.submitit.glob(pattern), key=lambda path: (_changed_s(path), path.name))
        yield from ((path, holds) for path in reversed(files[-FILES_OF_SLURM_KEPT:]))


def _changed_s(path: Path) -> float:
    """Return the Unix time of a file's last change; 0 where it has vanished meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0


def _tail(path: Path, masks: Masks) -> str:
    """Return the last lines of a text, none of them long."""
    with path.open("rb") as file:
        beginning = file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
        text = file.read().decode(errors="replace")
    # Half a name would not be found: the first line may be cut, and others are once names are out.
    lines = masks.masked(text.partition("\n")[2] if beginning else text).splitlines()
    return "".join(f"{line[:LINE_LETTERS]}\n" for line in lines[-LAST_LINES:])


def _json(values: Any) -> str:
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"
