"""Archives: members are files below them, and what would be a trap is refused with its reason."""

import contextlib
import gzip
import io
import itertools
import os
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.decoders import decode, decode_file
from mri_hpc.intake.decoding.dicom.listing import find_series
from mri_hpc.intake.decoding.left_out import is_named_like_mask
from mri_hpc.intake.decoding.masks import find_masks
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.sequence import choice_in
from mri_hpc.intake.files import archives, content
from mri_hpc.intake.files.content import read_content
from mri_hpc.intake.files.fingerprint import size_and_time
from mri_hpc.intake.files.sampling import sample_files
from mri_hpc.intake.files.sources import list_sources
from mri_hpc.intake.kinds import Kinds
from mri_hpc.intake.labels.folder_labels import FolderLabels
from mri_hpc.intake.labels.images import find_images
from tests.harness import dicom_phantoms as phantoms
from tests.harness.volume_phantoms import affine_of, head, nrrd_of, pair_of

RECIPE = Recipe(size=32)
KINDS = ["a.zip", "a.tar", "a.tar.gz", "a.tgz"]


def zipped(files, **how):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, **how) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


def tarred(files, mode="w"):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def archive_of(name, files):
    if name.endswith(".zip"):
        return zipped(files)
    return tarred(files, "w" if name.endswith(".tar") else "w:gz")


@pytest.fixture(scope="module")
def files():
    """Two series, one in the other, and a pair: in no good order."""
    voxels, affine = head(), affine_of()
    first = [phantoms.as_bytes(one) for one in phantoms.classic(voxels, affine, series=1)]
    second = [phantoms.as_bytes(one) for one in phantoms.classic(voxels[::-1], affine, series=2)]
    header, image = pair_of(voxels, affine)
    made = {"P3/b.img": image, "./P3/b.hdr": header, "P3/x.nrrd": nrrd_of(voxels, affine)}
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        made |= {f"P1/IM{(number * 7) % len(first):03}": one, f"P2/{number}": other}
    return made


def slices_below(root):
    """All slices below a root, by the files of their source without the archive's name."""
    paths = list(list_sources(root))
    series = find_series(root, paths, kept=None)
    found = {}
    for path in paths:
        if parts := series.files_of(path):
            name = tuple(part.split("/", 1)[1] if part[:2] in ("a.", "f/") else part for part in parts)
            found[name] = [(s.pixels.tobytes(), s.frame) for s in decode(read_content(root, parts), RECIPE)]
    return found


@pytest.fixture(scope="module")
def expected(files, tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    for name, data in files.items():
        path = root / "f" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    found = slices_below(root)
    assert len(found) == 4 and all(len(slices) > 15 for slices in found.values())
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_members_give_the_slices_of_files(kind, files, expected, tmp_path):
    (tmp_path / kind).write_bytes(archive_of(kind, files))
    assert slices_below(tmp_path) == expected
    # Nothing is unpacked beside it.
    assert [file.name for file in tmp_path.iterdir()] == [kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_series_is_read_out_of_its_archive_slice_by_slice(
    kind, files, expected, tmp_path, monkeypatch
):
    (tmp_path / kind).write_bytes(archive_of(kind, files))
    monkeypatch.setattr(content, "MAX_BYTES", 20_000)
    assert slices_below(tmp_path) == expected


def test_a_large_series_stays_where_it_is_however_its_root_is_given(files, tmp_path, monkeypatch):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.zip").write_bytes(zipped(files))
    monkeypatch.setattr(content, "MAX_BYTES", 20_000)
    monkeypatch.chdir(tmp_path)
    for root in (Path("raw"), tmp_path / "raw"):
        found = read_content(root, [name for name in list_sources(root) if "/P1/" in name])
        assert all(isinstance(file, content.LargeFile) for file in found.files)


def test_a_series_too_large_for_a_compressed_tar_has_its_reason(files, tmp_path, monkeypatch):
    (tmp_path / "a.tgz").write_bytes(archive_of("a.tgz", files))
    monkeypatch.setattr(content, "MAX_BYTES", 20_000)
    monkeypatch.setattr(content, "MOST_AT_ONCE", 30_000)
    with pytest.raises(BadSource, match="make a zip of it"):
        slices_below(tmp_path)


@pytest.mark.parametrize("kind", ["a.zip", "a.tar", "a.tar.gz"])
def test_a_fingerprint_changes_with_the_member_and_its_look_with_the_archive(kind, tmp_path):
    file = tmp_path / kind
    file.write_bytes(archive_of(kind, {"x": b"first", "y": b"other"}))
    os.utime(file, ns=(1, 1))
    before = read_content(tmp_path, [f"{kind}/x"]).fingerprint
    assert size_and_time(tmp_path, f"{kind}/x") == (5, 1)
    file.write_bytes(archive_of(kind, {"y": b"other", "x": b"first"}))
    os.utime(file, ns=(2, 2))
    after = read_content(tmp_path, [f"{kind}/x"]).fingerprint
    assert (after.source_hash, after.mtime_ns) == (before.source_hash, 2)
    assert size_and_time(tmp_path, f"{kind}/z") is None
    with pytest.raises(FileNotFoundError):
        read_content(tmp_path, [f"{kind}/z"])


def test_a_folder_that_is_named_as_an_archive_is_a_folder(tmp_path):
    (tmp_path / "old.zip").mkdir()
    (tmp_path / "old.zip" / "a.png").write_bytes(b"png")
    assert list(list_sources(tmp_path)) == ["old.zip/a.png"]
    assert read_content(tmp_path, ["old.zip/a.png"]).files[0].data == b"png"


def test_what_systems_leave_behind_is_passed_over_in_archives_too(tmp_path):
    names = {"__MACOSX/P1/._a": b"x", ".DS_Store": b"x", "P1/a": b"x", "P1/": b""}
    (tmp_path / "a.zip").write_bytes(zipped(names))
    assert list(list_sources(tmp_path)) == ["a.zip/P1/a"]
    assert sample_files(tmp_path, 10) == ["a.zip/P1/a"]


def test_masks_in_archives_are_known_by_the_picture_beside_them(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped({"x.tif": b"1", "x_mask.tif": b"2", "y_mask.tif": b"3"}))
    assert is_named_like_mask(tmp_path, "a.zip/x_mask.tif")
    assert not is_named_like_mask(tmp_path, "a.zip/y_mask.tif")


@pytest.mark.parametrize("kind", KINDS)
def test_a_pattern_leads_from_a_volume_in_an_archive_to_its_mask(kind, tmp_path):
    names = ["P1/t1.nii.gz", "P1/t1_seg.nii.gz", "P1/seg/t1.nii.gz", "P2/t1.nii.gz"]
    (tmp_path / kind).write_bytes(archive_of(kind, dict.fromkeys(names, b"")))
    for pattern, mask in (("{stem}_seg.nii.gz", f"{kind}/{names[1]}"), ("seg/{name}", f"{kind}/{names[2]}")):
        found = find_masks(tmp_path, list(list_sources(tmp_path)), (f"lesion:{pattern}",))
        assert found.files_of(f"{kind}/P1/t1.nii.gz") == (mask,)
        assert found.files_of(f"{kind}/P2/t1.nii.gz") == ()


@pytest.mark.parametrize("kind", KINDS)
def test_a_series_in_an_archive_is_found_by_its_description(kind, tmp_path):
    slices = phantoms.classic(head(), affine_of(), series=1, SeriesDescription="AX MPRAGE")
    data = {f"P1/IM{number}": phantoms.as_bytes(one) for number, one in enumerate(slices)}
    (tmp_path / kind).write_bytes(archive_of(kind, data))
    paths = list(list_sources(tmp_path))
    kinds = Kinds(tmp_path, find_series(tmp_path, paths, kept=None))
    assert kinds.chosen(paths, choice_in("/mprage/")).paths == paths
    assert kinds.chosen(paths, choice_in("/flair/")).paths == []


def test_an_archive_by_itself_is_judged_by_its_members(files, tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped(files))
    images = find_images([tmp_path / "a.zip"]).images
    assert {image.patient for image in images} == {"P1", "P2", "P3"}
    nrrd = next(image.path for image in images if image.path.suffix == ".nrrd")
    assert len(decode_file(nrrd, RECIPE)) > 15


def test_an_archive_is_a_folder_of_its_name_to_labels(tmp_path):
    paths = ["glioma.zip/P1/IM1", "glioma/P1.tar.gz/IM1", "healthy/P2.TGZ/IM1"]
    found = [FolderLabels().of(path) for path in paths]
    assert [(label.label, label.patient) for label in found] == [
        ("glioma", "P1"), ("glioma", "P1"), ("healthy", "P2")
    ]  # fmt: skip


def link(name="l"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info


def with_link():
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.addfile(link())
    return made.getvalue()


def encrypted():
    data = bytearray(zipped({"x": b"secret"}))
    for mark in (b"PK\3\4", b"PK\1\2"):
        data[data.index(mark) + (6 if mark == b"PK\3\4" else 8)] |= 1
    return bytes(data)


def of_unknown_method():
    data = bytearray(zipped({"x": b"packed"}))
    for mark, place in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        data[data.index(mark) + place] = 99
    return bytes(data)


def changed(data, place, value):
    return data[:place] + value + data[place + len(value) :]


def with_size(name, size):
    """A tar whose first member says that it has so many bytes."""
    data = bytearray(tarred({name: b"x"}))
    data[124:136] = b"%011o\0" % size if size >= 0 else b"\xff" * 4 + size.to_bytes(8, "big", signed=True)
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


def zip_that_lies():
    """A zip whose list says that its member begins before the file does."""
    data = bytearray(zipped({"x": b"1" * 999}))
    end = data.index(b"PK\5\6")
    data[end + 16 : end + 20] = (int.from_bytes(data[end + 16 : end + 20], "little") + 9).to_bytes(
        4, "little"
    )
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.zip", zipped({"../x": b"1"}), archives.LEADS_OUT),
        ("a.zip", zipped({"/x": b"1"}), archives.LEADS_OUT),
        ("a.tar", tarred({"a/../../x": b"1"}), archives.LEADS_OUT),
        ("a.zip", zipped({}), archives.EMPTY_ARCHIVE),
        ("a.zip", zipped({"x": b"1" * 999})[:-30], archives.DAMAGED_ARCHIVE),
        ("a.tar.gz", tarred({"x": os.urandom(9999)}, "w:gz")[:-3000], archives.DAMAGED_ARCHIVE),
        ("a.zip/b.zip", zipped({"b.zip": zipped({"x": b"1"})}), archives.NESTED),
        ("a.tar/b.tgz", tarred({"b.tgz": b"1"}), archives.NESTED),
        ("a.tar/l", with_link(), archives.NOT_A_FILE),
        ("a.zip/x", encrypted(), archives.ENCRYPTED),
        ("a.zip/x", of_unknown_method(), archives.UNKNOWN_METHOD),
        ("a.tar", with_size("x", -600), archives.DAMAGED_ARCHIVE),
        ("a.zip/x", zip_that_lies(), archives.DAMAGED_ARCHIVE),
        ("a.zip/x", changed(zipped({"x": b"1" * 99}), 31, b"\xff" * 6), archives.DAMAGED_ARCHIVE),
        ("a.tar", changed(tarred({"x": b"1"}), 148, b"0000000"), archives.DAMAGED_ARCHIVE),
        ("a.tgz", b"\x1f\x8b\x07" + bytes(30), archives.DAMAGED_ARCHIVE),
        ("a.tgz", tarred({"x": b"1"}, "w:gz")[:10] + b"\xff" * 30, archives.DAMAGED_ARCHIVE),
        ("a.zip", b"", "empty file"),
        ("a.zip", b"no archive at all", "text, not a picture"),
        ("a.tar.gz", b"\x1f\x8b\x08\0", archives.DAMAGED_ARCHIVE),
    ],
)  # fmt: skip
def test_a_trap_has_a_true_reason(name, data, reason, tmp_path):
    (tmp_path / name.partition("/")[0]).write_bytes(data)
    assert list(list_sources(tmp_path)) == [name]
    with pytest.raises(BadSource) as error:
        list(decode(read_content(tmp_path, [name]), RECIPE))
    assert str(error.value) == reason


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz"])
def test_an_archive_that_unpacks_to_far_too_much_is_refused_unread(kind, tmp_path, monkeypatch):
    (tmp_path / kind).write_bytes(archive_of(kind, {f"{n}.dcm": bytes(100_000) for n in range(20)}))
    monkeypatch.setattr(archives, "MOST_UNPACKED", 1_000_000)
    assert list(list_sources(tmp_path)) == [kind]
    with pytest.raises(BadSource, match="unpacks to more than"):
        read_content(tmp_path, [kind])


@pytest.mark.parametrize("kind", ["a.zip", "a.tar", "a.tar.gz"])
def test_an_archive_that_is_large_itself_is_no_trap(kind, tmp_path, monkeypatch):
    (tmp_path / kind).write_bytes(archive_of(kind, {"x": os.urandom(9999)}))
    monkeypatch.setattr(archives, "MOST_UNPACKED", 1000)
    assert list(list_sources(tmp_path)) == [f"{kind}/x"]


def test_a_small_archive_of_what_packs_well_is_no_trap(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped({"x": bytes(2_000_000)}))
    assert len((tmp_path / "a.zip").read_bytes()) * archives.MOST_RATIO < 2_000_000
    assert list(list_sources(tmp_path)) == ["a.zip/x"]


def test_what_is_passed_over_in_a_compressed_tar_counts_too(tmp_path, monkeypatch):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        info = tarfile.TarInfo("x")
        info.type, info.size = b"Z", 3_000_000
        archive.addfile(info)
        archive.fileobj.write(bytes(3_000_000))
    (tmp_path / "a.tgz").write_bytes(made.getvalue())
    monkeypatch.setattr(archives, "MOST_UNPACKED", 1_000_000)
    with pytest.raises(BadSource, match="unpacks to more than"):
        read_content(tmp_path, ["a.tgz"])


@pytest.mark.parametrize("kind", ["a.tar", "a.tgz"])
@pytest.mark.parametrize("of_header", archives.OF_HEADERS)
def test_a_header_that_is_longer_than_any_name_is_not_read(kind, of_header, tmp_path):
    info = tarfile.TarInfo("x")
    info.type, info.size = of_header, archives.MOST_OF_HEADER + 512
    text = b"%d comment=" % info.size
    data = info.tobuf() + text.ljust(info.size - 1, b"a") + b"\n" + tarred({"x": b"1"})
    (tmp_path / kind).write_bytes(gzip.compress(data) if kind == "a.tgz" else data)
    with pytest.raises(BadSource) as error:
        archives.members_of(str(tmp_path / kind))
    assert str(error.value) == archives.DAMAGED_ARCHIVE


def test_a_tar_that_leads_back_to_where_it_came_from_ends(tmp_path):
    data = bytearray(tarred({"y": b"1", "x": b"1"}))
    header = data[1024:1536]
    # An old sparse file of less than no bytes, which become some: it lies before itself.
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[124:136] = b"\xff" * 4 + (-600).to_bytes(8, "big", signed=True)
    header[483:495] = b"00000000005\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data[1024:1536] = header
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(BadSource) as error:
        list(itertools.islice(archives._in_tar(str(tmp_path / "a.tar"), "tar", len(data)), 10))
    assert str(error.value) == archives.DAMAGED_ARCHIVE


def test_an_archive_of_too_many_members_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.zip").write_bytes(zipped({str(n): b"" for n in range(12)}))
    monkeypatch.setattr(archives, "MOST_MEMBERS", 10)
    with pytest.raises(BadSource, match="members"):
        read_content(tmp_path, ["a.zip"])


def test_an_archive_that_is_written_meanwhile_is_rejected(tmp_path, monkeypatch):
    file = tmp_path / "a.zip"
    file.write_bytes(zipped({"x.nrrd": nrrd_of(head(), affine_of())}))
    monkeypatch.setattr(content, "MAX_BYTES", 1000)
    found = read_content(tmp_path, ["a.zip/x.nrrd"])
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(BadSource, match="being written"):
        list(decode(found, RECIPE))


def test_damaged_archives_give_members_or_a_reason(files, tmp_path):
    """Whatever is cut off or changed: no other exception, and no name that leads out."""
    some = {name: files[name] for name in ("P1/IM000", "P3/x.nrrd")}
    whole = {kind: archive_of(kind, some) for kind in ("a.zip", "a.tar", "a.tar.gz")}
    num_read = 0
    for number in range(90):
        kind = ("a.zip", "a.tar", "a.tar.gz")[number % 3]
        data = bytearray(whole[kind])
        # Headers stand at the ends.
        at = (number * 7919) % 600
        if number % 4 == 0:
            data = data[: -at - 1]
        else:
            data[-at - 1 if number % 2 else at] ^= 1 + number
        (tmp_path / kind).write_bytes(data)
        os.utime(tmp_path / kind, ns=(number, number))
        for path in list_sources(tmp_path):
            if not path.startswith(kind):
                continue
            assert ".." not in path
            with contextlib.suppress(BadSource, FileNotFoundError):
                list(decode(read_content(tmp_path, [path]), RECIPE))
                num_read += 1
    assert 0 < num_read < 90


def zip_of_windows(names, system=0):
    """A zip of files that hold their names, which stand there as given, as a program of Windows writes."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in names:
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = name
            info.create_system = system
            archive.writestr(info, name.encode())
    return made.getvalue()


def test_backslashes_part_folders_in_a_zip_of_windows_alone(tmp_path):
    (tmp_path / "w.zip").write_bytes(zip_of_windows(["P1\\", "P1\\S\\IM1", "P2\\IM1"]))
    (tmp_path / "x.zip").write_bytes(zip_of_windows(["P1\\IM1"], system=3))
    assert list(list_sources(tmp_path)) == ["w.zip/P1/S/IM1", "w.zip/P2/IM1", "x.zip/P1\\IM1"]
    with archives.opened_member(str(tmp_path / "w.zip"), "P1/S/IM1") as file:
        assert file.read() == b"P1\\S\\IM1"


@pytest.mark.parametrize(
    ("name", "reason"), [("P1\\..\\..\\IM1", archives.LEADS_OUT), (".", archives.DAMAGED_ARCHIVE)]
)
def test_a_zip_of_windows_leads_nowhere_else_and_each_member_has_a_name(tmp_path, name, reason):
    (tmp_path / "w.zip").write_bytes(zip_of_windows([name]))
    with pytest.raises(BadSource, match=re.escape(reason)):
        archives.members_of(str(tmp_path / "w.zip"))
