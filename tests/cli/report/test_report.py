"""``mri-hpc report``: a page that stands alone, shows what there is, and obeys nothing that it shows."""

import html
import json
import re
import shutil
import subprocess
import sys

import pytest

from mri_hpc.report import main
from mri_hpc.rundir.layout import Attempt
from mri_hpc.rundir.ledger import Kind, record
from mri_hpc.rundir.predictions import Prediction
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings
from tests.harness.pages import Page, hard_to_hear

HOSTILE = ('<script>alert("x")</script>', "a'b\"&amp;c", "$\\frac{1}{2}$ 日本 {{ 7*7 }}")


@pytest.fixture
def report(capsys):
    def make(run):
        capsys.readouterr()
        assert main([str(run.path)]) == 0
        capsys.readouterr()
        return run.report.read_text(encoding="utf-8")

    return make


def row(number, label, classes, *, patient=None, right=True):
    wanted = classes.index(label) if right else (classes.index(label) + 1) % len(classes)
    return Prediction(
        key=f"{number:016x}",
        patient=f"P{number // 2:03d}" if patient is None else patient,
        split="test",
        label=label,
        probabilities=tuple(0.8 if j == wanted else 0.2 / (len(classes) - 1) for j in range(len(classes))),
    )


def test_the_page_is_sound_and_loads_nothing_from_outside(make_run, report):
    text = report(make_run())
    page = Page(text)
    assert "http:" not in text
    assert "https:" not in text
    for _tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            assert attributes.get(name, "#").startswith("#"), attributes
    assert "@import" not in text
    assert not [link for link in re.findall(r"url\(([^)]*)\)", text) if not link.startswith("#")]
    assert not page.all("link")


def test_every_id_is_there_once_and_every_reference_leads_somewhere(make_run, report):
    text = report(make_run())
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    for link in re.findall(r'(?:href="|url\()#([^")]+)', text):
        assert link in page.ids
    for _tag, attributes in page.elements:
        assert attributes.get("aria-labelledby", page.ids[0]) in page.ids


def test_the_same_run_gives_the_same_bytes(make_run, report, tmp_path):
    run = make_run()
    first = report(run)
    moved = tmp_path / "elsewhere" / run.path.name
    shutil.copytree(run.path, moved)
    # Another process: no order may hang on the hash seed, no id on chance.
    code = "import sys; from mri_hpc.report import main; sys.exit(main(sys.argv[1:]))"
    subprocess.run([sys.executable, "-c", code, str(moved)], check=True, capture_output=True)
    assert (moved / "report.html").read_text(encoding="utf-8") == first


def test_names_of_classes_and_patients_are_shown_and_not_obeyed(make_run, report):
    rows = [
        row(n, HOSTILE[n % 3], HOSTILE, patient=f"<img src=x onerror=alert({n // 6})>") for n in range(30)
    ]
    text = report(make_run("<b>run", classes=HOSTILE, rows=rows))
    page = Page(text)
    assert not page.all("img")
    assert len(page.all("script")) == 1
    assert "onerror=alert(0)>" in page.words
    assert "<script>alert(" in page.words
    assert "{{ 7*7 }}" in page.words
    assert page.words.startswith("<b>run: report")


def test_the_verdict_stands_beside_chance_and_the_majority_class(make_run, report):
    classes = ("a", "b")
    rows = [row(n, "a" if n < 60 else "b", classes, right=n % 10 > 1) for n in range(80)]
    words = Page(report(make_run(classes=classes, rows=rows))).words
    assert "Balanced accuracy by patient, test split 80.0 % 95 % interval" in words
    assert "chance 50.0 %" in words
    assert "Always answering a would be right for 75.0 % (59.6 to 86.0 %) of patients" in words
    assert "Research use only." in words


def test_an_interval_that_includes_chance_says_so(make_run, report):
    classes = ("a", "b")
    rows = [row(n, classes[(n // 2) % 2], classes, right=n % 4 < 2) for n in range(40)]
    assert "The interval includes chance:" in Page(report(make_run(classes=classes, rows=rows))).words


def test_an_interval_below_chance_points_to_the_labels(make_run, report):
    classes = ("a", "b")
    rows = [row(n, classes[(n // 2) % 2], classes, right=n < 4) for n in range(40)]
    words = Page(report(make_run(classes=classes, rows=rows))).words
    assert "The whole interval lies below chance: look for swapped labels." in words
    assert "The interval includes chance" not in words


def test_without_patients_the_page_says_slice_level_and_has_no_table_of_patients(make_run, report):
    classes = ("a", "b")
    rows = [row(n, classes[n % 2], classes, patient="") for n in range(40)]
    page = Page(report(make_run(classes=classes, rows=rows)))
    assert "Slice level: not a patient estimate" in page.words
    assert "Balanced accuracy by slice" in page.words
    assert "patient-table" not in page.ids


def test_a_run_that_is_not_finished_gets_a_page_of_what_there_is(make_run, report):
    run = make_run(finished=False)
    page = Page(report(run))
    assert not run.review.exists()
    assert "Not finished: no results yet." in page.words
    assert "preempted" in page.words
    assert len(page.all("svg")) == 2
    assert "Balanced accuracy by patient" not in page.words


def test_a_run_that_was_only_just_made_gets_a_page(make_run, report):
    run = make_run(finished=False)
    for path in (run.events, run.metrics):
        path.unlink()
    assert "Not finished: no results yet." in Page(report(run)).words


def test_a_run_whose_clock_stood_still_gets_a_page_without_parts_of_its_wall_clock(make_run, report):
    run = make_run()
    events = [{**json.loads(line), "time": 1.8e9} for line in run.events.read_text().splitlines()]
    run.events.write_text("".join(f"{json.dumps(event)}\n" for event in events))
    words = Page(report(run)).words
    assert "Attempts and interruptions" in words
    assert "unaccounted" not in words


def test_wrong_answers_come_first_and_are_marked_in_words(make_run, report):
    # P2 is right, and yet less believed than P3, which is wrong.
    said = {"P1": (0.9, 0.1, 0.0), "P2": (0.4, 0.3, 0.3), "P3": (0.45, 0.55, 0.0), "P4": (0.1, 0.9, 0.0)}
    rows = [
        Prediction(key=name, patient=name, split="test", label="a", probabilities=shares)
        for name, shares in said.items()
    ]
    rows += [row(n, "bc"[n % 2], ("a", "b", "c"), patient=f"Q{n}") for n in range(2)]
    text = report(make_run(classes=("a", "b", "c"), rows=rows))
    table = text[text.index('id="patient-table"') :]
    patients = re.findall(r'<tr( class="wrong")?><th scope="row">(P\d+)', table)
    assert [name for _mark, name in patients] == ["P4", "P3", "P2", "P1"]
    assert [bool(mark) for mark, _name in patients] == [True, True, False, False]
    assert Page(text).words.count("(wrong)") == 2


def test_restarts_causes_and_lost_steps_are_there(make_run, report):
    words = Page(report(make_run())).words
    assert "2 starts; 2 steps had to be done again." in words
    assert re.search(
        r"1\.0 20\d\d-\d\d-\d\d \d\d:\d\d UTC \S+ min \S+ s 0 55 2 0 min 00 s 0 min 00 s preempted", words
    )
    assert "% of the time in which the run ran or waited to run went into training" in words
    assert re.search(r"training \d+ min \d\d s \(", words)


def test_the_runs_that_a_run_goes_on_from_are_named_with_their_models(make_run, report):
    ancestors = [{"run": f"/runs/{n}", "model_digest": f"a{n}" * 8, "snapshot": f"5{n}" * 8} for n in (2, 1)]
    stated = {"continued_from": ancestors, "batch_size": 256, "lr": 0.002}
    words = Page(report(make_run(provenance=stated))).words
    assert f"continued from 2, model {'a2' * 8}, snapshot {'52' * 8}" in words
    assert f"continued from 1, model {'a1' * 8}, snapshot {'51' * 8}" in words
    assert "batch size 256" in words


def test_data_settings_and_provenance_are_there(make_run, report):
    page = Page(report(make_run()))
    # Training images as the run counted them; the others from its predictions.
    assert re.search(r"glioma 80 9 30 5 60 10", page.words)
    assert "seed 7" in page.words
    for digest in ("3e" * 32, "5a" * 32, "c0" * 32, "5e" * 32):
        assert digest in page.words
    for words in ("version of torch 2.15.0", "jobs 4711", "threads 1", "What was never tested"):
        assert words in page.words


def test_the_ranks_of_attempts_are_named_in_turn_where_they_differ(make_run, report):
    run = make_run()
    assert "in turn" not in Page(report(run)).words
    record(run, Attempt(submission=1, restart=9), Kind.STARTED, ranks=3)
    assert re.search(r"ranks (\d+, )+3 in turn", Page(report(run)).words)


def test_figures_and_tables_can_be_heard(make_run, report):
    text = report(make_run())
    page = Page(text)
    assert hard_to_hear(text) == []
    assert len(page.all("figcaption")) == len(page.all("figure")) == 6
    assert page.all("html")[0]["lang"] == "en"
    # What is drawn is said: how a curve goes, and answers of one bin.
    assert re.search(r"Validation loss: \d\.\d{3} at step 20, \d\.\d{3} at step 120; least", page.words)
    assert re.search(r"[Ss]tated \d+ %, right \d+ % of \d+", page.words)


def test_the_command_says_where_the_page_is(make_run, capsys):
    run = make_run()
    assert main([str(run.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["report"], found["finished"]) == (str(run.report), True)
    assert found["review"] == str(run.review)
    assert found["bytes"] == run.report.stat().st_size


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "is not a run directory" in capsys.readouterr().err


def test_neither_evaluating_nor_reporting_needs_torch(make_run):
    run = make_run()
    code = (
        "import sys, mri_hpc.report, mri_hpc.evaluate\n"
        "status = mri_hpc.report.main(sys.argv[1:]) or mri_hpc.evaluate.main(sys.argv[1:])\n"
        "sys.exit(status or int('torch' in sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_a_narrow_screen_shows_the_pages_without_scrolling_sideways(make_run, report, tmp_path):
    browser = shutil.which("chromium")
    if not browser:
        # Looking is a courtesy to whoever changes the page; what it says is tested above.
        return
    # Wide tables scroll by themselves, also where words in them are for the ear alone, as of wrong answers.
    run = make_run(classes=tuple(f"neoplasm_of_the_central_nervous_system_{n}" for n in range(3)))
    assert 'class="unseen"> (wrong)' in report(run)
    pages = [run.report, *sorted(run.review.glob("*.html"))]
    # A window of a browser has a least width; a frame has none. Its page may be looked into: same origin.
    probe = tmp_path / "probe.html"
    measure = (
        "const e=this.contentDocument.documentElement;document.title+=` ${e.scrollWidth},${e.clientWidth}`"
    )
    frames = "".join(
        f'<iframe width="400" height="900" srcdoc="{html.escape(page.read_text(encoding="utf-8"))}" '
        f'onload="{measure}"></iframe>'
        for page in pages
    )
    probe.write_text(f"<!doctype html><meta charset=utf-8><title></title>{frames}", encoding="utf-8")
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom",
    ]  # fmt: skip
    ran = subprocess.run([browser, *options, probe.as_uri()], capture_output=True, text=True, timeout=300)
    widths = re.search(r"<title>([^<]+)</title>", ran.stdout)[1].split()
    assert len(widths) == len(pages) == 4
    for width in widths:
        scrolled, shown = map(int, width.split(","))
        assert 300 < scrolled <= shown <= 400


def test_a_patient_is_said_to_be_in_one_split_only_where_every_image_names_one(make_run, report):
    said = "A patient is in one split only."
    assert said in report(make_run("all"))
    assert said not in report(make_run("some", provenance={"images_without_patient": 7}))


def test_whether_test_images_look_like_ones_trained_on_is_said_as_the_audit_found_it(make_run, report):
    without, with_some, unknown = (
        "No image of the test set looks like one trained on.",
        "3 images of the test set are slices that it was trained on: the figures are too good",
        "Near-copies: whether test images have",
    )
    for leaks, said in ((0, without), (3, with_some), (None, unknown)):
        page = report(make_run(f"run{leaks}", provenance={"test_images_trained_on": leaks}))
        assert [words in page for words in (without, with_some, unknown)] == [
            words == said for words in (without, with_some, unknown)
        ]
    assert unknown in report(make_run("old"))


def test_a_split_that_names_no_patient_is_told_from_data_that_name_none(make_run, report):
    classes = ("a", "b")
    nameless = {"classes": classes, "rows": [row(n, classes[n % 2], classes, patient="") for n in range(40)]}
    assert "The data name no patients" not in report(make_run("some", **nameless))
    said = report(make_run("none", provenance={"has_patients": False}, **nameless))
    assert said.count("The data name no patients") == 2
    assert "whole patients" not in said


def test_of_more_classes_than_colours_no_two_look_alike(make_run, report):
    classes = tuple(f"class {n}" for n in range(11))
    page = Page(report(make_run(classes=classes, patients=22)))
    areas = [(part.get("class"), part["style"].split(";")[-1]) for part in page.all("i")]
    assert len(set(areas)) == 11
    # A legend, and a bar a patient, each with all classes in one order.
    assert areas == areas[:11] * (1 + 22)
    legend = [(path["stroke"], path.get("stroke-dasharray")) for path in page.all("path") if "stroke" in path]
    assert len(set(legend)) == len(legend) == 11


def test_no_two_of_eight_classes_need_colour_to_be_told_apart(make_run, report):
    classes = tuple(f"class {n}" for n in range(8))
    page = Page(report(make_run(classes=classes, patients=16)))
    assert len({part.get("class") for part in page.all("i")}) == 8
    assert len({path.get("stroke-dasharray") for path in page.all("path") if "stroke" in path}) == 8
    curves = [path["style"] for path in page.all("path") if "stroke-width: 1.7" in path.get("style", "")]
    assert len(curves) == 2 * 8
    assert len({tuple(re.findall(r"stroke-dasharray: ([\d., ]+)", style)) for style in curves}) == 8


def test_only_a_deterministic_run_is_said_to_come_out_the_same_again(make_run, report):
    run, said = make_run(), "the same run can be made again"
    assert said not in report(run)
    assert "the same samples come in the same order again" in report(run)
    save_settings(run, TrainingSettings(deterministic=True), JobSettings())
    assert said in report(run)


def test_no_folder_of_the_site_is_on_the_page(make_run, report):
    ancestors = [{"run": "/home/login-name/first", "model_digest": "a1", "snapshot": "5a"}]
    run = make_run(provenance={"continued_from": ancestors})
    training = TrainingSettings(
        store="/home/login-name/HIV study/store/", weights="/home/login-name/resnet.pth", seed=12345
    )
    save_settings(run, training, JobSettings(slurm=("chdir=/home/login-name/jobs", "gres=gpu:1")))
    text = report(run)
    assert "login-name" not in text
    assert "HIV" not in text
    for words in (
        "store store",
        "weights resnet.pth",
        "chdir=jobs, gres=gpu:1",
        "continued from first, model a1",
    ):
        assert words in Page(text).words


def test_counts_are_grouped_and_what_may_be_typed_again_is_not(make_run, report):
    run = make_run()
    save_settings(run, TrainingSettings(seed=1234567), JobSettings())
    words = Page(report(run)).words
    assert "seed 1234567 " in words
    assert re.search(r"parameters 11\s178\s051 ", words)
