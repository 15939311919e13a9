"""Names are found in whatever file, encoding and case they stand, and not where pixels look like them."""

import json
import unicodedata

import h5py
import numpy as np
import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.storage.upkeep import name_search
from mri_hpc.storage.upkeep.name_search import search_folder
from mri_hpc.storage.upkeep.wanted_names import read_wanted

NAME = "Jörg Müßig"
WRITTEN = {
    "UTF-8": NAME.encode(),
    "UTF-8, large": NAME.upper().encode(),
    "UTF-8, small": NAME.lower().encode(),
    "UTF-8, mixed": "jÖRG mÜßIG".encode(),
    "UTF-8, decomposed": unicodedata.normalize("NFD", NAME).encode(),
    "UTF-16": NAME.encode("utf-16-le"),
    "UTF-16, large": "JÖRG MÜßIG".encode("utf-16-be"),
    "Latin-1": NAME.encode("latin-1"),
    "Latin-1, large": "JÖRG MÜSSIG".encode("latin-1"),
    "JSON": json.dumps(NAME).encode(),
}


@pytest.fixture
def look(tmp_path):
    """Searches a folder for names; gives what is found as (line, file, offset)."""

    def run(*names, passed_over=()):
        file = tmp_path / "names.txt"
        file.write_text("\n".join(names), encoding="utf-8")
        folder = tmp_path / "folder"
        search = search_folder(
            folder, read_wanted(file).names, passed_over=passed_over, progress=lambda paths: paths
        )
        return [(one.line, one.file, one.offset) for one in search.found]

    (tmp_path / "folder").mkdir()
    return run


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("offset", [0, 1, 2, 3, 4097])
def test_a_name_is_found_in_every_encoding_and_case_at_every_offset(written, offset, look, tmp_path):
    (tmp_path / "folder" / "any").write_bytes(b"x" * offset + WRITTEN[written] + b"xx")
    assert look("somebody else", NAME) == [(2, "any", offset + written.startswith("JSON"))]


def test_a_name_across_the_end_of_a_block_is_found(look, tmp_path, monkeypatch):
    monkeypatch.setattr(name_search, "BLOCK_BYTES", 64)
    for offset in range(40, 70):
        (tmp_path / "folder" / "any").write_bytes(b"." * offset + b"Geraldine" + b"." * 80)
        assert look("Geraldine", "short") == [(1, "any", offset)]
        (tmp_path / "folder" / "any").write_bytes(b"." * offset + b"short" + b"." * 80)
        assert look("Geraldine", "short") == [(2, "any", offset)]


def test_a_date_is_found_as_scanners_write_it_too(look, tmp_path):
    (tmp_path / "folder" / "any").write_bytes(b"DA\x08\x0019580312")
    assert look("1958-03-12") == [(1, "any", 4)]


def test_a_file_a_folder_and_a_link_that_are_called_so_are_found_and_their_names_not_told(look, tmp_path):
    folder = tmp_path / "folder"
    (folder / "Geraldine").mkdir()
    (folder / "Geraldine" / "scan-GERALDINE.bin").write_bytes(b"")
    (folder / "link").symlink_to("elsewhere/geraldine/scan")
    found = look("Geraldine")
    assert found == [(1, "***", None), (1, "***/scan-***.bin", None), (1, "link", None)]


def test_what_links_lead_to_is_searched_and_loops_of_links_end(look, tmp_path):
    folder, elsewhere = tmp_path / "folder", tmp_path / "disk"
    elsewhere.mkdir()
    (elsewhere / "chunk").write_bytes(b"Geraldine")
    (folder / "chunks").symlink_to(elsewhere)
    (folder / "file").symlink_to(elsewhere / "chunk")
    (elsewhere / "loop").symlink_to(folder)
    assert look("Geraldine") == [(1, "chunks/chunk", 0), (1, "file", 0)]


def test_a_name_of_several_lines_is_told_in_one(look, tmp_path):
    (tmp_path / "folder" / "Geraldine\nscan").touch()
    assert look("Geraldine") == [(1, "***\ufffdscan", None)]


def test_a_folder_that_is_passed_over_is_not_looked_into_and_another_of_that_name_is(look, tmp_path):
    for place in ("private", "chunks/private"):
        (tmp_path / "folder" / place).mkdir(parents=True)
        (tmp_path / "folder" / place / "names").write_text("Geraldine")
    found = look("Geraldine", passed_over=[tmp_path / "folder" / "private"])
    assert found == [(1, "chunks/private/names", 0)]


def test_pixels_and_keys_that_spell_a_short_name_by_chance_are_none_and_a_long_one_is(look, tmp_path):
    pixels = np.frombuffer(b"..anna....Geraldine", np.uint8)
    with h5py.File(tmp_path / "folder" / "chunk.h5", "w") as file:
        file.create_dataset("images", data=pixels, chunks=(len(pixels),))
        file.create_dataset("more", data=pixels)
    np.save(tmp_path / "folder" / "key.npy", pixels)
    np.savez(tmp_path / "folder" / "looks.npz", looks=pixels)
    (tmp_path / "folder" / "best.safetensors").write_bytes(b"\2" + bytes(7) + b"{}" + pixels.tobytes())
    found = look("Anna", "Geraldine")
    assert {(line, file) for line, file, _offset in found} == {
        (2, "best.safetensors"), (2, "chunk.h5"), (2, "key.npy"), (2, "looks.npz"),
    }  # fmt: skip


def test_a_short_name_in_texts_of_the_same_files_is_found(look, tmp_path):
    with h5py.File(tmp_path / "folder" / "chunk.h5", "w") as file:
        file.attrs["note"] = "by Anna"
        file.create_dataset("images", data=np.zeros(4000, np.uint8))
    with h5py.File(tmp_path / "folder" / "other.h5", "w") as file:
        file.create_dataset("patient", data=np.array([b"Anna", b""]), chunks=(1,))
    np.save(tmp_path / "folder" / "names.npy", np.array([b"Anna", b"Paul"]))
    (tmp_path / "folder" / "best.safetensors").write_bytes(b"\x06" + bytes(7) + b"{anna}" + bytes(90))
    (tmp_path / "folder" / "no.h5").write_bytes(b"no HDF5 at all, of Anna")
    assert [file for _line, file, _offset in look("Anna")] == [
        "best.safetensors", "chunk.h5", "names.npy", "no.h5", "other.h5",
    ]  # fmt: skip


def test_a_thousand_names_are_told_apart(look, tmp_path):
    names = [f"patient-{number:05d}" for number in range(1000)]
    (tmp_path / "folder" / "any").write_bytes(b"patient-00730 and patient-0073")
    assert look(*names) == [(731, "any", 0)]


def test_names_too_short_are_left_out_by_line_and_a_file_of_none_is_refused(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("Li\n\n  Anna  \n17\n王小明\n", encoding="utf-8-sig")
    wanted = read_wanted(file)
    assert (wanted.too_short, [name.line for name in wanted.names]) == ((1, 4), [3, 5])
    file.write_text("Li\n")
    with pytest.raises(UserError, match="has no name of 4 letters or more"):
        read_wanted(file)
    file.write_bytes("Jörg".encode("latin-1"))
    with pytest.raises(UserError, match="is not UTF-8"):
        read_wanted(file)
