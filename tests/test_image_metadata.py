import io
import itertools
import struct
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from PIL.ExifTags import IFD, Base

from repaint.image import FORMATS, Meta, Photo, decode_photo, encode_photo

from .pictures import (
    GREY,
    SRGB,
    assert_same_exif,
    cv2_png,
    levels,
    make_exif,
    make_photo,
    picture,
    planes,
    samples_of,
    saved,
    saved_tiff,
    with_chunk,
)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_profile_of_another_colour_space_is_not_written(format, grey, bits):
    photo = make_photo(format, bits, grey)
    wrong = replace(photo, meta=replace(photo.meta, icc=SRGB if grey else GREY))
    if format == "webp":  # holds no grey: its pixels are RGB
        wrong = replace(photo, meta=replace(photo.meta, icc=GREY))
    data = encode_photo(wrong, format)
    assert Image.open(io.BytesIO(data)).info.get("icc_profile") is None


@pytest.mark.parametrize("format", FORMATS)
def test_a_photo_without_notes_gets_none(format):
    meta = decode_photo(encode_photo(Photo(torch.rand(3, 5, 5)), format), "x").meta
    assert meta == Meta(format)


@pytest.mark.parametrize(("old", "new"), [*itertools.product(FORMATS, repeat=2)])
def test_notes_travel_from_any_format_to_any_other(old, new):
    photo = make_photo(old)
    middle = decode_photo(encode_photo(photo, old), "x")
    back = decode_photo(encode_photo(middle, new), "x")
    assert back.meta.icc == SRGB
    assert back.meta.dpi == (300, 200)
    assert_same_exif(back.meta.exif, photo.meta.exif)


def test_exif_too_long_for_jpeg_is_left_out():
    photo = make_photo("tiff")
    long = replace(photo, meta=replace(photo.meta, exif=make_exif(ImageDescription="x" * 70000)))
    assert decode_photo(encode_photo(long, "jpeg"), "x").meta.exif is None
    assert decode_photo(encode_photo(long, "png"), "x").meta.exif == long.meta.exif


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("bits", [8, 16])
def test_pillow_reads_the_notes_we_wrote(format, bits):
    image = Image.open(io.BytesIO(encode_photo(make_photo(format, bits), format)))
    assert image.info["icc_profile"] == SRGB
    exif = image.getexif()
    assert exif[Base.ImageDescription] == "grandmother"
    assert exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] == "1931:05:01 12:00:00"
    dpi = image.info["dpi"] if format != "webp" else (exif[Base.XResolution], exif[Base.YResolution])
    assert dpi == pytest.approx((300, 200), abs=0.01)


@pytest.mark.parametrize("bits", [8, 16])
def test_profile_of_another_colour_space_is_not_kept(bits):
    samples = levels(7, 9, 3, bits)
    png = with_chunk(cv2_png(samples), b"iCCP", b"x\0\0" + zlib.compress(GREY))
    assert decode_photo(png, "x").meta.icc is None
    grey = with_chunk(cv2_png(samples[..., 0]), b"iCCP", b"x\0\0" + zlib.compress(SRGB))
    assert decode_photo(grey, "x").meta.icc is None


def test_dpi_in_centimetres_is_converted():
    tiff = saved_tiff(levels(4, 4, 3, 8), photometric="rgb", resolution=(100, 50), resolutionunit="CENTIMETER")
    assert decode_photo(tiff, "x").meta.dpi == (254, 127)


def turned(kind: str, orientation: int) -> tuple[bytes, np.ndarray]:
    """A file whose EXIF says `orientation`, and its pixels as they lie in the file."""
    bits = 16 if kind.endswith("16") else 8
    samples = np.kron(levels(2, 3, 3, bits), np.ones((16, 16, 1), levels(1, 1, 1, bits).dtype))
    if kind.startswith("tiff"):
        tag = (274, "H", 1, orientation, True)
        resolution = {"resolution": (300, 200), "resolutionunit": "INCH"}
        return saved_tiff(samples, photometric="rgb", extratags=[tag], **resolution), samples
    exif = make_exif(Orientation=orientation, XResolution=300.0, YResolution=200.0, ResolutionUnit=2)
    if kind == "png16":
        png = with_chunk(cv2_png(samples[..., ::-1]), b"pHYs", struct.pack(">IIB", 11811, 7874, 1))
        return with_chunk(png, b"eXIf", exif.removeprefix(b"Exif\0\0")), samples
    how = {"lossless": True} if kind == "webp" else {"quality": 100, "subsampling": 0} if kind == "jpeg" else {}
    return saved(Image.fromarray(samples), kind, exif=exif, dpi=(300, 200), **how), samples


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "png16", "jpeg", "tiff", "tiff16", "webp"])
def test_orientation_is_applied_once(kind, orientation):
    data, samples = turned(kind, orientation)
    photo = decode_photo(data, "x")
    flat = Image.fromarray((samples >> (8 if samples.dtype == np.uint16 else 0)).astype(np.uint8))
    flat.getexif()[Base.Orientation] = orientation
    wanted = planes(np.asarray(ImageOps.exif_transpose(flat)))
    assert photo.rgb.shape == wanted.shape
    assert (photo.rgb - wanted).abs().max() < 0.02
    assert photo.meta.dpi == ((200, 300) if orientation >= 5 else (300, 200))
    if not kind.startswith("tiff"):
        exif = Image.Exif()
        exif.load(photo.meta.exif)
        assert exif[Base.Orientation] == 1
        assert exif[Base.XResolution] == photo.meta.dpi[0]
        assert exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] == "1931:05:01 12:00:00"
    for format in FORMATS:
        again = decode_photo(encode_photo(photo, format, quality=100), "x")
        assert (again.rgb - photo.rgb).abs().max() < 0.02


def test_opencv_turns_a_jpeg_as_we_do():
    for orientation in range(1, 9):
        data, _ = turned("jpeg", orientation)
        seen = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.abs(samples_of(decode_photo(data, "x").rgb, 8).astype(int) - seen).max() < 4


def test_exif_that_needs_no_change_is_kept_byte_for_byte():
    raw = make_exif(ImageDescription="x", Orientation=1) + b"a thumbnail, maker's notes"
    assert decode_photo(saved(picture("RGB"), "JPEG", exif=raw), "x").meta.exif == raw


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")
@pytest.mark.parametrize("raw", [b"Exif\0\0", b"Exif\0\0rubbish", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_damaged_exif_does_not_cost_the_photo(raw):
    photo = decode_photo(saved(picture("RGB"), "JPEG", exif=raw), "x")
    assert photo.rgb.shape == (3, 7, 9)
    assert photo.meta.exif is None
    encode_photo(photo, "tiff")
    encode_photo(replace(photo, meta=replace(photo.meta, dpi=(300, 300))), "webp")
