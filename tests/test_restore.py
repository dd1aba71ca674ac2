"""`repaint restore` and `repaint doctor` on the embedded weights."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from repaint import ImageError, Photo, Restore, RunError, read_photo, restore, restoring
from repaint.image import write_photo
from repaint.stages.color import ColorStage

from .command import called


@pytest.fixture
def photo(tmp_path):
    """A smooth grey photo of 144 x 120 px with one white scratch."""
    y, x = np.mgrid[:120, :144]
    pixels = (90 + 40 * np.sin(x / 28) + 30 * np.cos(y / 22)).astype(np.uint8)
    pixels[40:42, 16:120] = 255
    Image.fromarray(pixels).save(tmp_path / "old.png")
    return tmp_path / "old.png"


def test_a_scratch_is_filled_and_a_grey_photo_stays_grey(photo, tmp_path):
    said = called("restore", photo, "--out", tmp_path / "new.png", "--preset", "fast", "--no-color", "--no-faces")
    assert said.code == 0, said.error
    old, new = (np.asarray(Image.open(p)) for p in (photo, tmp_path / "new.png"))
    assert new.shape == old.shape
    assert new[40:42, 18:118].max() < 250
    changed = (new != old).mean()
    assert 0.01 < changed < 0.08
    assert any("damage found on" in line for line in said.lines)


def test_enlarging_alone_leaves_the_rest_out(photo, tmp_path):
    words = ("--no-scratches", "--no-faces", "--no-color", "--scale", "2")
    assert called("restore", photo, "--out", tmp_path / "new.png", *words).code == 0
    assert np.asarray(Image.open(tmp_path / "new.png")).shape[:2] == (240, 288)


def test_noise_alone_is_cleaned_if_asked_for(photo, tmp_path):
    smooth = np.asarray(Image.open(photo)).astype(float)
    noisy = smooth + np.random.default_rng(0).normal(0, 12, smooth.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(photo)
    words = ("--no-scratches", "--no-faces", "--no-color", "--denoise", "--strength", "1")
    assert called("restore", photo, "--out", tmp_path / "new.png", *words).code == 0
    new = np.asarray(Image.open(tmp_path / "new.png")).astype(float)
    assert new.shape == smooth.shape
    assert np.abs(new - smooth).mean() < 0.8 * np.abs(noisy - smooth).mean()


def test_python_takes_a_photo_or_its_file(photo):
    plain = Restore(scratches=False, faces=False, strength=1)
    assert torch.equal(restore(photo, plain).rgb, restore(read_photo(photo), plain).rgb)
    assert torch.equal(restore(str(photo), plain).rgb, restore(read_photo(photo), plain).rgb)
    with pytest.raises(ImageError, match="no such file"):
        restore("nope.png", plain)


@pytest.mark.parametrize("folder", [False, True])
def test_nothing_to_do_is_said_before_any_work(photo, tmp_path, folder):
    source = photo.parent if folder else photo
    out = tmp_path / ("new" if folder else "new.png")
    said = called("restore", source, "--out", out, "--no-scratches", "--no-faces", "--no-color")
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
        (("--processes", 2), "--processes: is for folders"),
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
    Image.new("L", (144, 120), 255).save(mask)
    said = called("restore", photo, "--mask", mask, "--out", photo if which == "photo" else mask)
    assert said.code == 2
    assert said.error.endswith(f"is the {which}, which would be overwritten; choose another name")


def test_one_photo_is_not_written_to_a_bucket(photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = called("restore", photo, "--out", "gs://bucket/new.png")
    assert (said.code, "one photo is written to a local file" in said.error) == (2, True)
    assert not (tmp_path / "gs:").exists()


def test_a_result_too_large_for_its_format_is_refused_before_work(tmp_path, monkeypatch):
    Image.new("L", (1100, 20), 128).save(tmp_path / "long.png")
    monkeypatch.setattr(Restore, "pipeline", None)  # no work was begun
    said = called("restore", tmp_path / "long.png", "--out", tmp_path / "new.webp", "--scale", "15")
    assert said.code == 2
    assert said.error.endswith("new.webp: is 16500 x 300 pixels; webp holds 16383 a side, png and tiff hold more")


def test_stages_of_one_photo_are_kept_in_a_folder_that_is_made(photo, tmp_path):
    words = ("--preset", "fast", "--no-faces", "--save-stages", tmp_path / "some" / "where")
    assert called("restore", photo, "--out", tmp_path / "new.png", *words).code == 0
    names = sorted(p.name for p in (tmp_path / "some" / "where").iterdir())
    assert names == ["1-scratches.png", "2-inpaint.png", "3-color.png"]


def test_stages_are_written_as_soon_as_they_are_made(photo, tmp_path, monkeypatch):
    def failing(self, *given):
        raise torch.OutOfMemoryError("CUDA out of memory")
        yield

    monkeypatch.setattr(ColorStage, "__call__", failing)
    words = ("--preset", "fast", "--no-faces", "--save-stages", tmp_path / "stages")
    said = called("restore", photo, "--out", tmp_path / "new.png", *words)
    assert said.code == 2
    assert said.lines[-1].endswith(f"{photo}: cannot be restored: CUDA out of memory")
    assert sorted(p.name for p in (tmp_path / "stages").iterdir()) == ["1-scratches.png", "2-inpaint.png"]
    with pytest.raises(RunError, match="cannot be restored: CUDA out of memory"):
        restore(read_photo(photo), Restore(scratches=False, faces=False))


def test_stages_are_never_written_over_the_photo(photo, tmp_path):
    old = photo.rename(tmp_path / "1-color.png")
    words = ("--no-scratches", "--no-faces", "--save-stages", tmp_path)
    said = called("restore", old, "--out", tmp_path / "new.png", *words)
    assert (said.code, said.error) == (
        2,
        f"--save-stages {old}: is the photo, which would be overwritten; choose another name",
    )


def test_results_of_a_folder_are_never_written_over_other_files(photo, tmp_path):
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "old.png").write_bytes(photo.read_bytes())
    said = called("restore", tmp_path / "some", "--out", tmp_path, "--no-scratches", "--no-faces")
    assert (said.code, said.error) == (2, f"{photo}: is there already, and of no run; choose another output")


def test_stages_of_a_folder_are_never_written_over_other_files(photo, tmp_path):
    (tmp_path / "some").mkdir()
    photo.rename(tmp_path / "some" / "old.png")
    other = tmp_path / "stages" / "1-faces" / "old.png"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"of somebody")
    words = ("--no-scratches", "--save-stages", tmp_path / "stages")
    said = called("restore", tmp_path / "some", "--out", tmp_path / "new", *words)
    assert (said.code, said.error) == (2, f"{other}: is there already, and of no run; choose another output")


@pytest.mark.parametrize("words", [("restore",), ("detect",)])
def test_results_of_a_folder_do_not_go_into_one_named_as_a_picture(photo, tmp_path, words):
    said = called(*words, photo.parent, "--out", tmp_path / "new.png")
    assert said.code == 2
    assert re.fullmatch(r"--out \S+new\.png: is the name of a picture; a folder for the \w+ would be right", said.error)
    assert not (tmp_path / "new.png").exists()


def test_a_file_that_nobody_named_is_not_overwritten(photo, tmp_path):
    (tmp_path / "there").mkdir()
    other = tmp_path / "there" / f"{photo.stem}.png"
    other.write_bytes(b"of somebody")
    said = called("restore", photo, "--out", f"{tmp_path}/there/")
    assert said.code == 2
    assert said.error.endswith(f"{other} is there already; name the result, --out {other} if that is it")
    assert other.read_bytes() == b"of somebody"


def test_what_a_mask_marks_is_not_said_to_be_found(photo, tmp_path):
    mask = np.full((120, 144), 255, np.uint8)
    mask[60:70, 60:70] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    words = ("--mask", tmp_path / "mask.png", "--preset", "fast", "--no-faces", "--no-color")
    (line,) = (s for s in called("restore", photo, "--out", tmp_path / "new.png", *words).lines if "damage found" in s)
    assert line.endswith("of the photo, beside the mask; --no-scratches fills the mask alone")
    assert 1 < float(line.partition("found on ")[2].partition(" %")[0]) < 10


@pytest.mark.parametrize("folder", [False, True])
def test_a_result_without_a_name_is_one_line_and_nothing_is_written(photo, tmp_path, monkeypatch, folder):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    said = called("restore", photo.parent if folder else photo, "--out", "", "--no-scratches", "--no-faces")
    assert (said.code, said.error) == (2, "--out: is empty; the result, or a folder for it, would be right")
    assert not list((tmp_path / "here").iterdir())


def test_a_mask_beside_which_nothing_is_found_is_said(tmp_path):
    Image.new("L", (64, 64), 120).save(tmp_path / "plain.png")
    mask = np.full((64, 64), 255, np.uint8)
    mask[20:24, 20:40] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    words = ("--mask", tmp_path / "mask.png", "--preset", "fast", "--no-faces", "--no-color")
    said = called("restore", tmp_path / "plain.png", "--out", tmp_path / "new.png", *words)
    assert "repaint: no damage found beside the mask" in said.lines


@pytest.mark.parametrize(
    ("mode", "ending", "words"),
    [
        ("LA", "jpg", "JPEG holds no transparency"),
        ("I;16", "webp", "holds 8 bits, the photo has 16"),
        ("LA", "png", ""),
    ],
)
def test_what_a_format_cannot_hold_is_said(photo, tmp_path, mode, ending, words):
    grey = np.asarray(Image.open(photo))
    pixels = grey.astype(np.uint16) * 257 if mode == "I;16" else np.stack([grey, grey], 2)
    Image.fromarray(pixels).save(tmp_path / "other.png")
    out = tmp_path / f"new.{ending}"
    said = called("restore", tmp_path / "other.png", "--out", out, "--no-scratches", "--no-faces")
    assert said.code == 0
    assert [line for line in said.lines if "holds" in line] == [
        line for line in said.lines if words and line.startswith(f"repaint: {out}: {words}")
    ]
    assert bool(words) == any("holds" in line for line in said.lines)


@pytest.mark.parametrize("command", ["restore", "detect", "inpaint"])
def test_a_photo_with_too_many_pixels_is_refused_until_more_are_allowed(photo, tmp_path, command):
    mask = tmp_path / "mask.png"
    Image.new("L", (144, 120), 255).save(mask)
    words = {
        "restore": ("--out", tmp_path / "new.png", "--no-scratches", "--no-faces"),
        "detect": ("--out", tmp_path / "masks", "--detector", "filters"),
        "inpaint": ("--out", tmp_path / "new.png", "--mask", mask, "--t-T", "2", "--jump-length", "1"),
    }[command]
    said = called(command, photo, *words, "--max-megapixels", "0.004")
    assert said.code != 0
    assert any("0.004" in line and "max_megapixels" in line for line in said.lines)
    assert called(command, photo, *words, "--max-megapixels", "0.02").code == 0


def test_a_bucket_is_a_folder(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("repaint.cli_run.run_and_show", asked.append)
    assert called("restore", "gs://some/photos", "--out", "gs://some/new", "--no-faces").code == 0
    assert (asked[0].images, asked[0].output) == ("gs://some/photos", "gs://some/new")


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
    for words in ("scratches (sha256", "base-128 (sha256", "face-128 (sha256", "upscale-x2 (sha256", "torch"):
        assert words in said.out


def test_no_photo_is_not_the_folder_one_is_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert called("restore", "", "--out", "new.png").error == (
        "no photo is named; a photo, or a folder of photos, would be right"
    )
