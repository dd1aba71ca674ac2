import contextlib
import errno
import io
import itertools
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import pyvips
import tifffile
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps
from PIL.ExifTags import IFD, Base

from repaint.errors import ImageError
from repaint.image import (
    ENDINGS,
    FORMATS,
    Meta,
    Photo,
    decode_mask,
    decode_photo,
    encode_mask,
    encode_photo,
    luma,
    read_mask,
    read_photo,
    write_mask,
    write_photo,
)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY = SRGB[:16] + b"GRAY" + SRGB[20:]
KINDS = [  # every kind of photo a format holds exactly: format, bits, grey, alpha
    *itertools.product(("png", "tiff"), (8, 16), (False, True), (False, True)),
    *itertools.product(("webp",), (8,), (False,), (False, True)),
]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def levels(height: int, width: int, channels: int, bits: int) -> np.ndarray:
    return rng().integers(0, 2**bits, (height, width, channels), dtype=np.uint16 if bits == 16 else np.uint8)


def planes(samples: np.ndarray) -> torch.Tensor:
    full = np.iinfo(samples.dtype).max
    return torch.from_numpy(np.moveaxis(samples, -1, 0).astype(np.float32) / full)


def samples_of(x: torch.Tensor, bits: int) -> np.ndarray:
    """Exact integers of a read photo; a value off the grid of its bits is a failure."""
    scaled = x.double().permute(1, 2, 0).numpy() * (2**bits - 1)
    np.testing.assert_allclose(scaled, scaled.round(), atol=1e-2)
    return scaled.round().astype(np.uint16 if bits == 16 else np.uint8)


def make_exif(**tags: int | str | float) -> bytes:
    exif = Image.Exif()
    exif.update({Base[name]: value for name, value in tags.items()})
    exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = "1931:05:01 12:00:00"
    exif.get_ifd(IFD.GPSInfo)[1] = "N"
    return exif.tobytes()


def make_photo(format="png", bits=8, grey=False, alpha=False, size=(13, 17)) -> Photo:
    samples = levels(*size, 1 if grey else 3, bits)
    return Photo(
        planes(samples).expand(3, -1, -1).clone(),
        alpha=planes(levels(*size, 1, bits)) if alpha else None,
        meta=Meta(
            format,
            bits=bits,
            grey=grey,
            icc=GREY if grey else SRGB,
            exif=make_exif(ImageDescription="grandmother", Artist="unknown", Orientation=1),
            dpi=(300.0, 200.0),
        ),
    )


def saved(image: Image.Image, format: str, **settings) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **settings)
    return buffer.getvalue()


def saved_tiff(samples: np.ndarray, **settings) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **settings)
    return buffer.getvalue()


def cv2_png(samples: np.ndarray) -> bytes:
    return cv2.imencode(".png", samples)[1].tobytes()


def with_chunk(png: bytes, kind: bytes, content: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + content))
    return png[:33] + struct.pack(">I", len(content)) + kind + content + crc + png[33:]


def picture(mode: str) -> Image.Image:
    """9 x 7 noise in a Pillow mode."""
    shape = {"1": (), "L": (), "LA": (2,), "P": (), "RGB": (3,), "RGBA": (4,), "CMYK": (4,)}[mode]
    noise = rng().integers(0, 256, (7, 9, *shape), dtype=np.uint8)
    if mode == "1":
        return Image.fromarray(noise).convert("1")
    if mode == "P":
        image = Image.fromarray(noise % 16).convert("P")
        image.putpalette(rng().integers(0, 256, 48, dtype=np.uint8).tobytes())
        return image
    return Image.frombytes("CMYK", (9, 7), noise.tobytes()) if mode == "CMYK" else Image.fromarray(noise)


# ---- save, then read


@pytest.mark.parametrize(("format", "bits", "grey", "alpha"), KINDS)
def test_what_is_saved_is_what_is_read(format, bits, grey, alpha):
    photo = make_photo(format, bits, grey, alpha)
    back = decode_photo(encode_photo(photo, format, quality=100), "x")
    assert torch.equal(back.rgb, photo.rgb)
    assert back.rgb.dtype == torch.float32
    assert back.rgb.is_contiguous()
    assert (back.alpha is None) == (photo.alpha is None)
    if photo.alpha is not None:
        assert torch.equal(back.alpha, photo.alpha)
    assert replace(back.meta, exif=None) == replace(photo.meta, exif=None)
    assert_same_exif(back.meta.exif, photo.meta.exif)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("quality", [60, 95])
def test_jpeg_keeps_everything_but_the_last_levels(grey, quality):
    smooth = torch.linspace(0.1, 0.9, 40).expand(3, 24, 40).clone()
    photo = replace(make_photo("jpeg", grey=grey), rgb=smooth)
    back = decode_photo(encode_photo(photo, "jpeg", quality=quality), "x")
    assert (back.rgb - smooth).abs().max() < 0.03
    assert replace(back.meta, exif=None) == replace(photo.meta, exif=None)
    assert back.meta.exif == photo.meta.exif


def assert_same_exif(raw, expected):
    got, want = Image.Exif(), Image.Exif()
    got.load(raw)
    want.load(expected)
    for tag in (Base.ImageDescription, Base.Artist, Base.Orientation):
        assert got[tag] == want[tag]
    for ifd in (IFD.Exif, IFD.GPSInfo):
        assert got.get_ifd(ifd) == want.get_ifd(ifd)
        assert got.get_ifd(ifd)


@pytest.mark.parametrize("format", ["png", "tiff"])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_every_level_survives(format, grey, bits):
    side = 2 ** (bits // 2)
    ramp = torch.arange(side * side).reshape(1, side, side)
    rgb = ramp.repeat(3, 1, 1) if grey else torch.cat([ramp, ramp.flip(1), ramp.flip(2)])
    photo = Photo(rgb / (2**bits - 1), meta=Meta(format, bits=bits, grey=grey))
    back = decode_photo(encode_photo(photo, format), "x")
    assert torch.equal((back.rgb.double() * (2**bits - 1)).round().long(), rgb)
    assert torch.equal(back.rgb, photo.rgb)


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
@example(kind=("png", 16, True, False), height=1, width=1)
@example(kind=("tiff", 16, True, True), height=1, width=1)
def test_photos_of_any_size_are_read_back_exactly(kind, height, width):
    photo = make_photo(*kind, size=(height, width))
    assert torch.equal(decode_photo(encode_photo(photo, kind[0], quality=100), "x").rgb, photo.rgb)


@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_of_many_strips_is_read_back_exactly(bits):
    photo = make_photo("tiff", bits, alpha=True, size=(700, 1000))
    data = encode_photo(photo, "tiff")
    assert len(tifffile.TiffFile(io.BytesIO(data)).pages[0].dataoffsets) > 2
    assert torch.equal(decode_photo(data, "x").rgb, photo.rgb)


@pytest.mark.parametrize("format", FORMATS)
def test_saving_rounds_and_clamps(format):
    step = torch.tensor([-3.0, 0.4, 0.6, 99.5, 100.49, 254.6, 255.4, 1e9]) / 255
    rgb = step.reshape(1, 8, 1).repeat_interleave(8, 1).repeat(3, 1, 64)
    back = decode_photo(encode_photo(Photo(rgb), format, quality=100), "x").rgb[0, 4::8, 5]
    wanted = torch.tensor([0, 0, 1, 100, 100, 255, 255, 255])  # 99.5 to even
    assert (samples_of(back.reshape(1, 1, -1), 8).ravel() == wanted.numpy()).all() or format == "jpeg"
    assert (back * 255 - wanted).abs().max() < 2


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_16_bits_become_8_by_rounding_where_a_format_holds_no_more(format):
    photo = Photo(torch.full((3, 16, 16), 25700 / 65535 - 0.001), meta=Meta("tiff", bits=16))
    back = decode_photo(encode_photo(photo, format, quality=100), "x")
    assert back.meta.bits == 8
    assert (samples_of(back.rgb, 8) == 100).all()


def test_jpeg_leaves_alpha_out_and_the_colours_as_they_are():
    rgb = torch.full((3, 16, 16), 0.6)
    back = decode_photo(encode_photo(Photo(rgb, alpha=torch.zeros(1, 16, 16)), "jpeg"), "x")
    assert back.alpha is None
    assert (back.rgb - rgb).abs().max() < 0.01


def test_lossless_webp_keeps_the_colours_beneath_transparency():
    photo = Photo(torch.rand(3, 8, 8), alpha=torch.zeros(1, 8, 8))
    back = decode_photo(encode_photo(photo, "webp", quality=100), "x")
    assert (back.rgb - photo.rgb).abs().max() <= 0.5001 / 255


def test_grey_is_rec_601_luma():
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]).T.reshape(3, 1, 3)
    torch.testing.assert_close(luma(colours).ravel(), torch.tensor([0.299, 0.587, 0.114]))
    back = decode_photo(encode_photo(Photo(colours, meta=Meta("png", grey=True)), "png"), "x")
    assert samples_of(back.rgb, 8)[0, :, 0].tolist() == [76, 150, 29]


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


# ---- other libraries read what we write


# OpenCV multiplies the alpha of a TIFF file into its colours.
@pytest.mark.parametrize(
    ("format", "bits", "grey", "alpha"), [kind for kind in KINDS if kind[0] != "tiff" or not kind[3]]
)
def test_opencv_reads_the_pixels_we_wrote(format, bits, grey, alpha):
    photo = make_photo(format, bits, grey, alpha)
    data = np.frombuffer(encode_photo(photo, format, quality=100), np.uint8)
    seen = cv2.imdecode(data, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    assert seen.dtype == (np.uint16 if bits == 16 else np.uint8)
    if seen.ndim == 2:
        seen = seen[..., None].repeat(3, 2)
    order = [2, 1, 0]
    assert (seen[..., order] == samples_of(photo.rgb, bits)).all()
    if alpha and seen.shape[2] == 4:
        assert (seen[..., 3:] == samples_of(photo.alpha, bits)).all()


@pytest.mark.parametrize(("bits", "grey", "alpha"), [*itertools.product((8, 16), (False, True), (False, True))])
def test_tifffile_reads_the_pixels_and_tags_we_wrote(bits, grey, alpha):
    photo = make_photo("tiff", bits, grey, alpha)
    page = tifffile.TiffFile(io.BytesIO(encode_photo(photo, "tiff"))).pages[0]
    colour = photo.rgb[:1] if grey else photo.rgb
    wanted = torch.cat([colour, photo.alpha]) if alpha else colour
    assert (page.asarray().reshape(13, 17, -1) == samples_of(wanted, bits)).all()
    assert page.tags[34675].value == photo.meta.icc
    assert page.tags["ImageDescription"].value == "grandmother"
    assert page.tags["ExifTag"].value["DateTimeOriginal"] == "1931:05:01 12:00:00"
    assert [page.tags[name].value for name in ("XResolution", "YResolution")] == [(300, 1), (200, 1)]


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


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
def test_libvips_reads_the_16_bit_png_we_wrote(grey, alpha):
    photo = make_photo("png", 16, grey, alpha)
    image = pyvips.Image.new_from_buffer(encode_photo(photo, "png"), "", fail_on="warning")
    colour = photo.rgb[:1] if grey else photo.rgb
    wanted = torch.cat([colour, photo.alpha]) if alpha else colour
    assert (image.numpy().reshape(13, 17, -1) == samples_of(wanted, 16)).all()


# ---- we read what others write


@pytest.mark.parametrize(
    ("format", "mode"),
    [
        *itertools.product(["PNG", "TIFF"], ["1", "L", "LA", "P", "RGB", "RGBA"]),
        *itertools.product(["JPEG"], ["L", "RGB", "CMYK"]),
        *itertools.product(["WEBP", "BMP"], ["RGB"]),
        *itertools.product(["GIF", "BMP"], ["L", "P"]),
        ("WEBP", "RGBA"),
        ("TIFF", "CMYK"),
    ],
)
def test_every_pillow_mode_is_read_as_pillow_shows_it(format, mode):
    data = saved(picture(mode), format, **({"lossless": True, "exact": True} if format == "WEBP" else {}))
    photo = decode_photo(data, "x")
    seen = Image.open(io.BytesIO(data))
    assert (samples_of(photo.rgb, 8) == np.asarray(seen.convert("RGB"))).all()
    assert (photo.alpha is not None) == mode.endswith("A")
    if photo.alpha is not None:
        assert (samples_of(photo.alpha, 8)[..., 0] == np.asarray(seen.getchannel("A"))).all()
    assert photo.meta.grey == (mode in ("1", "L", "LA") and format != "GIF")
    assert (photo.meta.format, photo.meta.bits) == (format.lower(), 8)


@pytest.mark.parametrize(
    ("mode", "transparency"),
    [("1", 255), ("L", 7), ("P", 3), ("P", bytes(range(0, 160, 10))), ("RGB", (1, 2, 3))],
)
def test_transparency_beside_the_pixels_becomes_alpha(mode, transparency):
    image = picture(mode)
    if mode != "1":
        image.putpixel((0, 0), transparency if mode != "P" else 3)
    data = saved(image, "PNG", transparency=transparency)
    photo = decode_photo(data, "x")
    seen = Image.open(io.BytesIO(data)).convert("RGBA")
    assert (samples_of(photo.alpha, 8)[..., 0] == np.asarray(seen.getchannel("A"))).all()
    assert photo.alpha.unique().numel() > 1
    assert photo.meta.grey == (mode in ("1", "L"))


def test_transparent_gif_has_alpha():
    photo = decode_photo(saved(picture("P"), "GIF", transparency=3), "x")
    assert photo.alpha is not None
    assert photo.meta.format == "gif"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_png_by_opencv_is_read_exactly(channels):
    samples = levels(7, 9, channels, 16)
    order = [2, 1, 0, 3][:channels] if channels > 1 else [0]
    photo = decode_photo(cv2_png(samples[..., order]), "x")
    assert (samples_of(photo.rgb, 16) == samples[..., :3]).all()
    assert photo.meta == Meta("png", bits=16, grey=channels == 1)
    assert (photo.alpha is not None) == (channels == 4)


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_transparent_colour_becomes_alpha(channels):
    samples = levels(7, 9, channels, 16)
    key = struct.pack(f">{channels}H", *samples[0, 0, ::-1].tolist())
    photo = decode_photo(with_chunk(cv2_png(samples), b"tRNS", key), "x")
    assert photo.alpha[0, 0, 0] == 0
    assert photo.alpha[0, 1:].min() == 1


TIFFS_16 = {
    "grey": (1, {}),
    "white is zero": (1, {"photometric": "miniswhite"}),
    "grey and alpha": (2, {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}),
    "rgb": (3, {"photometric": "rgb"}),
    "big-endian": (3, {"photometric": "rgb", "byteorder": ">"}),
    "bigtiff": (3, {"photometric": "rgb", "bigtiff": True}),
    "tiled": (3, {"photometric": "rgb", "tile": (16, 16)}),
    "deflated": (3, {"photometric": "rgb", "compression": "zlib", "predictor": True}),
    "rgba": (4, {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "a channel of unknown meaning": (4, {"photometric": "rgb", "extrasamples": ["unspecified"]}),
}


@pytest.mark.parametrize("case", TIFFS_16)
def test_16_bit_tiff_by_tifffile_is_read_exactly(case):
    channels, how = TIFFS_16[case]
    samples = levels(7, 9, channels, 16)
    photo = decode_photo(saved_tiff(samples.squeeze(), **how), "x")
    wanted = 65535 - samples if case == "white is zero" else samples
    assert (samples_of(photo.rgb, 16) == wanted[..., : 1 if channels < 3 else 3]).all()
    assert photo.meta.bits == 16
    assert photo.meta.grey == (channels < 3)
    assert (photo.alpha is not None) == ("alpha" in case or case == "rgba")
    if photo.alpha is not None:
        assert (samples_of(photo.alpha, 16) == samples[..., -1:]).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_planes_kept_apart_in_a_tiff_are_put_together(bits):
    samples = levels(7, 9, 3, bits)
    data = saved_tiff(np.ascontiguousarray(samples.transpose(2, 0, 1)), photometric="rgb", planarconfig="separate")
    assert (samples_of(decode_photo(data, "x").rgb, bits) == samples).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_alpha_multiplied_into_the_colours_is_divided_out(bits):
    full = 2**bits - 1
    samples = np.full((4, 4, 4), full // 4, np.uint16 if bits == 16 else np.uint8)
    samples[..., 3] = full // 2
    photo = decode_photo(saved_tiff(samples, photometric="rgb", extrasamples=["assocalpha"]), "x")
    torch.testing.assert_close(photo.rgb, torch.full_like(photo.rgb, 0.5), atol=0.01, rtol=0)


def cmyk_profile() -> bytes:
    return bytes(pyvips.Operation.call("profile_load", "cmyk"))


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_becomes_srgb_through_its_profile(format):
    image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    profile = cmyk_profile()
    photo = decode_photo(saved(image, format, icc_profile=profile), "x")
    plain = decode_photo(saved(image, format), "x")
    wanted = ImageCms.profileToProfile(
        image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    np.testing.assert_allclose(samples_of(photo.rgb, 8), np.asarray(wanted), atol=2)
    assert samples_of(plain.rgb, 8)[8, 8].tolist() == pytest.approx([0, 255, 255], abs=2)
    assert (photo.rgb - plain.rgb).abs().max() > 0.1
    assert photo.meta.icc is None
    assert not photo.meta.grey


def test_16_bit_cmyk_becomes_16_bit_srgb():
    samples = levels(7, 9, 4, 16)
    plain = decode_photo(saved_tiff(samples, photometric="separated"), "x")
    ink, black = planes(samples).split([3, 1])
    torch.testing.assert_close(plain.rgb, (1 - ink) * (1 - black), atol=1 / 65535, rtol=0)
    pure = np.broadcast_to(np.array([65535, 0, 0, 0], np.uint16), (4, 4, 4)).copy()
    photo = decode_photo(saved_tiff(pure, photometric="separated", iccprofile=cmyk_profile()), "x")
    red, green, blue = photo.rgb.mean((1, 2)).tolist()
    assert red < 0.2 < 0.5 < green < blue < 0.99
    assert (plain.meta.bits, photo.meta.bits) == (16, 16)


@pytest.mark.parametrize("bits", [8, 16])
def test_profile_of_another_colour_space_is_not_kept(bits):
    samples = levels(7, 9, 3, bits)
    png = with_chunk(cv2_png(samples), b"iCCP", b"x\0\0" + zlib.compress(GREY))
    assert decode_photo(png, "x").meta.icc is None
    grey = with_chunk(cv2_png(samples[..., 0]), b"iCCP", b"x\0\0" + zlib.compress(SRGB))
    assert decode_photo(grey, "x").meta.icc is None


def test_first_page_and_first_frame_are_read():
    first, second = Image.new("RGB", (8, 6), (255, 0, 0)), Image.new("RGB", (8, 6), (0, 0, 255))
    for format in ("TIFF", "PNG", "WEBP", "GIF"):
        how = {"lossless": True} if format == "WEBP" else {}
        photo = decode_photo(saved(first, format, save_all=True, append_images=[second], **how), format)
        assert photo.rgb[:, 3, 3].tolist() == [1, 0, 0]
    pages = np.stack([levels(7, 9, 1, 16), levels(7, 9, 1, 16) // 2])
    photo = decode_photo(saved_tiff(pages, photometric="minisblack"), "x")
    assert (samples_of(photo.rgb[:1], 16) == pages[0]).all()


def test_interlaced_png_and_progressive_jpeg_are_read():
    image = picture("RGB")
    progressive = decode_photo(saved(image, "JPEG", progressive=True, quality=100, subsampling=0), "x")
    plain = decode_photo(saved(image, "JPEG", quality=100, subsampling=0), "x")
    assert torch.equal(progressive.rgb, plain.rgb)
    for bits in (8, 16):
        samples = levels(16, 16, 3, bits)
        png = pyvips.Image.new_from_array(samples).pngsave_buffer(interlace=True)
        assert png[28] == 1
        assert (samples_of(decode_photo(png, "x").rgb, bits) == samples).all()


@pytest.mark.parametrize("format", FORMATS)
def test_bytes_after_the_end_are_ignored(format):
    data = encode_photo(make_photo(format), format)
    assert torch.equal(decode_photo(data + b"\0trailing" * 50, "x").rgb, decode_photo(data, "x").rgb)


def test_dpi_in_centimetres_is_converted():
    tiff = saved_tiff(levels(4, 4, 3, 8), photometric="rgb", resolution=(100, 50), resolutionunit="CENTIMETER")
    assert decode_photo(tiff, "x").meta.dpi == (254, 127)


# ---- orientation


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


# ---- what goes wrong


def forged_png(width: int, height: int) -> bytes:
    """A valid header and an end, with next to nothing between."""
    small = encode_photo(Photo(torch.zeros(3, 1, 1)), "png")
    header = b"IHDR" + struct.pack(">II", width, height) + small[24:29]
    return small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]


def huge(format: str) -> bytes:
    return saved(Image.new("L" if format != "WEBP" else "RGB", (2000, 1000)), format)


def float_tiff() -> bytes:
    return saved_tiff(np.zeros((4, 4), np.float32))


BAD_BYTES = {
    "nothing": (lambda: b"", "x.png: is empty"),
    "text": (lambda: b"hello, I am a text file", "x.png: begins with b'hello, I'; a PNG, JPEG,"),
    "another format": (lambda: saved(picture("RGB"), "PPM"), "x.png: begins with b'P6"),
    "half a PNG": (lambda: saved(picture("RGB"), "PNG")[:120], "x.png: is cut short: the PNG data ends after 120"),
    "half a JPEG": (lambda: saved(picture("RGB"), "JPEG")[:-40], "x.png: is cut short: the JPEG data"),
    "half a WebP": (lambda: saved(picture("RGB"), "WEBP")[:-10], "x.png: is cut short: the WEBP data"),
    "half a TIFF": (lambda: saved(picture("RGB"), "TIFF")[:-10], "x.png: is cut short: the TIFF data"),
    "half a 16-bit PNG": (lambda: cv2_png(levels(9, 9, 3, 16))[:150], "x.png: is cut short: the PNG data"),
    "half a 16-bit TIFF": (lambda: saved_tiff(levels(99, 99, 1, 16)[..., 0])[:-99], "x.png: is .* TIFF"),
    "flipped bits in a PNG": (lambda: saved(picture("RGB"), "PNG").replace(b"IDATx", b"IDAT\xf0"), "damaged PNG"),
    "signature alone": (lambda: b"\x89PNG\r\n\x1a\n", "x.png: is cut short"),
    "floats": (float_tiff, "x.png: holds 32-bit floating point samples; 8 or 16 bit"),
    "32-bit integers": (lambda: saved_tiff(np.zeros((4, 4), np.uint32)), "holds 32-bit integer samples"),
    "signed": (lambda: saved_tiff(np.zeros((4, 4), np.int16)), "holds 16-bit signed samples"),
    "YCbCr without JPEG": (lambda: saved(picture("RGB").convert("YCbCr"), "TIFF"), "holds colours of TIFF kind 6"),
    "Lab": (lambda: saved_tiff(levels(4, 4, 3, 8), photometric="cielab"), "holds colours of TIFF kind 8"),
    "a forged header": (
        lambda: forged_png(10000, 10000),
        r"x.png: has 100.0 megapixels \(10000 x 10000\); the limit is 80.0 \(max_megapixels\)",
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("case", BAD_BYTES)
def test_bad_bytes_are_one_line_that_says_what_was_found(case, capfd):
    make, message = BAD_BYTES[case]
    with pytest.raises(ImageError, match=message) as caught:
        decode_photo(make(), "x.png")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(("format", "bits"), [*itertools.product(["png", "tiff"], [8, 16]), ("jpeg", 8), ("webp", 8)])
def test_no_beginning_of_a_file_is_taken_for_the_whole(format, bits, capfd):
    data = encode_photo(make_photo(format, bits, size=(5, 6)), format)
    for size in range(0, len(data), max(1, len(data) // 150)):
        with pytest.raises(ImageError, match="x: "):
            decode_photo(data[:size], "x")
    for size in range(len(data) - 20, len(data)):
        with pytest.raises(ImageError, match="x: "):
            decode_photo(data[:size], "x")
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=150, deadline=None)
@given(
    data=st.data(), kind=st.sampled_from([("png", 8), ("png", 16), ("tiff", 8), ("tiff", 16), ("jpeg", 8), ("webp", 8)])
)
def test_damage_anywhere_is_an_image_error_or_a_photo(data, kind):
    whole = bytearray(encode_photo(make_photo(*kind, size=(5, 6)), kind[0]))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ImageError):
        assert decode_photo(bytes(whole), "x", max_pixels=10_000).rgb.shape[0] == 3


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP"])
def test_limit_on_pixels_holds_for_every_format(format):
    data = huge(format)
    assert decode_photo(data, "x", max_pixels=2_000_000).rgb.shape == (3, 1000, 2000)
    with pytest.raises(ImageError, match=r"x: has 2.0 megapixels \(2000 x 1000\); the limit is 1.99"):
        decode_photo(data, "x", max_pixels=1_999_999)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "GIF", "BMP"])
def test_pillows_own_limit_does_not_matter(format, monkeypatch):
    data = saved(picture("L"), format)
    wanted = decode_photo(data, "x").rgb
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    photo = decode_photo(data, "x")
    assert torch.equal(photo.rgb, wanted)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_webp_beyond_pillows_own_limit_is_an_image_error(monkeypatch):
    data = saved(picture("RGB"), "WEBP")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ImageError, match=r"x: has more megapixels than the limit of 2e-05 \(max_megapixels\)"):
        decode_photo(data, "x")


@pytest.mark.parametrize("read", [read_photo, read_mask])
def test_paths_that_cannot_be_read_are_named(read, tmp_path):
    with pytest.raises(ImageError, match=r"gone\.png: no such file"):
        read(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="is a folder; the path of one picture"):
        read(tmp_path)
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with pytest.raises(ImageError, match=r"loop\.png: cannot be read: Too many levels of symbolic links"):
        read(tmp_path / "loop.png")


@pytest.mark.parametrize("read", [read_photo, read_mask])
def test_files_without_permission_are_named(read, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ImageError, match=r"x\.png: cannot be read: Permission denied"):
        read("x.png")


@pytest.mark.parametrize("ending", ENDINGS)
def test_format_is_told_by_the_ending_when_writing_and_by_content_when_reading(ending, tmp_path):
    path = tmp_path / f"photo{ending.upper()}"
    write_photo(path, Photo(torch.rand(3, 8, 8)))
    assert read_photo(path).meta.format == ENDINGS[ending]
    path.rename(tmp_path / "photo.txt")
    assert read_photo(tmp_path / "photo.txt").meta.format == ENDINGS[ending]


@pytest.mark.parametrize("name", ["x.gif", "x.bmp", "x", "x.jp2"])
def test_endings_that_cannot_be_written_are_refused(name, tmp_path):
    with pytest.raises(ImageError, match=rf"{name}: cannot be saved as .*\.png, \.jpg"):
        write_photo(tmp_path / name, Photo(torch.rand(3, 8, 8)))
    assert not list(tmp_path.iterdir())


def test_photos_a_format_cannot_hold_are_refused():
    with pytest.raises(ImageError, match="'gif'; one of png, jpeg, tiff, webp would be right"):
        encode_photo(Photo(torch.rand(3, 2, 2)), "gif")
    with pytest.raises(ImageError, match="is 20000 x 1 pixels; webp holds 16383 a side, png and tiff hold more"):
        encode_photo(Photo(torch.rand(3, 1, 20000)), "webp")
    with pytest.raises(ImageError, match="not a number"):
        encode_photo(Photo(torch.full((3, 2, 2), torch.nan)), "png")


@pytest.mark.parametrize("write", [write_photo, lambda path, photo: write_mask(path, photo.rgb[:1] > 0.5)])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(write, tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "x.png"
    write(path, Photo(torch.zeros(3, 8, 8)))
    old = path.read_bytes()
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(ImageError, match=r"cannot write .*x\.png: No space left on device"):
        write(path, Photo(torch.ones(3, 8, 8)))
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_an_image_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ImageError, match=r"cannot write .*file/x\.png: "):
        write_photo(tmp_path / "file" / "x.png", Photo(torch.zeros(3, 8, 8)))


def test_many_threads_read_and_write_at_once():
    photos = [make_photo(*kind) for kind in KINDS] * 4

    def there_and_back(photo: Photo) -> bool:
        data = encode_photo(photo, photo.meta.format, quality=100)
        return torch.equal(decode_photo(data, "x").rgb, photo.rgb)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(there_and_back, photos))


def test_without_pyvips_16_bit_files_say_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyvips", None)
    assert decode_photo(encode_photo(make_photo("png", 8), "png"), "x").meta.bits == 8
    with pytest.raises(
        ImageError, match=r"x: needs pyvips, as all 16-bit PNG and TIFF files do: pip install 'pyvips\[binary\]'"
    ):
        decode_photo(encode_photo(make_photo("png", 16), "png"), "x")


# ---- masks


def mask_bytes(values: np.ndarray | list) -> bytes:
    return saved(Image.fromarray(np.asarray(values, np.uint8)), "PNG")


def test_white_is_left_alone_and_black_is_filled():
    data = mask_bytes([[255, 0, 128, 127]])
    assert decode_mask(data, "m").keep.tolist() == [[[True, False, True, False]]]
    assert decode_mask(data, "m", hole="white").keep.tolist() == [[[False, True, False, True]]]
    assert decode_mask(data, "m").keep.dtype == torch.bool


def test_a_soft_mask_keeps_its_weights():
    data = mask_bytes([[255, 0, 51, 204]])
    torch.testing.assert_close(decode_mask(data, "m", soft=True).keep, torch.tensor([[[1, 0, 0.2, 0.8]]]))
    torch.testing.assert_close(decode_mask(data, "m", soft=True, hole="white").keep, torch.tensor([[[0, 1, 0.8, 0.2]]]))
    assert decode_mask(data, "m", soft=True).keep.dtype == torch.float32


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_masks_of_every_mode_mean_the_same(format, mode):
    drawn = rng().random((7, 9)) < 0.5
    image = Image.fromarray(drawn.astype(np.uint8) * 255).convert(mode)
    assert (decode_mask(saved(image, format), "m").keep[0].numpy() == drawn).all()


@pytest.mark.parametrize("keep", [torch.rand(1, 7, 9) < 0.5, torch.arange(256).reshape(1, 16, 16) / 255])
def test_a_written_mask_is_read_back(keep, tmp_path):
    write_mask(tmp_path / "m.png", keep)
    back = read_mask(tmp_path / "m.png", soft=keep.is_floating_point()).keep
    assert torch.equal(back, keep)
    assert Image.open(io.BytesIO(encode_mask(keep))).mode == "L"


def test_a_mask_is_turned_like_the_photo():
    image = Image.fromarray(np.array([[255, 0, 0]], np.uint8))
    data = saved(image, "PNG", exif=make_exif(Orientation=6))
    assert decode_mask(data, "m").keep.tolist() == [[[True], [False], [False]]]


def test_an_inverted_mask_is_suspected():
    strokes = np.zeros((40, 40), np.uint8)
    strokes[15:25, 15:25] = 255
    black, white = mask_bytes(strokes), mask_bytes(255 - strokes)
    (line,) = decode_mask(black, "m.png").warnings
    assert line.startswith("m.png: the mask looks inverted")
    assert line.endswith("set hole: white if white marks the hole")
    (line,) = decode_mask(white, "m.png", hole="white").warnings
    assert line.endswith("set hole: black if black marks the hole")
    assert decode_mask(black, "m.png", hole="white").warnings == ()
    assert decode_mask(white, "m.png").warnings == ()


def test_half_a_mask_and_a_large_hole_inside_are_not_suspected():
    half, inside = np.full((40, 40), 255, np.uint8), np.full((40, 40), 255, np.uint8)
    half[:, :25] = 0
    inside[2:-2, 2:-2] = 0
    assert decode_mask(mask_bytes(half), "m").warnings == ()
    assert decode_mask(mask_bytes(inside), "m").warnings == ()


@pytest.mark.parametrize(("grey_pixels", "doubted"), [(1, False), (2, True)])
def test_a_mask_with_grey_pixels_is_doubted(grey_pixels, doubted):
    values = np.full((40, 40), 255, np.uint8)
    values[20, :grey_pixels] = 128
    values[10] = 10
    values[11] = 245
    assert bool(decode_mask(mask_bytes(values), "m").warnings) == doubted
    assert decode_mask(mask_bytes(values), "m", soft=True).warnings == ()


def test_a_bad_mask_is_named():
    with pytest.raises(ImageError, match=r"m\.png: is empty"):
        decode_mask(b"", "m.png")
    with pytest.raises(ImageError, match=r"m\.png: has .*max_megapixels"):
        decode_mask(mask_bytes(np.zeros((9, 9))), "m.png", max_pixels=80)
