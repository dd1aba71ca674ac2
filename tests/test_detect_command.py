"""`repaint detect`: masks that everything else takes, and pictures to look at."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repaint import detect_files
from repaint.image import read_mask
from repaint.single import of_damage

from . import tiny
from .command import called, png, read

SIDE = 64


def scratched(*, seed: int = 0, column: int = 20) -> np.ndarray:
    """Grey grain in colour, with a light line down a column."""
    grain = np.random.default_rng(seed).normal(110, 4, (SIDE, SIDE, 1))
    pixels = np.repeat(grain, 3, 2) + np.array([20, 0, -20])
    pixels[8:56, column : column + 2] = 230
    return pixels.round().clip(0, 255).astype(np.uint8)


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    (folder / "a.png").write_bytes(png(scratched()))
    (folder / "more" / "b.png").write_bytes(png(scratched(seed=1, column=40)))
    return folder


def detect(*words: object):
    return called("detect", *words, "--detector", "filters", "--device", "cpu")


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_gives_a_mask_and_an_overlay_for_each_photo(photos, tmp_path):
    before = [(photos / name).read_bytes() for name in names(photos)]
    said = detect(photos, "--out", tmp_path / "masks")
    assert said.code == 0
    assert names(tmp_path / "masks") == ["a.png", "a_overlay.jpg", "more/b.png", "more/b_overlay.jpg"]
    assert said.lines[-1] == f"repaint: wrote 2 masks to {tmp_path / 'masks'}"
    assert [line.split(": ")[1] for line in said.lines[:-1]] == ["a.png", "more/b.png"]
    assert [(photos / name).read_bytes() for name in names(photos)] == before


def test_masks_are_white_to_keep_and_black_to_fill(photos, tmp_path):
    detect(photos / "a.png", "--out", tmp_path / "masks")
    found = read(tmp_path / "masks" / "a.png")
    assert found.shape == (SIDE, SIDE)
    assert set(np.unique(found)) == {0, 255}
    assert (found[12:52, 20:22] == 0).mean() > 0.9
    assert (found == 0).mean() < 0.15
    assert read_mask(tmp_path / "masks" / "a.png").warnings == ()


def test_an_overlay_is_grey_with_the_damage_in_red(photos, tmp_path):
    detect(photos / "a.png", "--out", tmp_path / "masks")
    hole = read(tmp_path / "masks" / "a.png") == 0
    with Image.open(tmp_path / "masks" / "a_overlay.jpg") as image:
        assert image.mode == "RGB"
        red, green, blue = np.asarray(image).astype(int).transpose(2, 0, 1)
    assert red.shape == hole.shape
    assert (red - green)[hole].mean() > 100
    assert np.abs(red - blue)[:, 40:].mean() < 5


def test_a_run_takes_the_masks(photos, tmp_path):
    assert detect(photos, "--out", tmp_path / "masks", "--grow-px", 2).code == 0
    tiny.checkpoint(tmp_path / "prior.safetensors")
    (tmp_path / "c.yml").write_text(f"""\
images: {photos}
masks: {tmp_path}/masks
output: {tmp_path}/out
stages:
  - inpaint:
      prior: {tmp_path}/prior.safetensors
      sampler: {{repaint: {{t_T: 2, jump_length: 1, jump_n_sample: 1}}}}
""")
    assert called("run", tmp_path / "c.yml").code == 0
    kept = read(tmp_path / "masks" / "more" / "b.png") == 255
    before, after = read(photos / "more" / "b.png"), read(tmp_path / "out" / "more" / "b.png")
    assert (before[kept] == after[kept]).all()
    assert (before[~kept] != after[~kept]).any()


def test_more_sensitivity_marks_more_and_growing_too(photos, tmp_path):
    marked = []
    for i, words in enumerate([("--sensitivity", 0.3), (), ("--sensitivity", 0.9), ("--grow-px", 4)]):
        detect(photos / "a.png", "--out", tmp_path / str(i), *words)
        marked.append(int((read(tmp_path / str(i) / "a.png") == 0).sum()))
    less, usual, more, grown = marked
    assert less < usual < more
    assert usual < grown


def test_small_marks_are_left_out(photos, tmp_path):
    detect(photos / "a.png", "--out", tmp_path / "masks", "--min-area", 10_000)
    assert (read(tmp_path / "masks" / "a.png") == 255).all()


def test_the_map_is_written_when_asked_for(photos, tmp_path):
    detect(photos / "a.png", "--out", tmp_path / "masks", "--probability", "--grow-px", 0)
    assert names(tmp_path / "masks") == ["a.png", "a_overlay.jpg", "a_probability.png"]
    probability, hole = read(tmp_path / "masks" / "a_probability.png"), read(tmp_path / "masks" / "a.png") == 0
    assert probability[hole].mean() > 100 > probability[~hole].mean()


def test_a_bad_file_is_one_line_and_the_rest_goes_on(photos, tmp_path):
    (photos / "c.png").write_bytes(b"no picture")
    said = detect(photos, "--out", tmp_path / "masks")
    assert said.code == 1
    assert [line for line in said.lines if "c.png" in line] == [said.lines[1]]
    assert said.lines[-1] == f"repaint: wrote 2 masks to {tmp_path / 'masks'}, 1 failed"
    assert "c.png" not in names(tmp_path / "masks")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("gone.png", "--out", "m"), "gone.png: does not exist"),
        (("empty", "--out", "m"), "empty: holds no photos"),
        (("photos", "--out", ""), "--out: is empty; a folder for the masks would be right"),
        (("photos", "--out", "photos/masks"), "--out photos/masks: lies in photos, among the photos"),
        (("photos/a.png", "--out", "photos"), "--out photos: is the folder of the photo"),
        (("twins", "--out", "m"), "twins: a.jpg and a.png would both write a.png; rename one"),
        (("photos", "--out", "m", "--device", "gpu"), "--device: found 'gpu'; must be one of 'auto', 'cpu'"),
        (("photos", "--out", "m", "--detector", "eyes"), "--detector: found 'eyes'; must be"),
        (("photos", "--out", "m", "--weights", "gone.safetensors"), "gone.safetensors: no such weights file"),
    ],
)
def test_what_cannot_start_is_one_line(words, line, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "twins").mkdir()
    for name in ("a.jpg", "a.png"):
        (tmp_path / "twins" / name).write_bytes(png(scratched()))
    said = called("detect", *words)
    assert said.code == 2
    assert said.error.startswith(line)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("ending", [".png", "_overlay.jpg", "_probability.png"])
def test_nothing_is_written_over_files_of_others(ending, photos, tmp_path):
    theirs = tmp_path / f"a{ending}"
    theirs.write_bytes(png(scratched()))
    for source in (photos, photos / "a.png"):
        said = detect(source, "--out", tmp_path, "--probability")
        assert (said.code, said.error) == (
            2,
            f"--out {tmp_path}: {theirs} is there already, and no mask of ours; choose another folder",
        )
    assert theirs.read_bytes() == png(scratched())


def test_our_own_masks_are_written_again(photos, tmp_path):
    for words in ((), ("--sensitivity", "0.6"), ("--probability",), ("--probability",)):
        assert detect(photos, "--out", tmp_path / "masks", *words).code == 0


@pytest.mark.parametrize(("what", "words"), [("overlay", ()), ("probability", ("--probability",))])
def test_what_would_have_the_name_of_a_mask_is_refused(what, words, photos, tmp_path):
    (photos / f"a_{what}.png").write_bytes(png(scratched()))
    said = detect(photos, "--out", tmp_path / "masks", *words)
    assert (said.code, said.error) == (
        2,
        f"{photos}: the {what} of a.png has the name of the mask of a_{what}.png; rename one",
    )


def test_the_name_of_a_probability_is_free_if_none_is_written(photos, tmp_path):
    (photos / "a_probability.png").write_bytes(png(scratched()))
    assert detect(photos, "--out", tmp_path / "masks").code == 0


def test_a_mask_and_an_overlay_of_others_are_not_written_over(photos, tmp_path):
    assert detect(photos, "--out", tmp_path / "m").code == 0
    for i, name in enumerate(("a.png", "a_overlay.jpg")):
        there = tmp_path / "m" / name
        there.write_bytes(b"theirs")
        os.utime(there, ns=(10**18, 10**18 + i * 10**7))  # one after the other
    assert detect(photos, "--out", tmp_path / "m").code == 2
    assert there.read_bytes() == b"theirs"


def test_a_mask_that_took_long_to_write_is_not_taken_for_a_corrected_one(photos, tmp_path, monkeypatch):
    write = detect_files.write_mask

    def slowly(path, keep):
        write(path, keep)
        later = os.stat(path).st_mtime + 60
        os.utime(path, (later, later))

    monkeypatch.setattr(detect_files, "write_mask", slowly)
    for _ in range(2):
        assert detect(photos, "--out", tmp_path / "m").code == 0


def test_a_mask_corrected_by_hand_is_not_written_over(photos, tmp_path):
    assert detect(photos, "--out", tmp_path / "m").code == 0
    assert detect(photos, "--out", tmp_path / "m").code == 0
    mask = tmp_path / "m" / "a.png"
    mask.write_bytes(png(np.zeros((SIDE, SIDE, 3), np.uint8)))
    an_hour_later = mask.stat().st_mtime + 3600
    os.utime(mask, (an_hour_later, an_hour_later))
    before = mask.read_bytes()
    said = detect(photos, "--out", tmp_path / "m")
    assert (said.code, said.error) == (
        2,
        f"--out {tmp_path / 'm'}: {mask} was changed since it was found, or never found here; choose another folder",
    )
    assert mask.read_bytes() == before


def test_photos_of_formats_that_are_not_read_are_named(photos, tmp_path):
    (photos / "more" / "c.heic").write_bytes(b"")
    unread = f"more/c.heic of {photos}: not read; convert to JPEG, PNG or TIFF"
    said = detect(photos, "--out", tmp_path / "m")
    assert (said.code, said.lines[0]) == (0, f"repaint: {unread}")
    for name in ("a.png", "more/b.png"):
        (photos / name).unlink()
    said = detect(photos, "--out", tmp_path / "m")
    assert (said.code, said.error.endswith(f"; {unread}")) == (2, True)


@pytest.mark.parametrize("command", ["detect", "restore"])
def test_a_photo_without_damage_is_said_to_have_none(command, tmp_path):
    (tmp_path / "plain.png").write_bytes(png(np.full((SIDE, SIDE, 3), 120, np.uint8)))
    out = tmp_path / ("masks" if command == "detect" else "new.png")
    said = called(command, tmp_path / "plain.png", "--out", out)
    assert said.code == 0
    assert any(line.endswith(": no damage found") for line in said.lines)


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.0, "no damage found"),
        (1e-6, "damage found on less than 0.01 % of the photo"),
        (0.0123, "damage found on 1.23 % of the photo"),
    ],
)
def test_a_little_damage_is_not_said_to_be_none(share, words):
    assert of_damage(share) == words
