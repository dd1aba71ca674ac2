"""What a file says beside its pixels is there after `repaint restore`, read with another library than wrote it."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image
from PIL.ExifTags import IFD, Base

from .command import called
from .pictures import SRGB, cv2_png, make_exif, with_chunk
from .test_image_exif import THUMBNAIL, camera_exif

WORDS = ("--no-scratches", "--no-faces")
KINDS = ["old.jpg", "old.png", "old16.png", "old.webp", "old.tif", "old16.tif"]
WIDTH, HEIGHT = 32, 20


def pixels(channels: int = 3) -> np.ndarray:
    """A smooth picture, lightest at the top left, uint8."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([200 - 3 * x - 4 * y - 5 * c for c in range(channels)], 2).astype(np.uint8)


def old_photo(folder: Path, name: str, *, orientation: int = 1) -> Path:
    """A photo with a profile, 300 dpi, and EXIF that tells its resolution, size and orientation."""
    exif = Image.Exif()
    exif.load(make_exif(Artist="Aunt Jo", XResolution=300.0, YResolution=300.0, ResolutionUnit=2))
    exif[Base.Orientation] = orientation
    exif.get_ifd(IFD.Exif).update({Base.ExifImageWidth: WIDTH, Base.ExifImageHeight: HEIGHT})
    deep = pixels().astype(np.uint16) * 257 + 3
    notes: dict[str, Any] = {"icc_profile": SRGB, "exif": exif.tobytes(), "dpi": (300, 300)}
    path = folder / name
    if name == "old16.png":
        png = with_chunk(cv2_png(deep[..., ::-1]), b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
        path.write_bytes(with_chunk(png, b"iCCP", b"sRGB\0\0" + zlib.compress(SRGB)))
    elif path.suffix == ".tif":
        made = deep if name == "old16.tif" else pixels()
        tags = [(Base.Artist, "s", 0, "Aunt Jo", True), (Base.Orientation, "H", 1, orientation, True)]
        more: dict[str, Any] = {"iccprofile": SRGB, "resolution": (300, 300), "resolutionunit": "INCH"}
        tifffile.imwrite(path, made, photometric="rgb", extratags=tags, **more)
    else:
        Image.fromarray(pixels()).save(path, quality=100, **notes)
    return path


def restored(photo: Path, *words: object) -> Path:
    out = photo.with_name(f"new{photo.suffix}")
    said = called("restore", photo, "--out", out, *WORDS, *words)
    assert said.code == 0, said.error
    return out


def seen(path: Path) -> Any:
    """The file as libvips reads it, not turned."""
    return pyvips.Image.new_from_file(str(path), revalidate=True)


def exif_of(path: Path) -> dict[str, str]:
    """EXIF by name, its values as texts; of TIFF files by tifffile."""
    if path.suffix == ".tif":
        with tifffile.TiffFile(path) as file:
            page: Any = file.pages[0]
            return {tag.name: str(tag.value) for tag in page.tags}
    image = seen(path)
    names = [name for name in image.get_fields() if name.startswith("exif-ifd")]
    return {name.split("-")[-1]: image.get(name).split(" (")[0] for name in names}


@pytest.mark.parametrize("name", KINDS)
def test_profile_exif_and_bits_come_through(tmp_path, name):
    new = restored(old_photo(tmp_path, name))
    image = seen(new)
    assert image.get("icc-profile-data") == SRGB
    assert exif_of(new)["Artist"] == "Aunt Jo"
    assert image.format == ("ushort" if "16" in name else "uchar")
    assert (image.width, image.height, image.bands) == (WIDTH, HEIGHT, 3)


@pytest.mark.parametrize("name", KINDS)
def test_an_enlarged_photo_is_as_large_on_paper_and_says_so_everywhere(tmp_path, name):
    new = restored(old_photo(tmp_path, name), "--no-color", "--scale", "2")
    image = seen(new)
    assert (image.width, image.height) == (2 * WIDTH, 2 * HEIGHT)
    if new.suffix != ".webp":  # which tells it in EXIF alone
        assert (image.xres * 25.4, image.yres * 25.4) == pytest.approx((600, 600), abs=0.1)
    exif = exif_of(new)
    if new.suffix == ".tif":
        assert (exif["XResolution"], exif["YResolution"], exif["ResolutionUnit"]) == ("(600, 1)", "(600, 1)", "2")
    else:
        assert (exif["XResolution"], exif["YResolution"], exif["ResolutionUnit"]) == ("600/1", "600/1", "2")
        assert (exif["PixelXDimension"], exif["PixelYDimension"]) == (str(2 * WIDTH), str(2 * HEIGHT))


def test_the_file_itself_and_its_exif_tell_one_resolution(tmp_path):
    new = restored(old_photo(tmp_path, "old.jpg"), "--no-color", "--scale", "2").read_bytes()
    at = new.index(b"JFIF\0") + 7
    assert new[at : at + 5] == bytes([1, *divmod(600, 256), *divmod(600, 256)])


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("name", KINDS)
def test_a_photo_on_its_side_is_turned_upright_once(tmp_path, name, scale):
    new = restored(old_photo(tmp_path, name, orientation=6), "--scale", scale)
    shown = seen(new).autorot()
    assert (shown.width, shown.height) == (HEIGHT * scale, WIDTH * scale)
    assert exif_of(new).get("Orientation", "1") == "1"
    light = shown.numpy().astype(float)[..., :3].mean(2)
    corners = light[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners.argmax(), corners.argmin()) == (1, 2)  # what was top left is top right
    if new.suffix != ".tif":
        told = exif_of(new)
        assert (told["PixelXDimension"], told["PixelYDimension"]) == (str(HEIGHT * scale), str(WIDTH * scale))


@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_transparency_comes_through(tmp_path, ending):
    alpha = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    alpha[:, WIDTH // 2 :] = 255
    path = tmp_path / f"old.{ending}"
    Image.fromarray(np.concatenate([pixels(), alpha], 2)).save(path, lossless=True)
    assert np.array_equal(seen(restored(path)).numpy()[..., 3:], alpha)
    double = seen(restored(path, "--scale", 2)).numpy()[..., 3]
    assert double.shape == (2 * HEIGHT, 2 * WIDTH)
    assert (double[:, : WIDTH - 4] < 3).all()
    assert (double[:, WIDTH + 4 :] > 252).all()


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bits_are_more_than_8_bits_in_a_wider_word(tmp_path, ending):
    new = restored(old_photo(tmp_path, f"old16.{ending}"), "--no-color", "--scale", "2")
    levels = cv2.imread(str(new), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    assert levels is not None
    assert levels.dtype == np.uint16
    assert len(np.unique(levels)) > 256
    assert (levels % 257 != 0).any()


def test_the_thumbnail_of_the_old_photo_is_gone(tmp_path):
    path = tmp_path / "old.jpg"
    Image.fromarray(pixels()).save(path, exif=camera_exif())
    assert seen(path).get("jpeg-thumbnail-data") == THUMBNAIL
    new = restored(path)
    assert "jpeg-thumbnail-data" not in seen(new).get_fields()
    assert THUMBNAIL[:40] not in new.read_bytes()
