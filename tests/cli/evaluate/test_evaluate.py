"""``mri-hpc evaluate``."""

import json

import numpy as np
import pytest

from mri_hpc.evaluate import main
from mri_hpc.results.statistics.intervals import agresti_coull
from mri_hpc.rundir.predictions import Prediction, read_predictions, write_predictions


def evaluate(run, *options, capsys):
    capsys.readouterr()
    status = main([str(run.path), *options])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def rows(*, patient="P{}", label="{}", num=12):
    classes = ("a", "b", "c")
    return [
        Prediction(
            key=f"{number:016x}",
            patient=patient.format(number // 2),
            split="test",
            label=label.format(classes[number % 3]),
            probabilities=tuple(0.6 if j == number % 3 else 0.2 for j in range(3)),
        )
        for number in range(num)
    ]


def test_json_holds_slice_and_patient_each_figure_with_its_interval(make_run, capsys):
    status, out, _err = evaluate(make_run(), "--json", capsys=capsys)
    found = json.loads(out)
    assert status == 0
    assert (found["slice"]["n"], found["patient"]["n"]) == (180, 30)
    assert found["slice"]["n_independent"] == 30
    for level in ("slice", "patient"):
        for name in ("balanced_accuracy", "accuracy", "auroc"):
            figure = found[level][name]
            assert figure["low"] <= figure["value"] <= figure["high"]
        assert set(found[level]["classes"]) == {"glioma", "meningioma", "pituitary"}
    assert (found["split"], found["weights_digest"]) == ("test", "3e" * 32)
    assert found["method"].startswith("95 % intervals: ")
    assert found["counts"]["patients"] == 30
    assert found["baseline"]["chance"] == pytest.approx(1 / 3)


def test_the_split_can_be_chosen(make_run, capsys):
    _status, out, _err = evaluate(make_run(), "--json", "--split", "validation", capsys=capsys)
    assert json.loads(out)["patient"]["n"] == 15


def test_without_patients_there_is_no_patient_level_and_the_result_says_so(make_run, capsys):
    run = make_run(classes=("a", "b", "c"), rows=rows(patient=""))
    found = json.loads(evaluate(run, "--json", capsys=capsys)[1])
    assert found["patient"] is None
    assert found["unit"] == "slice"
    assert found["notes"][0].startswith("slice level: not a patient estimate")
    assert "slice level: not a patient estimate" in evaluate(run, capsys=capsys)[1]


def test_what_is_left_out_or_doubtful_is_counted(make_run, capsys):
    nameless = rows(patient="", num=3)
    unused = {"images_in_no_split": 3}
    run = make_run(classes=("a", "b", "c"), rows=[*rows(), *nameless], provenance=unused)
    found = json.loads(evaluate(run, "--json", capsys=capsys)[1])
    assert found["counts"] == {
        "images": 15,
        "patients": 6,
        "images_without_patient": 3,
        "images_without_patient_in_run": 3,
        "patients_of_several_classes": 6,
    }
    assert len(found["notes"]) == 4
    said = "3 images of the snapshot are in no split, as no class or fold of theirs is known"
    assert said in found["notes"]
    assert said in evaluate(run, capsys=capsys)[1].replace("\n", " ")
    write_predictions(run.predictions, ("a", "b", "c"), rows())
    run.provenance.write_text(json.dumps({"images_in_no_split": 0}))
    assert "in no split" not in evaluate(run, capsys=capsys)[1]


def test_the_command_that_makes_the_page_stands_in_one_line_to_be_copied(make_run, capsys, monkeypatch):
    run = make_run()
    monkeypatch.setenv("COLUMNS", "60")
    out = evaluate(run, capsys=capsys)[1]
    assert out.splitlines()[-1] == f"all of this on one page: mri-hpc report {run.path}"


def test_the_first_line_says_what_is_counted_and_how_many(make_run, capsys):
    status, out, _err = evaluate(make_run(), capsys=capsys)
    assert status == 0
    assert out.startswith("resnet18-1a2b3c4d: test split by patient: 30 patients, 180 images\n")
    assert "Chance: 33.3 % balanced accuracy" in out


def test_class_names_are_printed_as_they_are(make_run, capsys):
    out = evaluate(make_run(classes=("[red]a", "b[/]", "c")), capsys=capsys)[1]
    assert "[red]a" in out
    assert "b[/]" in out


def test_a_run_that_is_not_finished_points_to_status(make_run, capsys):
    status, _out, err = evaluate(make_run(finished=False), capsys=capsys)
    assert status == 2
    assert "has not finished; see: mri-hpc status" in err
    assert err.count("\n") == 1


def test_a_split_without_images_says_which_splits_there_are(make_run, capsys):
    run = make_run(classes=("a", "b", "c"), rows=rows())
    status, _out, err = evaluate(run, "--split", "validation", capsys=capsys)
    assert status == 2
    assert "no labelled image of the validation split; found: test 12" in err


def notes(run, *options, capsys):
    return json.loads(evaluate(run, "--json", *options, capsys=capsys)[1])["notes"]


def limits(found):
    """All lower limits in a result, but for those of a decision and of what no epoch bears on."""
    if isinstance(found, dict):
        kept = {name: value for name, value in found.items() if name not in ("decision", "baseline")}
        own = [found["low"]] if found.get("low") is not None else []
        return own + [one for value in kept.values() for one in limits(value)]
    return [one for value in found for one in limits(value)] if isinstance(found, list) else []


def test_no_interval_is_given_of_patients_who_chose_the_epoch(make_run, capsys):
    run = make_run(patients=60)
    found = json.loads(evaluate(run, "--json", "--split", "validation", capsys=capsys)[1])
    assert limits(found) == []
    best = found["patient"]["balanced_accuracy"]
    assert best["value"] > 0
    assert (
        best["reason"] == "these patients chose the epoch, and no interval of their figures was shown to hold"
    )
    assert found["most_sure"][0]["error"]["value"] is not None
    assert found["method"].startswith("No interval: these patients chose the epoch")
    assert len(limits(json.loads(evaluate(run, "--json", capsys=capsys)[1]))) > 20
    out = evaluate(run, "--split", "validation", capsys=capsys)[1]
    assert "no interval by patient: these patients chose the epoch" in " ".join(out.split())
    assert " of 30; where it is most sure, " in " ".join(out.split())


def test_patients_set_apart_chose_nothing_and_keep_their_intervals(make_run, capsys):
    run = make_run(patients=60)
    apart = run.predictions.read_text().replace(",validation,", ",calibration,")
    run.predictions.write_text(apart)
    found = json.loads(evaluate(run, "--json", "--split", "calibration", capsys=capsys)[1])
    assert found["patient"]["balanced_accuracy"]["low"] is not None


def test_images_that_chose_the_epoch_are_said_to_flatter_it(make_run, capsys):
    run = make_run()
    assert "figures are too good" in notes(run, "--split", "validation", capsys=capsys)[0]
    assert notes(run, capsys=capsys) == []


def test_classes_of_few_patients_are_named_with_their_number(make_run, capsys):
    run = make_run(patients=29)
    assert notes(run, capsys=capsys) == [
        "fewer than 10 patients of some classes (pituitary 9): intervals are wide, and hold the truth "
        "less often than they say"
    ]


def test_a_class_without_any_patient_is_not_called_one_of_few(make_run, capsys):
    run = make_run(classes=("glioma", "meningioma", "pituitary", "absent"), rows=rows_of_three_classes())
    assert notes(run, capsys=capsys) == []


def rows_of_three_classes():
    names = ("glioma", "meningioma", "pituitary")
    shares = np.full((3, 4), 0.1) + 0.6 * np.eye(3, 4)
    return [
        Prediction(
            key=f"{n:016x}",
            patient=f"P{n}",
            split="test",
            label=names[n % 3],
            probabilities=tuple(shares[n % 3]),
        )
        for n in range(30)
    ]


def test_the_share_of_the_most_frequent_class_has_its_interval(make_run, capsys):
    run = make_run()
    low, high = agresti_coull(1 / 3, 30)
    found = json.loads(evaluate(run, "--json", capsys=capsys)[1])["baseline"]
    assert (found["majority_low"], found["majority_high"]) == pytest.approx((low, high))
    printed = " ".join(evaluate(run, capsys=capsys)[1].split())
    assert f"33.3 % accuracy by patient ({100 * low:.1f}–{100 * high:.1f} %)" in printed


def test_how_slices_of_one_patient_are_counted_is_said_where_there_are_patients(make_run, capsys):
    said = " ".join(evaluate(make_run("some"), capsys=capsys)[1].split())
    assert "Slices of one patient count as few as they are alike." in said
    nameless = make_run("none", classes=("a", "b", "c"), rows=rows(patient=""))
    said = " ".join(evaluate(nameless, capsys=capsys)[1].split())
    assert "95 % intervals" in said
    assert "one patient" not in said
    assert "mean over the slices" not in said


def test_a_split_that_names_no_patient_is_told_from_data_that_name_none(make_run, capsys):
    nameless = {"classes": ("a", "b", "c"), "rows": rows(patient="")}
    for has_patients, said in ((True, "No image of this split names a patient"), (False, "The data name no")):
        run = make_run(str(has_patients), provenance={"has_patients": has_patients}, **nameless)
        assert f"not a patient estimate. {said}" in notes(run, capsys=capsys)[0]


def test_training_images_without_a_patient_are_a_doubt_about_the_test(make_run, capsys):
    run = make_run(provenance={"images_without_patient": 7})
    assert notes(run, capsys=capsys)[0].startswith("7 images name no patient, 0 of them in this split")


def test_a_table_that_was_cut_or_changed_is_refused(make_run, capsys):
    run = make_run(provenance={"split_counts": {"test": {"images": 180}, "validation": {"images": 90}}})
    whole = run.predictions.read_bytes()
    lines = whole.splitlines(keepends=True)
    shares = lines[-1].rsplit(b",", 1)[0]
    damages = {
        "a number is cut": whole[:-8],
        "a column is cut": b"".join([*lines[:-1], shares]),
        "rows are cut": b"".join(lines[:-2]),
        "a class is unknown": whole.replace(b",test,glioma", b",test,glima"),
    }
    assert evaluate(run, capsys=capsys)[0] == 0
    for damage, content in damages.items():
        run.predictions.write_bytes(content)
        status, _out, err = evaluate(run, capsys=capsys)
        assert (status, "predictions.csv is damaged" in err, err.count("\n")) == (2, True, 1), damage


def test_a_provenance_that_is_none_is_refused(make_run, capsys):
    run = make_run()
    run.provenance.write_text("[]")
    status, _out, err = evaluate(run, capsys=capsys)
    assert (status, "provenance.json is not what a run wrote" in err) == (2, True)


def test_a_reason_for_missing_figures_is_told_once(make_run, capsys):
    run = make_run()
    classes, found = read_predictions(run.predictions)
    write_predictions(run.predictions, classes, [row for row in found if row.label != classes[-1]])
    _status, out, _err = evaluate(run, capsys=capsys)
    reasons = [line for line in out.splitlines() if line.startswith("– by patient")]
    assert any(f"class '{classes[-1]}' is absent" in reason for reason in reasons)
    assert len(set(reasons)) == len(reasons) < 4
