import datetime
import hmac
import subprocess
import sys

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.intake.files.sources import source_key
from mri_hpc.intake.labels.pseudonyms import MOST_DAYS, Pseudonyms, key_path, pseudonyms_of, site_key


def test_a_patient_has_one_name_a_key_and_another_with_another_key():
    a, again, b = Pseudonyms(b"a" * 32), Pseudonyms(b"a" * 32), Pseudonyms(b"b" * 32)
    assert a.patient("Jane Doe") == again.patient("Jane Doe") != b.patient("Jane Doe")
    assert a.patient("Jane Doe") != a.patient("John Doe")
    assert a.patient("1") != a.study("1")
    assert len(a.patient("Jane Doe")) == 17
    assert a.patient("") == ""


def test_a_patient_and_a_study_of_one_id_cannot_be_told_to_have_it():
    names = Pseudonyms(b"k" * 32)
    assert names.patient("17")[1:] != names.study("17")[1:]


def test_ids_can_stay_as_given():
    assert Pseudonyms(None).patient("P062") == "P062"
    assert Pseudonyms(None).source_key("raw", "a.dcm", "3") == source_key("raw", "a.dcm", "3")


def test_a_source_has_one_key_a_site_and_no_name_of_a_patient_tells_it():
    a, again, b = Pseudonyms(b"a" * 32), Pseudonyms(b"a" * 32), Pseudonyms(b"b" * 32)
    key = a.source_key("raw", "glioma/17/x.png")
    assert key == again.source_key("raw", "glioma/17/x.png") < 2**64
    others = [b.source_key("raw", "glioma/17/x.png"), source_key("raw", "glioma/17/x.png")]
    assert key not in [*others, a.source_key("raw", "glioma/17/x.png", "3"), a.source_key("r", "x.png")]
    assert a.source_key("raw", "x#3") == a.source_key("raw", "x", "3")


def test_dates_of_a_patient_move_back_together_by_a_number_of_days_of_its_own():
    names, day = Pseudonyms(b"k" * 32), datetime.date(2020, 3, 1)
    back = {number: (day - names.shifted(day, str(number))).days for number in range(20_000)}
    assert (min(back.values()), max(back.values())) == (1, MOST_DAYS)
    assert len(set(back.values())) > 0.9 * MOST_DAYS
    week = datetime.timedelta(days=7)
    assert names.shifted(day + week, "17") - names.shifted(day, "17") == week
    assert Pseudonyms(b"l" * 32).shifted(day, "17") != names.shifted(day, "17")


def test_days_of_a_patient_are_by_an_hmac_of_their_own():
    """Other days for the same patients would break the intervals of stores that grow."""
    digest = hmac.digest(b"k" * 32, b"dates:17", "sha256")
    day = datetime.date(2020, 3, 1)
    days = 1 + int.from_bytes(digest, "big") % 3653
    assert Pseudonyms(b"k" * 32).shifted(day, "17") == day - datetime.timedelta(days=days)


def test_a_key_of_a_source_is_the_beginning_of_an_hmac_of_root_and_path():
    """Other keys for the same sources would store all of them again: change recipe.FORMAT with them."""
    expected = hmac.digest(b"k" * 32, "source:raw/glioma/ö 1.jpg".encode(), "sha256")[:8]
    assert Pseudonyms(b"k" * 32).source_key("raw", "glioma/ö 1.jpg") == int.from_bytes(expected, "big")


@pytest.mark.parametrize("is_there", [False, True])
def test_of_a_store_made_with_another_key_nothing_is_named(tmp_path, is_there):
    file = tmp_path / "site.key"
    if is_there:
        site_key(file)
    what = "is another site's key than the one that this store was made with" if is_there else "is not there"
    with pytest.raises(UserError, match=rf"{what}.*: set MRI_KEY_FILE"):
        pseudonyms_of(ids="pseudonym", site=Pseudonyms(b"a" * 32).fingerprint(), key_file=file)
    assert file.exists() == is_there
    assert pseudonyms_of(ids="as-given", site="", key_file=file).patient("P1") == "P1"


def test_the_key_lies_where_the_environment_says(tmp_path):
    assert str(key_path({"MRI_KEY_FILE": "/k"})) == "/k"
    assert str(key_path({"XDG_CONFIG_HOME": "/c"})) == "/c/mri_hpc/site.key"
    assert str(key_path({})).endswith("/.config/mri_hpc/site.key")


def test_a_key_is_made_once_for_its_owner_alone_however_many_ask(tmp_path):
    file = tmp_path / "folder" / "site.key"
    code = "from pathlib import Path; from mri_hpc.intake.labels.pseudonyms import site_key;"
    code += f"print(site_key(Path({str(file)!r})).hex())"
    asking = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(4)]
    keys = {process.communicate()[0] for process in asking}
    assert len(keys) == 1
    assert keys == {site_key(file).hex().encode() + b"\n"}
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_key_that_others_may_read_is_refused(tmp_path):
    site_key(tmp_path / "key")
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(UserError, match="chmod 600"):
        site_key(tmp_path / "key")


def test_a_file_that_is_no_key_is_refused(tmp_path):
    (tmp_path / "key").write_text("secret\n")
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(UserError, match="is not a site key"):
        site_key(tmp_path / "key")


def test_a_user_without_a_home_folder_is_told_what_to_set(monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(UserError, match="set MRI_KEY_FILE"):
        key_path({})
