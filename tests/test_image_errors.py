import contextlib
import errno
import itertools
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from repaint.errors import ImageError
from repaint.image import Photo, decode_photo, encode_photo, read_mask, read_photo, write_mask, write_photo
from repaint.image.reading import PILLOW

from .pictures import cv2_png, levels, make_photo, picture, saved, saved_tiff


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
    "a phone's picture": (
        lambda: b"\0\0\0\x18ftypheic" + bytes(40),
        "x.png: is HEIC, AVIF or the like; the same picture saved as JPEG, PNG or TIFF would be right",
    ),
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
        r"x.png: has 100.0 megapixels \(10000 x 10000\); the limit is 80.0 \(max_megapixels, --max-megapixels\)",
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


def test_a_size_that_pillow_itself_refuses_is_an_image_error(monkeypatch):
    def refuse(file):  # as some of its versions do with WebP, before its size can be asked for
        raise Image.DecompressionBombError

    monkeypatch.setitem(PILLOW, "webp", refuse)
    with pytest.raises(ImageError, match=r"x: has more megapixels than the limit of 2e-05 \(max_megapixels, --max"):
        decode_photo(saved(picture("RGB"), "WEBP"), "x", max_pixels=20)


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


def test_without_pyvips_16_bit_files_say_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyvips", None)
    assert decode_photo(encode_photo(make_photo("png", 8), "png"), "x").meta.bits == 8
    with pytest.raises(
        ImageError, match=r"x: needs pyvips, as all 16-bit PNG and TIFF files do: pip install 'pyvips\[binary\]'"
    ):
        decode_photo(encode_photo(make_photo("png", 16), "png"), "x")


@pytest.mark.parametrize(
    ("rgb", "found"),
    [(torch.ones(3, 4, 5, dtype=torch.uint8), "torch.uint8"), (np.ones((3, 4, 5), np.float32), "ndarray")],
)
def test_a_photo_is_made_of_floats(rgb, found):
    with pytest.raises(ImageError, match=rf"rgb must be a tensor of floats in \[0, 1\], found {found}"):
        Photo(rgb)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_floats_of_any_width_are_a_photo_in_single_precision(dtype):
    rgb, alpha = torch.full((3, 4, 5), 0.25, dtype=dtype), torch.ones(1, 4, 5, dtype=dtype)
    photo = Photo(rgb, alpha=alpha)
    assert photo.rgb.dtype == photo.alpha.dtype == torch.float32
    assert torch.equal(photo.rgb, torch.full((3, 4, 5), 0.25))
    assert rgb.dtype == alpha.dtype == dtype


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"rgb": (1, 4, 5)}, r"rgb must be (3, H, W), found (1, 4, 5)"),
        ({"rgb": (3, 4, 5), "keep": (1, 5, 4)}, r"keep must be (1, 4, 5) as its rgb is, found (1, 5, 4)"),
        ({"rgb": (3, 4, 5), "keep": (4, 5)}, r"keep must be (1, 4, 5) as its rgb is, found (4, 5)"),
        ({"rgb": (3, 4, 5), "alpha": (3, 4, 5)}, r"alpha must be (1, 4, 5) as its rgb is, found (3, 4, 5)"),
    ],
)
def test_what_does_not_belong_together_is_no_photo(parts, said):
    with pytest.raises(ImageError) as caught:
        Photo(**{name: torch.ones(shape) for name, shape in parts.items()})
    assert str(caught.value) == f"a photo's {said}"


def test_levels_of_255_are_no_photo():
    with pytest.raises(ImageError, match=r"in \[0, 1\], found 255; levels of 255 have to be divided by 255"):
        Photo(torch.full((3, 4, 4), 255.0))
    Photo(torch.full((3, 4, 4), 1.5))  # what overshoots is clamped when it is saved
