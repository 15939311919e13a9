"""Texts for a help desk where no store can be asked: what is known by its form is taken out all the same."""

import dataclasses
import json
from importlib import metadata

import pytest

from mri_hpc.cluster.bundle import contents, masking
from mri_hpc.cluster.doctor import libraries
from mri_hpc.rundir.layout import RunDir
from mri_hpc.storage.store import NameMask, wanted_of


def masks(people=()):
    return masking.Masks(
        names=NameMask(wanted_of([]).names), secrets=(), people=masking._pattern(people), roots=(), known=0,
        too_short=0, unseen="it is not there",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("leak: PIGSYO7IIZLL6MZ77 is in both", "leak: [patient] is in both"),
        (
            "patient 12 and subject=A7, of 30 patients",
            "patient [patient] and subject=[patient], of 30 patients",
        ),
        ("chunk of 0d479ec1da592330", "chunk of [image]"),
        ("step=23 loss=0.8332 on n17, job 4711", "step=23 loss=0.8332 on n17, job 4711"),
        ("digest 376e3575e1958c416385ec069bf8264a", "digest 376e3575e1958c416385ec069bf8264a"),
    ],
)
def test_pseudonyms_short_ids_and_keys_go_and_figures_nodes_and_digests_stay(text, masked):
    assert masks().masked(text) == masked


def test_names_too_short_to_be_looked_for_are_counted_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(masking, "_names_in_predictions", lambda _run: {"Overland", "p12", "A7"})
    found = masking.masks_of(RunDir(tmp_path), {"MRI_SOURCE": ""})
    assert (found.known, found.too_short) == (1, 2)
    found = dataclasses.replace(found, unseen="")
    about = contents._about(found)
    assert "1 name of patients and studies" in about
    assert "Too short to be looked for, and perhaps still in logs: 2 names." in about


def test_what_libraries_are_needed_is_left_out_where_the_checkout_is_not_installed(tmp_path, monkeypatch):
    def refuse(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", refuse)
    assert json.loads(contents._versions(RunDir(tmp_path), masks()))["libraries"] == {}
    [_, found] = libraries.look(None)
    assert found.says.startswith("mri_hpc is not installed here")


@pytest.mark.parametrize("error", [KeyError("step"), ValueError("nan"), TypeError("a text"), OSError("gone")])
def test_a_piece_that_a_damaged_run_makes_fail_is_said_in_its_place(error):
    def fail():
        raise error

    text = contents._piece("status.json", "state of the run", fail).text
    assert text == f"could not be read: {type(error).__name__}\n"


def test_a_log_that_vanishes_does_not_keep_the_others_out(tmp_path):
    run = RunDir(tmp_path)
    run.submitit.mkdir(parents=True)
    (run.submitit / "1_log.out").symlink_to("gone")
    (run.submitit / "2_log.out").touch()
    assert [path.name for path, _holds in contents._logs(run)] == ["2_log.out", "1_log.out"]


def test_the_default_folder_of_images_is_one_and_a_backslash_in_its_name_does_no_harm(tmp_path):
    found = masking.masks_of(RunDir(tmp_path), {"MRI_SOURCE": r"/scans\1"})
    assert found.masked(r"/scans\1/Zebedee/IMG7 is damaged") == r"/scans\1/[file of images]"
    assert found.masked("data/raw/Wolverhampton/IMG8 is damaged") == "data/raw/[file of images]"


def test_a_short_name_of_a_user_is_taken_out_as_a_word_and_a_longer_one_anywhere():
    masked = masks({"al", "smith"}).masked("al on smith-laptop: /home/Smithy/val, al=2")
    assert masked == "[user] on [user]-laptop: /home/[user]y/val, [user]=2"
