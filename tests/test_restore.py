"""`repaint restore` and `repaint doctor` on the embedded weights."""

import numpy as np
import pytest
from PIL import Image

from repaint import Photo, Restore, read_photo, restore, restoring
from repaint.image import write_photo

from .command import called


@pytest.fixture
def photo(tmp_path):
    """A smooth grey photo of 72 x 60 px with one white scratch."""
    y, x = np.mgrid[:60, :72]
    pixels = (90 + 40 * np.sin(x / 14) + 30 * np.cos(y / 11)).astype(np.uint8)
    pixels[20:22, 8:60] = 255
    Image.fromarray(pixels).save(tmp_path / "old.png")
    return tmp_path / "old.png"


def test_a_scratch_is_filled_and_a_grey_photo_stays_grey(photo, tmp_path):
    said = called("restore", photo, "--out", tmp_path / "new.png", "--preset", "fast", "--no-color", "--no-faces")
    assert said.code == 0, said.error
    old, new = (np.asarray(Image.open(p)) for p in (photo, tmp_path / "new.png"))
    assert new.shape == old.shape
    assert new[20:22, 10:58].max() < 250
    changed = (new != old).mean()
    assert 0.02 < changed < 0.15
    assert any("damage found on" in line for line in said.lines)


def test_enlarging_alone_leaves_the_rest_out(photo, tmp_path):
    words = ("--no-scratches", "--no-faces", "--no-color", "--scale", "2")
    assert called("restore", photo, "--out", tmp_path / "new.png", *words).code == 0
    assert np.asarray(Image.open(tmp_path / "new.png")).shape[:2] == (120, 144)


def test_noise_alone_is_cleaned_if_asked_for(photo, tmp_path):
    smooth = np.asarray(Image.open(photo)).astype(float)
    noisy = smooth + np.random.default_rng(0).normal(0, 12, smooth.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(photo)
    words = ("--no-scratches", "--no-faces", "--no-color", "--denoise", "--strength", "1")
    assert called("restore", photo, "--out", tmp_path / "new.png", *words).code == 0
    new = np.asarray(Image.open(tmp_path / "new.png")).astype(float)
    assert new.shape == smooth.shape
    assert np.abs(new - smooth).mean() < 0.8 * np.abs(noisy - smooth).mean()


@pytest.mark.parametrize("folder", [False, True])
def test_nothing_to_do_is_said_before_any_work(photo, tmp_path, folder):
    source = photo.parent if folder else photo
    said = called("restore", source, "--out", tmp_path / "new.png", "--no-scratches", "--no-faces", "--no-color")
    assert said.code == 2
    assert (
        said.error == "nothing to do: scratches, faces, denoise and color are left out, scale is 1 and there is no mask"
    )


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--strength", "2"), "--strength: found 2.0; must be"),
        (("--scale", "0.5"), "--scale: found 0.5; must be"),
        (("--keep-format",), "--keep-format: is for folders"),
        (("--mask", "nowhere.png"), "nowhere.png: "),
        (("--preset", "best"), "--preset: found 'best'; must be one of 'fast', 'balanced', 'quality' or 'paper'"),
    ],
)
def test_options_that_cannot_be_meant_are_one_line(photo, tmp_path, words, error):
    said = called("restore", photo, "--out", tmp_path / "new.png", *words)
    assert said.code == 2
    assert said.error.startswith(error)


def test_a_photo_that_is_not_there_is_one_line_though_the_result_is(tmp_path, photo):
    said = called("restore", tmp_path / "gone.png", "--out", photo)
    assert said.code == 2
    assert said.error.startswith(f"{tmp_path}/gone.png: ")


@pytest.mark.parametrize("which", ["photo", "mask"])
def test_what_is_read_is_never_overwritten(photo, tmp_path, which):
    mask = tmp_path / "mask.png"
    Image.new("L", (72, 60), 255).save(mask)
    said = called("restore", photo, "--mask", mask, "--out", photo if which == "photo" else mask)
    assert said.code == 2
    assert said.error.endswith(f"is the {which}, which would be overwritten; choose another name")


def test_stages_of_one_photo_are_kept_in_a_folder_that_is_made(photo, tmp_path):
    words = ("--preset", "fast", "--no-faces", "--save-stages", tmp_path / "some" / "where")
    assert called("restore", photo, "--out", tmp_path / "new.png", *words).code == 0
    names = sorted(p.name for p in (tmp_path / "some" / "where").iterdir())
    assert names == ["1-scratches.png", "2-inpaint.png", "3-color.png"]


def test_ctrl_c_says_that_nothing_was_written(photo, tmp_path, monkeypatch):
    def interrupted(*words, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(restoring, "restore_file", interrupted)
    said = called("restore", photo, "--out", tmp_path / "new.png")
    assert (said.code, said.error) == (130, f"stopped; {tmp_path}/new.png was not written")


def test_a_folder_is_a_run_that_goes_on(photo, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    photo.rename(folder / "old.png")
    words = ("--out", tmp_path / "out", "--preset", "fast", "--no-faces", "--save-stages", tmp_path / "stages")
    assert called("restore", folder, *words).code == 0
    assert (tmp_path / "out" / "old.png").exists()
    assert (tmp_path / "stages" / "2-inpaint" / "old.png").exists()
    with Image.open(tmp_path / "stages" / "1-scratches" / "old.png") as mask:
        assert set(mask.convert("L").tobytes()) == {0, 255}
    again = called("restore", folder, *words)
    assert again.code == 0
    assert "1 done before" in again.lines[-1]


def test_a_photo_in_memory_is_restored_as_one_in_a_file(photo, tmp_path):
    settings = Restore(preset="fast", faces=False)
    made = restore(read_photo(photo), settings)
    assert isinstance(made, Photo)
    write_photo(tmp_path / "memory.png", made)
    assert called("restore", photo, "--out", tmp_path / "file.png", "--preset", "fast", "--no-faces").code == 0
    assert (tmp_path / "memory.png").read_bytes() == (tmp_path / "file.png").read_bytes()


def test_doctor_names_what_each_stage_uses():
    said = called("doctor")
    assert said.code == 0
    for words in ("scratches (sha256", "base-64 (sha256", "face-128 (sha256", "upscale-x2 (sha256", "torch"):
        assert words in said.out
