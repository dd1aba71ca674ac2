import io
import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
import pyvips
import tifffile
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from repaint.image import ENDINGS, FORMATS, Meta, Photo, decode_photo, encode_photo, luma, read_photo, write_photo

from .pictures import KINDS, assert_same_exif, make_photo, samples_of


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
    step = torch.tensor([-3.0, 0.4, 0.6, 99.5, 100.49, 254.6, 255.4, 1000]) / 255
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


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
def test_libvips_reads_the_16_bit_png_we_wrote(grey, alpha):
    photo = make_photo("png", 16, grey, alpha)
    image = pyvips.Image.new_from_buffer(encode_photo(photo, "png"), "", fail_on="warning")
    colour = photo.rgb[:1] if grey else photo.rgb
    wanted = torch.cat([colour, photo.alpha]) if alpha else colour
    assert (image.numpy().reshape(13, 17, -1) == samples_of(wanted, 16)).all()


@pytest.mark.parametrize("ending", ENDINGS)
def test_format_is_told_by_the_ending_when_writing_and_by_content_when_reading(ending, tmp_path):
    path = tmp_path / f"photo{ending.upper()}"
    write_photo(path, Photo(torch.rand(3, 8, 8)))
    assert read_photo(path).meta.format == ENDINGS[ending]
    path.rename(tmp_path / "photo.txt")
    assert read_photo(tmp_path / "photo.txt").meta.format == ENDINGS[ending]


def test_many_threads_read_and_write_at_once():
    photos = [make_photo(*kind) for kind in KINDS] * 4

    def there_and_back(photo: Photo) -> bool:
        data = encode_photo(photo, photo.meta.format, quality=100)
        return torch.equal(decode_photo(data, "x").rgb, photo.rgb)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(there_and_back, photos))
