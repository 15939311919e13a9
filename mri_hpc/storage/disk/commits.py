"""Commits: small records of what became visible, was rejected, relabelled, retracted, joined or rewritten.

Records are only ever added, by any number of tasks at once. Those of compaction are numbered, and each number
is given once: whoever compacts has seen all that was compacted before.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from mri_hpc.base.access import publish_shared, user_name
from mri_hpc.base.documents import convert, skim, with_format, without_format
from mri_hpc.base.errors import NewerFormat, StoreDamage
from mri_hpc.base.sealed_json import seal, unseal
from mri_hpc.storage.disk.layout import StoreDir, compaction_id, compaction_number

ADD, COMPACT, RELABEL, RETRACT, SAME = "add", "compact", "relabel", "retract", "same"
FORMAT = 1
NAMED_BY_KIND = (COMPACT, RELABEL, RETRACT, SAME)
"""Kinds whose commits have names that tell it."""
KINDS = (ADD, *NAMED_BY_KIND)


@dataclass(frozen=True, kw_only=True, order=True)
class Rejection:
    """A source that did not become a sample. A file of other size or time is another try."""

    key: str
    """Source key, 16 hex digits."""
    reason: str
    size: int
    mtime_ns: int
    source_hash: str = ""
    """First 16 hex digits of the sha256 of its bytes; empty where they were not read."""


@dataclass(frozen=True, kw_only=True, order=True)
class Relabel:
    """New label, patient, study, fold and split of one image; of several, the greatest revision counts."""

    key: str
    """Key of the image, 16 hex digits."""
    revision: int
    """Counts the relabels of this image, from 1."""
    label: str
    patient: str
    """Name of the patient in the store."""
    study: str
    fold: int
    split: int


@dataclass(frozen=True, kw_only=True, order=True)
class SamePatient:
    """Two names in the store that are of one patient; of several such the greatest revision counts."""

    first: str
    second: str
    revision: int
    """Counts what was said about these two, from 1."""
    is_same: bool
    """False: they are two patients after all."""
    is_spelling: bool = False
    """The second is only another way to write the first, which nothing was stored under: it has no split."""


@dataclass(frozen=True, kw_only=True)
class GroupWindow:
    """The window in which pictures of a group were decoded; of several, that of the least commit id holds."""

    group: str
    """Name of the group in the store."""
    patient: str
    """Name of its patient in the store; empty where unknown."""
    low: float
    """Grey value that became black."""
    high: float
    """Grey value that became white."""
    images: Mapping[str, int]
    """CRC of the pixels of each image that was made in it, by key, 16 hex digits."""


@dataclass(frozen=True, kw_only=True)
class StoredStack:
    """Slices of one volume in one plane: where their pixels lie in the patient, and their window."""

    affine: Sequence[Sequence[float]]
    """3 rows of 4: from column, row and `slice_index` of a stored image to millimetres, RAS+."""
    low: float
    """Grey value that became black."""
    high: float
    """Grey value that became white."""
    images: Mapping[str, int]
    """CRC of the pixels of each slice, by key, 16 hex digits."""


@dataclass(frozen=True, kw_only=True)
class Deidentified:
    """The de-identification of sources of DICOM: what was done, and what they say was done before."""

    sources: int
    by: Sequence[str]
    """Codes of DICOM's CID 7050 of what was done, as in deidentification.py; none where ids are as given."""
    dates: str
    """As LongitudinalTemporalInformationModified has it: REMOVED or MODIFIED."""
    statements: Mapping[str, int]
    """Sources by what all their files say: codes of CID 7050, and elements with their value."""

    def joined(self, other: "Deidentified") -> "Deidentified":
        """Return it for the sources of both; codes are those that hold of all."""
        names = sorted({*self.statements, *other.statements})
        return Deidentified(
            sources=self.sources + other.sources,
            by=[code for code in self.by if code in other.by],
            dates=self.dates,
            statements={name: self.statements.get(name, 0) + other.statements.get(name, 0) for name in names},
        )


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One record. Which fields mean something follows from its kind."""

    id: str
    kind: str
    chunk: str = ""
    """Add, compact: id of the chunk that it makes visible; empty where there is none."""
    images: int = 0
    """Images of the chunk."""
    chunk_bytes: int = 0
    """Size of the chunk's file."""
    rejected: Sequence[Rejection] = ()
    """Add: sources that did not become samples."""
    windows: Sequence[GroupWindow] = ()
    """Add: windows of the pictures of more than 8 bits, by group. Not written where there are none."""
    stacks: Sequence[StoredStack] = ()
    """Add: where slices of volumes lie. Not written where there are none."""
    deidentified: Deidentified | None = None
    """Add: of the sources that are DICOM. Not written where there are none."""
    superseded: Sequence[str] = ()
    """Compact: ids of the chunks whose content is in the new one, or elsewhere, or retracted."""
    relabels: Sequence[Relabel] = ()
    """Relabel: what the data say from now on, an image each."""
    retracted_keys: Sequence[str] = ()
    """Retract: keys of sources and images that are gone for good, 16 hex digits each."""
    retracted_patients: Sequence[str] = ()
    """Retract: names, in the store, of patients whose images do not come back."""
    same_patients: Sequence[SamePatient] = ()
    """Same: who is one patient, and who is not any more."""
    who: str = ""
    """Name of the user."""
    why: str = ""
    created: float = 0.0
    """Unix time."""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """Number of a compaction among all compactions, from 1; 0 for other kinds."""
        return compaction_number(self.id)


def commit_id(chunk: str, rejected: Sequence[Rejection]) -> str:
    """Return the name of an add commit: the same work done again gives the same name."""
    text = json.dumps([ADD, chunk, [asdict(one) for one in sorted(rejected)]])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def digest_of(commit_ids: Iterable[str]) -> str:
    """Return the digest of a set of commits."""
    return hashlib.sha256("\n".join(sorted(commit_ids)).encode()).hexdigest()[:32]


def publish_commit(
    store: StoreDir,
    *,
    chunk: str,
    images: int,
    rejected: Sequence[Rejection],
    versions: Mapping[str, str],
    windows: Sequence[GroupWindow] = (),
    stacks: Sequence[StoredStack] = (),
    deidentified: Deidentified | None = None,
) -> bool:
    """Make a chunk visible; False, and nothing is done, where the same commit is there."""
    commit = Commit(
        id=commit_id(chunk, rejected),
        kind=ADD,
        chunk=chunk,
        images=images,
        chunk_bytes=_size(store, chunk),
        rejected=sorted(rejected),
        windows=windows,
        stacks=stacks,
        deidentified=deidentified,
        versions=dict(versions),
    )
    return _publish(store, commit)


def publish_compaction(
    store: StoreDir, number: int, *, chunk: str, images: int, superseded: Iterable[str], why: str = ""
) -> bool:
    """Let one chunk stand for others; False, and nothing is done, where another has compacted since."""
    commit = Commit(
        id=compaction_id(number),
        kind=COMPACT,
        chunk=chunk,
        images=images,
        chunk_bytes=_size(store, chunk),
        superseded=sorted(superseded),
        why=why,
    )
    return _publish(store, commit)


def publish_relabel(store: StoreDir, relabels: Iterable[Relabel], why: str) -> None:
    """Change what the store says about images; harmless when the same commit is there."""
    _publish(store, _named(Commit(id="", kind=RELABEL, relabels=sorted(relabels), why=why)))


def publish_retraction(store: StoreDir, keys: Iterable[int], patients: Iterable[str], why: str) -> None:
    """Retract images and patients for good; harmless when the same commit is there."""
    texts = [f"{key:016x}" for key in sorted(set(keys))]
    names = sorted(set(patients))
    _publish(
        store, _named(Commit(id="", kind=RETRACT, retracted_keys=texts, retracted_patients=names, why=why))
    )


def publish_same(store: StoreDir, pairs: Iterable[SamePatient], why: str) -> str:
    """Say who is one patient; return the commit's name. Harmless when the same commit is there."""
    commit = _named(Commit(id="", kind=SAME, same_patients=sorted(pairs), why=why))
    _publish(store, commit)
    return commit.id


def read_commit(store: StoreDir, name: str) -> Commit:
    """Read a commit; StoreDamage where it is missing or damaged, NewerFormat where it is too new."""
    path = store.commit(name)
    try:
        values = without_format(unseal(path.read_bytes()), of=path, reads=FORMAT)
        if values["kind"] not in KINDS:
            raise NewerFormat(
                f"{path} is a commit of kind {values['kind']!r}, unknown to this version: use a newer one"
            )
        commit = convert(values, Commit)
    except FileNotFoundError:
        raise StoreDamage(f"{path} is missing; restore it from a backup") from None
    except (ValueError, KeyError) as error:
        raise StoreDamage(f"{path} is damaged ({error}); restore it from a backup") from None
    if commit.id != name or _name_of(commit) != name:
        raise StoreDamage(f"{path} is damaged: its content does not give its name; restore it from a backup")
    return commit


def read_commits(store: StoreDir, names: Iterable[str]) -> list[Commit]:
    """Read several commits."""
    return [read_commit(store, name) for name in names]


@dataclass(frozen=True, kw_only=True)
class Addition:
    """An add commit, as far as a table of growth tells of it."""

    images: int
    chunk_bytes: int
    created: float = 0.0
    """Unix time."""
    deidentified: Deidentified | None = None


def skim_additions(store: StoreDir, names: Iterable[str]) -> list[Addition]:
    """Read what add commits brought, in some 15 µs each: past checksums, without those that are damaged."""
    found = []
    for name in names:
        if not name.startswith(NAMED_BY_KIND):
            with contextlib.suppress(OSError, ValueError):
                found.append(skim(store.commit(name).read_bytes(), Addition))
    return found


def num_additions(names: Iterable[bytes]) -> int:
    """Count the add commits among the names of commits."""
    return sum(not name.decode().startswith(NAMED_BY_KIND) for name in names)


@dataclass(frozen=True, kw_only=True)
class _Stacks:
    stacks: Sequence[StoredStack] = ()


def skim_stacks(store: StoreDir) -> Iterator[StoredStack]:
    """Yield what add commits tell of slices of volumes: past checksums, without those that are damaged."""
    for name in store.commit_ids():
        if not name.startswith(NAMED_BY_KIND):
            with contextlib.suppress(OSError, ValueError):
                yield from skim(store.commit(name).read_bytes(), _Stacks).stacks


def read_kind(store: StoreDir, kind: str, *, besides: Container[str] = ()) -> list[Commit]:
    """Read all commits of a kind other than ADD, whose names tell it, but for those named in `besides`."""
    return read_commits(store, (n for n in store.commit_ids() if n.startswith(kind) and n not in besides))


def _publish(store: StoreDir, commit: Commit) -> bool:
    values = asdict(replace(commit, who=user_name(), created=round(time.time(), 3)))
    # As records were before there were such.
    for name in ("windows", "stacks", "deidentified", "same_patients"):
        if not values[name]:
            del values[name]
    return publish_shared(store.commit(commit.id), seal(with_format(FORMAT, values)))


def _named(commit: Commit) -> Commit:
    return replace(commit, id=_name_of(commit))


def _name_of(commit: Commit) -> str:
    """Return the name that a commit's content gives it; a compaction's is its number."""
    if commit.kind == ADD:
        return commit_id(commit.chunk, commit.rejected)
    if commit.kind == COMPACT:
        return commit.id if commit.number else ""
    content: Sequence[object]
    if commit.kind == SAME:
        content = [asdict(one) for one in commit.same_patients]
    else:
        content = [asdict(one) for one in commit.relabels], commit.retracted_keys, commit.retracted_patients
    digest = hashlib.sha256(json.dumps([commit.kind, *content, commit.why]).encode()).hexdigest()
    # As long as the names of other commits.
    return f"{commit.kind}-{digest}"[:32]


def _size(store: StoreDir, chunk: str) -> int:
    return store.chunk(chunk).stat().st_size if chunk else 0
