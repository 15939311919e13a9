import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.intake.labels.doubts import Doubt, refuse_open

SAID = Doubt(kind="columns", count=1, text="diagnosis is taken as label")
TWO = Doubt(kind="classes", count=2, text="two classes look like one: name them in a CSV", accept="classes")


def test_an_open_doubt_is_refused_with_the_word_that_lifts_it():
    with pytest.raises(UserError, match=r"name them in a CSV; if it is meant so: --accept classes\. Nothing"):
        refuse_open([SAID, TWO], ("folders",))


def test_what_was_accepted_and_what_is_only_said_is_not_refused():
    refuse_open([SAID, TWO], ("classes",))
    refuse_open([SAID], ())
