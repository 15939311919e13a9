"""Looks at test patients: each model's first is counted, and one after another model's has to be meant."""

import getpass
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from mri_hpc import compare, evaluate, report
from mri_hpc.rundir.look import Look, digest_of_test_set, ordinal, read_look
from mri_hpc.rundir.predictions import Prediction
from mri_hpc.storage.store import Store

CLASSES = ("a", "b")


def rows_of(first=0, num=24):
    """Two slices a patient, every sixth of whom is answered wrongly."""
    for number in range(2 * first, 2 * (first + num)):
        label = number // 2 % 2
        says = label if number // 2 % 6 else 1 - label
        yield Prediction(
            key=f"{number:016x}", patient=f"P{number // 2:03d}", split="test", label=CLASSES[label],
            probabilities=tuple(0.8 if j == says else 0.2 for j in range(2)),
        )  # fmt: skip


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The store of runs that say nothing else, as far as looks at its test patients need one."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "store"
    (folder / "commits").mkdir(parents=True)
    (folder / "private").mkdir(mode=0o700)
    (folder / "recipe.json").write_text("{}")
    return Store(folder)


@pytest.fixture
def counted_run(make_run):
    """Makes a finished run of which looks are counted, as those that are trained now."""

    def make(name, *, first=0, num=24, others=(), **provenance):
        rows = [*rows_of(first, num), *others]
        counted = {"model_digest": name * 8, "test_set": digest_of_test_set(rows)}
        return make_run(name, classes=CLASSES, rows=rows, provenance={**counted, **provenance})

    return make


@pytest.fixture
def say(capsys):
    """Types a command; returns its exit status and what it printed."""

    def run(main, *words):
        capsys.readouterr()
        status = main([str(word) for word in words])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_the_first_look_needs_no_option_and_the_same_model_again_is_no_further_one(store, counted_run, say):
    run = counted_run("one")
    status, out, errors = say(evaluate.main, run.path, "--json")
    assert (status, errors) == (0, "")
    assert json.loads(out)["look"]["number"] == 1
    kept, [look] = read_look(run), store.test_looks()
    assert kept.look == look
    assert (look.model, look.num_units) == ("one" * 8, 24)
    assert say(report.main, run.path)[0] == 0
    assert "First look at these test patients" in run.report.read_text(encoding="utf-8")
    run.look.unlink()
    assert say(evaluate.main, run.path)[0] == 0
    assert [read_look(run).look, *store.test_looks()] == [look, look]


def test_another_model_on_the_same_patients_is_refused_until_that_is_meant(store, counted_run, say):
    one, two, three = (counted_run(name) for name in ("one", "two", "three"))
    say(evaluate.main, one.path)
    status, out, errors = say(evaluate.main, two.path)
    assert (status, out, errors.count("\n")) == (2, "", 1)
    assert "were looked at before with 1 other model (one, 20" in errors
    assert "where a second look is meant, type --look-again" in errors
    assert (two.look.exists(), len(store.test_looks())) == (False, 1)
    status, out, _errors = say(evaluate.main, two.path, "--look-again")
    assert status == 0
    assert "second look at these test patients, by some or all of whom another" in " ".join(out.split())
    one.look.unlink()
    for run, number in ((two, 2), (one, 1)):
        assert say(evaluate.main, run.path)[0] == 0, "meant once, it is no further one"
        assert read_look(run).number == number
    assert say(report.main, three.path, "--look-again")[0] == 0
    assert "Third look at these test patients" in three.report.read_text(encoding="utf-8")
    assert say(report.main, one.path)[0] == 0
    assert "First look at these test patients" in one.report.read_text(encoding="utf-8")
    assert [look.run for look in store.test_looks()] == ["one", "two", "three"]


def test_a_page_is_made_without_test_figures_where_a_further_look_is_not_meant(store, counted_run, say):
    one, two = counted_run("one"), counted_run("two")
    say(report.main, one.path)
    status, out, _errors = say(report.main, two.path)
    assert status == 0, "a job that nobody watches does not fail for it"
    assert "without its test figures: its 24 test patients" in out
    page = two.report.read_text(encoding="utf-8")
    assert "No test figures on this page." in page
    assert "type --look-again" in page
    assert "Results" not in page and "P000" not in page
    assert str(two.path.parent) not in page
    assert len(store.test_looks()) == 1
    assert "without_test_figures" in json.loads(say(report.main, two.path, "--json")[1])
    assert say(report.main, two.path, "--pictures")[0] == 2


def test_folds_are_first_looks_and_a_test_set_that_has_grown_is_not(store, counted_run, say):
    for name, first in (("one", 0), ("two", 24)):
        assert say(evaluate.main, counted_run(name, first=first).path)[0] == 0
    grown = counted_run("grown", num=30)
    status, _out, errors = say(evaluate.main, grown.path)
    assert (status, "with 2 other models" in errors) == (2, True)


def test_validation_patients_are_looked_at_as_often_as_one_likes(store, counted_run, say):
    others = [replace(row, split="validation", patient=f"V{row.patient}") for row in rows_of()]
    run = counted_run("one", others=others)
    assert say(evaluate.main, run.path, "--split", "validation")[0] == 0
    assert store.test_looks() == []


def test_a_run_of_before_is_never_refused_and_counts_for_those_that_follow(store, counted_run, make_run, say):
    for name in ("old", "older"):
        run = make_run(name, classes=CLASSES, rows=list(rows_of()), provenance={"model_digest": name})
        status, out, _errors = say(evaluate.main, run.path)
        assert (status, "look at these" in out) == (0, False)
        assert not run.look.exists()
    assert [look.run for look in store.test_looks()] == ["old", "older"]
    assert "with 2 other models" in say(evaluate.main, counted_run("new").path)[2]


def test_a_store_that_takes_nothing_fails_no_command_and_looks_count_beside_the_runs(store, counted_run, say):
    (store.path / "test-looks").write_text("in the way of the folder")
    one, two = counted_run("one"), counted_run("two")
    assert say(evaluate.main, one.path)[0] == 0
    assert not read_look(one).is_in_store
    assert say(evaluate.main, two.path)[0] == 2
    assert say(report.main, two.path, "--look-again")[0] == 0
    page = two.report.read_text(encoding="utf-8")
    assert "Second look" in page and "counted without the store, which was out of reach" in page


def test_who_looked_is_written_down_where_names_are_and_nowhere_else(store, counted_run, say):
    run = counted_run("one")
    say(evaluate.main, run.path)
    folder = store.path / "private" / "test-looks"
    [file] = folder.iterdir()
    assert json.loads(file.read_text()) == {"format": 1, "who": getpass.getuser()}
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, file)] == [0o700, 0o600]
    assert "who" not in json.loads((store.path / "test-looks" / "00000001.json").read_text())
    assert not run.private.exists()
    (store.path / "test-looks" / "00000001.json").unlink()
    run.look.unlink()
    folder.rename(folder.with_name("away"))
    folder.write_text("in the way of the folder")
    say(evaluate.main, run.path)
    assert json.loads(run.who_looked.read_text())["who"] == getpass.getuser()
    assert stat.S_IMODE(run.who_looked.stat().st_mode) == 0o600


def test_looks_written_at_once_each_have_a_number_and_the_same_one_only_one(store):
    def add(number):
        name = f"{number % 8}"
        look = Look(model=name, test_set="t", run=name, when="now", num_units=1, units=("u",))
        return store.add_test_look(look, lambda before: None)

    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(add, range(24)))
    assert sorted(look.model for look in store.test_looks()) == [f"{number}" for number in range(8)]
    assert {len(one.before) for one in written} == set(range(8))


def test_runs_that_are_compared_are_both_looked_at(store, counted_run, say):
    one, two = counted_run("one"), counted_run("two")
    status, _out, errors = say(compare.main, one.path, two.path)
    assert (status, "--look-again" in errors) == (2, True)
    assert store.test_looks() == [], "where one is refused, nothing is written"
    assert say(compare.main, one.path, two.path, "--look-again")[0] == 0
    assert (read_look(one).number, read_look(two).number) == (1, 2)


@pytest.mark.parametrize(
    ("said", "named"), [('{"format": 2}', "use a newer mri_hpc"), ("{}", "restore it from a backup")]
)
def test_a_look_that_cannot_be_read_is_named(store, counted_run, say, said, named):
    run = counted_run("one")
    say(evaluate.main, run.path)
    (store.path / "test-looks" / "00000001.json").write_text(said)
    status, _out, errors = say(evaluate.main, counted_run("two").path)
    assert (status, "00000001.json" in errors, named in errors) == (2, True, True)
    run.look.write_text(said)
    status, _out, errors = say(evaluate.main, run.path)
    assert (status, "look.json" in errors, named in errors) == (2, True, True)


def test_a_test_set_is_its_labelled_images_and_whose_they_are_in_any_order():
    rows = list(rows_of())
    others = [replace(rows[0], split="validation"), replace(rows[0], key="ff", label="")]
    assert digest_of_test_set([*rows[::-1], *others]) == digest_of_test_set(rows)
    assert digest_of_test_set(rows[1:]) != digest_of_test_set(rows)
    assert digest_of_test_set([replace(rows[0], patient="Q"), *rows[1:]]) != digest_of_test_set(rows)


def test_places_are_written_as_words():
    assert [ordinal(n) for n in (1, 3, 10, 11, 12, 21, 22, 103, 111)] == [
        "first", "third", "tenth", "11th", "12th", "21st", "22nd", "103rd", "111th",
    ]  # fmt: skip
