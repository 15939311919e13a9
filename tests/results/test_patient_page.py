"""A page for each patient: slices in order, the answer and its worth, and never a word of health."""

import re

import numpy as np

from mri_hpc.results.answers.answer import Answer, Judged
from mri_hpc.results.answers.judging import _place
from mri_hpc.results.answers.kept_pictures import KeptPictures
from mri_hpc.results.pages.patient_page import write_pages
from tests.harness.pages import hard_to_hear

CLASSES = ("glioma", "notumor")


def judged(name, patient, chance):
    return Judged(
        name=name,
        patient=patient,
        probabilities=np.array([chance, 1 - chance]),
        kept=KeptPictures().keep(b"x"),
        place=_place(name),
    )


def answer(*images):
    return Answer(
        classes=CLASSES, images=images, rejected=(), model_digest="abc123", made="2026-11-30 07:00 UTC"
    )


def test_each_patient_has_a_private_page_with_slices_in_the_order_of_their_numbers(tmp_path):
    images = [judged(f"s{n}.png", "p1", n / 25) for n in (10, 2, 1)]
    pages = write_pages(tmp_path, answer(*images, judged("a.png", "p2", 0.5)))
    assert [page.name for page in pages] == ["p1.html", "p2.html"]
    text = pages[0].read_text()
    assert re.findall(r'alt="Slice (\d): notumor ([\d.]+) %"', text) == [
        ("1", "96.0"),
        ("2", "92.0"),
        ("3", "60.0"),
    ]
    assert "abc123" in text and "2026-11-30 07:00 UTC" in text
    assert "No threshold is given" in text
    assert "can only answer glioma, notumor: anything else is given one of these names" in text
    assert (pages[0].parent.stat().st_mode & 0o777, pages[0].stat().st_mode & 0o777) == (0o700, 0o600)


def test_no_page_speaks_of_health(tmp_path):
    pages = write_pages(tmp_path, answer(judged("a.png", "p1", 0.2), judged("b.png", "", 0.2)))
    for page in pages:
        assert hard_to_hear(page.read_text()) == []
        words = re.sub(r"<style>.*?</style>", "", page.read_text(), flags=re.S).lower()
        assert not re.search(r"\bnormal\b|healthy|no tumou?r|no need to look", words)


def test_images_without_a_patient_share_a_page_on_which_nothing_is_decided(tmp_path):
    (page,) = write_pages(tmp_path, answer(judged("a.png", "", 0.2)))
    assert page.name == "images.html"
    assert "each image stands for itself, and nothing is decided" in page.read_text()


def test_a_name_that_is_no_file_name_stays_out_of_it_and_pages_of_before_go(tmp_path):
    write_pages(tmp_path, answer(judged("a.png", "old", 0.2)))
    (page,) = write_pages(tmp_path, answer(judged("a.png", "../<b>x", 0.2)))
    assert [path.name for path in (tmp_path / "pages").iterdir()] == [page.name] == ["patient 1.html"]
    assert "<b>x" not in page.read_text()
