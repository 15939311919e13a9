import numpy as np
import pytest

from mri_hpc.cohort.likeness import closer, likeness
from mri_hpc.cohort.looks import NUM_VARIANTS, look_at, moved
from tests.cohort.heads import head


def turned(image, variant):
    image = image[:, ::-1] if variant & 1 else image
    image = image[::-1] if variant & 2 else image
    return np.ascontiguousarray(image.T if variant & 4 else image)


def look_of(image):
    return look_at([image[None]], 1).coefficients[:, 0]


@pytest.mark.parametrize("variant", range(NUM_VARIANTS))
def test_a_look_explains_that_of_the_turned_and_inverted_image_in_its_variant_alone(variant):
    first, second = look_of(head(2)), look_of(turned(255 - head(2), variant))
    found = likeness(first.astype(np.float32), second[None])
    assert found.variant == variant
    assert found.explained > 0.99


def test_a_look_whose_frame_lies_elsewhere_comes_near_once_it_is_moved_and_a_stranger_does_not():
    move = np.array([[0.05, -0.05, 0.03, 0.03]], np.float32)
    own, stranger = (look_of(head(number)).astype(np.float32) for number in (4, 5))
    others = np.concatenate([moved(own, move), stranger]).astype(np.float16)
    before = likeness(own, others[None]).taken(np.s_[0])
    after = closer(np.repeat(own, 2, axis=0), others.astype(np.float32), before)
    assert before.explained[0] < 0.95 < 0.98 < after.explained[0]
    assert after.move[0] == pytest.approx(move[0], abs=0.02)
    assert after.explained[1] < 0.84
