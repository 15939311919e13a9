"""``mri-hpc models``: records that never change, and a person who says which one is asked."""

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.evaluate import main as evaluate_main
from mri_hpc.registry import history, promoting
from mri_hpc.registry.adding import add_run
from mri_hpc.registry.layout import ModelsDir
from mri_hpc.registry.promoting import promote
from mri_hpc.registry.record import read_record, to_json
from mri_hpc.registry.retracted import note_retraction
from mri_hpc.rundir.question import Question, write_question
from mri_hpc.store import main as store_main

ALL = ("audit", "calibration", "controls", "not-worse")


def added(models, run, *options):
    status, out, err = models("add", run.path, "--json", *options)
    assert status == 0, err
    return json.loads(out)


def verdicts(document):
    return {one["word"]: one["verdict"] for one in document["evidence"]}


def states(models):
    status, out, err = models("list", "--json")
    assert status == 0, err
    return {one["name"]: one["state"] for one in json.loads(out)["records"]}


def test_each_requirement_is_met_or_not_or_not_known_and_promotion_waits_for_a_persons_word(
    make_finished, models
):
    first = make_finished("first")
    assert verdicts(added(models, first)) == {
        "not-worse": "not known", "calibration": "met", "controls": "met", "audit": "not known",
        "retracted": "met",
    }  # fmt: skip
    status, _out, err = models("promote", "first", "--because", "it is the first")
    assert (status, err.count("\n")) == (2, 1)
    assert "is not promoted (audit not known: nobody has looked" in err and "--accept audit\n" in err
    assert models("promote", "first", "--accept", "audit")[0] == 2, "without a reason"
    as_printed = ("promote", "first", "--because", "...", "--accept", "audit")
    assert "--because is for those who ask later" in models(*as_printed)[2], "points are no reason"
    assert "--accept takes" in models("promote", "first", "--because", "x", "--accept", "audits")[2]
    assert states(models) == {"first": "candidate"}
    status, out, _err = models("promote", "first", "--because", "it is the first", "--accept", "audit")
    assert (status, out[:21]) == (0, "first is current now:")
    assert "accepted: audit: it is the first" in models("show", "current")[1]
    assert states(models) == {"first": "current"}


def test_an_audit_that_was_made_since_counts(make_finished, models):
    assert verdicts(added(models, make_finished("first")))["audit"] == "not known"
    assert store_main(["audit", "store", "--report-only"]) == 0
    assert models("promote", "first", "--because", "it is the first")[0] == 0


def test_a_model_is_held_against_the_current_one_on_patients_who_chose_nothing_and_each_try_counts(
    make_finished, models
):
    added(models, make_finished("first"))
    assert models("promote", "first", "--because", "the first one", "--accept", "audit")[0] == 0
    found = added(models, make_finished("second", seed=2), "--margin", 20)
    assert (verdicts(found)["not-worse"], found["compared_with"], found["margin"]) == ("met", "first", 0.2)
    assert len(found["gate"]) == 31, (
        "gate patients, and neither those who chose the epoch nor the tested ones"
    )
    worse = added(models, make_finished("third", seed=3, wrong=5))
    assert (verdicts(worse)["not-worse"], verdicts(worse)["calibration"]) == ("not met", "not met")
    words = worse["evidence"][0]["words"]
    assert "points against the current model's (" in words and "asked for: above −5" in words
    assert "97.5 %, 2 comparisons on these patients), on 31 gate patients" in words
    assert models("promote", "third", "--because", "x", "--accept", "audit")[0] == 2
    # One that was added before is held against the one that is current now.
    assert models("promote", "second", "--because", "as good", "--accept", "audit")[0] == 0
    words = models("promote", "third", "--because", "x")[2]
    assert "98.33 %, 3 comparisons on these patients" in words


def test_who_picks_one_of_several_models_has_made_as_many_comparisons(two, make_finished, models):
    shown = [models("show", "second")[1]]
    for seed, name in enumerate(("third", "fourth"), 3):
        added(models, make_finished(name, seed=seed))
        shown.append(models("show", "second")[1])
    levels = ("; 95 %), on", "; 97.5 %, 2 comparisons", "; 98.33 %, 3 comparisons")
    assert [level in out for level, out in zip(levels, shown, strict=True)] == [True, True, True]
    assert models("promote", "second", "--because", "x", "--accept", "audit", "not-worse")[0] == 0
    decision = json.loads(max(two.history.iterdir()).read_text())
    assert "98.33 %, 3 comparisons" in decision["evidence"][0]["words"]
    assert decision["gate"] == [], "the two were compared before"


def test_without_gate_patients_nothing_is_claimed(make_finished, models):
    found = added(models, make_finished("first", share=0.0))
    assert {verdicts(found)[word] for word in ("calibration", "controls")} == {"not known"}
    assert "--calibration-share" in found["evidence"][1]["words"]
    assert models("promote", "first", "--because", "x", "--accept", *ALL)[0] == 0
    second = added(models, make_finished("second", share=0.0, seed=2))
    assert (verdicts(second)["not-worse"], second["gate"]) == ("not known", [])


def test_no_test_patient_is_looked_at(make_finished, models, store):
    for name in ("first", "second"):
        added(models, make_finished(name, seed=len(name)))
        models("promote", name, "--because", "x", "--accept", *ALL)
    assert store.test_looks() == []


def test_rollback_goes_back_one_model_after_the_other(two, models, make_finished):
    assert models("promote", "second", "--because", "as good", "--accept", "audit")[0] == 0
    assert states(models) == {"first": "retired", "second": "current"}
    assert json.loads((two.path / "current").read_text())["name"] == "second"
    status, out, _err = models("rollback", "--because", "it calls all the same")
    assert (status, out[:20]) == (0, "first is current now")
    assert states(models) == {"first": "current", "second": "retired"}
    assert json.loads((two.path / "current").read_text())["name"] == "first"
    status, _out, err = models("rollback")
    assert status == 2 and "there is no model to go back to: first is the first one" in err


def test_who_is_promoted_again_has_one_place_and_is_current_since_it_became_so(two, models, monkeypatch):
    def at(time, *words):
        monkeypatch.setattr(history, "now", lambda: f"2026-11-{time} UTC")
        status, out, err = models(*words)
        assert status == 0, err
        return out

    at("02 10:00", "promote", "second", "--because", "as good", "--accept", "audit")
    number, keys = len(list(two.history.iterdir())), np.load(two.learnt_from("second"))[:1]
    assert note_retraction(two, keys, ["commit"]) == ["first", "second"]
    assert "second stays current: " in at(
        "03 10:00", "promote", "second", "--because", "x", "--accept", "retracted"
    )
    assert len(list(two.history.iterdir())) == number + 2
    assert "current since 2026-11-02 10:00 UTC" in at("03 11:00", "list")
    assert models("rollback")[0] == 2, "the first one has learnt from it, too"
    at("04 10:00", "promote", "first", "--because", "x", "--accept", *ALL, "retracted")
    assert at("05 10:00", "rollback").startswith("second is current now, in place of first")
    assert "current since 2026-11-05 10:00 UTC" in at("05 11:00", "list")
    assert at("06 10:00", "rollback").startswith("first is current now, in place of second")


def test_another_model_in_place_of_the_one_that_was_promoted_is_refused(two, models, make_finished):
    other = make_finished("other", seed=9)
    shutil.rmtree(two.path / "first")
    found = added(models, other)
    assert verdicts(found)["not-worse"] == "not known" and "no model 'first'" in found["evidence"][0]["words"]
    shutil.copytree(two.path / "second", two.path / "first")
    record = replace(read_record(two, "second"), name="first")
    two.record("first").write_bytes(to_json(record))
    assert "is not as it was promoted" in models("promote", "first", "--because", "x", "--accept", *ALL)[2]
    assert "not-worse not known: " in models("promote", "other", "--because", "x")[2]
    assert models("promote", "other", "--because", "x", "--accept", *ALL)[0] == 0
    assert "is not as it was promoted" in models("rollback")[2]


def test_no_later_file_changes_what_a_model_says(two, models, capsys):
    kept = two.run("second")
    for words in (("--sensitivity", "0.9"), ("--investigate", "glioma")):
        assert evaluate_main([str(kept.path), *words]) == 2
        assert "decision never changes" in capsys.readouterr().err
    assert models("show", "second")[0] == 0
    write_question(kept, Question(sensitivity=0.9))
    status, _out, err = models("promote", "second", "--because", "x", "--accept", *ALL)
    assert status == 2 and "decision.json was not there when the model was added" in err


def test_a_name_is_one_model_for_good(make_finished, models):
    first = make_finished("first")
    added(models, first)
    assert added(models, first)["is_new"] is False
    other = make_finished("other", seed=9)
    status, _out, err = models("add", other.path, "--name", "first")
    assert status == 2 and "has another model of the name 'first'" in err
    for name in ("current", "history", "../x", ".x", "a b"):
        assert models("add", other.path, "--name", name)[0] == 2
    (other.path / "DONE").unlink()
    assert "is not finished" in models("add", other.path)[2]
    assert states(models) == {"first": "candidate"}


@pytest.mark.parametrize("name", ["calibration.json", "model.safetensors", "record.json"])
def test_a_record_that_was_edited_by_hand_is_refused(two, models, name):
    path = two.path / "second" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    for words in (("promote", "second", "--because", "x", "--accept", *ALL), ("show", "second")):
        status, _out, err = models(*words)
        assert (status, err.count("\n"), "not as it was added" in err) == (2, 1, True), err
    assert states(models)["first"] == "current", "others are listed all the same"


def test_of_two_promotions_at_once_one_is_refused_and_names_the_other(
    two, make_finished, models, monkeypatch
):
    added(models, make_finished("third", seed=3))
    looked = promoting.evidence_now

    def meanwhile(*given):
        monkeypatch.setattr(promoting, "evidence_now", looked)
        promote(two, "third", "I was here first", ALL)
        return looked(*given)

    monkeypatch.setattr(promoting, "evidence_now", meanwhile)
    with pytest.raises(UserError, match=r"was faster: promote third .*I was here first"):
        promote(two, "second", "as good", ALL)
    assert states(models) == {"first": "retired", "second": "candidate", "third": "current"}
    assert [path.name for path in sorted(two.history.iterdir())] == ["00000001.json", "00000002.json"]


def test_a_promotion_that_is_killed_as_it_ends_counts_and_is_put_right_by_the_next(two, models, monkeypatch):
    before = two.current.read_bytes()

    def killed(*_given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(history, "replace_shared", killed)
        with pytest.raises(KeyboardInterrupt):
            promote(two, "second", "as good", ALL)
    assert two.current.read_bytes() == before
    assert states(models) == {"first": "retired", "second": "current"}
    assert models("promote", "second", "--because", "again")[1].startswith("second is current already")
    assert json.loads(two.current.read_text())["name"] == "second"


def test_what_a_killed_addition_has_left_is_no_model_and_goes_with_the_next(make_finished, models):
    run = make_finished("first")
    code = (
        "import os, shutil, sys, mri_hpc.models\n"
        "copy, end = shutil.copyfile, os._exit\n"
        "shutil.copyfile = lambda one, other: end(9) if one.name == 'recipe.json' else copy(one, other)\n"
        "mri_hpc.models.main(['add', sys.argv[1]])"
    )
    assert subprocess.run([sys.executable, "-c", code, str(run.path)]).returncode == 9
    (left,) = models.folder.glob(".tmp-*")
    assert states(models) == {}
    added(models, run)
    assert not left.exists()


def test_a_full_disk_leaves_no_half_of_a_model_and_a_decision_that_holds(
    two, make_finished, models, monkeypatch
):
    def full(*_given):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "there")

    run = make_finished("third", seed=3)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        status, _out, err = models("add", run.path)
        assert status == 2 and "No space left on device" in err
    assert not (two.path / "third").exists() and list(two.path.glob(".tmp-*")) == []
    with monkeypatch.context() as patch:
        patch.setattr(promoting, "add_entry", full)
        assert models("promote", "second", "--because", "x", "--accept", *ALL)[0] == 2
        assert states(models)["first"] == "current"
    with monkeypatch.context() as patch:
        patch.setattr(history, "replace_shared", full)
        status, _out, err = models("promote", "second", "--because", "x", "--accept", *ALL)
        assert status == 0 and "the decision holds all the same" in err
    assert states(models)["second"] == "current"


def test_the_file_current_is_not_for_hands(two, models):
    two.current.write_text(two.current.read_text().replace("first", "second"))
    status, _out, err = models("list")
    assert status == 2 and "current is not as it was written" in err
    assert models("promote", "second", "--because", "so it is done", "--accept", "audit")[0] == 0
    assert states(models)["second"] == "current"
    document = two.current.read_bytes()
    assert models("rollback")[0] == 0
    newest = max(two.history.iterdir())
    newest.unlink()
    assert models("list")[0] == 2, "a decision is missing that current rests on"
    two.current.write_bytes(document)
    assert states(models)["second"] == "current"


def test_an_added_model_needs_neither_its_run_nor_the_runs_before(make_finished, models):
    from mri_hpc.results.answers.run_decision import decision_of, num_models

    first = make_finished("first", share=0.0)
    second = make_finished("second", share=0.0, seed=2, continue_from=str(first.path))
    before = decision_of(second), num_models(second)
    added(models, second)
    for run in (first, second):
        shutil.rmtree(run.path)
    kept = ModelsDir(models.folder).run("second")
    assert (decision_of(kept), num_models(kept)) == before
    assert before[1] == 30 * 30


def test_add_is_the_same_from_python(make_finished, tmp_path):
    run = make_finished("first")
    found = add_run(ModelsDir(tmp_path / "elsewhere"), run.path, "", 0.05)
    assert found.is_new and found.record.size > 1_000_000


def test_an_interval_is_wider_the_more_comparisons_were_made():
    from mri_hpc.registry.gate import widened
    from mri_hpc.results.statistics.differences import POINTS
    from mri_hpc.results.statistics.figure_of_merit import Figure

    figure = Figure(value=0.01, low=-0.04, high=0.06, scale=POINTS)
    assert widened(figure, 1, 31) == pytest.approx((-0.04, 0.06))
    widths = [high - low for low, high in (widened(figure, number, 31) for number in (1, 2, 3, 20))]
    assert widths == sorted(widths)
    # Bonferroni: at the third the 99.17 % quantile of t with 30 degrees stands for that of 97.5 %.
    assert widths[2] / widths[0] == pytest.approx(2.536 / 2.042, abs=0.005)
