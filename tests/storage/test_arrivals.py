"""When an image came is told by the snapshots that were published."""

import os

import numpy as np

from mri_hpc.testing.model import Image
from mri_hpc.testing.workbench import Workbench, draw

DAY_S = 24 * 3600


def test_each_image_came_in_the_first_period_whose_last_snapshot_holds_it(tmp_path):
    bench = Workbench(root=tmp_path, side=8)
    rows = {}
    for month, day in enumerate((0, 1, 40, 80)):
        path = f"{month}.png"
        rows[path] = Image(source=draw(path, 0, 8), label="a", patient=f"p{month}")
        bench.write(path, rows[path].source)
        bench.write_labels(rows)
        bench.add()
        snapshot = bench.store.resolve()
        info = bench.path / "snapshots" / snapshot.digest / "snapshot.json"
        # At noon, so that the day is that day in most places.
        os.utime(info, (time_s := 1_767_268_800 + day * DAY_S, time_s))
    keys = np.array([*(bench.key_of(path) for path in rows), 7], np.uint64)
    assert bench.store.arrivals(keys) == ["2026-01-01", "2026-01-02", "2026-02-10", "2026-03-22", ""]
