"""Promise 7 with everything real: launched by the command, interrupted at random, launched again.

tests/harness/training_soak does the same with more ranks, more ways and more interruptions.
"""

import os
import random
import time

from mri_hpc.rundir.layout import RunDir
from tests.harness.interruptions import WAYS, interrupt_often, kill_all
from tests.harness.local_run import LocalRun
from tests.harness.real_run import make_store
from tests.harness.run_promises import problems


def test_a_run_interrupted_at_random_ends_as_the_uninterrupted_one_and_accounts_for_its_time(tmp_path):
    seed = int(os.environ.get("MRI_TEST_SEED") or time.time())
    # A hang takes its timeout to be found.
    ways = random.Random(seed).sample([way for way in WAYS if "hangs" not in way.name], 2)
    print(f"the same again: MRI_TEST_SEED={seed} for {[way.name for way in ways]}")
    store = make_store(tmp_path)
    whole, broken = (
        LocalRun(
            run=RunDir(tmp_path / name),
            store=store,
            ranks=2,
            epochs=3,
            checkpoint_interval_s=0.5,
            hang_timeout_s=120,
        )
        for name in ("whole", "broken")
    )
    whole.launch()
    try:
        done = interrupt_often(broken, ways, seed=seed, say=print)
        whole.wait_for(lambda: whole.has_finished, "end of the uninterrupted run")
    finally:
        kill_all(whole)
    assert problems(whole, broken, done) == []
