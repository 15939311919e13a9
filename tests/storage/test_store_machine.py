"""The whole store against plain dictionaries, through histories that Hypothesis makes up.

MRI_HISTORIES=1000 pytest -q tests/storage/test_store_machine.py plays that many, others at each run.
"""

import contextlib
import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mri_hpc.intake.files.units import Share
from mri_hpc.testing import Image, Trial
from tests.harness.scenes import small_limits

HISTORIES, STEPS = 24, 12
# A relabelling has some ten moments, adding one unit after the other more than a hundred.
MOMENTS = st.one_of(st.integers(1, 10), st.integers(1, 100))
NUMBERS = st.integers(0, 8)
PATIENTS, LABELS = [f"patient{number}" for number in range(4)], [f"class{number}" for number in range(3)]
SHARES = st.sampled_from([Share(index=0, count=1), Share(index=0, count=2), Share(index=1, count=2)])
MEMORY = Path("/dev/shm")


class StoreHistory(RuleBasedStateMachine):
    """Changes of one store, made as a whole, killed at a file operation, or beside one another."""

    @initialize(
        count=st.integers(1, 5),
        depths=st.sampled_from([(False,), (True,), (False, True)]),
        bits=st.sampled_from([8, 16]),
    )
    def begin(self, count, depths, bits):
        self.depths = depths
        self.open = contextlib.ExitStack()
        self.open.enter_context(small_limits())
        folder = tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None)
        self.trial = Trial(Path(self.open.enter_context(folder)) / "trial", bits=bits)
        self.was_killed = False
        for number in range(count):
            self.put(number, depths[number % len(depths)])

    @rule(number=NUMBERS, data=st.data())
    def draw_picture(self, number, data):
        """A new one, or other bytes in place of one that is there."""
        self.put(number, data.draw(st.sampled_from(self.depths)))

    @rule(data=st.data(), share=SHARES, new=st.lists(NUMBERS, max_size=2))
    def add(self, data, share, new):
        for number in new:
            self.draw_picture(number, data)
        self.play(data, self.trial.adding(share))

    @rule(data=st.data(), new=st.lists(NUMBERS, max_size=2))
    def replace(self, data, new):
        for number in new:
            self.draw_picture(number, data)
        self.play(data, self.trial.adding(is_replacing=True))

    @precondition(lambda self: self.held())
    @rule(data=st.data())
    def relabel(self, data):
        self.play(data, self.relabelling(data, PATIENTS))

    @precondition(lambda self: self.patients())
    @rule(data=st.data())
    def retract(self, data):
        self.play(data, self.trial.retracting(data.draw(st.sampled_from(self.patients()))))

    @precondition(lambda self: self.held())
    @rule(data=st.data())
    def retract_image(self, data):
        self.play(data, self.trial.retracting_image(data.draw(st.sampled_from(self.held()))))

    @precondition(lambda self: len(self.patients()) > 1)
    @rule(data=st.data())
    def join(self, data):
        self.play(data, self.joining(data))

    @precondition(lambda self: self.trial.bench.has_store)
    @rule(data=st.data(), target_bytes=st.sampled_from([2**17, 2**28]), keep_s=st.sampled_from([0.0, 3600.0]))
    def compact(self, data, target_bytes, keep_s):
        self.play(data, self.trial.compacting(keep_s=keep_s, target_bytes=target_bytes))

    @precondition(lambda self: self.intact())
    @rule(data=st.data())
    def damage_and_repair(self, data):
        self.trial.bench.damage(data.draw(st.sampled_from(self.intact())))
        assert len(self.trial.bench.store.verify().problems) == 1
        assert self.trial.bench.repair().problems == []

    @precondition(lambda self: self.held())
    @rule()
    def publish(self):
        self.trial.publish()

    @invariant()
    def the_store_is_as_the_model_says(self):
        assert self.trial.problems() == []

    def teardown(self):
        if not hasattr(self, "trial"):
            return
        with self.open:
            # What was killed is done again, and what was left lying goes.
            self.trial.run(self.trial.adding(is_replacing=True))
            self.trial.run(self.trial.compacting())
            assert self.trial.problems() == []
            assert self.trial.problems_beside_clean() == []

    def put(self, number, is_deep):
        self.trial.put(f"{number}.png", LABELS[number % 3], PATIENTS[number % 3], is_deep=is_deep)

    def play(self, data, change):
        """Make a change in one of three ways."""
        way = data.draw(st.sampled_from(["run", "kill", "beside"] if self.held() else ["run", "kill"]))
        if way == "run":
            self.trial.run(change)
        elif way == "kill":
            self.trial.kill(change, data.draw(MOMENTS))
        else:
            self.trial.beside(change, data.draw(MOMENTS), self.another(data, change))

    def another(self, data, change):
        """A change that gives the same, whether it comes before this one or after."""
        names = ["add", "compact", "retract", "retract image", "relabel", "replace", "join"]
        # Two tables that say different things of one image do not; nor does what may move it to a patient.
        name = data.draw(st.sampled_from([name for name in names if {change.name, name} - {"relabel"}]))
        if name == "join" and change.name != "retract" and len(self.patients()) > 1:
            return self.joining(data)
        if name == "retract" and change.name not in ("relabel", "join") and self.patients():
            return self.trial.retracting(data.draw(st.sampled_from(self.patients())))
        if name == "retract image" and self.held():
            return self.trial.retracting_image(data.draw(st.sampled_from(self.held())))
        if name == "relabel" and change.name != "retract":
            return self.relabelling(data, ())
        if name in ("add", "replace"):
            return self.trial.adding(is_replacing=name == "replace")
        return self.trial.compacting()

    def relabelling(self, data, patients):
        """patients: to whom the image may be given; none: it stays whose it is."""
        path = data.draw(st.sampled_from(self.held()))
        held = self.trial.model.images[path]
        allowed = [held.patient, *(one for one in patients if one not in self.trial.model.retracted)]
        row = Image(
            source=b"", label=data.draw(st.sampled_from(LABELS)), patient=data.draw(st.sampled_from(allowed))
        )
        return self.trial.relabelling({path: row})

    def joining(self, data):
        both = st.lists(st.sampled_from(self.patients()), min_size=2, max_size=2, unique=True)
        return self.trial.joining(*data.draw(both))

    def held(self):
        return sorted(self.trial.model.images)

    def patients(self):
        return sorted({image.patient for image in self.trial.model.images.values()})

    def intact(self):
        """Images that can be made again from their sources."""
        images, folder = self.trial.model.images, self.trial.folder
        return [path for path in self.held() if images[path].source == folder[path].source]


def test_a_store_is_as_plain_dictionaries_say_whatever_is_done_killed_or_done_at_once():
    wanted = int(os.environ.get("MRI_HISTORIES", "0"))
    run_state_machine_as_test(
        StoreHistory,
        settings=settings(
            max_examples=wanted or HISTORIES,
            stateful_step_count=30 if wanted else STEPS,
            derandomize=not wanted,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
