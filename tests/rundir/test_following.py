"""A run that follows its store compares losses of one snapshot, and none of two."""

from mri_hpc.rundir.progress import EarlyStopping, Progress


def test_with_another_snapshot_the_comparison_and_patience_begin_anew():
    before = Progress(snapshot="ab12", step=9).after_epoch(0.5, 0.0).after_epoch(0.7, 0.0)
    assert before.early_stopping.epochs_without_improvement == 1
    now = before.on_snapshot("cd34")
    assert (now.snapshot, now.step, now.epoch) == ("cd34", 9, 2)
    assert now.early_stopping == EarlyStopping()
