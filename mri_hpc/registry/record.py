"""record.json: one model that is kept, by digests of all its files, and what spoke for it when it was added.

A record holds copies: a run's folder lies where things are cleared away, and what was said of a patient must
be found again for years. It never changes: whose file has another digest is refused.
"""

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mri_hpc.base.documents import convert, with_format, without_format
from mri_hpc.base.errors import UserError
from mri_hpc.base.sealed_json import seal, unseal
from mri_hpc.base.settings import nearest
from mri_hpc.registry.layout import ModelsDir
from mri_hpc.rundir.layout import RunDir

FORMAT = 1


class Verdict(enum.StrEnum):
    """Outcome of one requirement."""

    MET = "met"
    NOT_MET = "not met"
    NOT_KNOWN = "not known"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One requirement on a model that is to be promoted, and what was found."""

    word: str
    """Word by which a person accepts it where it is not met, such as not-worse."""
    verdict: Verdict
    words: str
    """Figures, or why there are none; no patient is named."""


@dataclass(frozen=True, kw_only=True)
class KeptFile:
    """A file of a record."""

    sha256: str
    size: int
    """In bytes."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A model that is kept."""

    name: str
    model_digest: str
    model: str
    """Kind of the network."""
    classes: tuple[str, ...]
    run: str
    """Path of the run's folder when it was added."""
    store: str
    """Path of the store that it was trained on, of then."""
    snapshot: str
    """Digest of the snapshot of that store."""
    added: str
    """In UTC, to the minute."""
    who: str
    """Account that added it."""
    files: Mapping[str, KeptFile]
    """By name, all beside this one."""
    evidence: tuple[Evidence, ...] = ()
    """As it was when the model was added."""
    margin: float = 0.0
    """By which it might be worse than the current one: part of balanced accuracy."""
    compared_with: str = ""
    """Name of the model that was current then; empty where there was none."""
    gate: tuple[str, ...] = ()
    """Hashes of the gate patients on whom both were compared, as looks at test patients have them."""

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files.values())


def to_json(record: Record) -> bytes:
    """Return a record as it lies on disk."""
    return seal(with_format(FORMAT, asdict(record)))


def read_record(models: ModelsDir, name: str) -> Record:
    """Read a record; UserError where there is none of that name, or it is not as it was added."""
    path = models.record(name)
    try:
        record = convert(without_format(unseal(path.read_bytes()), of=path, reads=FORMAT), Record)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(_none_named(models, name)) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not as it was added ({error}); {_advice(models)}") from None
    if record.name != name:
        raise UserError(f"{path} is the record of {record.name!r}: give the folder that name again")
    return record


def copied_files(run: RunDir) -> list[Path]:
    """List the files of a run that it takes to ask its model, those that it has."""
    wanted = (
        run.settings, run.recipe, run.model, run.provenance, run.predictions, run.calibration, run.pooling,
        run.attention, run.attention_answers, run.decision, run.resemblance, run.controls, run.choices,
        run.done,
    )  # fmt: skip
    return [path for path in wanted if path.is_file()]


def check_files(models: ModelsDir, record: Record) -> None:
    """Raise UserError where a file of a record is not as it was added, or one more would change answers."""
    for name, kept in record.files.items():
        path = models.path / record.name / name
        try:
            found = digest_of(path)
        except FileNotFoundError:
            raise UserError(f"{path} is gone; {_advice(models)}") from None
        if found != kept:
            raise UserError(f"{path} is not as it was added (another digest); {_advice(models)}")
    run = models.run(record.name)
    # Controls can be asked at any time, and change no answer.
    more = [path for path in copied_files(run) if path.name not in record.files and path != run.controls]
    if more:
        raise UserError(
            f"{more[0]} was not there when the model was added, and a record never changes: remove that file"
        )


def digest_of(path: Path) -> KeptFile:
    """Compute the digest of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return KeptFile(sha256=digest, size=file.tell())


def record_digest(models: ModelsDir, name: str) -> str:
    """Compute the sha256 of the file that describes a record, by which the history names it."""
    return digest_of(models.record(name)).sha256


def _advice(models: ModelsDir) -> str:
    return (
        f"a record never changes: restore it from a backup, or ask another model "
        f"(mri-hpc models list --models {models.path})"
    )


def _none_named(models: ModelsDir, name: str) -> str:
    known = models.names()
    if not known:
        return f"{models.path} holds no model: mri-hpc models add RUN adds one"
    hint = nearest(name, known) or f"; it has: {', '.join(known)}"
    return f"{models.path} has no model {name!r}{hint}"
