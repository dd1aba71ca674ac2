import io

import numpy as np
import pytest
import torch
from PIL import Image

from repaint.errors import ImageError
from repaint.image import Photo, check_mask_fits, decode_mask, encode_mask, read_mask, write_mask
from repaint.masks import make_mask

from .pictures import make_exif, rng, saved


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


def test_a_picture_to_be_expanded_is_not_suspected():
    for sides in ((64, 64), (300, 200), (101, 77)):
        keep = make_mask("expand", *sides, torch.Generator())
        assert decode_mask(encode_mask(keep), "m.png").warnings == ()
        (line,) = decode_mask(encode_mask(keep.roll(4, 1)), "m.png").warnings
        assert "looks inverted" in line


def test_an_inverted_mask_is_suspected():
    strokes = np.zeros((40, 40), np.uint8)
    strokes[12:22, 15:25] = 255
    black, white = mask_bytes(strokes), mask_bytes(255 - strokes)
    (line,) = decode_mask(black, "m.png").warnings
    assert line.startswith("m.png: the mask looks inverted")
    assert line.endswith("hole: white (--hole white) is right if white marks the hole")
    (line,) = decode_mask(white, "m.png", hole="white").warnings
    assert line.endswith("hole: black (--hole black) is right if black marks the hole")
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


def test_strokes_on_a_transparent_layer_are_no_mask():
    layer = np.zeros((20, 20, 4), np.uint8)
    layer[5:8, :, 3] = 255
    with pytest.raises(ImageError, match=r"m\.png: is transparent in part"):
        decode_mask(mask_bytes(layer), "m.png")
    layer[..., 3] = 255
    layer[10:, :, :3] = 255
    assert decode_mask(mask_bytes(layer), "m.png").keep.float().mean() == 0.5


def test_a_photo_is_no_mask_unless_masks_are_soft():
    photo = np.linspace(0, 255, 400).reshape(20, 20)
    with pytest.raises(ImageError, match=r"m\.png: looks like a photo: 9\d % of it is grey"):
        decode_mask(mask_bytes(photo), "m.png")
    soft = decode_mask(mask_bytes(photo), "m.png", soft=True)
    assert soft.keep.shape == (1, 20, 20)
    assert [doubt.endswith("% of it is grey, and is taken for weights") for doubt in soft.warnings] == [True]


@pytest.mark.parametrize(("size", "hint"), [((5, 7), "; turned by a quarter it would fit"), ((7, 6), "")])
def test_a_mask_of_another_size_is_refused_and_one_that_was_turned_is_known(size, hint):
    photo = Photo(torch.rand(3, 7, 5))
    check_mask_fits("m.png", photo, torch.ones(1, 7, 5, dtype=torch.bool))
    with pytest.raises(ImageError) as refused:
        check_mask_fits("m.png", photo, torch.ones(1, *size, dtype=torch.bool))
    said = f"m.png: the mask is {size[1]} x {size[0]} px, the photo 5 x 7; they must be of one size"
    assert str(refused.value) == said + hint
