"""The files of a run's results hold what their folders and settings say, read with other libraries."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from PIL.ExifTags import Base

from repaint.jobs.running import run

from .test_run import HOLE, config, dataset

TOP, LEFT, BOTTOM, RIGHT = HOLE
KNOWN = np.ones((16, 16), bool)
KNOWN[TOP:BOTTOM, LEFT:RIGHT] = False


def levels(channels: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (16, 16, channels), dtype).squeeze()


def photo_file(folder: Path, name: str, pixels: np.ndarray, **notes: Any) -> None:
    """An image of a dataset in another format, by Pillow or, where that knows no such pixels, by OpenCV."""
    dataset(folder, f"{Path(name).stem}.png")
    (folder / "images" / f"{Path(name).stem}.png").unlink()
    path = folder / "images" / name
    if pixels.dtype == np.uint8:
        Image.fromarray(pixels).save(path, **notes)
    else:
        assert cv2.imwrite(str(path), pixels)


def result(folder: Path, name: str, **changed: Any) -> Path:
    report = run(config(folder, **changed))
    assert [r.note for r in report.records if r.status == "failed"] == []
    return folder / "out" / name


def assert_only_the_hole_changed(before: np.ndarray, after: np.ndarray) -> None:
    assert (before.shape, before.dtype) == (after.shape, after.dtype)
    assert np.array_equal(before[KNOWN], after[KNOWN])
    assert (before[~KNOWN] != after[~KNOWN]).mean() > 0.5


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [8, 16])
def test_known_pixels_are_the_same_to_the_bit_and_grey_stays_grey(tmp_path, bits, channels):
    pixels = levels(channels, np.uint16 if bits == 16 else np.uint8)
    dataset(tmp_path, "a.png")
    assert cv2.imwrite(str(tmp_path / "images" / "a.png"), pixels)
    written = result(tmp_path, "a.png")
    assert_only_the_hole_changed(pixels, cv2.imread(str(written), cv2.IMREAD_UNCHANGED))


def test_a_name_that_is_not_utf_8_is_done_and_not_done_again(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    dataset(tmp_path, "a.png")
    try:
        for folder in ("images", "masks"):
            (tmp_path / folder / "a.png").rename(tmp_path / folder / name)
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    assert result(tmp_path, name).exists()
    assert run(config(tmp_path)).skipped == 1


def test_a_grey_photo_is_grey_in_the_report_too(tmp_path):
    photo_file(tmp_path, "a.png", levels(1))
    result(tmp_path, "a.png")
    with Image.open(tmp_path / "out" / "report" / "a-result-0.jpg") as shown:
        red, green, blue = np.moveaxis(np.asarray(shown.convert("RGB")).astype(int), -1, 0)
    assert abs(red - green).max() <= 1
    assert abs(blue - green).max() <= 1


def test_a_16_bit_tiff_stays_16_bit(tmp_path):
    pixels = levels(3, np.uint16)
    photo_file(tmp_path, "a.tif", pixels)
    after = tifffile.imread(result(tmp_path, "a.tif", format="same"))
    assert_only_the_hole_changed(pixels[..., ::-1], after)


def test_transparency_is_kept_as_it_was_also_in_the_hole(tmp_path):
    pixels = levels(4)
    photo_file(tmp_path, "a.png", pixels)
    with Image.open(result(tmp_path, "a.png")) as after:
        assert after.mode == "RGBA"
        assert np.array_equal(np.asarray(after)[..., 3], pixels[..., 3])
        assert_only_the_hole_changed(pixels[..., :3], np.asarray(after)[..., :3])


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_profile_exif_and_dpi_come_through(tmp_path, ending):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[Base.Artist] = "Aunt Jo"
    photo_file(tmp_path, f"a.{ending}", levels(3), icc_profile=icc, exif=exif, dpi=(300, 300))
    with Image.open(tmp_path / "images" / f"a.{ending}") as before, Image.open(result(tmp_path, "a.png")) as after:
        assert after.info["icc_profile"] == icc
        assert after.getexif()[Base.Artist] == "Aunt Jo"
        if "dpi" in before.info:
            assert after.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_a_photo_on_its_side_is_filled_upright_where_its_upright_mask_says(tmp_path):
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    pixels = levels(3)
    photo_file(tmp_path, "a.png", pixels, exif=exif)
    with Image.open(result(tmp_path, "a.png")) as after:
        assert after.getexif().get(Base.Orientation, 1) == 1
        assert_only_the_hole_changed(np.rot90(pixels, -1), np.asarray(after))


def test_in_format_same_each_result_has_the_format_and_name_of_its_photo(tmp_path):
    formats = {"a.jpg": "JPEG", "b.JPEG": "JPEG", "c.tif": "TIFF", "d.webp": "WEBP", "e.png": "PNG"}
    for name in formats:
        photo_file(tmp_path, name, levels(3))
    photo_file(tmp_path, "f.bmp", levels(3))  # read, never written
    report = run(config(tmp_path, format="same"))
    assert report.failed == 0
    for name, format in {**formats, "f.png": "PNG"}.items():
        assert Image.open(io.BytesIO((tmp_path / "out" / name).read_bytes())).format == format


@pytest.mark.parametrize(
    ("format", "name"), [("png", "a.png"), ("tiff", "a.tiff"), ("jpeg", "a.jpg"), ("webp", "a.webp")]
)
def test_other_formats_are_written_whatever_the_photo_was(tmp_path, format, name):
    photo_file(tmp_path, "a.bmp", levels(3))
    with Image.open(result(tmp_path, name, format=format)) as after:
        assert after.format == format.upper()


def test_quality_is_of_jpeg(tmp_path):
    photo_file(tmp_path, "a.png", levels(3))
    usual = result(tmp_path, "a.jpg", format="jpeg").stat().st_size
    run(config(tmp_path, "small", format="jpeg", quality=10))
    assert (tmp_path / "small" / "a.jpg").stat().st_size < usual


@pytest.mark.parametrize("grow_px", [0, 2])
def test_more_folders_hold_photo_mask_and_photo_with_black_hole(tmp_path, grow_px):
    pixels = levels(3)
    photo_file(tmp_path, "deep.png", pixels)
    folders = {key: str(tmp_path / key) for key in ("results", "masked", "originals")} | {"masks": f"{tmp_path}/kept"}
    run(config(tmp_path, folders=folders, inpaint={"grow_px": grow_px}))
    known = cv2.erode(KNOWN.astype(np.uint8), disc(grow_px)) > 0 if grow_px else KNOWN
    read = {key: cv2.imread(f"{folder}/deep.png")[..., ::-1] for key, folder in folders.items()}
    assert np.array_equal(read["originals"], pixels)
    assert np.array_equal(read["masks"], np.where(known, 255, 0)[..., None].repeat(3, axis=2))
    assert np.array_equal(read["masked"], np.where(known[..., None], pixels, 0))
    assert np.array_equal(read["results"][known], pixels[known])
    assert not (tmp_path / "out" / "deep.png").exists()
    assert "../results/deep.png" in (tmp_path / "out" / "report.html").read_text()


def disc(radius: int) -> np.ndarray:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)


def test_more_folders_hold_16_bits_where_the_photo_does(tmp_path):
    pixels = levels(3, np.uint16)
    photo_file(tmp_path, "a.png", pixels)
    run(config(tmp_path, folders={"originals": str(tmp_path / "originals")}))
    assert np.array_equal(cv2.imread(str(tmp_path / "originals" / "a.png"), cv2.IMREAD_UNCHANGED), pixels)


def test_photos_of_subfolders_have_results_in_subfolders(tmp_path):
    dataset(tmp_path, "a.png", "deep/er/a.png")
    report = run(config(tmp_path, folders={"masked": str(tmp_path / "masked")}))
    assert [r.output for r in report.records] == ["a.png", "deep/er/a.png"]
    for name in ("a.png", "deep/er/a.png"):
        assert cv2.imread(str(tmp_path / "out" / name)) is not None
        assert cv2.imread(str(tmp_path / "masked" / name)) is not None


def test_white_marks_the_hole_if_so_said(tmp_path):
    dataset(tmp_path, "a.png")
    mask = tmp_path / "masks" / "a.png"
    cv2.imwrite(str(mask), 255 - cv2.imread(str(mask)))
    before = cv2.imread(str(tmp_path / "images" / "a.png"))
    assert_only_the_hole_changed(before, cv2.imread(str(result(tmp_path, "a.png", hole="white"))))
