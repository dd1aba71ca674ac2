"""`repaint restore` on photos that nobody expects: all of them come out, or one line says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import tifffile
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from repaint import Photo, Restore, restore
from repaint.stages.pipeline import Step

from .command import called

WORDS = ("--preset", "fast", "--prior", "base-64")  # the smaller one: a quarter of the time


def pixels(height: int, width: int, channels: int = 3) -> np.ndarray:
    """A smooth picture with a white line across it, uint8."""
    y, x = np.mgrid[:height, :width]
    made = np.stack([90 + 30 * np.sin(x / 9 + c) + 20 * np.cos(y / 7) for c in range(channels)], 2).astype(np.uint8)
    made[height // 2] = 250
    return made


def restored(path: Path, *words: object) -> Image.Image:
    out = path.with_name("new.png")
    said = called("restore", path, "--out", out, *WORDS, *words)
    assert said.code == 0, said.error
    with Image.open(out) as new:
        return new.copy()


@pytest.mark.parametrize("sides", [(1, 1), (1, 40), (16, 16), (31, 33), (24, 1500)])
def test_photos_of_any_sides_keep_them(tmp_path, sides):
    Image.fromarray(pixels(*sides)).save(tmp_path / "old.png")
    assert restored(tmp_path / "old.png").size == sides[::-1]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_photos_of_any_mode_come_out_as_they_look(tmp_path, mode):
    Image.fromarray(pixels(48, 40)).convert(mode).save(tmp_path / "old.tif")
    new = restored(tmp_path / "old.tif", "--no-color")
    with Image.open(tmp_path / "old.tif") as photo:
        old = np.asarray(photo.convert("RGB")).astype(float)
    assert new.size == (40, 48)
    assert ("A" in new.mode) == ("A" in mode)
    assert np.abs(np.asarray(new.convert("RGB")) - old).mean() < 15


def test_a_jpeg_that_windows_named_jfif_is_a_photo_in_a_folder_too(tmp_path):
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels(40, 48)).save(tmp_path / "photos" / "old.jfif", "JPEG", dpi=(150, 150))
    said = called("restore", tmp_path / "photos", "--out", tmp_path / "new", *WORDS, "--keep-format")
    assert said.code == 0, said.error
    with Image.open(tmp_path / "new" / "old.jfif") as new:
        assert (new.format, new.size, new.info["dpi"]) == ("JPEG", (48, 40), (150, 150))


def test_16_bits_stay_16_bits(tmp_path):
    tifffile.imwrite(tmp_path / "old.tif", pixels(40, 48).astype(np.uint16) * 257 + 3)
    out = tmp_path / "new.tif"
    said = called("restore", tmp_path / "old.tif", "--out", out, *WORDS, "--no-color", "--no-faces")
    assert said.code == 0, said.error
    assert tifffile.imread(out).dtype == np.uint16


def test_a_photo_without_a_face_says_so(tmp_path):
    Image.fromarray(pixels(64, 64)).save(tmp_path / "old.png")
    said = called("restore", tmp_path / "old.png", "--out", tmp_path / "new.png", *WORDS)
    assert any("no face of" in line for line in said.lines)


def test_a_photo_of_which_nothing_is_known_is_filled(tmp_path):
    Image.fromarray(pixels(40, 48)).save(tmp_path / "old.png")
    Image.new("L", (48, 40), 0).save(tmp_path / "mask.png")
    new = restored(tmp_path / "old.png", "--mask", tmp_path / "mask.png", "--no-scratches", "--no-faces", "--no-color")
    assert np.asarray(new).std() > 1


def test_a_mask_of_another_size_is_one_line(tmp_path):
    Image.fromarray(pixels(40, 48)).save(tmp_path / "old.png")
    Image.new("L", (48, 41), 0).save(tmp_path / "mask.png")
    said = called("restore", tmp_path / "old.png", "--out", tmp_path / "new.png", "--mask", tmp_path / "mask.png")
    assert said.code == 2
    assert "48 x 41" in said.error
    assert "48 x 40" in said.error


@pytest.mark.parametrize("content", [b"", b"not a picture", "half"])
def test_what_is_no_picture_is_one_line_and_nothing_is_written(tmp_path, content):
    path = tmp_path / "old.png"
    if content == "half":
        Image.fromarray(pixels(64, 64)).save(path)
        content = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(content)
    said = called("restore", path, "--out", tmp_path / "new.png", *WORDS)
    assert said.code == 2
    assert said.error.startswith(f"{path}: ")
    assert "\n" not in said.error
    assert not (tmp_path / "new.png").exists()


# ---- all stages


def every_stage(photo: Photo, **settings: object) -> Step:
    """Where the pipeline stands at its end."""
    steps: list[Step] = []
    chosen = Restore.model_validate({"preset": "fast", "prior": "base-64", **settings})
    new = restore(photo, chosen, device="cpu", tell=steps.append)
    assert list(steps[-1].results)[:3] == ["scratches", "inpaint", "faces"]
    assert bool(((new.rgb >= 0) & (new.rgb <= 1)).all())
    return steps[-1]


def head() -> Tensor:
    """(3, 256, 256) of skimage's astronaut, whose face has its middle at (130, 125)."""
    return torch.from_numpy(skimage.data.astronaut()[:256, 96:352].copy()).permute(2, 0, 1).float() / 255


def changed_by_faces(step: Step) -> Tensor:
    """(H, W) bool."""
    (before,), (after,) = step.results["inpaint"], step.results["faces"]
    return (before.rgb != after.rgb).any(0)


def test_every_stage_takes_a_photo_of_which_nothing_is_known():
    (new,) = every_stage(Photo(torch.zeros(3, 40, 48), torch.zeros(1, 40, 48, dtype=torch.bool)), scale=2).photos
    assert new.rgb.shape == (3, 80, 96)
    assert new.rgb.std() > 0.01


def test_every_stage_takes_a_long_strip():
    strip = torch.from_numpy(pixels(90, 2500)).permute(2, 0, 1) / 255
    step = every_stage(Photo(strip))
    assert step.photos[0].rgb.shape == strip.shape
    (found,) = step.results["scratches"]
    assert found.keep is not None
    assert (~found.keep[0, 45]).float().mean() > 0.9  # the white line, to its ends


def test_every_stage_takes_forty_faces():
    small = F.interpolate(head()[None], (96, 96), mode="bicubic", antialias=True)[0].clamp(0, 1)
    step = every_stage(Photo(small.repeat(1, 5, 8)))
    middles = changed_by_faces(step).unfold(0, 96, 96).unfold(1, 96, 96)[..., 30:60, 30:60]
    assert int(middles.flatten(2).any(2).sum()) > 30


@pytest.mark.parametrize("cut", [(slice(60, None), slice(None)), (slice(None), slice(74, None))], ids=["top", "left"])
def test_every_stage_takes_a_face_that_the_border_cuts(cut):
    step = every_stage(Photo(head()[:, *cut]))
    assert step.notes == ()
    assert changed_by_faces(step).float().mean() > 0.1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--out", "DIR/photos/new"), "--out: DIR/photos/new lies in images (DIR/photos), among what is read; "),
        (("--out", "DIR/new", "--mask", "DIR/nope"), "--mask: DIR/nope does not exist"),
        (("--out", "DIR/new", "--save-stages", "DIR/photos"), "--save-stages: DIR/photos lies in images (DIR/photos)"),
    ],
)
def test_what_is_wrong_with_a_run_is_said_of_options(tmp_path, words, said):
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels(40, 48)).save(tmp_path / "photos" / "old.png")
    answer = called("restore", tmp_path / "photos", *(word.replace("DIR", str(tmp_path)) for word in words))
    assert answer.code == 2
    assert answer.error.startswith(said.replace("DIR", str(tmp_path)))
