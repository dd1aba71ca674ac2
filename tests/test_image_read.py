import io
import itertools
import struct

import numpy as np
import pytest
import pyvips
import torch
from PIL import Image, ImageCms

from repaint.image import FORMATS, Meta, decode_photo, encode_photo, of_frames

from .pictures import cv2_png, levels, make_photo, picture, planes, samples_of, saved, saved_tiff, with_chunk


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


def test_first_page_and_first_frame_are_read():
    first, second = Image.new("RGB", (8, 6), (255, 0, 0)), Image.new("RGB", (8, 6), (0, 0, 255))
    for format in ("TIFF", "PNG", "WEBP", "GIF"):
        how = {"lossless": True} if format == "WEBP" else {}
        photo = decode_photo(saved(first, format, save_all=True, append_images=[second], **how), format)
        assert photo.rgb[:, 3, 3].tolist() == [1, 0, 0]
    pages = np.stack([levels(7, 9, 1, 16), levels(7, 9, 1, 16) // 2])
    photo = decode_photo(saved_tiff(pages, photometric="minisblack"), "x")
    assert (samples_of(photo.rgb[:1], 16) == pages[0]).all()
    assert (photo.meta.frames, of_frames(2)) == (2, "holds 2 pages or frames; the first is read, and no other")


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
