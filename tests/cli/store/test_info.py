import json

import pytest

from mri_hpc.base.sealed_json import seal, unseal
from mri_hpc.storage.disk.commits import publish_commit
from mri_hpc.storage.disk.layout import open_store
from mri_hpc.storage.snapshot import folding, totals
from mri_hpc.storage.snapshot.catalogue import resolve
from mri_hpc.storage.snapshot.publications import Publication
from mri_hpc.storage.upkeep import growth as growing
from mri_hpc.store import main

DAY_S = 24 * 3600.0
NOON = 1_769_515_200.0  # 2026-01-27


@pytest.fixture
def store(copy_of_store):
    """40 images of 7 patients in 5 chunks, each of a commit."""
    return copy_of_store(40, "--size", 16, "--chunk-images", 8)


@pytest.fixture
def info(store, capsys):
    def run():
        capsys.readouterr()
        assert main(["info", str(store), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def made_at(store, name, created):
    """As if a commit had been made at another time."""
    path = store / "commits" / f"{name}.json"
    path.write_bytes(seal({**unseal(path.read_bytes()), "created": created}))


def made_on(store, days):
    """As if the commits, in order of their names, had been made so many days after one another."""
    for path, day in zip(sorted((store / "commits").iterdir()), days, strict=True):
        made_at(store, path.stem, NOON + day * DAY_S)


@pytest.mark.parametrize(
    ("days", "by", "since", "images"),
    [
        ((0, 0, 1, 2, 2), "day", ["2026-01-27", "2026-01-28", "2026-01-29"], [16, 8, 16]),
        ((0, 4, 6, 7, 20), "week", ["2026-01-26", "2026-02-02", "2026-02-16"], [16, 16, 8]),
        ((0, 10, 40, 41, 70), "month", ["2026-01", "2026-02", "2026-03", "2026-04"], [8, 8, 16, 8]),
        ((0, 300, 400, 800, 1200), "year", ["2026", "2027", "2028", "2029"], [16, 8, 8, 8]),
    ],
)
def test_growth_is_told_by_the_finest_period_that_gives_few_rows(
    store, info, monkeypatch, days, by, since, images
):
    monkeypatch.setattr(growing, "MOST_ROWS", 4 if by in ("month", "year") else 3)
    made_on(store, days)
    values = info()["growth"]
    assert values["by"] == by
    assert [period["since"] for period in values["periods"]] == since
    assert [period["images"] for period in values["periods"]] == images
    assert sum(period["bytes"] for period in values["periods"]) == info_bytes(store)


def info_bytes(store):
    return sum(path.stat().st_size for path in (store / "chunks").iterdir())


def test_compaction_and_retraction_are_no_growth_and_patients_are_those_of_now(store, info, capsys):
    before = info()["growth"]
    resolve(store)
    assert main(["compact", str(store), "--keep-days", "0"]) == 0
    assert main(["retract", str(store), "--patient", "patient3", "--yes"]) == 0
    (period,) = info()["growth"]["periods"]
    assert before["periods"] == [{**period, "patients": 7}]
    assert (period["images"], period["patients"]) == (40, 6)
    assert main(["info", str(store)]) == 0
    assert "images added" in capsys.readouterr().out


def test_patients_of_an_earlier_period_are_those_of_its_last_snapshot(
    store, raw, info, monkeypatch, make_pictures, preprocess
):
    old = resolve(store).digest
    make_pictures(raw, 1, first=40, patients=100)
    preprocess(raw, store)
    (new,) = (path.stem for path in (store / "commits").iterdir() if path.stem not in commits_of(store, old))
    (store / "snapshots" / old / totals.FILE).unlink()
    for path in (store / "commits").iterdir():
        made_at(store, path.stem, NOON + DAY_S * (path.stem == new))
    published = Publication(digest=old, time_ns=int((NOON + 60) * 1e9))
    monkeypatch.setattr(growing, "publications", lambda _store: [published])
    assert [period["patients"] for period in info()["growth"]["periods"]] == [7, 8]
    monkeypatch.setattr(growing, "publications", lambda _store: [])
    assert [period["patients"] for period in info()["growth"]["periods"]] == [None, 8]


def commits_of(store, digest):
    return {name.decode() for name in resolve(store, digest).commits.tolist()}


def test_a_commit_that_cannot_be_read_is_left_to_verify(store, info):
    snapshot = resolve(store)
    (store / "snapshots" / snapshot.digest / totals.FILE).unlink()
    path = store / "commits" / f"{snapshot.commits[0].decode()}.json"
    path.write_bytes(b"")
    (period,) = info()["growth"]["periods"]
    assert period["images"] == 32


def test_what_was_only_rejected_is_no_growth(store, info):
    publish_commit(open_store(store), chunk="", images=0, rejected=(), versions={})
    assert len(info()["growth"]["periods"]) == 1


def test_the_snapshots_and_their_size_are_told(store, info):
    assert (info()["snapshots"], info()["snapshot_bytes"]) == (0, 0)
    folder = store / "snapshots" / resolve(store).digest
    values = info()
    assert (values["snapshots"], values["snapshot_bytes"]) == (
        1,
        sum(file.stat().st_size for file in folder.iterdir()),
    )


def test_the_digest_of_content_is_that_of_columns_summed_up_one_by_one(store, info, monkeypatch):
    alone = info()["content_digest"]
    monkeypatch.setattr(folding, "MANY_ROWS", 1)
    assert info()["content_digest"] == alone == resolve(store).content_digest
