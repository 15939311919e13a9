"""Which steps of a run can be done again, and what a replay says of them."""

from dataclasses import replace

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.rundir.interval import Interval, Record, find_intervals, interval_from
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, record
from mri_hpc.rundir.manifests import Manifest
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.replay import Outcome, Replayed, compare, read_replayed, write_replayed

CONDITIONS = {"ranks": 2, "threads": 1, "deterministic": True, "arithmetic": "float32", "nccl": ""}


def manifest(step, *, attempt="1.0", **conditions):
    return Manifest(
        progress=Progress(step=step, samples_digest=f"samples {step}"),
        attempt=attempt, written_s=0.0, weights_digest=f"weights {step}", files={},
        conditions={**CONDITIONS, **conditions},
    )  # fmt: skip


def recorded(*manifests, last=9, attempts=()):
    """A record of steps from 1 on. attempts: (first step, name) of those after 1.0."""
    steps = {}
    for step in range(1, last + 1):
        name = next((name for first, name in reversed(attempts) if step >= first), "1.0")
        steps[step] = {
            "step": step, "attempt": name, "images": 4, "lr": 0.1, "loss": 1.0 / step, "gradient_norm": 2.0,
        }  # fmt: skip
    return Record(steps=steps, validations={}, manifests={one.progress.step: one for one in manifests})


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path)


def spans(found):
    return [(one.start, one.end, one.kept) for one in found]


def test_those_that_come_to_another_kept_checkpoint_are_preferred(run):
    record_of_run = recorded(manifest(1), manifest(3), manifest(9))
    assert spans(find_intervals(run, record_of_run, 2)) == [(1, 3, (3,))]
    assert spans(find_intervals(run, record_of_run, 50)) == [(1, 9, (3, 9)), (3, 9, (9,))]


def test_losses_alone_are_compared_where_no_other_checkpoint_is_near(run):
    assert spans(find_intervals(run, recorded(manifest(1), manifest(9)), 3)) == [(1, 4, ())]


def test_behind_the_last_recorded_step_there_is_nothing_to_do_again(run):
    assert find_intervals(run, recorded(manifest(9)), 3) == []


def test_steps_end_where_an_attempt_has_other_conditions(run):
    attempt = Attempt(submission=1, restart=1)
    record(run, attempt, Kind.CHANGED, condition="ranks", before=2, now=3)
    record_of_run = recorded(manifest(2), manifest(4), attempts=[(6, "1.1")])
    assert spans(find_intervals(run, record_of_run, 50)) == [(2, 5, (4,))]
    # Of an attempt that keeps no checkpoint the ledger tells what had changed.
    [after] = find_intervals(run, recorded(manifest(5), attempts=[(6, "1.1")]), 50)
    assert (after.start, after.end, after.ranks, after.threads) == (5, 9, 3, 1)


def test_an_attempt_under_the_same_conditions_is_gone_through(run):
    record_of_run = recorded(manifest(2), attempts=[(4, "1.1"), (6, "2.0")])
    assert spans(find_intervals(run, record_of_run, 50)) == [(2, 9, ())]


def test_a_step_from_which_none_begins_is_refused_with_those_that_do(run):
    record_of_run = recorded(manifest(1), manifest(3), manifest(9))
    found = find_intervals(run, record_of_run, 50)
    assert interval_from(found, record_of_run, run, 3).start == 3
    with pytest.raises(UserError, match="no checkpoint is kept from step 4 on: choose --from-step from 1, 3"):
        interval_from(found, record_of_run, run, 4)
    with pytest.raises(UserError, match="no step is recorded from step 9 on"):
        interval_from(found, record_of_run, run, 9)


def test_ranks_of_several_numbers_of_threads_have_the_least_of_them():
    mixed = Interval(run="run", start=1, end=2, kept=(), conditions={**CONDITIONS, "threads": "4, 8"})
    assert mixed.threads == 4


INTERVAL = Interval(run="run", start=1, end=4, kept=(3,), conditions=CONDITIONS)
RECORD = recorded(manifest(1), manifest(3), last=4)


def done_again(**changes):
    """A replay that is equal but for this."""
    steps = [
        {name: RECORD.steps[step][name] for name in ("step", "images", "lr", "loss", "gradient_norm")}
        for step in (2, 3, 4)
    ]
    equal = Replayed(steps=steps, samples={3: "samples 3"}, weights={3: "weights 3"})
    return replace(equal, **changes)


def with_loss(step, loss):
    return [{**one, "loss": loss if one["step"] == step else one["loss"]} for one in done_again().steps]


def outcome(replayed, **conditions):
    interval = replace(INTERVAL, conditions={**CONDITIONS, **conditions})
    return compare(RECORD, interval, replayed)


def test_where_all_is_equal_it_is_said_so_whatever_was_promised():
    assert outcome(done_again()).outcome is Outcome.EQUAL
    found = outcome(done_again(changed={"torch": ("2.8", "2.9")}), deterministic=False)
    assert (found.outcome, found.is_promised) == (Outcome.EQUAL, False)


def test_one_bit_of_a_loss_is_a_difference_where_equal_bits_are_promised():
    found = outcome(done_again(steps=with_loss(3, 1 / 3 + 1e-16)))
    assert (found.outcome, found.first.step, found.first.quantity) == (Outcome.DIFFERS, 3, "loss")


@pytest.mark.parametrize(
    ("changes", "conditions"),
    [({}, {"deterministic": False}), ({"changed": {"threads": (1, 2)}}, {})],
    ids=["not deterministic", "a condition differs"],
)
def test_rounding_is_no_difference_where_equal_bits_are_not_promised(changes, conditions):
    found = outcome(done_again(steps=with_loss(3, 1 / 3 + 1e-9), **changes), **conditions)
    assert (found.outcome, found.first.quantity) == (Outcome.CLOSE, "loss")
    assert 0 < found.largest_loss_off < 1e-8


def test_a_first_loss_beyond_rounding_is_a_difference_anywhere():
    steps = with_loss(2, 0.5 + 1e-3)
    assert outcome(done_again(steps=steps), deterministic=False).outcome is Outcome.DIFFERS
    # Numbers of 16 bits are rounded more.
    found = outcome(done_again(steps=steps), deterministic=False, arithmetic="bfloat16")
    assert found.outcome is Outcome.CLOSE


def test_other_samples_are_a_difference_anywhere_and_named_before_the_loss():
    found = outcome(
        done_again(steps=with_loss(3, 0.3333), samples={3: "others"}, weights={3: "others"}),
        deterministic=False,
    )
    assert (found.outcome, found.first.quantity, found.first.now) == (Outcome.DIFFERS, "samples", "others")


def test_weights_that_differ_where_no_loss_does_are_a_difference():
    found = outcome(done_again(weights={3: "others"}))
    assert (found.outcome, found.first.step, found.first.quantity) == (Outcome.DIFFERS, 3, "weights")


def test_a_validation_that_was_recorded_is_compared():
    with_validation = replace(RECORD, validations={4: {"validation_loss": 0.5}})
    found = compare(with_validation, INTERVAL, done_again(validations={4: 0.75}))
    assert (found.first.quantity, found.first.recorded, found.first.now) == ("validation loss", 0.5, 0.75)


def test_steps_that_were_not_done_again_are_a_difference_though_all_others_are_equal():
    for number in (0, 2):
        found = outcome(done_again(steps=done_again().steps[:number], samples={}, weights={}))
        assert (found.outcome, found.num_steps) == (Outcome.DIFFERS, number)
        assert (found.first.step, found.first.quantity) == (2 + number, "steps")
        assert (found.first.recorded, found.first.now) == (4, 1 + number)


def test_what_ranks_leave_behind_is_read_as_it_was(tmp_path):
    left = done_again(changed={"threads": (1, 2)}, validations={4: 0.1 + 0.2})
    assert read_replayed(tmp_path) is None
    write_replayed(tmp_path, left)
    assert read_replayed(tmp_path) == left
