"""What a header says is not believed: each number, name and length is checked before it is acted on."""

import bz2
import gzip
import io
import signal
import zlib

import numpy as np
import pytest

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.dicom.listing import find_series
from mri_hpc.intake.decoding.pictures import TRUNCATED
from mri_hpc.intake.decoding.volumes import meta_image, nrrd, parts, streams
from mri_hpc.intake.decoding.volumes.headers import is_volume, read_header, unzipped
from mri_hpc.intake.decoding.volumes.layout import (
    DAMAGED_HEADER,
    MOST_FILES,
    MOST_OFFSET,
    MOST_VOLUMES,
    OTHER_DIMENSIONS,
    OTHER_NUMBERS,
    TO_THE_END,
    Layout,
    VolumeHeader,
    checked_shape,
    numbered_names,
    plain_numbers,
    untold_affine,
)
from mri_hpc.intake.decoding.volumes.meta_image import meta_image_header
from mri_hpc.intake.decoding.volumes.nrrd import nrrd_header
from mri_hpc.intake.decoding.volumes.parts import parts_among
from mri_hpc.intake.decoding.volumes.streams import check_end, check_length, opened_voxels
from mri_hpc.intake.files.content import START_BYTES, in_memory

VOXELS = np.arange(24, dtype="<i2").reshape(2, 3, 4)
RAW = VOXELS.tobytes()


@pytest.mark.parametrize(
    ("lengths", "num_volumes"),
    [((0, 2, 2), 1), ((2, -1, 2), 1), ((2, 2, 2**31), 1), ((2, 2, 2), 0), ((2, 2, 2), MOST_VOLUMES + 1)],
)
def test_lengths_that_cannot_be_are_damage(lengths, num_volumes):
    with pytest.raises(BadSource, match=DAMAGED_HEADER):
        checked_shape(lengths, num_volumes)
    assert checked_shape((2, 3), 1) == ((2, 3, 1), 1)


@pytest.mark.parametrize("dtype", ["c8", "V3", np.longdouble, "S2"])
def test_voxels_that_are_no_plain_numbers_have_their_reason(dtype):
    with pytest.raises(BadSource, match="other numbers"):
        plain_numbers(np.dtype(dtype))
    assert plain_numbers(np.dtype(">f8")) == ">f8"


def test_a_distance_of_voxels_that_is_none_is_one_millimetre():
    given = np.array([np.nan, 0.0, -2.0])
    assert np.abs(np.diag(untold_affine(given, (2, 2, 2)))).tolist() == [1, 1, 2, 1]


@pytest.mark.parametrize(
    "words",
    [
        ("%d.raw", "1", "x", "1"), ("%d.raw", "1", "2", "0"), ("%d.raw", "1", "9" * 30, "1"),
        ("%d.raw", "1", str(MOST_FILES + 1), "1"), ("%999999999d.raw", "1", "2", "1"),
        ("%s.raw", "1", "2", "1"), ("%d%d.raw", "1", "2", "1"), ("%d%(name)s.raw", "1", "2", "1"),
    ],
)  # fmt: skip
def test_names_by_numbers_are_few_and_of_one_number(words):
    with pytest.raises(BadSource, match=DAMAGED_HEADER):
        numbered_names(*words)
    assert numbered_names("a%02d.raw", "1", "5", "2") == ("a01.raw", "a03.raw", "a05.raw")


NRRD = {
    "type": "short", "dimension": "3", "sizes": "2 3 4", "encoding": "raw", "endian": "little",
}  # fmt: skip


def as_nrrd(**fields):
    lines = {**NRRD, **{name.replace("_", " "): value for name, value in fields.items()}}
    return ("NRRD0005\n" + "".join(f"{k}: {v}\n" for k, v in lines.items() if v is not None) + "\n").encode()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"dimension": "4"}, DAMAGED_HEADER),
        ({"dimension": "1", "sizes": "2"}, DAMAGED_HEADER),
        ({"dimension": "8", "sizes": "2 3 4 1 1 1 1 1"}, DAMAGED_HEADER),
        ({"dimension": "x"}, DAMAGED_HEADER),
        ({"sizes": None}, DAMAGED_HEADER),
        ({"sizes": "2 3 0"}, DAMAGED_HEADER),
        ({"type": "quad"}, DAMAGED_HEADER),
        ({"type": "block"}, OTHER_NUMBERS),
        ({"endian": "middle"}, DAMAGED_HEADER),
        ({"endian": None}, DAMAGED_HEADER),
        ({"encoding": "hex"}, DAMAGED_HEADER),
        ({"byte_skip": "-2"}, DAMAGED_HEADER),
        ({"byte_skip": MOST_OFFSET + 1}, DAMAGED_HEADER),
        ({"line_skip": "-1"}, DAMAGED_HEADER),
        ({"line_skip": nrrd.MOST_LINES + 1}, DAMAGED_HEADER),
        ({"spacings": "1 1"}, DAMAGED_HEADER),
        ({"space": "LPS", "space_directions": "(1,0,0) none none"}, OTHER_DIMENSIONS),
        ({"sizes": "2 1 1", "space": "LPS", "space_directions": "(1,0,0) none none"}, OTHER_DIMENSIONS),
        ({"dimension": "5", "sizes": "2 3 4 2 2"}, OTHER_DIMENSIONS),
        ({"dimension": "4", "sizes": "2 2 3 4", "kinds": "domain list domain domain"}, OTHER_DIMENSIONS),
        ({"dimension": "4", "sizes": "3 2 3 4", "kinds": "RGB-color domain domain domain"}, OTHER_NUMBERS),
        ({"data_file": "%d.raw 1 2 0"}, DAMAGED_HEADER),
    ],
)
def test_a_header_of_nrrd_that_cannot_be_is_refused(fields, reason):
    with pytest.raises(BadSource) as error:
        nrrd_header(as_nrrd(**fields))
    assert str(error.value) == reason
    assert nrrd_header(as_nrrd()).shape == (2, 3, 4)


def test_a_header_of_nrrd_ends_with_its_empty_line_whatever_its_lines_end_with():
    for text in (as_nrrd(), as_nrrd().replace(b"\n", b"\r\n")):
        assert nrrd_header(text + b"\0\1\n\n").layout.begins == len(text)


def test_a_space_with_time_is_told_as_without():
    directions = {"space_directions": "(2,0,0) (0,2,0) (0,0,2)", "space_origin": "(1,2,3)"}
    plain = nrrd_header(as_nrrd(space="LPS", **directions))
    for space in ("LPST", "left-posterior-superior-time"):
        found = nrrd_header(as_nrrd(space=space, **directions))
        assert found.is_side_known and np.array_equal(found.affine, plain.affine)


META = {"ObjectType": "Image", "NDims": 3, "DimSize": "2 3 4", "ElementType": "MET_SHORT"}


def as_meta(**keys):
    lines = {**META, "ElementDataFile": "LOCAL", **keys}
    lines["ElementDataFile"] = lines.pop("ElementDataFile")
    return "".join(f"{k} = {v}\n" for k, v in lines.items() if v is not None).encode()


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"NDims": 2}, DAMAGED_HEADER),
        ({"NDims": "x"}, DAMAGED_HEADER),
        ({"DimSize": None}, DAMAGED_HEADER),
        ({"DimSize": "2 3 0"}, DAMAGED_HEADER),
        ({"NDims": 1, "DimSize": "2"}, OTHER_DIMENSIONS),
        ({"NDims": 5, "DimSize": "2 3 4 1 1"}, OTHER_DIMENSIONS),
        ({"ElementNumberOfChannels": 3}, OTHER_NUMBERS),
        ({"ElementType": "MET_SHORT_ARRAY"}, OTHER_NUMBERS),
        ({"ElementSpacing": "1 1"}, DAMAGED_HEADER),
        ({"TransformMatrix": "1 0 0"}, DAMAGED_HEADER),
        ({"TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0"}, DAMAGED_HEADER),
        ({"HeaderSize": -2}, DAMAGED_HEADER),
        ({"HeaderSize": MOST_OFFSET + 1}, DAMAGED_HEADER),
        ({"ElementDataFile": None}, DAMAGED_HEADER),
        ({"ElementDataFile": "%d.raw 1 2 0"}, DAMAGED_HEADER),
    ],
)
def test_a_header_of_meta_image_that_cannot_be_is_refused(keys, reason):
    with pytest.raises(BadSource) as error:
        meta_image_header(as_meta(**keys))
    assert str(error.value) == reason
    assert meta_image_header(as_meta()).shape == (2, 3, 4)


def test_voxels_of_meta_image_are_text_where_they_are_not_binary():
    assert meta_image_header(as_meta(BinaryData=False)).layout.encoding == "ascii"


def test_a_flat_picture_of_meta_image_has_no_side():
    found = meta_image_header(as_meta(NDims=2, DimSize="2 3", TransformMatrix="1 0 0 1", Offset="0 0"))
    assert found.shape == (2, 3, 1) and not found.is_side_known


def test_a_list_of_files_is_read_as_far_as_it_is_no_flood():
    names = [f"{number}.raw" for number in range(MOST_FILES + 5)]
    assert len(meta_image.data_files(as_meta(ElementDataFile="LIST\n" + "\n".join(names)))) == MOST_FILES


def test_a_sign_of_percent_alone_is_no_pattern():
    for files in (
        meta_image.data_files(as_meta(ElementDataFile="50% x.raw")),
        nrrd.data_files(as_nrrd(data_file="50% x.raw")),
    ):
        assert files == ("50% x.raw",)


def header_of(*, offset=0, num_volumes=1, dtype="<i2", **layout):
    return VolumeHeader(
        shape=VOXELS.shape, num_volumes=num_volumes, dtype=np.dtype(dtype), offset=offset,
        affine=np.eye(4), acquired=2, is_side_known=True, layout=Layout(**layout),
    )  # fmt: skip


def read(held, header):
    files = [in_memory(part).files[0] for part in held]
    check_length(files, header)
    with opened_voxels(files, header) as voxels:
        data = voxels.read(header.volume_bytes * header.num_volumes)
        check_end(voxels, header)
    return data


NUMBERS = " ".join(map(str, range(24))).encode()
HALVES = RAW[:24], RAW[24:]


@pytest.mark.parametrize(
    ("held", "header"),
    [
        ([b"head" + RAW], header_of(begins=4)),
        ([b"head" + RAW], header_of(offset=4)),
        ([b"any thing" + RAW], header_of(offset=TO_THE_END)),
        ([b"one\ntwo\n" + RAW], header_of(lines_before=2)),
        ([b"one\n--" + RAW], header_of(lines_before=1, offset=2)),
        ([b"head" + gzip.compress(b"--" + RAW)], header_of(begins=4, offset=2, encoding="gzip")),
        ([zlib.compress(RAW)], header_of(encoding="zlib")),
        ([bz2.compress(RAW)], header_of(encoding="bzip2")),
        ([NUMBERS], header_of(encoding="ascii")),
        (HALVES, header_of(num_files=2)),
        ([b"--" + half for half in HALVES], header_of(num_files=2, offset=TO_THE_END)),
        ([b"one\n" + half for half in HALVES], header_of(num_files=2, lines_before=1)),
        ([gzip.compress(half) for half in HALVES], header_of(num_files=2, encoding="gzip")),
    ],
)
def test_voxels_are_read_from_where_the_header_says(held, header):
    assert read(held, header) == RAW


def wrong_end(coded, *, behind):
    """Change the checksum, behind which there are so many bytes."""
    place = len(coded) - behind - 4
    return coded[:place] + bytes(4) + coded[place + 4 :]


@pytest.mark.parametrize(
    ("held", "header", "reason"),
    [
        ([RAW[:-1]], header_of(), TRUNCATED),
        ([b"head" + RAW[:-1]], header_of(begins=4), TRUNCATED),
        ([b"head" + RAW[:-1]], header_of(offset=4), TRUNCATED),
        ([RAW], header_of(offset=TO_THE_END, encoding="gzip"), DAMAGED_HEADER),
        ([gzip.compress(RAW)], header_of(num_volumes=99, encoding="gzip", offset=10**6), TRUNCATED),
        ([gzip.compress(RAW)[:-9]], header_of(encoding="gzip"), TRUNCATED),
        ([wrong_end(gzip.compress(RAW), behind=4)], header_of(encoding="gzip"), streams.DAMAGED_GZIP),
        ([gzip.compress(RAW)[:10] + b"\xff" * 30], header_of(encoding="gzip"), streams.DAMAGED_GZIP),
        ([b"\x1f\x8c" + gzip.compress(RAW)[2:]], header_of(encoding="gzip"), streams.DAMAGED_GZIP),
        ([zlib.compress(RAW)[:-9]], header_of(encoding="zlib"), TRUNCATED),
        ([wrong_end(zlib.compress(RAW), behind=0)], header_of(encoding="zlib"), streams.DAMAGED_VOXELS),
        ([bz2.compress(RAW)[:-9]], header_of(encoding="bzip2"), TRUNCATED),
        ([bz2.compress(RAW)[:9] + bytes(40)], header_of(encoding="bzip2"), streams.DAMAGED_VOXELS),
        ([b"no bzip2 at all, but as long as one"], header_of(encoding="bzip2"), streams.DAMAGED_VOXELS),
        ([NUMBERS[:-9] + b" nine"], header_of(encoding="ascii"), streams.NO_NUMBERS),
        ([NUMBERS + b"\xff"], header_of(encoding="ascii"), streams.NO_NUMBERS),
        ([NUMBERS + b" 1e300"], header_of(encoding="ascii"), streams.NO_NUMBERS),
        ([RAW] * 5, header_of(num_files=5), DAMAGED_HEADER),
        ([RAW[:30], RAW[30:]], header_of(num_files=2), TRUNCATED),
        ([gzip.compress(HALVES[0]), gzip.compress(HALVES[1][:-2])], header_of(num_files=2, encoding="gzip"),
         TRUNCATED),
        ([wrong_end(gzip.compress(HALVES[0]), behind=4), gzip.compress(HALVES[1])],
         header_of(num_files=2, encoding="gzip"), streams.DAMAGED_GZIP),
    ],
)  # fmt: skip
def test_voxels_that_are_not_there_or_damaged_have_their_reason(held, header, reason):
    with pytest.raises(BadSource) as error:
        read(held, header)
    assert str(error.value) == reason


@pytest.mark.parametrize("encoding", ["gzip", "zlib", "bzip2"])
def test_a_checksum_behind_more_than_the_voxels_is_met(encoding):
    pack, behind = {"gzip": (gzip.compress, 4), "zlib": (zlib.compress, 0), "bzip2": (bz2.compress, 4)}[
        encoding
    ]
    # More than is read ahead, and does not shrink.
    more = np.random.default_rng(0).bytes(2_000_000)
    whole, (first, second) = pack(RAW + more), (pack(half + more) for half in HALVES)
    assert read([whole], header_of(encoding=encoding)) == RAW
    with pytest.raises(BadSource, match="damaged"):
        read([wrong_end(whole, behind=behind)], header_of(encoding=encoding))
    assert read([first, second], header_of(num_files=2, encoding=encoding)) == RAW
    with pytest.raises(BadSource, match="damaged"):
        read([wrong_end(first, behind=behind), second], header_of(num_files=2, encoding=encoding))


@pytest.mark.parametrize("pack", [zlib.compress, gzip.compress, bz2.compress])
def test_what_has_shrunk_to_little_is_inflated_part_by_part(pack):
    encoding = {zlib.compress: "zlib", gzip.compress: "gzip", bz2.compress: "bzip2"}[pack]
    many = RAW * 50_000
    assert read([pack(many)], header_of(num_volumes=50_000, encoding=encoding)) == many


class Counted(io.BytesIO):
    """Bytes of which nobody reads all."""

    def read(self, size=-1):
        assert size is not None and size >= 0
        return super().read(size)


def test_text_and_lines_are_read_no_further_than_they_may_reach(monkeypatch):
    monkeypatch.setattr(streams, "MOST_TEXT", len(NUMBERS))
    assert read([NUMBERS], header_of(encoding="ascii")) == RAW
    with pytest.raises(BadSource, match="voxels as text of more than"):
        read([NUMBERS + b" "], header_of(encoding="ascii"))
    with streams.DECODING["ascii"](Counted(NUMBERS), header_of()) as voxels:
        assert voxels.read() == RAW
    monkeypatch.setattr(streams, "MOST_LINE", 4)
    # A line that does not end has ended after so much.
    assert read([b"long" + RAW], header_of(lines_before=1)) == RAW


NAMES = {
    "sound.mhd": as_meta(ElementDataFile="here.raw"),
    "below.nhdr": as_nrrd(data_file="sub/there.raw"),
    "out.mhd": as_meta(ElementDataFile="../secret.raw"),
    "root.nhdr": as_nrrd(data_file="/etc/passwd"),
    "gone.nhdr": as_nrrd(data_file="gone.raw"),
    "one_gone.mhd": as_meta(ElementDataFile="LIST\nhere.raw\ngone.raw"),
    "long.mhd": as_meta(ElementDataFile="a" * 256 + ".zip/x"),
    "deep.mhd": as_meta(ElementDataFile="/".join(["a" * 200] * 100) + ".zip/x"),
    "zero.mhd": as_meta(ElementDataFile="he\0re.raw"),
    "zeros.nhdr": as_nrrd(data_file="LIST\n\0\n"),
    "many.nhdr": as_nrrd(data_file="%d.raw 1 " + "9" * 30 + " 1"),
    "damaged.nhdr": as_nrrd(dimension="x", data_file="here.raw"),
    "itself.mhd": as_meta(ElementDataFile="itself.mhd"),
    "this.mhd": as_meta(ElementDataFile="that.nhdr"),
    "that.nhdr": as_nrrd(data_file="this.mhd"),
    "scan.hdr": bytes(344) + b"ni1\0",
    "scan.IMG": RAW,
    "pair.hdr": b"no header at all",
    "pair.img": RAW,
}


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "secret.raw").write_bytes(RAW)
    for name, data in {**NAMES, "here.raw": RAW, "sub/there.raw": RAW}.items():
        (root / name).write_bytes(data)
    return root


def test_a_header_has_voxels_of_its_own_folder_and_below_or_none(folder):
    assert parts_among(folder, NAMES) == {
        "sound.mhd": ("sound.mhd", "here.raw"), "below.nhdr": ("below.nhdr", "sub/there.raw"),
        "scan.hdr": ("scan.hdr", "scan.IMG"),
    }  # fmt: skip


def test_a_header_is_read_no_further_than_headers_reach(folder, monkeypatch):
    monkeypatch.setattr(parts, "TEXT_BYTES", len(NAMES["sound.mhd"]) - len("here.raw\n"))
    assert "sound.mhd" not in parts_among(folder, NAMES)


def test_a_name_from_the_root_leads_nowhere_though_there_be_such_a_file_below(folder, tmp_path):
    there = folder / str(tmp_path / "secret.raw").lstrip("/")
    there.parent.mkdir(parents=True)
    there.write_bytes(RAW)
    (folder / "whole.mhd").write_bytes(as_meta(ElementDataFile=tmp_path / "secret.raw"))
    assert parts_among(folder, ["whole.mhd"]) == {}


def test_headers_that_name_headers_are_sources_all_the_same(folder):
    series = find_series(folder, list(NAMES), kept=None)
    for name in ("itself.mhd", "this.mhd", "that.nhdr"):
        assert series.files_of(name) == (name,)


def test_a_header_that_cannot_be_opened_is_passed_over(folder):
    (folder / "closed.mhd").mkdir()
    assert parts_among(folder, ["closed.mhd", "vanished.nhdr"]) == {}


def test_first_bytes_of_damaged_gzip_are_of_no_volume_and_little_is_unpacked():
    whole = gzip.compress(bytes(10 * START_BYTES))
    assert len(unzipped(whole)) == START_BYTES
    assert unzipped(whole[:10] + b"\xff" * 20) == b""


def test_bytes_that_only_begin_as_a_volume_are_none():
    mgh = bytearray(b"\0\0\0\1" + np.array([4, 4, 4, 1, 0], ">i4").tobytes() + bytes(260))
    assert is_volume(bytes(mgh))
    for place, value in ((20, 9), (4, -1), (4, 2**20)):
        other = mgh.copy()
        other[place : place + 4] = value.to_bytes(4, "big", signed=True)
        assert not is_volume(bytes(other))
    assert not is_volume(bytes(mgh[:200]))
    analyze = b"\x5c\1\0\0" + bytes(344)
    assert is_volume(analyze)
    assert not is_volume(analyze + b"x") and not is_volume(analyze[:-1])


@pytest.mark.parametrize(("place", "value"), [(40, 9), (70, 9999), (108, 2**31 - 2**23)])
def test_a_header_of_analyze_that_cannot_be_is_refused(place, value):
    sound = bytearray(b"\x5c\1\0\0" + bytes(344))
    sound[40:48], sound[70:74] = np.array([3, 2, 3, 4], "<i2").tobytes(), np.array([4, 16], "<i2").tobytes()
    assert read_header(bytes(sound)).shape == (2, 3, 4)
    sound[place : place + 4] = value.to_bytes(4, "little")
    with pytest.raises(BadSource, match=DAMAGED_HEADER):
        read_header(bytes(sound))


HEADER = (
    b"NDims = 3\nDimSize = 2 3 4\nElementType = MET_SHORT\nComment =%b\nHeaderSize = 4\n"
    b"ElementDataFile = LOCAL\n"
)


@pytest.mark.parametrize("behind", [b"\n\0", b"\r\n", b" \n\n", b"\0\n"])
@pytest.mark.parametrize("comment", [b"", b" ", b" of two = signs\r"])
def test_a_header_of_metaimage_ends_with_its_last_line_whatever_the_voxels_look_like(comment, behind):
    text = HEADER % comment
    read = meta_image_header(text + behind + RAW)
    assert (read.layout.begins, read.offset, read.shape) == (len(text), 4, (2, 3, 4))


def test_a_header_of_metaimage_is_gone_through_once_however_long_a_line_of_blanks_is():
    def give_up(_signal, _frame):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, give_up)
    # Going through it once a blank would take hours.
    signal.alarm(60)
    try:
        assert meta_image_header(HEADER % (b" a" + b" " * 2**19 + b"b")).shape == (2, 3, 4)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
