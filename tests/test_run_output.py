"""An output folder holds the results of one run, and nothing that a run reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from repaint.errors import ConfigError, RunError, WeightsError
from repaint.jobs.running import run

from . import tiny
from .test_run import config, dataset, lines, results


@pytest.fixture
def finished(tmp_path) -> Path:
    """A dataset with its results in out/."""
    dataset(tmp_path, "a.png", "b.png")
    run(config(tmp_path))
    return tmp_path


def refused(folder: Path, output: str = "out", **changed) -> str:
    """What a run is refused with, which has left the folder as it was."""
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(RunError) as error:
        run(config(folder, output, **changed))
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert "\n" not in str(error.value)
    return str(error.value).replace(str(folder), "DIR")


@pytest.mark.parametrize(
    ("changed", "differs"),
    [
        ({"seed": 1}, "seed is 0 there, 1 here"),
        ({"samples": 2}, "samples is 1 there, 2 here"),
        ({"format": "tiff"}, "format is png there, tiff here"),
        ({"hole": "white"}, "hole is black there, white here"),
        ({"precision": "bfloat16"}, "precision is float32 there, bfloat16 here"),
        ({"folders": {"masks": "m"}}, "folders.masks is null there, m here"),
        ({"inpaint": {"clip": False}}, "stages[0].inpaint.clip is true there, false here"),
        (
            {"inpaint": {"sampler": {"repaint": {"t_T": 5, "jump_length": 2, "jump_n_sample": 2}}}},
            "stages[0].inpaint.sampler.repaint.t_T is 4 there, 5 here",
        ),
        ({"seed": 1, "samples": 2, "quality": 9}, "seed is 0 there, 1 here and 2 more"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_results_of_other_settings_are_refused_by_the_key_that_differs(finished, changed, differs):
    assert (
        refused(finished, **changed) == f"DIR/out: holds results of other settings ({differs}); choose another output"
    )


@pytest.mark.parametrize(
    "speed",
    [
        {"batch_size": 2},
        {"limit": 1},
        {"offset": 1},
        {"device": "auto"},
        {"precision": "float16"},  # float32 on a CPU
        {"workers": 1},
        {"max_megapixels": 1.0},
        {"inpaint": {"weights_dir": "elsewhere"}},
    ],
    ids=str,
)
def test_settings_that_no_picture_depends_on_may_change(finished, speed):
    before = results(finished / "out")
    report = run(config(finished, **speed))
    assert (report.done, report.failed) == (0, 0)
    assert report.skipped == len(report.records) > 0
    assert results(finished / "out") == before


def test_an_output_folder_that_was_moved_goes_on(finished):
    (finished / "out").rename(finished / "moved")
    assert run(config(finished, "moved")).skipped == 2


def test_photos_and_masks_that_were_moved_go_on(finished):
    before = results(finished / "out")
    for kind in ("images", "masks"):
        (finished / kind).rename(finished / f"new {kind}")
    places = {kind: f"{finished}/new {kind}/" for kind in ("images", "masks")}
    assert run(config(finished, **places)).skipped == 2
    assert results(finished / "out") == before


@pytest.mark.parametrize("names", [("a.png", "b.png"), ("c.png",)])
def test_results_of_other_photos_are_refused(finished, names):
    other = dataset(finished / "other", *names, shape=(20, 24))
    words = refused(finished, images=str(other / "images"), masks=str(other / "masks"))
    assert words == (
        "DIR/out: holds results of other settings (images is DIR/images there, DIR/other/images here and 1 more); "
        "choose another output"
    )


def test_a_run_goes_on_without_the_pictures_of_its_report(finished):
    before = results(finished / "out")
    shutil.rmtree(finished / "out" / "report")
    assert run(config(finished)).skipped == 2
    assert results(finished / "out") == {name: data for name, data in before.items() if "report/" not in name}


def test_a_folder_beside_the_results_is_made_again(tmp_path):
    dataset(tmp_path, "a.png", "b.png")
    more = {"masked": str(tmp_path / "masked"), "masks": str(tmp_path / "found")}
    run(config(tmp_path, folders=more))
    before = results(tmp_path / "masked")
    (tmp_path / "masked" / "a.png").unlink()
    report = run(config(tmp_path, folders=more))
    assert (report.done, report.skipped) == (1, 1)
    assert results(tmp_path / "masked") == before


def test_results_of_other_weights_are_refused(finished):
    tiny.checkpoint(finished / "prior.safetensors", 1, num_channels=32, channel_mult="1,1")
    there = lines(finished / "out")[0]["weights"]
    with pytest.raises(RunError, match=rf"results of other weights \(sha256 {there[:12]} there, \w{{12}} here\)"):
        run(config(finished))


def test_a_config_of_something_else_is_refused(finished):
    (finished / "out" / "config.yml").write_text("images: 3\n")
    assert refused(finished) == (
        "DIR/out/config.yml: is not of a run this version can go on with; choose another output"
    )


def test_a_file_where_the_output_should_be_is_refused(finished):
    assert refused(finished, "prior.safetensors") == "DIR/prior.safetensors: cannot be written: File exists"


def test_an_output_below_a_file_is_refused(finished):
    assert refused(finished, "prior.safetensors/out").endswith("/out: cannot be written: Not a directory")


@pytest.mark.parametrize(
    ("output", "changed", "words"),
    [
        ("images", {}, "output: DIR/images lies in images (DIR/images), among what is read; choose another"),
        ("images/new", {}, "output: DIR/images/new lies in images (DIR/images), among what is read; choose another"),
        ("masks/../masks", {}, "output: DIR/masks/../masks lies in masks (DIR/masks), among what is read;"),
        ("out", {"folders": {"masked": "images/m"}}, "folders.masked: DIR/images/m lies in images (DIR/images)"),
        ("images", {"images": "images/a.png"}, "output: DIR/images/a.png is read by this run and would be overwritten"),
        ("masks", {"masks": "masks/a.png"}, "output: DIR/masks/a.png is read by this run and would be overwritten"),
    ],
)
def test_an_output_among_what_is_read_is_refused(tmp_path, output, changed, words):
    dataset(tmp_path, "a.png", "b.png")
    if "folders" in changed:
        changed = {"folders": {key: str(tmp_path / at) for key, at in changed["folders"].items()}}
    else:
        changed = {key: str(tmp_path / at) for key, at in changed.items()}
    assert refused(tmp_path, output, **changed).startswith(words)


@pytest.mark.parametrize("folder", ["out", "more"])
def test_files_that_no_run_wrote_are_not_overwritten_by_one_that_begins(tmp_path, folder):
    dataset(tmp_path, "a.png", "b.png")
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "b.png").write_bytes(b"of somebody")
    words = refused(tmp_path, folders={"masked": str(tmp_path / "more"), "stages": str(tmp_path / "stages")})
    assert words == f"DIR/{folder}/b.png: is there already, and of no run; choose another output"


def test_a_file_where_a_photo_failed_is_not_overwritten(tmp_path):
    dataset(tmp_path, "a.png", "b.png")
    sound = (tmp_path / "images" / "a.png").read_bytes()
    (tmp_path / "images" / "a.png").write_bytes(b"no picture")
    run(config(tmp_path))
    (tmp_path / "images" / "a.png").write_bytes(sound)
    (tmp_path / "out" / "a.png").write_bytes(b"of somebody")
    assert refused(tmp_path) == "DIR/out/a.png: is there already, and of no run; choose another output"


def test_a_report_that_no_run_wrote_is_not_overwritten(tmp_path):
    dataset(tmp_path, "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("of the accountant")
    assert refused(tmp_path) == "DIR/out/report.html: is there already, and of no run; choose another output"
    assert (tmp_path / "out" / "report.html").read_text() == "of the accountant"


def test_results_may_stand_beside_a_single_photo_of_another_ending(tmp_path):
    dataset(tmp_path, "a.jpg")
    run(config(tmp_path, "images", images=str(tmp_path / "images" / "a.jpg"), masks=str(tmp_path / "masks" / "a.png")))
    assert {p.name for p in (tmp_path / "images").iterdir()} >= {"a.jpg", "a.png"}


@pytest.mark.parametrize(
    ("inpaint", "error"),
    [
        ({"prior": "nowhere.safetensors"}, WeightsError),
        ({"prior": "no-such-prior"}, WeightsError),
        ({"label": 3}, ConfigError),
    ],
    ids=str,
)
def test_what_cannot_be_built_is_said_before_any_work(tmp_path, inpaint, error):
    dataset(tmp_path, "a.png")
    with pytest.raises(error):
        run(config(tmp_path, inpaint=inpaint))
    assert results(tmp_path / "out") == {}
    assert not (tmp_path / "out" / "manifest.jsonl").exists()


def test_other_settings_are_welcome_while_the_output_holds_no_result(tmp_path):
    """So a mistake can be mended without another output: a run that failed has written its config."""
    dataset(tmp_path, "a.png")
    with pytest.raises(ConfigError):
        run(config(tmp_path, inpaint={"label": 3}))
    assert run(config(tmp_path)).done == 1
    assert "label" not in yaml.safe_load((tmp_path / "out" / "config.yml").read_text())["stages"][0]["inpaint"]


def test_what_failed_of_samples_that_are_no_longer_asked_for_is_not_in_the_report(tmp_path):
    dataset(tmp_path, "a.png")
    mask = (tmp_path / "masks" / "a.png").read_bytes()
    (tmp_path / "masks" / "a.png").write_bytes(b"")
    assert run(config(tmp_path, samples=3)).failed == 3
    (tmp_path / "masks" / "a.png").write_bytes(mask)
    report = run(config(tmp_path))
    assert [(record.sample, record.status) for record in report.records] == [(0, "done")]
    assert "is empty" not in (tmp_path / "out" / "report.html").read_text()


def test_a_report_where_one_stands_has_the_name_of_that_folder(tmp_path, monkeypatch):
    dataset(tmp_path, "a.png")
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    run(config(tmp_path).model_copy(update={"output": "."}))
    assert "<title>mine</title>" in (tmp_path / "mine" / "report.html").read_text()


def test_a_folder_in_the_output_that_images_have_too_is_refused(tmp_path):
    """The result of masked/a.png would be overwritten by a.png with its hole black."""
    dataset(tmp_path, "a.png", "masked/a.png")
    words = "folders: DIR/out/masked/a.png would be written for a.png and for masked/a.png; choose other folders"
    assert refused(tmp_path, folders={"masked": str(tmp_path / "out" / "masked")}) == words
