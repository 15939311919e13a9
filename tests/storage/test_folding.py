"""A snapshot is a function of its set of commits, whatever their kinds and their order."""

from random import Random
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mri_hpc.storage.disk.columns import COLUMNS, STRINGS, ChunkHeader, chunk_id
from mri_hpc.storage.disk.commits import (
    ADD,
    COMPACT,
    RELABEL,
    RETRACT,
    SAME,
    Commit,
    Relabel,
    SamePatient,
    commit_id,
)  # fmt: skip
from mri_hpc.storage.disk.layout import compaction_id
from mri_hpc.storage.snapshot import rows as table_rows
from mri_hpc.storage.snapshot.folding import fold
from mri_hpc.storage.snapshot.table import array_names
from mri_hpc.storage.upkeep.groups import staying_of

KEYS = st.integers(1, 12)
NAMES = st.sampled_from(["", "p", "q", "r"])


class World:
    """Commits and chunks of a store that exists in memory only."""

    def __init__(self):
        self.commits, self.headers = [], {}
        self.number = 0

    def now(self):
        return fold(None, self.commits, self.headers.__getitem__)

    def chunk(self, columns):
        header = ChunkHeader(columns=columns, image_shape=(8, 8), offset=9, recipe_digest="r", versions={})
        name = chunk_id(columns, "r")
        self.headers[name] = header
        return name, len(header)

    def add(self, keys, variant, generation):
        name, images = self.chunk(columns_of(keys, variant, generation))
        self.commits.append(
            Commit(id=commit_id(name, ()), kind=ADD, chunk=name, images=images, chunk_bytes=7)
        )

    def relabel(self, key, patient, fold_number, late):
        """late: how many of the commits before it its author had not seen."""
        seen = fold(None, self.commits[: len(self.commits) - late], self.headers.__getitem__)
        revision = dict(seen.relabels[["key", "revision"]].tolist()).get(key, 0) + 1
        fact = Relabel(
            key=f"{key:016x}", revision=revision, label="x" * (fold_number + 1), patient=patient, study="",
            fold=fold_number, split=-1,
        )  # fmt: skip
        name = f"relabel-{len(self.commits):024x}"
        self.commits.append(Commit(id=name, kind=RELABEL, relabels=[fact]))

    def retract(self, keys, patients):
        name = f"retract-{len(self.commits):024x}"
        texts = [f"{key:016x}" for key in keys]
        self.commits.append(Commit(id=name, kind=RETRACT, retracted_keys=texts, retracted_patients=patients))

    def same(self, first, second, is_same, is_spelling, late):
        """late: as of relabels."""
        seen = fold(None, self.commits[: max(0, len(self.commits) - late)], self.headers.__getitem__)
        said = SamePatient(
            first=first, second=second, revision=seen.persons.revision(first, second) + 1, is_same=is_same,
            is_spelling=is_spelling,
        )  # fmt: skip
        self.commits.append(Commit(id=f"same-{len(self.commits):027x}", kind=SAME, same_patients=[said]))

    def compact(self, chosen):
        """As compaction does it: retract by key, then one chunk for those chosen."""
        if len(withheld := self.now().withheld):
            self.retract(withheld["key"].tolist(), [])
        snapshot = self.now()
        names = [name.decode() for name in snapshot.chunks["name"].tolist()]
        indices = [index for index in range(len(names)) if chosen >> index & 1]
        staying = {i: staying_of(snapshot, i, self.headers[names[i]]) for i in indices}
        if not indices:
            return
        columns = {
            name: np.concatenate([self.headers[names[i]].columns[name][staying[i]] for i in indices])
            for name in columns_of([1], 0, 0)
        }
        name, images = self.chunk(columns) if len(columns["key"]) else ("", 0)
        self.number += 1
        superseded = sorted({names[i] for i in indices} - {name})
        commit = Commit(
            id=compaction_id(self.number), kind=COMPACT, chunk=name, images=images,
            chunk_bytes=7, superseded=superseded,
        )  # fmt: skip
        self.commits.append(commit)


def columns_of(keys, variant, generation):
    keys = np.array(keys, "<u8")
    columns = {c.name: np.zeros((len(keys), c.width) if c.width > 1 else len(keys), c.dtype) for c in COLUMNS}
    columns["key"], columns["generation"][:] = keys, generation
    columns["source_hash"][:] = keys + np.uint64(100 * (variant // 2))
    columns["crc"][:] = keys + np.uint64(100 * (variant // 2))
    columns["position"][:] = np.nan
    for name, letters in zip(STRINGS, ("ab", "pqr", "s"), strict=True):
        texts = [(letters + " ")[(int(key) + variant) % (len(letters) + 1)].strip().encode() for key in keys]
        columns[name] = np.array(texts, np.bytes_)
    return columns


ADDS = st.tuples(
    st.just("add"), st.lists(KEYS, unique=True, min_size=1, max_size=6), st.integers(0, 3), st.integers(0, 1)
)
RELABELS = st.tuples(st.just("relabel"), KEYS, NAMES, st.integers(0, 2), st.integers(0, 2))
RETRACTS = st.tuples(
    st.just("retract"), st.lists(KEYS, max_size=1), st.lists(st.sampled_from(["p", "q"]), max_size=1)
)
SAMES = st.tuples(
    st.just("same"), st.just("p"), st.sampled_from(["q", "r"]), st.booleans(), st.booleans(),
    st.integers(0, 2),
)  # fmt: skip
COMPACTIONS = st.tuples(st.just("compact"), st.integers(1, 63))
HISTORY = st.lists(st.one_of(ADDS, RELABELS, RETRACTS, SAMES, COMPACTIONS), min_size=1, max_size=10)


def build(history):
    world = World()
    for what, *arguments in history:
        if what == "compact":
            before = world.now().content_digest
            world.compact(*arguments)
            assert world.now().content_digest == before
        elif what == "relabel":
            key, patient, fold_number, late = arguments
            world.relabel(key, patient, fold_number, min(late, len(world.commits)))
        else:
            getattr(world, what)(*arguments)
    return world


def difference(a, b):
    """Names of fields that differ."""
    found = [
        name
        for name in array_names()
        if getattr(a, name).dtype != getattr(b, name).dtype
        or not np.array_equal(
            getattr(a, name), getattr(b, name), equal_nan=getattr(a, name).dtype.kind == "f"
        )
    ]
    plain = ("digest", "content_digest", "same_patients", "classes", "reasons", "image_shape", "num_shadowed")
    return found + [name for name in plain if getattr(a, name) != getattr(b, name)]


@settings(max_examples=120, deadline=None)
@example([("add", [1], 0, 0), ("add", [1, 4], 0, 0), ("retract", [], ["p"]), ("compact", 1)], Random(0)).via(
    "the chunk that compaction makes is there already, as a copy that lost"
)
@given(HISTORY, st.randoms(use_true_random=False))
def test_folding_in_any_order_and_in_any_steps_gives_the_same(history, random):
    world = build(history)
    at_once = world.now()
    shuffled = random.sample(world.commits, len(world.commits))
    step_by_step = fold(None, [], world.headers.__getitem__)
    while shuffled:
        size = random.randint(1, 3)
        part, shuffled = shuffled[:size], shuffled[size:]
        step_by_step = fold(step_by_step, part, world.headers.__getitem__)
    assert difference(at_once, step_by_step) == []


def told_of(snapshot, keys):
    """What a snapshot says about some keys, with names in place of codes."""
    rows = np.flatnonzero(np.isin(snapshot.key, keys))
    names = {
        "label": (*snapshot.classes, ""),
        "patient": (*snapshot.patient_names.tolist(), b""),
        "study": (*snapshot.study_names.tolist(), b""),
    }
    facts = {name: [table[code] for code in getattr(snapshot, name)[rows]] for name, table in names.items()}
    numbers = ("key", "source_hash", "generation", "fold", "split", "chunk", "row")
    return facts | {name: getattr(snapshot, name)[rows].tolist() for name in numbers}


@settings(max_examples=60, deadline=None)
@given(HISTORY, st.sets(st.integers(1, 13)), st.randoms(use_true_random=False))
def test_folding_for_some_keys_alone_says_of_them_what_folding_all_says(history, keys, random):
    world = build(history)
    before = fold(
        None, random.sample(world.commits, random.randint(0, len(world.commits))), world.headers.get
    )
    folded = set(before.commits.tolist())
    new = [commit for commit in world.commits if commit.id.encode() not in folded]
    wanted = np.array(sorted(keys), "<u8")
    some = fold(before, new, world.headers.__getitem__, only=wanted)
    assert told_of(some, wanted) == told_of(world.now(), wanted)
    assert set(some.key.tolist()) <= keys


@settings(max_examples=60, deadline=None)
@given(HISTORY)
def test_compacting_never_changes_what_is_stored(history):
    """Not when it happens (see build), and not for what happens afterwards."""
    world = build(history)
    without = [commit for commit in world.commits if commit.kind != COMPACT]
    assert fold(None, without, world.headers.__getitem__).content_digest == world.now().content_digest


@settings(max_examples=60, deadline=None)
@given(HISTORY)
def test_chunks_that_are_gone_are_never_asked_for(history):
    world = build(history)
    dead = {name for commit in world.commits for name in commit.superseded}
    made_again = {commit.chunk for commit in world.commits if commit.kind == COMPACT}
    asked = []
    fold(None, world.commits, lambda name: asked.append(name) or world.headers[name])
    assert not set(asked) & (dead - made_again)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_relabels_at_once_the_one_of_greater_name_wins(order):
    world = World()
    world.add([1], 0, 0)
    for label in ("early", "late"):
        fact = Relabel(key=f"{1:016x}", revision=1, label=label, patient="", study="", fold=-1, split=-1)
        world.commits.append(Commit(id=f"relabel-{label:>024}", kind=RELABEL, relabels=[fact]))
    base = fold(None, [world.commits[0]], world.headers.__getitem__)
    later = [world.commits[1 + i] for i in order]
    winner = max(world.commits[1:], key=lambda commit: commit.id).relabels[0].label
    assert fold(base, later, world.headers.__getitem__).classes == (winner,)


def test_images_of_one_who_turns_out_to_be_a_retracted_patient_are_withheld():
    world = World()
    world.add([1, 2, 3, 4], 0, 0)
    names = dict(
        zip(world.now().key.tolist(), world.now().text("patient", slice(None)).tolist(), strict=True)
    )
    assert sorted(names.values()) == [b"", b"p", b"q", b"r"]
    world.retract([], ["r"])
    assert len(world.now()) == 3
    world.same("q", "r", is_same=True, is_spelling=False, late=0)
    assert sorted(world.now().text("patient", slice(None)).tolist()) == [b"", b"p"]
    assert len(world.now().withheld) == 2
    world.same("q", "r", is_same=False, is_spelling=False, late=0)
    assert sorted(world.now().text("patient", slice(None)).tolist()) == [b"", b"p", b"q"]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 40), max_size=20).map(sorted), st.lists(st.integers(1, 9), min_size=1, max_size=6)
)
def test_rows_that_come_into_a_column_in_blocks_come_where_they_come_into_the_whole(before, lengths):
    values = np.arange(sum(lengths))
    before = np.minimum(np.array(before, np.int64), len(values))
    new = -1 - np.arange(len(before))
    cuts = np.split(values, np.cumsum(lengths)[:-1])
    with mock.patch.object(table_rows, "INSERTED_BLOCK", 4):
        parts = list(table_rows._inserted(cuts, before, new))
    assert np.array_equal(np.concatenate(parts), np.insert(values, before, new))
