"""A run: every picture depends on its photo, its mask, the settings and its seed, and on nothing else."""

from __future__ import annotations

import dataclasses
import json
import zlib
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from repaint.config import Document
from repaint.image import read_mask, read_photo, write_mask, write_photo
from repaint.jobs import RunConfig
from repaint.jobs.running import Report, Status, run

from . import tiny

WALK = {"t_T": 4, "jump_length": 2, "jump_n_sample": 2}  # 6 network calls
HOLE = (4, 5, 11, 12)
SHAPES = {"a": (16, 16), "b": (24, 20), "c": (16, 16), "d": (20, 24), "e": (24, 20)}  # some share network calls


@cache
def prior() -> bytes:
    with TemporaryDirectory() as folder:
        path = tiny.checkpoint(Path(folder, "prior.safetensors"), num_channels=32, channel_mult="1,1")
        return path.read_bytes()


def dataset(folder: Path, *names: str, shape: tuple[int, int] = (16, 16)) -> Path:
    """The folder, with photos, each with pixels of its own, in images/, their masks in masks/, and a tiny prior."""
    for name in names:
        photo = tiny.photo(*shape, HOLE, seed=zlib.crc32(name.encode()))
        write_photo(folder / "images" / name, photo)
        write_mask((folder / "masks" / name).with_suffix(".png"), photo.keep)
    (folder / "prior.safetensors").write_bytes(prior())
    return folder


def config(folder: Path, output: str = "out", *, inpaint: dict[str, Any] | None = None, **changed: Any) -> RunConfig:
    """A run over a `dataset`."""
    stage = {"prior": str(folder / "prior.safetensors"), "sampler": {"repaint": WALK}, **(inpaint or {})}
    places = {"images": str(folder / "images"), "masks": str(folder / "masks"), "output": str(folder / output)}
    return RunConfig.model_validate({**places, "stages": [{"inpaint": stage}], "device": "cpu", **changed})


def results(folder: Path | str) -> dict[str, bytes]:
    """The files below a folder that a run promises to the byte, by name: all pictures."""
    pictures = (p for p in Path(folder).rglob("*") if p.suffix in (".png", ".jpg", ".tif", ".webp"))
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in pictures}


def lines(folder: Path | str) -> list[dict[str, Any]]:
    """The records of manifest.jsonl, as it stands."""
    return [json.loads(line) for line in Path(folder, "manifest.jsonl").read_text().splitlines()]


def statuses(config: RunConfig) -> tuple[Report, list[Status]]:
    seen: list[Status] = []
    return run(config, seen.append), seen


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """A dataset of photos of several sizes, and in out/ what a plain run over it makes."""
    folder = tmp_path_factory.mktemp("mixed")
    for stem, shape in SHAPES.items():
        dataset(folder, f"{stem}.png", shape=shape)
    report = run(config(folder))
    assert (report.done, report.failed, report.skipped) == (5, 0, 0)
    return folder


@pytest.mark.parametrize(
    "speed",
    [{"batch_size": 2}, {"batch_size": 3}, {"batch_size": 5}, {"batch_size": "auto"}, {"workers": 5}],
    ids=str,
)
def test_speed_never_changes_a_picture(mixed, tmp_path, speed):
    run(config(mixed, str(tmp_path / "out"), **speed))
    assert results(tmp_path / "out") == results(mixed / "out")


@pytest.mark.parametrize("part", [{"limit": 2}, {"offset": 3}, {"offset": 1, "limit": 3}], ids=str)
@pytest.mark.parametrize("seeds", ["name", "position"])
def test_a_run_over_a_part_makes_the_pictures_of_the_whole(mixed, tmp_path, part, seeds):
    whole, out = config(mixed, str(tmp_path / "whole"), seeds=seeds), str(tmp_path / "part")
    run(whole)
    report = run(config(mixed, out, seeds=seeds, **part))
    first = part.get("offset", 0)
    assert [r.name for r in report.records] == [f"{s}.png" for s in list(SHAPES)[first:][: part.get("limit")]]
    assert results(out).items() <= results(whole.output).items()
    assert len(results(out)) == 4 * report.done  # and three thumbnails each


def test_parts_that_follow_each_other_in_one_output_make_the_whole(mixed, tmp_path):
    out = str(tmp_path / "out")
    for offset in (3, 0):
        run(config(mixed, out, offset=offset, limit=3, batch_size=2))
    assert results(out) == results(mixed / "out")
    assert sorted(r["name"] for r in lines(out)) == [f"{stem}.png" for stem in SHAPES]


def test_a_photo_more_in_the_folder_changes_none_of_the_others(mixed, tmp_path):
    for stem, shape in SHAPES.items():
        dataset(tmp_path, f"{stem}.png", shape=shape)
    dataset(tmp_path, "aa.png", "deeper/a.png")
    run(config(tmp_path, batch_size=3))
    assert results(mixed / "out").items() <= results(tmp_path / "out").items()


def test_a_photo_added_later_is_the_only_one_made(mixed, tmp_path):
    for stem, shape in SHAPES.items():
        dataset(tmp_path, f"{stem}.png", shape=shape)
    run(config(tmp_path))
    dataset(tmp_path, "aa.png")
    report = run(config(tmp_path))
    assert (report.done, report.skipped) == (1, 5)
    assert results(mixed / "out").items() <= results(tmp_path / "out").items()


def test_a_photo_that_changed_is_made_again_and_it_alone(tmp_path):
    dataset(tmp_path, "a.png", "b.png")
    run(config(tmp_path))
    before = results(tmp_path / "out")
    write_photo(tmp_path / "images" / "b.png", tiny.photo(16, 16, seed=99))
    report = run(config(tmp_path))
    after = results(tmp_path / "out")
    assert (report.done, report.skipped) == (1, 1)
    assert (after["a.png"], after["b.png"] != before["b.png"]) == (before["a.png"], True)


@pytest.mark.parametrize("harm", [Path.unlink, lambda file: file.write_bytes(b"")], ids=["removed", "emptied"])
def test_a_result_that_was_removed_or_emptied_is_made_again_the_same(tmp_path, harm):
    dataset(tmp_path, "a.png", "b.png")
    run(config(tmp_path))
    before = results(tmp_path / "out")
    harm(tmp_path / "out" / "a.png")
    assert run(config(tmp_path)).done == 1
    assert results(tmp_path / "out") == before


def test_a_finished_run_started_again_makes_nothing_and_reports_all(mixed):
    before, manifest = results(mixed / "out"), (mixed / "out" / "manifest.jsonl").read_bytes()
    report = run(config(mixed))
    assert (report.done, report.failed, report.skipped, len(report.records)) == (0, 0, 5, 5)
    assert results(mixed / "out") == before
    assert (mixed / "out" / "manifest.jsonl").read_bytes() == manifest


def test_samples_of_a_photo_differ_and_the_first_is_the_only_one_of_a_plain_run(mixed, tmp_path):
    report = run(config(mixed, str(tmp_path / "out"), samples=3, batch_size=2, limit=2))
    found = results(tmp_path / "out")
    assert report.done == 6
    assert len({found[f"{stem}-{n}.png"] for stem in "ab" for n in (1, 2, 3)}) == 6
    assert all(found[f"{stem}-1.png"] == results(mixed / "out")[f"{stem}.png"] for stem in "ab")


def test_the_seed_changes_every_picture_in_its_hole_alone(mixed, tmp_path):
    run(config(mixed, str(tmp_path / "out"), seed=1))
    top, left, bottom, right = HOLE
    for stem in SHAPES:
        one, other = (cv2.imread(str(at / f"{stem}.png")) for at in (mixed / "out", tmp_path / "out"))
        differs = (one != other).any(axis=2)
        assert differs[top:bottom, left:right].mean() > 0.5
        differs[top:bottom, left:right] = False
        assert not differs.any()


def test_seeds_by_position_count_up_from_the_seed(mixed, tmp_path):
    run(config(mixed, str(tmp_path / "out"), seeds="position", seed=7, offset=1))
    assert [(r["name"], r["seed"]) for r in lines(tmp_path / "out")] == [
        ("b.png", 8),
        ("c.png", 9),
        ("d.png", 10),
        ("e.png", 11),
    ]


def test_seeds_by_name_differ_between_photos_and_samples(mixed, tmp_path):
    run(config(mixed, str(tmp_path / "out"), samples=2))
    seeds = [r["seed"] for r in lines(tmp_path / "out")]
    assert len(set(seeds)) == 10
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_seed_in_the_manifest_gives_the_picture_to_the_stage_alone(mixed):
    settings = config(mixed).stages[0].inpaint
    stage = settings.build("cpu")
    for record in lines(mixed / "out"):
        photo = read_photo(mixed / "images" / record["name"])
        keep = read_mask(mixed / "masks" / record["name"]).keep
        *_, progress = stage([dataclasses.replace(photo, keep=keep)], [record["seed"]])
        pixels = (progress.photos[0].rgb * 255).round().byte().permute(1, 2, 0).numpy()
        written = cv2.imread(str(mixed / "out" / record["output"]))
        assert np.array_equal(pixels, written[..., ::-1])
        assert (record["calls"], record["weights"]) == (progress.calls[0], "+".join(stage.weights.values()))


def test_config_and_report_stand_beside_the_results(mixed):
    there = Document.read(mixed / "out" / "config.yml").check(RunConfig)
    page = (mixed / "out" / "report.html").read_text()
    assert there == config(mixed)
    assert yaml.safe_load((mixed / "out" / "config.yml").read_text())["stages"][0]["inpaint"]["clip"] is True
    for record in lines(mixed / "out"):
        assert record["output"] in page
        assert f"{record['seed']}" in page


@pytest.mark.parametrize("batch_size", [1, 3])
def test_what_a_watch_is_told_never_goes_back_and_ends_at_all(mixed, tmp_path, batch_size):
    parts = config(mixed, str(tmp_path / "out"), batch_size=batch_size, samples=2)
    run(parts.model_copy(update={"limit": 1}))
    report, seen = statuses(parts)
    ready = [s.done + s.failed + s.skipped for s in seen]
    assert ready == sorted(ready)
    assert {s.total for s in seen} == {10}
    assert (seen[-1].done, seen[-1].failed, seen[-1].skipped) == (report.done, 0, 2) == (8, 0, 2)
    for before, after in pairwise(seen):
        assert 0 <= after.share <= 1
        if after.done == before.done and after.working_on == before.working_on:
            assert after.share >= before.share


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_note_names_the_photo_it_is_about(tmp_path, batch_size):
    folder = dataset(tmp_path, "large.png", shape=(24, 24))
    dataset(tmp_path, "small.png")
    both = config(folder, batch_size=batch_size)
    stages = [*both.model_dump(mode="json")["stages"], {"upscale": {"longest_px": 20}}]
    _, seen = statuses(RunConfig.model_validate({**both.model_dump(mode="json"), "stages": stages}))
    assert "large.png: is 24 px long, longest_px is 20: left as it is" in [s.remark for s in seen]
