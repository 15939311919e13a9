"""``mri-hpc watch``: one link does what is new, once; what looks wrong is stopped by name."""

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.base.exit_status import AGAIN
from mri_hpc.chain.commands import Commands, Interrupted
from mri_hpc.chain.layout import ChainDir
from mri_hpc.chain.links import Claim, Objection, State, claim_link, outcomes, read_outcome, to_json
from mri_hpc.chain.objections import BATCH, Held
from mri_hpc.chain.queue import PATIENT_TRIES, submit_next
from mri_hpc.cluster.jobs import Job
from mri_hpc.cluster.scheduler import Phase
from mri_hpc.models import main as models_main
from mri_hpc.predict import main as predict_main
from mri_hpc.registry import promoting
from mri_hpc.registry.history import read_history
from mri_hpc.registry.layout import ModelsDir
from mri_hpc.registry.promoting import BY_RULE, promote
from mri_hpc.rundir.decisions import Action
from mri_hpc.rundir.layout import Attempt
from mri_hpc.rundir.ledger import Kind, record
from mri_hpc.rundir.settings import load_training
from mri_hpc.status import main as status_main
from mri_hpc.storage.store import Store
from mri_hpc.store import main as store_main
from mri_hpc.training.prediction import FinishedRun
from tests.cli.watch.conftest import CLASSES, FIRST, OPTIONS, asked, deliver, last, load_as_asked, run_here

MODELS = ModelsDir(Path("models"))


def promoted(name):
    accepted = ("audit", "calibration", "controls", "not-worse")
    return promote(MODELS, name, "seen", accepted)


def test_three_links_train_do_nothing_and_go_on_with_what_came(chain, watch, capsys):
    assert (last(chain).state, last(chain).model) == (State.PROPOSED, "raw-1")
    assert "--calibration-share" in chain.log(1).read_text(), "all later models have gate patients"
    assert watch()[:2] == (0, "link 2: nothing new: no image came, changed or left since the last training\n")
    promoted("raw-1")
    deliver(Path("raw"), FIRST, 12)
    status, out, err = watch()
    assert status == 0, err
    assert "goes on from raw-1, with 24 new or changed images; raw-2 is proposed (" in out
    assert " --no-allow-leaks\n" in chain.log(3).read_text(), "it has not what others were allowed"
    [line] = [line for line in out.splitlines() if "models promote" in line]
    settings = load_training(chain.run(2))
    assert (settings.continue_from, settings.snapshot) == (
        str(chain.run(1).path.absolute()), Store.open(Path("store")).resolve().digest,
    )  # fmt: skip
    record = json.loads(MODELS.record("raw-2").read_text())
    assert record["compared_with"] == "raw-1" and len(record["gate"]) > 5
    assert [one.name for one in read_history(MODELS)] == ["raw-1"], "a person promotes"
    assert watch()[1].startswith("link 4: nothing new")
    capsys.readouterr()
    assert status_main(["watch/raw"]) == 0
    printed = capsys.readouterr().out
    assert "watch/raw: 4 links" in printed and "next  by whoever types mri-hpc watch" in printed
    assert status_main(["watch/raw", "--json"]) == 0
    links = json.loads(capsys.readouterr().out)["links"]
    assert [one["state"] for one in links] == ["proposed", "nothing new", "proposed", "nothing new"]
    head, typed = line.split(": mri-hpc models ")
    assert head == "  next, where you accept what is open" and " --accept " in typed
    assert models_main(shlex.split(typed.replace("...", "agreed"))) == 0, "it works once a reason is typed"


def inverted(pixels):
    return 255 - pixels


def of_another_site(pixels):
    return pixels * 0.45 + 70


@pytest.mark.parametrize(
    ("word", "made"),
    [
        ("labels", {"swapped": True}),
        ("look", {"change": inverted}),
        ("look", {"change": of_another_site}),
    ],
)
def test_a_wrong_delivery_is_stopped_by_name_before_any_training(chain, watch, monkeypatch, word, made):
    deliver(Path("raw/new"), FIRST, 12, **made)
    shutil.move("raw/new/labels.csv", "new.csv")
    with Path("raw/labels.csv").open("a") as table:
        table.writelines(f"new/{line}" for line in Path("new.csv").read_text().splitlines(True)[1:])
    for _again in range(2):
        status, _out, err = watch()
        assert (status, err.count("\n")) == (2, 1)
        assert "stopped: nothing is trained on 24 new or changed images: " in err
        assert word in [one.word for one in last(chain).objections]
        assert f"{word}: " in err and "mri-hpc store retract" in err and "--accept" in err
    assert " store/private/delivery-raw.csv lists the files." in err
    listed = [row for row in rows_listed(chain) if row["objection"] == word]
    [objection] = [one for one in last(chain).objections if one.word == word]
    assert len(listed) == objection.images > 10
    assert {str(Path(row["file"]).parent) for row in listed} == {"new"}
    assert "new/" not in chain.outcome(3).read_text(), "paths may name patients"
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout.isatty", lambda: True, raising=False)
        _status, shown, again = watch()
    assert again == err.replace("link 3", "link 4"), "and in one line what a person can do"
    assert f"  {word}: {len(listed)} images in new/ ({len(listed)}); {listed[0]['file']}, " in shown
    assert "new/" not in watch()[1], "what is printed elsewhere than on a terminal is kept"
    assert len(chain.launched()) == 1
    accepted = [one.word for one in last(chain).objections]
    assert "takes leak, classes, look, labels" in watch("--accept", "looks")[2]
    status, out, err = watch("--accept", *accepted)
    assert status == 0, err
    assert f"accepted: {', '.join(accepted)}" in out
    assert last(chain).accepted == tuple(accepted)


def ended_behind(monkeypatch, fatal):
    """Have a signal come as a command of a link ends."""

    def run(commands, command, words, **more):
        last_line = run_here(commands, command, words, **more)
        if command == fatal:
            raise Interrupted("SIGTERM")
        return last_line

    monkeypatch.setattr(Commands, "run", run)


def test_a_word_accepts_what_a_link_has_said_and_no_images_that_came_since(chain, watch, monkeypatch):
    deliver(Path("raw"), FIRST, 8, swapped=True)
    not_taken = "was not taken: no link has said this of the store as it is now. What to do"
    assert not_taken in watch("--accept", "labels")[2]
    assert "labels" in {one.word for one in last(chain).objections}
    Path("moved.csv").write_text("path,label,split\n1_0.png,,train\n1_1.png,,train\n")
    assert store_main(["relabel", "store", "--labels", "moved.csv"]) == 0
    assert f"--accept labels {not_taken}" in watch("--accept", "labels")[2], "another split"
    deliver(Path("raw"), FIRST + 8, 8, swapped=True)
    status, _out, err = watch("--accept", "labels")
    assert (status, len(chain.launched())) == (2, 1)
    assert "32 new or changed images" in err and "--accept labels was not taken" in err
    accepted = tuple(one.word for one in last(chain).objections)
    ended_behind(monkeypatch, "launch")
    assert watch("--wait", "--accept", *accepted)[0] == AGAIN
    ended = last(chain)
    assert (ended.state, ended.accepted, len(ended.objections)) == (
        State.INTERRUPTED,
        accepted,
        len(accepted),
    )
    assert ended.run == str(chain.run(2).path.absolute()), "it was launched"


def test_a_word_that_no_link_has_said_of_the_store_accepts_nothing(chain, watch, monkeypatch):
    deliver(Path("raw"), FIRST, 8, swapped=True)
    assert watch()[0] == 2
    leak = Objection(word="leak", words="leak: of a newer rule", images=1)
    monkeypatch.setattr("mri_hpc.chain.link.hold_against", lambda *_, **__: Held(objections=(leak,)))
    status, _out, err = watch("--accept", "leak")
    assert status == 2 and "--accept leak was not taken" in err
    assert watch("--accept", "leak")[0] == 0, "now one has"


def test_a_proposal_that_was_cut_short_is_said_by_the_next_link_once(chain, watch, monkeypatch):
    shutil.rmtree(MODELS.path)
    for path in chain.links.iterdir():
        path.unlink()
    with monkeypatch.context() as patch:
        ended_behind(patch, "models")
        assert watch()[0] == AGAIN
    assert MODELS.names() == ["raw-1"] and not last(chain).model
    out = watch()[1]
    assert "link 2: proposed: raw-1 is proposed (" in out and "mri-hpc models promote raw-1 " in out
    assert watch()[1].startswith("link 3: nothing new")


def test_the_evidence_of_a_proposal_is_found_once_and_not_by_the_link(chain, watch, monkeypatch):
    shutil.rmtree("models")

    def again(*_words):
        raise UserError("it was found already")

    monkeypatch.setattr(promoting, "evidence_now", again)
    status, out, err = watch()
    assert (status, err) == (0, "") and "mri-hpc models promote raw-1 " in out
    shutil.rmtree("models")
    monkeypatch.setattr(promoting, "line_to_promote", again)
    status, out, err = watch()
    assert (status, err, last(chain).to_promote) == (0, "", ""), "it is proposed all the same"
    assert "raw-1 is proposed" in out and "  look: mri-hpc models show raw-1\n" in out


def test_a_large_delivery_is_said_to_be_looked_at_in_part(chain, watch, monkeypatch):
    deliver(Path("raw"), FIRST, 16, swapped=True)
    monkeypatch.setattr("mri_hpc.chain.objections.MOST_IMAGES", 20)
    status, _out, err = watch()
    assert status == 2 and "20 of 32 images were asked about" in err
    assert "20 of 32 images were asked about, of patients by chance" in last(chain).notes


def rows_listed(chain):
    """What the owner of the store reads of the images that the last link has objected to."""
    return list(csv.DictReader(Path(last(chain).listed_in).read_text().splitlines()))


def test_a_leak_into_test_is_stopped_by_name(chain, watch):
    deliver(Path("raw"), FIRST, 6)
    a_leak_came()
    status, _out, err = watch()
    assert status == 2 and "leak: 1 slice is both trained on and judged on" in err
    assert "mri-hpc store audit" in err
    came_now = {row["file"]: row["why"].endswith(", came now") for row in rows_listed(chain)}
    assert came_now == {"2_0.png": False, "again.png": True}
    assert "(mri-hpc store retract store --why WORDS --image FILE FILE); or where all is as it is" in err
    assert "again.png" not in chain.log(2).read_text(), "the audit names files to people"
    assert len(chain.launched()) == 1
    assert watch("--accept", "leak")[0] == 0
    assert " --allow-leaks" in chain.log(3).read_text() and load_training(chain.run(2)).allow_leaks
    deliver(Path("raw"), FIRST + 6, 1)
    status, _out, err = watch()
    assert (status, len(chain.launched())) == (2, 2), "a person's word is for one training"
    assert "leak: 1 slice is both trained on and judged on" in err
    status, out, err = watch("--launch=--allow-leaks")
    assert (status, err) == (0, "") and "goes on from raw-2" in out
    assert "  accepted: leak\n" in out and load_training(chain.run(3)).allow_leaks


def a_leak_came():
    """A slice of training, stored for a patient who tests as well."""
    shutil.copy("raw/2_0.png", "raw/again.png")
    with Path("raw/labels.csv").open("a") as table:
        table.write("again.png,dark,P999,test\n")


def test_a_leak_is_found_though_other_tasks_store_images_while_the_link_looks(chain, watch, monkeypatch):
    a_leak_came()

    def run(commands, command, words, **more):
        if command == "store":
            deliver(Path("raw"), FIRST, 1)
            typed = ["--source", "raw", "--store", "store", *shlex.split(OPTIONS.partition("=")[2])]
            run_here(commands, "preprocess", typed)
        return run_here(commands, command, words, **more)

    monkeypatch.setattr(Commands, "run", run)
    status, _out, err = watch()
    assert (status, len(Store.open(Path("store")).resolve())) == (2, 2 * FIRST + 3)
    assert "leak: 1 slice is both trained on and judged on" in err


def test_where_no_audit_can_be_kept_nothing_is_trained(chain, watch, monkeypatch):
    a_leak_came()
    monkeypatch.setattr("mri_hpc.cohort.kept_twins._keep", lambda *_words: None)
    status, _out, err = watch()
    assert (status, len(chain.launched())) == (2, 1)
    assert "what the audit found is not in store/twins, so that leaks are not known" in err


def test_a_leak_in_the_first_delivery_is_stopped_as_one_and_accepted_by_a_word_of_watch(
    chain, watch, monkeypatch
):
    for folder in (chain.path, MODELS.path):
        shutil.rmtree(folder)
    a_leak_came()
    status, _out, err = watch()
    assert (status, last(chain).state) == (2, State.STOPPED)
    assert "leak: 1 slice is both trained on and judged on" in err and err.endswith("--accept leak\n")
    assert "--allow-leaks" not in err and not chain.launched()
    status, out, err = watch("--accept", "leak")
    assert status == 0, err
    assert "  accepted: leak\n" in out and last(chain).accepted == ("leak",)
    assert "--allow-leaks" in chain.log(2).read_text()


def test_a_new_class_is_named_and_trained_on_once_a_person_says_so(chain, watch):
    deliver(Path("raw"), FIRST, 6)
    table = Path("raw/labels.csv")
    table.write_text(table.read_text().replace(f"{FIRST + 1}_0.png,spot", f"{FIRST + 1}_0.png,spto"))
    status, _out, err = watch()
    assert status == 2 and "classes: the model does not know spto (1 image)" in err


def test_a_delivery_like_those_before_is_not_stopped_and_its_figures_are_said(chain, watch):
    deliver(Path("raw"), FIRST, 12)
    out = watch()[1]
    assert "note: the model contradicts 0 of 11 labels, 0 of" in out, "but for the one test patient's"
    assert "of 12 patients are not like the training data" in out


def test_wrong_labels_that_nearly_stop_it_are_said_to(chain, watch):
    deliver(Path("raw"), FIRST, 3, swapped=True)
    status, out, _err = watch()
    note = r"model contradicts 3 of 3 labels, 0 of \d+ of the gate \(chance 0\.\d+; 0\.00033 stops it\)"
    assert status == 0 and re.search(note, out), out


def test_wrong_images_that_are_retracted_leave_the_rest_to_be_trained_on(chain, watch):
    deliver(Path("raw"), FIRST, 4)
    deliver(Path("raw"), FIRST + 4, 12, swapped=True)
    assert watch()[0] == 2
    wrong = [f"raw/{number}_{part}.png" for number in range(FIRST + 4, FIRST + 16) for part in range(2)]
    assert store_main(["retract", "store", "--image", *wrong, "--why", "swapped", "--yes"]) == 0
    status, out, err = watch()
    assert status == 0, err
    assert "with 8 new or changed images" in out


def test_a_retraction_reaches_the_models_and_the_next_training_starts_anew_without_it(chain, watch, capsys):
    promoted("raw-1")
    assert store_main(["retract", "store", "--patient", "P2", "--yes"]) == 0
    assert "models/raw-1 has learnt from them: it is not asked" in capsys.readouterr().out
    status, out, err = watch()
    assert status == 0, err
    assert (
        "starts anew: raw-1 has learnt from what was retracted, with 0 new or changed images, 2 gone" in out
    )
    assert load_training(chain.run(2)).continue_from == ""
    entries = json.loads(MODELS.record("raw-2").read_text())["evidence"]
    assert {"retracted": "met"}.items() <= {one["word"]: one["verdict"] for one in entries}.items()


def test_of_two_links_at_once_the_second_says_so_and_does_nothing(chain, watch):
    claim_link(chain, is_of_job=False)
    status, out, err = watch()
    assert (status, err) == (0, "")
    assert f"link 2 of raw is at work (process {os.getpid()} on {os.uname().nodename}, since" in out
    assert outcomes(chain)[-1].number == 1


def test_a_link_on_a_machine_that_cannot_be_asked_names_the_way_out(chain, watch):
    chain.claim(2).write_bytes(
        to_json(Claim(holder=Job(cluster="local", host="elsewhere", pid=7, began="x")))
    )
    out = watch()[1]
    assert (
        "process 7 on elsewhere, since ): nothing was done; if that machine is gone for good: rm "
        f"{chain.claim(2).absolute()}" in out
    )
    chain.claim(2).unlink()
    assert watch()[1].startswith("link 2: nothing new")


@pytest.mark.parametrize("fatal", ["preprocess", "store", "launch", "proposal"])
def test_a_link_that_was_killed_behind_any_step_goes_on_and_does_nothing_twice(chain, watch, fatal):
    deliver(Path("raw"), FIRST, 12)
    assert is_killed_behind(fatal)
    status, _out, err = watch()
    assert status == 0, err
    killed = read_outcome(chain, 2)
    assert killed.state is State.FAILED and "was killed" in killed.words
    assert [run.path.name for run in chain.launched()] == ["raw-1", "raw-2"]
    assert all(run.is_finished for run in chain.launched())
    assert MODELS.names() == ["raw-1", "raw-2"]
    assert len(Store.open(Path("store")).resolve()) == 2 * (FIRST + 12)
    assert watch()[1].startswith("link 4: nothing new")


@pytest.fixture
def signalled(monkeypatch):
    """A model that is told to end while it answers, as its process is; what it was asked."""
    batches = []

    def ask(images):
        batches.append(len(images))
        os.kill(os.getpid(), signal.SIGTERM)
        return asked(images)

    finished = FinishedRun(classes=CLASSES, ask=ask)
    monkeypatch.setattr("mri_hpc.training.prediction.load_finished", lambda _run: finished)
    return batches


def test_a_link_that_is_told_to_end_while_it_asks_the_model_says_so_and_the_next_goes_on(
    chain, watch, signalled, monkeypatch
):
    deliver(Path("raw"), FIRST, BATCH)
    status, out, _err = watch()
    assert (status, out) == (AGAIN, "link 2: interrupted: SIGTERM ended it; the next link goes on\n")
    assert len(signalled) == 1, "of two batches"
    assert last(chain).state is State.INTERRUPTED
    monkeypatch.setattr("mri_hpc.training.prediction.load_finished", load_as_asked)
    status, out, err = watch()
    assert status == 0, err
    assert f"with {2 * BATCH} new or changed images; raw-2 is proposed" in out


# In a process of its own: one that is forked has the threads of what its parent computed with no more.
KILLED = """
import os, signal, sys
from pathlib import Path
import pytest
from mri_hpc.chain.commands import Commands
from tests.cli.watch.conftest import OPTIONS, main, run_here, stand_in

def die(*_words):
    os.kill(os.getpid(), signal.SIGKILL)

def run(commands, command, words, **more):
    run_here(commands, command, words, **more)
    if command == sys.argv[1]:
        die()

with pytest.MonkeyPatch.context() as patch:
    stand_in(patch, Path.cwd())
    patch.setattr(Commands, "run", run)
    patch.setattr("mri_hpc.watch._end_link", die)
    main(["raw", "--store", "store", OPTIONS])
"""


def is_killed_behind(fatal):
    """Do a link in a process that is killed behind one of its steps; tell whether it was."""
    own = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.run([sys.executable, "-c", KILLED, fatal], env=own).returncode == -signal.SIGKILL


def test_a_run_that_was_removed_leaves_its_name_to_its_model(chain):
    assert chain.next_run(MODELS.names()).path.name == "raw-2"
    shutil.rmtree(chain.run(1).path)
    assert chain.next_run(MODELS.names()).path.name == "raw-2"
    assert chain.next_run(()).path.name == "raw-1"


def test_a_step_that_fails_is_an_outcome_with_its_words_and_the_next_link_tries_again(
    chain, watch, monkeypatch
):
    deliver(Path("raw"), FIRST, 6)
    monkeypatch.setenv("STANDIN_DIES", "1")
    status, _out, err = watch()
    assert (status, err) == (2, "mri-hpc watch: link 2: failed: the training has failed\n")
    assert (last(chain).state, last(chain).words) == (State.FAILED, "the training has failed")


def test_a_run_that_failed_is_launched_again_and_the_link_fails_with_where_its_last_words_are(
    chain, watch, monkeypatch
):
    deliver(Path("raw"), FIRST, 4)
    with monkeypatch.context() as patch:
        patch.setenv("STANDIN_DIES", "1")
        assert watch()[0] == 2
    decided = {
        "decision": Action.GIVE_UP,
        "cause": "crashed",
        "reason": "crashed 3 times",
        "step": 0,
        "status": 1,
    }
    record(chain.run(2), Attempt(submission=1, restart=0), Kind.DECIDED, **decided)
    status, _out, err = watch()
    run = "watch/raw/runs/raw-2"
    assert (status, last(chain).state) == (2, State.FAILED)
    assert f"{run} had failed (crashed 3 times), and was launched again: mri-hpc status {run} has" in err
    assert f"rm -r {run} gives it up" in err
    assert f"launch --run {chain.run(2).path.absolute()}\n" in chain.log(3).read_text()
    assert watch("--wait")[0] == 0, "whoever waits sees how it ends"


def test_status_of_a_chain_that_is_none_names_those_there(chain, capsys):
    capsys.readouterr()
    assert status_main(["watch/nope"]) == 2
    assert capsys.readouterr().err == "mri-hpc status: watch/nope does not exist; chains here: watch/raw\n"
    Path("watch/one").mkdir()
    Path("watch/one/settings.toml").touch()
    assert status_main(["watch/nope"]) == 2
    assert capsys.readouterr().err.endswith("does not exist; chains here: watch/raw; runs here: one\n")
    assert status_main(["watch/raw"]) == 0
    assert capsys.readouterr().out.startswith("watch/raw: 1 link, ")


def test_by_promote_auto_a_model_is_current_and_every_output_says_so(chain, watch, capsys, monkeypatch):
    monkeypatch.setattr("mri_hpc.chain.link.promote_by_rule", lambda models, name: automatic(models, name))
    out = watch("--promote", "auto")[1]
    assert "raw-1 is current now, by --promote auto: no person has looked at it" in out
    capsys.readouterr()
    said = "promoted by --promote auto and by no person"
    assert predict_main(["--model", "current", "raw/1_0.png", "--out", "out", "--names"]) == 0
    assert said in capsys.readouterr().out
    assert said in next(Path("out/pages").iterdir()).read_text()
    for table in ("predictions.csv", "patients.csv"):
        assert ",model_promoted" in Path("out", table).read_text().splitlines()[0]
    assert predict_main(["--model", "current", "raw/1_0.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model_promoted"] == "auto"
    promoted("raw-1")
    assert predict_main(["--model", "current", "raw/1_0.png"]) == 0
    assert said not in capsys.readouterr().out, "a person has said so since"


def automatic(models, name):
    """Promote by the rule's hand what the rule would not yet: few patients are not like many."""
    accepted = ("audit", "calibration", "controls", "not-worse")
    return promote(models, name, BY_RULE, accepted, is_automatic=True)


def test_the_rule_promotes_what_meets_all_and_never_over_a_persons_word(chain, monkeypatch):
    assert promoting.promote_by_rule(MODELS, "raw-1") is None, "controls are not beaten"
    monkeypatch.setattr(promoting, "open_words", lambda *_words, **_more: [])
    assert promoting.promote_by_rule(MODELS, "raw-1").entry.is_automatic
    assert promoting.promote_by_rule(MODELS, "raw-1") is None, "it is decided"


def test_a_stopped_chain_does_nothing_until_the_file_is_removed(chain, watch):
    deliver(Path("raw"), FIRST, 4)
    assert watch("--stop")[0] == 0
    assert "was stopped: nothing is done while watch/raw/stop is there" in watch()[1]
    assert "remove watch/raw/stop" in watch("--every", "1d")[2]
    assert len(outcomes(chain)) == 1
    chain.stop.unlink()
    assert watch()[1].startswith("link 2: proposed")


@pytest.fixture
def own_job(monkeypatch):
    """This process is in the job of the chain, on a Slurm that takes what is submitted; those submitted."""
    submitted = []

    def submit(words, **_more):
        submitted.append(words)
        return Job(cluster="slurm", job_id=str(100 + len(submitted)))

    monkeypatch.setattr("mri_hpc.chain.queue.PAUSE_S", 0.0)
    monkeypatch.setattr("mri_hpc.chain.queue.controller_answers", lambda: True)
    monkeypatch.setattr("mri_hpc.chain.queue.submit_small", submit)
    monkeypatch.setattr("mri_hpc.chain.queue.is_own_job", lambda _chain: True)
    return submitted


def test_a_job_that_finds_a_persons_link_at_work_submits_the_next_all_the_same(chain, watch, own_job):
    claim_link(chain, is_of_job=False)
    status, out, err = watch("--every", "1d")
    assert (status, err) == (0, "")
    assert "link 2 of raw is at work" in out and "  the next job begins no sooner than " in out
    assert len(own_job) == 1 and "--every=1d" in own_job[0]
    assert (
        "the chain ends: --until 2020-01-01 is reached" in watch("--every", "1d", "--until", "2020-01-01")[1]
    )
    assert len(own_job) == 1
    chain.claim(2).unlink()
    claim_link(chain, is_of_job=True)
    assert "is at work" in watch("--every", "1d")[1]
    assert len(own_job) == 1, "that link submits it"


def test_a_link_whose_successor_cannot_be_submitted_for_minutes_says_why_the_chain_ends(
    chain, watch, own_job, monkeypatch
):
    asked = []

    def no_answer():
        asked.append(1)
        raise UserError("Slurm is configured here but does not answer")

    monkeypatch.setattr("mri_hpc.chain.queue.controller_answers", no_answer)
    assert "the chain ends: Slurm is configured here but does not answer" in watch("--every", "1d")[1]
    assert (len(asked), own_job) == (PATIENT_TRIES, [])
    assert last(chain).ended_because.startswith("Slurm is configured here")


def test_an_accept_beside_a_job_that_waits_is_refused_with_the_line_that_takes_it(
    chain, watch, own_job, monkeypatch
):
    monkeypatch.setattr("mri_hpc.chain.queue.is_own_job", lambda _chain: False)
    monkeypatch.setattr("mri_hpc.chain.queue.phase_of", lambda _job: Phase.PENDING)
    monkeypatch.setattr("mri_hpc.cluster.choice.name_of", lambda job: f"Slurm job {job.job_id}")
    submit_next(chain, ["raw"], in_s=0, options=())
    assert "nothing was submitted" in watch("--every", "1d")[1]
    status, _out, err = watch("--every", "1d", "--until", "2099-01-01", "--accept", "look", "labels")
    assert (status, err.count("\n"), len(own_job)) == (2, 1, 1)
    assert "has not taken --accept" in err
    store = Path("store")
    assert err.endswith(f"mri-hpc watch raw --store={store} '{OPTIONS}' --accept look labels\n"), err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--every", "1x"), "--every takes a number and s, m, h, d or w"),
        (("--every", "1d", "--until", "soon"), "--until takes a day or a moment"),
        (("--every", "1d", "--until", "2020-01-01"), "--until 2020-01-01 has passed"),
        (("--until", "2099-01-01"), "add --every"),
        (("--max-gpu-hours", "0"), "must be above 0"),
        (("--launch='",), "is no row of options"),
        (("--chain", "store"), "holds something else than a chain"),
        (("--chain", "watch/other", "--stop"), "is no chain"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(chain, watch, words, says):
    status, _out, err = watch(*words)
    assert (status, err.count("\n")) == (2, 1)
    assert says in err


def test_the_chain_is_the_one_that_the_source_names(chain):
    assert chain.path.absolute() == ChainDir(Path("watch/raw")).path.absolute()
