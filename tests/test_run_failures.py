"""A photo that cannot be restored is one record that says why; the others are done."""

from __future__ import annotations

import dataclasses
import errno
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from repaint.errors import RunStopped
from repaint.image import write_mask, write_photo
from repaint.jobs.outputs import Outputs
from repaint.jobs.running import Report, run
from repaint.stages.inpaint import Inpaint

from . import tiny
from .test_run import HOLE, config, dataset, lines, results, statuses

GOOD = ["a.png", "m.png", "z.png"]


def png_header_of(width: int, height: int) -> bytes:
    """A PNG that claims a size and ends after saying so."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def truncated_jpeg() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    return cv2.imencode(".jpg", pixels)[1].tobytes()[:-40]


BAD = {  # the bytes of the image, of the mask (None: as they were), and what its record says
    "empty": (b"", None, "empty.png: is empty (0 bytes)"),
    "text": (b"This is no picture.\n", None, "text.png: begins with b'This is ';"),
    "bomb": (png_header_of(12500, 8000), None, "bomb.png: has 100.0 megapixels (12500 x 8000); the limit is 80.0"),
    "cut": (truncated_jpeg(), None, "cut.png: is cut short:"),
    "other": (None, tiny.photo(24, 20, HOLE).keep, "other.png: the mask is 20 x 24 px, the photo 16 x 16;"),
    "mask": (None, b"", "mask.png: is empty (0 bytes)"),
}


def harm(folder: Path, stem: str) -> None:
    image, mask, _ = BAD[stem]
    if image is not None:
        (folder / "images" / f"{stem}.png").write_bytes(image)
    if isinstance(mask, bytes):
        (folder / "masks" / f"{stem}.png").write_bytes(mask)
    elif mask is not None:
        write_mask(folder / "masks" / f"{stem}.png", mask)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A dataset of sound photos, and in out/ a run over it."""
    folder = dataset(tmp_path_factory.mktemp("sound"), *GOOD, *(f"{stem}.png" for stem in BAD))
    run(config(folder))
    return folder


@pytest.fixture(scope="module")
def harmed(tmp_path_factory) -> tuple[Path, Report]:
    """The same, some of them harmed."""
    folder = dataset(tmp_path_factory.mktemp("harmed"), *GOOD, *(f"{stem}.png" for stem in BAD))
    for stem in BAD:
        harm(folder, stem)
    return folder, run(config(folder, batch_size=2))


@pytest.mark.parametrize("stem", BAD)
def test_a_bad_file_is_one_failed_record_with_the_reason_in_one_line(harmed, stem):
    folder, report = harmed
    found = [r for r in report.records if r.name == f"{stem}.png"]
    assert [(r.status, r.output, r.calls) for r in found] == [("failed", None, 0)]
    assert BAD[stem][2] in found[0].note
    assert "\n" not in found[0].note
    assert not (folder / "out" / f"{stem}.png").exists()


def test_the_others_are_done_as_if_the_bad_ones_were_sound(harmed, sound):
    folder, report = harmed
    assert (report.done, report.failed, report.skipped) == (len(GOOD), len(BAD), 0)
    assert results(folder / "out").items() <= results(sound / "out").items()
    assert [r.name for r in report.records if r.status == "done"] == GOOD


def test_the_report_names_what_failed_and_why(harmed):
    folder, report = harmed
    page = (folder / "out" / "report.html").read_text()
    for record in report.records:
        assert record.name in page
    assert "12500 x 8000" in page


def test_a_mended_photo_is_done_at_the_next_start_and_the_rest_tried_again(sound, tmp_path):
    dataset(tmp_path, "a.png", "cut.png", "text.png")
    harm(tmp_path, "cut")
    harm(tmp_path, "text")
    run(config(tmp_path))
    dataset(tmp_path, "cut.png")
    report = run(config(tmp_path))
    assert (report.done, report.failed, report.skipped) == (1, 1, 1)
    assert {r.name: r.status for r in report.records} == {"a.png": "done", "cut.png": "done", "text.png": "failed"}
    assert results(tmp_path / "out").items() <= results(sound / "out").items()


def test_a_bad_photo_fails_once_for_each_sample(tmp_path):
    dataset(tmp_path, "a.png", "text.png")
    harm(tmp_path, "text")
    report, seen = statuses(config(tmp_path, samples=2))
    assert (report.done, report.failed) == (2, 2)
    assert [(r.name, r.sample) for r in report.records if r.status == "failed"] == [("text.png", 0), ("text.png", 1)]
    assert seen[-1].done + seen[-1].failed == seen[-1].total == 4
    assert any(s.remark and s.remark.startswith("failed: ") and "text.png" in s.remark for s in seen)


@pytest.fixture
def break_stage(monkeypatch) -> Callable[[BaseException, int], None]:
    """A function: let the stage raise an error in the middle of any batch that holds the photo of a seed."""
    build = Inpaint.build

    def broken(error: BaseException, seed: int) -> None:
        def built(*args, **settings):
            stage = build(*args, **settings)

            def run(photos, seeds):
                for i, progress in enumerate(stage.run(photos, seeds)):
                    if i == 3 and seed in seeds:
                        raise error
                    yield progress

            return dataclasses.replace(stage, run=run)

        monkeypatch.setattr(Inpaint, "build", built)

    return broken


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("out of memory.\nTried to"),
        MemoryError(),
        ValueError("no"),
        IndexError("i"),
        OSError(),
    ],
    ids=repr,
)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_photo_the_stage_fails_at_fails_alone(sound, tmp_path, break_stage, monkeypatch, error, batch_size):
    dataset(tmp_path, *GOOD)
    seeds = {r["name"]: r["seed"] for r in lines(sound / "out")}
    break_stage(error, seeds["m.png"])
    report = run(config(tmp_path, batch_size=batch_size))
    assert (report.done, report.failed) == (2, 1)
    assert [r.note for r in report.records if r.status == "failed"] == [
        ": ".join(filter(None, (type(error).__name__, str(error).split("\n")[0])))
    ]
    monkeypatch.undo()
    assert run(config(tmp_path, batch_size=batch_size)).done == 1
    assert results(tmp_path / "out").items() <= results(sound / "out").items()


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_gpu_that_no_longer_answers_stops_the_run_and_no_photo_fails(
    sound, tmp_path, break_stage, monkeypatch, batch_size
):
    dataset(tmp_path, *GOOD)
    seeds = {r["name"]: r["seed"] for r in lines(sound / "out")}
    break_stage(RuntimeError("CUDA error: uncorrectable ECC error encountered\nmore"), seeds["m.png"])
    kept = 1 if batch_size == 1 else 0
    why = rf"^the GPU no longer answers \(RuntimeError: CUDA error: unc.* encountered\); results kept: {kept}, the same"
    with pytest.raises(RunStopped, match=why):
        run(config(tmp_path, batch_size=batch_size))
    monkeypatch.undo()
    report = run(config(tmp_path, batch_size=batch_size))
    assert (report.done, report.failed, report.skipped) == (3 - kept, 0, kept)
    assert {r["status"] for r in lines(tmp_path / "out")} == {"done"}


def test_a_photo_that_changed_and_failed_is_tried_again_though_its_old_result_is_there(
    sound, tmp_path, break_stage, monkeypatch
):
    dataset(tmp_path, "m.png")
    write_photo(tmp_path / "images" / "m.png", tiny.photo(16, 16, seed=99))
    run(config(tmp_path))
    dataset(tmp_path, "m.png")
    break_stage(RuntimeError("no"), lines(tmp_path / "out")[0]["seed"])
    assert run(config(tmp_path)).failed == 1
    monkeypatch.undo()
    assert run(config(tmp_path)).done == 1
    assert results(tmp_path / "out").items() <= results(sound / "out").items()


def test_a_result_that_is_not_a_number_fails_alone(sound, tmp_path, monkeypatch):
    """Half precision may overflow; the run must not stop at the same photo every time."""
    dataset(tmp_path, *GOOD)
    build = Inpaint.build

    def built(*args, **settings):
        stage = build(*args, **settings)

        def run(photos, seeds):
            for progress in stage.run(photos, seeds):
                first, *others = progress.photos
                spoilt = dataclasses.replace(first, rgb=first.rgb.log().log())
                yield dataclasses.replace(progress, _photos=lambda s=spoilt, o=others: [s, *o])

        return dataclasses.replace(stage, run=run)

    monkeypatch.setattr(Inpaint, "build", built)
    report = run(config(tmp_path, batch_size=2))
    assert [(r.name, r.status) for r in report.records] == [("a.png", "failed"), ("m.png", "done"), ("z.png", "failed")]
    assert "not a number" in report.records[0].note
    assert not (tmp_path / "out" / "a.png").exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("not enough memory: you tried to allocate 9 bytes")])
def test_a_result_too_large_to_be_written_fails_alone(tmp_path, monkeypatch, error):
    dataset(tmp_path, *GOOD)
    write = Outputs.write

    def written(self, item, *args):
        if item.name == "m.png":
            raise error
        return write(self, item, *args)

    monkeypatch.setattr(Outputs, "write", written)
    report = run(config(tmp_path))
    assert [(r.name, r.status) for r in report.records] == [("a.png", "done"), ("m.png", "failed"), ("z.png", "done")]
    assert "m.png: cannot be written: " in report.records[1].note


def test_a_name_too_long_for_its_thumbnails_fails_alone(tmp_path):
    dataset(tmp_path, "a.png")
    long = "n" * 230 + ".png"
    for folder in ("images", "masks"):
        (tmp_path / folder / long).write_bytes((tmp_path / folder / "a.png").read_bytes())
    report = run(config(tmp_path))
    assert [(r.name, r.status) for r in report.records] == [("a.png", "done"), (long, "failed")]
    assert "too long" in report.records[1].note


def test_a_photo_that_cannot_be_opened_fails_alone(tmp_path):
    dataset(tmp_path, "a.png", "gone.png")
    (tmp_path / "images" / "gone.png").unlink()
    (tmp_path / "images" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    report = run(config(tmp_path))
    assert [(r.name, r.status) for r in report.records] == [("a.png", "done"), ("gone.png", "failed")]
    assert report.records[1].note == f"{tmp_path}/images/gone.png: cannot be read: {os.strerror(errno.ENOENT)}"


def test_an_empty_mask_leaves_the_photo_as_it_is_and_says_so(tmp_path):
    dataset(tmp_path, "a.png", "b.png")
    write_mask(tmp_path / "masks" / "a.png", tiny.photo(16, 16).keep)
    report, seen = statuses(config(tmp_path, batch_size=2))
    assert [(r.status, r.calls) for r in report.records] == [("done", 0), ("done", 6)]
    assert report.records[0].note == "the mask marks nothing to fill; written unchanged"
    assert any(s.remark == f"a.png: {report.records[0].note}" for s in seen)
    photo, result = (cv2.imread(str(tmp_path / at / "a.png")) for at in ("images", "out"))
    assert np.array_equal(photo, result)


def test_a_full_mask_invents_all_of_the_picture_and_says_so(tmp_path):
    dataset(tmp_path, "a.png")
    write_mask(tmp_path / "masks" / "a.png", tiny.photo(16, 16, (0, 0, 16, 16)).keep)
    report, seen = statuses(config(tmp_path))
    assert [(r.status, r.calls) for r in report.records] == [("done", 6)]
    assert report.records[0].note == "the mask keeps nothing; all of the picture is invented"
    assert not any(s.remark and "looks inverted" in s.remark for s in seen)  # said once, and better


def test_a_file_where_a_photo_needs_a_folder_fails_that_photo_alone(tmp_path):
    dataset(tmp_path, "a.png", "b/c.png", "d.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b").write_bytes(b"of somebody")
    report = run(config(tmp_path))
    assert (report.done, report.failed) == (2, 1)
    assert "b/c.png: a file has the name of a folder of its result" in lines(tmp_path / "out")[1]["note"]
