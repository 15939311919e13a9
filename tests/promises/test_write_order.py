"""Promise 1 on a machine that crashes: data are durable before their name, a name before what follows.

SIGKILL cannot show a missing fsync, since the kernel lives on: so the order is read from what the kernel saw.
"""

import pickle

import pytest

from mri_hpc.base import atomic
from mri_hpc.testing.file_operations import FileOperations
from tests.harness.scenes import SCENES
from tests.harness.system_calls import alike, can_trace, traced
from tests.harness.write_order import check_order

pytestmark = pytest.mark.usefixtures("limits")
SCENE = [scene.name for scene in SCENES]
NAMING = ("link", "rename", "replace")
needs_strace = pytest.mark.skipif(not can_trace(), reason="strace is not here, or may not trace")


def task(stage, name):
    """A place as before the scene, and its one task."""
    made = stage(name)
    place = made.place()
    return place, made.scene.tasks(place, 1)[0]


@pytest.mark.parametrize("name", SCENE)
def test_data_are_durable_before_their_name_and_a_name_before_what_follows_from_it(stage, name):
    operations = stage(name).operations().done
    assert sum(one.what in NAMING for one in operations) >= 1
    check_order(operations)


@needs_strace
@pytest.mark.parametrize("name", SCENE)
def test_the_kernel_sees_the_same_operations_in_the_same_order(stage, name):
    """So no library writes behind the back of what is killed and checked elsewhere."""
    place, step = task(stage, name)
    note = place.sources / "operations"

    def watch():
        operations = FileOperations(place.root).install()
        return lambda: note.write_bytes(pickle.dumps(operations.done))

    seen = traced(place, step, watch)
    check_order(seen)
    assert alike(seen) == alike(pickle.loads(note.read_bytes()))


@needs_strace
@pytest.mark.parametrize("name", SCENE)
def test_the_order_is_the_same_where_the_kernel_refuses_hard_links(stage, name):
    place, step = task(stage, name)
    seen = traced(place, step, refused="link,linkat")
    assert all(one.failed for one in seen if one.what == "link")
    assert sum(one.what == "rename" and not one.failed for one in seen) >= 1
    check_order(seen)


@needs_strace
@pytest.mark.parametrize(
    ("fsync", "complaint"),
    [("_sync_file", "before its data are durable"), ("sync_folder", "while names in .* may be lost")],
)
def test_without_an_fsync_of_data_or_of_a_folder_the_order_is_found_wrong(stage, fsync, complaint):
    place, step = task(stage, "preprocess")

    def forget():
        setattr(atomic, fsync, lambda path: None)
        return lambda: None

    with pytest.raises(AssertionError, match=complaint):
        check_order(traced(place, step, forget))
