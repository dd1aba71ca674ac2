"""What EXIF says of a written photo is true of it, read with libvips and tifffile; all else in it stays."""

import io
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import pyvips
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from repaint.image import FORMATS, Meta, Photo, decode_photo, encode_photo
from repaint.image.exif import fitted_exif
from repaint.image.metadata import upright_exif

from .pictures import make_exif, saved

THUMBNAIL = saved(Image.fromarray(np.full((8, 8, 3), 77, np.uint8)), "JPEG")
NOTES = b"maker's notes with offsets"
SHORT, LONG, RATIONAL, UNDEFINED = 3, 4, 5, 7
SECOND_AT, THIRD_AT, THUMBNAIL_AT = 120, 220, 300
BLOCKS = [("jpeg", 8), ("png", 8), ("png", 16), ("webp", 8)]  # the kinds of file that hold a block as it is


def camera_exif(
    order="<", *, dpi=(300, 300), unit=2, size=(20, 13), thumbnail=THUMBNAIL, after=b"", kind=SHORT, orientation=None
) -> bytes:
    """A block as cameras lay it out: resolution, size, maker's notes, then a thumbnail, and something `after` it."""

    def directory(at: int, entries: list[tuple[int, int, bytes]], following: int) -> bytes:
        values = at + 2 + 12 * len(entries) + 4
        head, tail = struct.pack(order + "H", len(entries)), b""
        for tag, kind, value in entries:
            count = len(value) // {SHORT: 2, LONG: 4, RATIONAL: 8, UNDEFINED: 1}[kind]
            head += struct.pack(order + "HHL", tag, kind, count)
            if len(value) <= 4:
                head += value.ljust(4, b"?")  # what fills the four bytes means nothing
            else:
                head += struct.pack(order + "L", values + len(tail))
                tail += value
        return head + struct.pack(order + "L", following) + tail

    def number(layout: str, *values: int) -> bytes:
        return struct.pack(order + layout, *values)

    layout = "H" if kind == SHORT else "L"
    first = [
        (256, kind, number(layout, size[0])),
        (257, kind, number(layout, size[1])),
        *([(274, SHORT, number("H", orientation))] if orientation else []),
        (282, RATIONAL, number("LL", dpi[0], 1)),
        (283, RATIONAL, number("LL", dpi[1], 1)),
        (296, SHORT, number("H", unit)),
        (34665, LONG, number("L", SECOND_AT)),
    ]
    second = [
        (37500, UNDEFINED, NOTES),
        (40962, kind, number(layout, size[0])),
        (40963, kind, number(layout, size[1])),
    ]
    block = ({"<": b"II", ">": b"MM"}[order] + number("HL", 42, 8)) + directory(8, first, THIRD_AT if thumbnail else 0)
    block = block.ljust(SECOND_AT, b"\0") + directory(SECOND_AT, second, 0)
    if thumbnail:
        third = [(513, LONG, number("L", THUMBNAIL_AT)), (514, LONG, number("L", len(thumbnail)))]
        block = block.ljust(THIRD_AT, b"\0") + directory(THIRD_AT, third, 0)
        block = block.ljust(THUMBNAIL_AT, b"\0") + thumbnail
    return b"Exif\0\0" + block + after


def written(format: str, bits: int, exif: bytes, *, dpi=(600.0, 600.0), size=(40, 26)) -> bytes:
    photo = Photo(torch.rand(3, size[1], size[0]), meta=Meta(format, bits=bits, exif=exif, dpi=dpi))
    return encode_photo(photo, format)


def seen_by_vips(data: bytes) -> dict[str, str | bytes]:
    """EXIF as libvips and libexif read it: texts by name, and the block."""
    image: Any = pyvips.Image.new_from_buffer(data, "", access="sequential")  # others are cached, by address
    names = [name for name in image.get_fields() if name.startswith(("exif-", "jpeg-thumbnail"))]
    return {name: image.get(name) for name in names}


def block_of(data: bytes) -> bytes:
    raw = seen_by_vips(data)["exif-data"]
    assert isinstance(raw, bytes)
    return b"Exif\0\0" + raw.removeprefix(b"Exif\0\0")


def first_word(text: str | bytes) -> str:
    assert isinstance(text, str)
    return text.split()[0]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("format", "bits"), BLOCKS)
def test_exif_tells_the_size_and_resolution_of_the_file_it_is_in(format, bits, order):
    seen = seen_by_vips(written(format, bits, camera_exif(order), dpi=(600.0, 450.5)))
    told = {name: first_word(text) for name, text in seen.items() if name != "exif-data"}
    assert (told["exif-ifd0-XResolution"], told["exif-ifd0-YResolution"]) == ("600/1", "901/2")
    assert told["exif-ifd0-ResolutionUnit"] == "2"
    assert (told["exif-ifd2-PixelXDimension"], told["exif-ifd2-PixelYDimension"]) == ("40", "26")
    assert (told["exif-ifd0-ImageWidth"], told["exif-ifd0-ImageLength"]) == ("40", "26")


@pytest.mark.parametrize("bits", [8, 16])
def test_exif_of_a_tiff_file_tells_its_size(bits):
    page: Any = tifffile.TiffFile(io.BytesIO(written("tiff", bits, camera_exif()))).pages[0]
    exif = page.tags["ExifTag"].value
    assert (exif["PixelXDimension"], exif["PixelYDimension"]) == (40, 26)
    assert page.tags["XResolution"].value == (600, 1)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dpi", [300.0, 600.0])
def test_no_thumbnail_shows_what_the_photo_looked_like_before(format, dpi):
    before = camera_exif(size=(40, 26))
    assert "jpeg-thumbnail-data" in seen_by_vips(saved(Image.new("RGB", (40, 26)), "JPEG", exif=before))
    data = written(format, 8, before, dpi=(dpi, dpi))
    assert THUMBNAIL[:40] not in data
    assert not any("thumbnail" in name or "ifd1" in name for name in seen_by_vips(data))


def test_what_follows_a_thumbnail_stays_where_it_was():
    before = camera_exif(after=b"and more")
    after = fitted_exif(before, width=20, height=13, dpi=None)
    assert len(after) == len(before)
    assert after.endswith(bytes(len(THUMBNAIL)) + b"and more")


def test_an_offset_that_points_to_no_jpeg_file_has_nothing_blanked():
    before = camera_exif(thumbnail=b"no picture", after=b"and more")
    after = fitted_exif(before, width=20, height=13, dpi=None)
    assert after[-18:] == before[-18:]
    assert sum(a != b for a, b in zip(after, before, strict=True)) == 1  # the way to it


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("format", "bits"), BLOCKS)
@pytest.mark.parametrize(("dpi", "unit"), [((300, 200), 2), ((118, 79), 3)])
def test_exif_that_is_true_is_kept_byte_for_byte(format, bits, order, dpi, unit):
    exif = camera_exif(order, dpi=dpi, unit=unit, size=(40, 26), thumbnail=b"") + b"and more"
    dpi = (299.99, 200.01) if unit == 2 else (299.72, 200.66)
    assert block_of(written(format, bits, exif, dpi=dpi)) == exif
    read = decode_photo(written(format, bits, exif, dpi=dpi), "x")
    assert read.meta.exif == exif


@pytest.mark.parametrize("order", "<>")
def test_maker_s_notes_and_all_else_stay_where_they_were(order):
    before = camera_exif(order, thumbnail=b"")
    after = fitted_exif(before, width=40, height=26, dpi=(600, 600))
    places = [8 + 2 + 12 * i for i in range(5)] + [SECOND_AT + 2 + 12 * i for i in (1, 2)]  # size, resolution; size
    may_change = {6 + place + 8 + i for place in places for i in range(4)}
    changed = {at for at, (a, b) in enumerate(zip(before, after, strict=False)) if a != b}
    assert changed
    assert changed <= may_change
    assert NOTES in before


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", [3, 6, 9])
def test_a_photo_turned_upright_keeps_its_maker_s_notes_where_they_were(order, orientation):
    before = camera_exif(order, dpi=(300, 200), orientation=orientation, after=b"and more")
    found, after = upright_exif(before)
    assert found == (orientation if orientation < 9 else 1)
    assert after is not None
    assert after.find(NOTES) == before.find(NOTES)
    turn, across, down = (6 + 8 + 2 + 12 * i for i in (2, 3, 4))
    may_change = {place + 8 + i for place in (turn, across, down) for i in range(4)}
    assert {at for at, (a, b) in enumerate(zip(before, after, strict=True)) if a != b} <= may_change
    exif = Image.Exif()
    exif.load(after)
    assert exif[274] == 1
    assert (exif[282], exif[283]) == ((200, 300) if orientation == 6 else (300, 200))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("more", [b"", b"!"])
def test_new_values_lie_at_even_offsets(order, more):
    block = fitted_exif(camera_exif(order, thumbnail=b"", after=more), width=40, height=26, dpi=(600, 600))[6:]
    for place in (8 + 2 + 12 * 2, 8 + 2 + 12 * 3):
        (offset,) = struct.unpack_from(order + "L", block, place + 8)
        assert offset % 2 == 0
        assert struct.unpack_from(order + "LL", block, offset) == (600, 1)


def test_writing_again_changes_nothing_more():
    once = fitted_exif(camera_exif(), width=40, height=26, dpi=(600, 450.5))
    assert fitted_exif(once, width=40, height=26, dpi=(600, 450.5)) == once


@pytest.mark.parametrize("unit", [1, 3])
def test_a_resolution_in_another_unit_becomes_dots_per_inch(unit):
    data = written("jpeg", 8, camera_exif(unit=unit))
    seen = seen_by_vips(data)
    assert first_word(seen["exif-ifd0-ResolutionUnit"]) == "2"
    assert first_word(seen["exif-ifd0-XResolution"]) == "600/1"


@pytest.mark.parametrize("kind", [SHORT, LONG])
@pytest.mark.parametrize("width", [65535, 65536])
def test_sizes_are_told_in_two_bytes_only_where_they_fit(kind, width):
    exif = Image.Exif()
    exif.load(fitted_exif(camera_exif(kind=kind), width=width, height=3, dpi=None))
    assert (exif.get_ifd(34665)[40962], exif.get_ifd(34665)[40963]) == (width, 3)


@pytest.mark.parametrize("format", ["jpeg", "png", "webp"])
def test_exif_that_tells_no_resolution_gets_one_where_nothing_else_can_tell_it(format):
    exif = make_exif(ImageDescription="x")
    data = written(format, 8, exif)
    if format == "webp":
        assert first_word(seen_by_vips(data)["exif-ifd0-XResolution"]) == "600/1"
    else:
        assert block_of(data) == exif


def test_a_thumbnail_that_was_cut_off_does_not_matter():
    cut = camera_exif()[: 6 + THIRD_AT]
    none = camera_exif(thumbnail=b"").ljust(len(cut), b"\0")
    assert fitted_exif(cut, width=40, height=26, dpi=None) == fitted_exif(none, width=40, height=26, dpi=None) != none


RUBBISH = [b"Exif\0\0rubbish", b"Exif\0\0II*\0", b"Exif\0\0II*\0\xff\xff\xff\xff"]


@pytest.mark.parametrize("raw", [*RUBBISH, camera_exif()[:60], camera_exif()[: 6 + SECOND_AT + 30]])
def test_exif_that_cannot_be_parsed_stays_as_it_is(raw):
    assert fitted_exif(raw, width=40, height=26, dpi=(600, 600)) == raw


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("raw", RUBBISH)
def test_what_is_no_exif_is_written_as_it_is_but_by_tiff(raw):
    for format in ("jpeg", "png", "webp"):
        assert raw.removeprefix(b"Exif\0\0") in written(format, 8, raw)
    page: Any = tifffile.TiffFile(io.BytesIO(written("tiff", 8, raw))).pages[0]
    assert "ExifTag" not in page.tags


def test_exif_that_pillow_can_read_and_not_write_does_not_cost_the_photo():
    exif = make_exif(Artist="Aunt Jo")
    north = b"\0\x01\0\x02\0\0\0\x02N"
    assert north in exif
    exif = exif.replace(north, b"\0\0" + north[2:])  # a version, which is four numbers, as a text
    assert tifffile.imread(io.BytesIO(written("tiff", 8, exif))).shape == (26, 40, 3)
    assert block_of(written("webp", 8, exif)) == exif


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_damage_to_exif_costs_the_photo(data):
    raw = bytearray(camera_exif(data.draw(st.sampled_from("<>"))))
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=6)):
        raw[at] = value
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    photo = Photo(torch.rand(3, 4, 4), meta=Meta("png", exif=b"Exif\0\0" + cut[6:], dpi=(600, 600)))
    for format in FORMATS:
        back = decode_photo(encode_photo(photo, format), "x")
        assert replace(back.meta, exif=None, dpi=None) == Meta(format)
