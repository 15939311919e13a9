"""The same picture is the same image, in whatever kind of file it comes; what is not read says why."""

import base64
import io
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.decoders import decode, decode_natively
from mri_hpc.intake.decoding.recipe import FIRST_DECODER, Recipe
from mri_hpc.intake.files.content import in_memory

RECIPE = Recipe(size=32)
FIRST = Recipe(size=32, decoder=FIRST_DECODER)
# 24 x 24 pixels, written by jpegtran -arithmetic, which is in no library here.
ARITHMETIC = (
    "|JeWF01!$>Nk#wx0RR9200961|JwjV01XKW3knDg3knMk4h;_zAQcl55)&sJ9v2`kDKRiEDJ?8BI!Zn>HbyrrEkIX6ModmpQ&KWM"
    "T47pHU`kO^PyfjP3kU!h02l!Q5di<p00saM5C#9*00;pA002J#(poEXk#{j|lUyyrNVGgQ4E-45b2Sncg?fX%`W9!=I<7a<Y)lVZ"
    "kac=f(|43u|Je"
)


def native(data, recipe=RECIPE):
    """Grey values as the file has them, of each image."""
    return [image.grey for image in decode_natively(in_memory(data), recipe)]


def only(data, recipe=RECIPE):
    (grey,) = native(data, recipe)
    return grey


def slices(count=1, white=4095, dtype=np.uint16):
    """Slices of 40 × 48, with levels from black to white."""
    y, x = np.mgrid[0:40, 0:48]
    waves = [np.sin(x / 7 + number) * np.cos(y / 9) for number in range(count)]
    return np.stack([np.rint((1 + wave) / 2 * white) for wave in waves]).astype(dtype)


GREY = slices()[0]


def tiff(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def saved(pixels, kind, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def png(pixels):
    return imagecodecs.png_encode(pixels)


WHITE = np.full_like(GREY, 65535)
COLOURS = np.stack([GREY] * 3, axis=-1)
SAME = {
    "grey PNG": png(GREY),
    "RGB PNG": png(COLOURS),
    "RGBA PNG": png(np.dstack([COLOURS, WHITE])),
    "grey + alpha PNG": png(np.dstack([GREY, WHITE])),
    "grey TIFF": tiff(GREY),
    "RGB TIFF": tiff(COLOURS, photometric="rgb"),
    "RGBA TIFF": tiff(np.dstack([COLOURS, WHITE]), photometric="rgb", extrasamples=["unassalpha"]),
    "grey + alpha TIFF": tiff(
        np.dstack([GREY, WHITE]), photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]
    ),
    "planar RGB TIFF": tiff(np.moveaxis(COLOURS, -1, 0), photometric="rgb", planarconfig="separate"),
    "MINISWHITE TIFF": tiff(65535 - GREY, photometric="miniswhite"),
    "12-bit MINISWHITE TIFF": tiff(4095 - GREY, photometric="miniswhite", bitspersample=12),
    "TIFF in tiles, by LZW": tiff(GREY, tile=(16, 16), compression="lzw"),
    "TIFF of the other byte order": tiff(GREY, byteorder=">"),
    "BigTIFF": tiff(GREY, bigtiff=True),
    "float64 TIFF": tiff(GREY.astype(np.float64)),
    "float32 TIFF": tiff(GREY.astype(np.float32), compression="zlib", predictor=True),
    "float16 TIFF": tiff(GREY.astype(np.float16).astype(np.float32)),
    "int32 TIFF": tiff(GREY.astype(np.int32)),
    "uint32 TIFF": tiff(GREY.astype(np.uint32)),
    "lossless 12-bit JPEG": imagecodecs.jpeg8_encode(GREY, lossless=True, bitspersample=12),
    "lossless 16-bit JPEG": imagecodecs.jpeg8_encode(GREY, lossless=True, bitspersample=16),
    "lossless JPEG without a header": imagecodecs.ljpeg_encode(GREY, bitspersample=12),
    "JPEG 2000": imagecodecs.jpeg2k_encode(GREY, level=0, reversible=True, bitspersample=12),
    "JPEG 2000 without a box": imagecodecs.jpeg2k_encode(GREY, level=0, codecformat="j2k", reversible=True),
    "AVIF": imagecodecs.avif_encode(GREY, level=100, bitspersample=12),
}


@pytest.mark.parametrize("kind", SAME)
def test_a_picture_of_more_than_8_bits_is_the_same_in_every_kind_of_file(kind):
    found = only(SAME[kind])
    assert found.shape == GREY.shape
    assert np.abs(found.astype(float) - GREY).max() <= (1 if "float16" in kind else 0)


@pytest.mark.parametrize("kind", ["MINISWHITE TIFF", "RGB PNG", "planar RGB TIFF", "float64 TIFF", "BigTIFF"])
def test_it_is_stored_alike(kind):
    (expected,) = decode(in_memory(SAME["grey PNG"]), RECIPE)
    (found,) = decode(in_memory(SAME[kind]), RECIPE)
    assert np.array_equal(found.pixels, expected.pixels)


def test_a_12_bit_jpeg_is_read_but_for_what_jpeg_loses():
    found = only(imagecodecs.jpeg8_encode(GREY, level=95, bitspersample=12))
    assert found.dtype == np.uint16
    assert np.abs(found.astype(int) - GREY).max() <= 64


def test_pictures_of_8_bits_are_read_in_every_kind_of_file():
    grey = slices(white=255, dtype=np.uint8)[0]
    same = {
        "MINISWHITE TIFF": tiff(255 - grey, photometric="miniswhite"),
        "BigTIFF": tiff(grey, bigtiff=True),
        "planar": tiff(np.stack([grey] * 3), photometric="rgb", planarconfig="separate"),
        "GIF": saved(grey, "GIF"),
        "lossless JPEG": imagecodecs.jpeg8_encode(grey, lossless=True),
        "JPEG 2000": saved(grey, "JPEG2000"),
        "colour JPEG 2000": saved(np.dstack([grey] * 3), "JPEG2000"),
    }
    for kind, data in same.items():
        assert np.array_equal(only(data), grey), kind
    assert np.abs(only(saved(grey, "AVIF", quality=95)).astype(int) - grey).max() <= 8
    y, x = np.mgrid[0:24, 0:24]
    waves = 128 + 100 * np.sin((x + y) / 9)
    assert np.abs(only(base64.b85decode(ARITHMETIC)) - waves).mean() < 3


def test_transparency_lies_on_black():
    alpha = np.where(np.arange(48) < 24, 0, 65535).astype(np.uint16) * np.ones((40, 1), np.uint16)
    for data in (
        png(np.dstack([GREY, alpha])),
        tiff(np.dstack([COLOURS, alpha]), photometric="rgb", extrasamples=["unassalpha"]),
    ):
        found = only(data)
        assert not found[:, :24].any()
        assert np.array_equal(found[:, 24:], GREY[:, 24:])


def test_a_tiff_lies_as_its_orientation_says():
    data = tiff(GREY, extratags=[(274, "H", 1, 6, True)])
    assert np.array_equal(only(data), np.rot90(GREY, -1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_pages_of_a_tiff_are_slices_in_order(dtype, count):
    stack = slices(count, 200, dtype)
    found = list(decode_natively(in_memory(tiff(stack, photometric="minisblack")), RECIPE))
    assert [image.frame for image in found] == [str(number) for number in range(count)]
    assert [image.slice_index for image in found] == list(range(count))
    assert all(np.array_equal(image.grey, one) for image, one in zip(found, stack, strict=True))


def test_stacks_of_imagej_and_of_ome_and_in_bigtiff_are_slices():
    stack = slices(5)
    for options in ({"imagej": True}, {"ome": True}, {"bigtiff": True}, {"compression": "zlib"}):
        found = native(tiff(stack, **({"photometric": "minisblack"} | options)))
        assert np.array_equal(found, stack), options


def test_frames_of_a_gif_are_slices_in_order():
    stack = slices(4, 255, np.uint8)
    frames = [Image.fromarray(one) for one in stack]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    found = list(decode_natively(in_memory(file.getvalue()), RECIPE))
    assert [image.frame for image in found] == ["0", "1", "2", "3"]
    assert all(
        np.abs(image.grey.astype(int) - one).mean() < 2 for image, one in zip(found, stack, strict=True)
    )


def test_colour_pages_and_pages_with_a_palette_are_grey_slices():
    stack = slices(2)
    colours = np.stack([stack] * 3, axis=-1)
    assert np.array_equal(native(tiff(colours, photometric="rgb")), stack)
    levels = slices(2, 255, np.uint8)
    ramp = np.stack([np.arange(256, dtype=np.uint16) * 257] * 3)
    found = native(tiff(levels, photometric="palette", colormap=ramp))
    assert np.array_equal(found, levels)


def test_three_slices_that_look_like_colours_are_rejected_with_the_reason():
    for count in (3, 4):
        for dtype in (np.uint8, np.uint16):
            data = _as_colours(slices(count, 250, dtype))
            with pytest.raises(BadSource, match="planes that may be slices or colours"):
                native(data)


def _as_colours(stack):
    """Slices as tifffile writes them where it is told nothing: one page of planes."""
    extra = ["unassalpha"] if len(stack) == 4 else None
    return tiff(stack, photometric="rgb", planarconfig="separate", extrasamples=extra)


def test_planes_that_another_program_calls_colours_are_colours():
    planes = slices(3, 250, np.uint8)
    data = tiff(planes, photometric="rgb", planarconfig="separate", metadata=None)
    expected = np.asarray(Image.fromarray(np.moveaxis(planes, 0, -1)).convert("L"))
    assert np.array_equal(only(data), expected)


def test_reduced_copies_of_a_page_are_no_slices():
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(GREY)
        writer.write(GREY[::2, ::2], subfiletype=1)
    assert np.array_equal(only(file.getvalue()), GREY)


@pytest.mark.parametrize(
    "kind",
    ["grey TIFF", "BigTIFF", "TIFF in tiles, by LZW", "RGB PNG", "lossless 12-bit JPEG", "JPEG 2000", "AVIF"],
)
def test_one_cut_short_is_rejected_and_no_pixel_is_made_up(kind):
    for part in (0.3, 0.6, 0.9):
        with pytest.raises(BadSource, match=r"(truncated|damaged) picture"):
            native(SAME[kind][: int(len(SAME[kind]) * part)])


def test_stacks_cut_short_are_rejected():
    stack = slices(4, 255, np.uint8)
    frames = [Image.fromarray(one) for one in stack]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    for data in (file.getvalue(), *(tiff(one, photometric="minisblack") for one in (stack, slices(4)))):
        for part in (0.3, 0.6, 0.9):
            with pytest.raises(BadSource, match=r"picture"):
                native(data[: int(len(data) * part)])


@pytest.mark.parametrize("kind", SAME)
def test_damaged_bytes_never_escape_as_anything_but_a_bad_source(kind):
    random = np.random.default_rng(7)
    good = SAME[kind]
    for _ in range(12):
        data = bytearray(good)
        for place in random.integers(4, len(data), 6):
            data[place] = random.integers(256)
        try:
            samples = list(decode(in_memory(bytes(data)), RECIPE))
        except BadSource as error:
            assert str(error)
        else:
            assert all(sample.pixels.shape == (32, 32) for sample in samples)


def test_a_sound_file_of_a_kind_that_is_not_read_is_not_called_damaged():
    cmyk = tiff(np.dstack([GREY] * 4), photometric="separated")
    with pytest.raises(BadSource, match="format not read: sound, but TIFF of this kind"):
        native(cmyk)
    complexes = tiff(GREY.astype(np.complex64))
    with pytest.raises(BadSource, match="format not read: sound, but TIFF of this kind"):
        native(complexes)
    with pytest.raises(BadSource, match="format not read: sound, but JPEG of this kind"):
        native(imagecodecs.jpegls_encode(GREY))


def test_a_stack_that_would_fill_the_memory_is_rejected_before_it_is_decoded():
    one = tiff(np.zeros((20_000, 2_000), np.uint8), compression="zlib", photometric="minisblack")
    with pytest.raises(BadSource, match="larger than 40 million"):
        native(_with_width(one, 20_000))
    many = tiff(np.zeros((5000, 8, 8), np.uint8), photometric="minisblack")
    with pytest.raises(BadSource, match="stack of more than 4096 slices"):
        native(many)


def _with_width(data, width):
    """A TIFF that says it is so wide."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        at = file.pages[0].tags["ImageWidth"].valueoffset
    return data[:at] + struct.pack("<I", width)[:4] + data[at + 4 :]


def test_stores_of_0_1_0_read_on_as_they_did():
    kept = {kind: only(SAME[kind], FIRST) for kind in ("RGB PNG", "MINISWHITE TIFF", "grey + alpha PNG")}
    assert kept["RGB PNG"].dtype == kept["grey + alpha PNG"].dtype == np.uint8
    assert np.array_equal(kept["MINISWHITE TIFF"], 65535 - GREY)
    assert np.array_equal(only(SAME["grey PNG"], FIRST), GREY)
    assert np.array_equal(only(SAME["float64 TIFF"], FIRST), GREY)
