"""Texts for a help desk where no store can be asked: what is known by its form is taken out all the same."""

import pytest

from mri_hpc.cluster.bundle import masking
from mri_hpc.storage.store import NameMask, wanted_of


def masks(people=()):
    return masking.Masks(
        names=NameMask(wanted_of([]).names), secrets=(), people=masking._pattern(people), roots=(), known=0,
        unseen="it is not there",
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


def test_a_short_name_of_a_user_is_taken_out_as_a_word_and_a_longer_one_anywhere():
    masked = masks({"al", "smith"}).masked("al on smith-laptop: /home/Smithy/val, al=2")
    assert masked == "[user] on [user]-laptop: /home/[user]y/val, [user]=2"
