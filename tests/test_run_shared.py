"""A run that several processes share is the run that one makes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch

from repaint.errors import RunStopped
from repaint.jobs import Manifest, crew, member, paired
from repaint.jobs.running import run

from .test_run import config, dataset, lines, results, statuses

NAMES = [f"{stem}.png" for stem in "abcde"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """A dataset, and in out/ what one process makes of it."""
    folder = dataset(tmp_path_factory.mktemp("alone"), *NAMES)
    run(config(folder))
    return folder


@pytest.fixture
def begun(monkeypatch) -> list[int]:
    """The processes that a run begins, by id."""
    ids: list[int] = []
    begin = subprocess.Popen

    def remembered(*args, **more):
        one = begin(*args, **more)
        ids.append(one.pid)
        return one

    monkeypatch.setattr(subprocess, "Popen", remembered)
    return ids


def is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_two_processes_make_what_one_makes_and_a_bad_photo_stops_neither(alone, tmp_path, begun):
    folder = dataset(tmp_path, *NAMES, "f.png")
    (folder / "images" / "f.png").write_bytes(b"no picture")
    report, seen = statuses(config(folder, processes=2))
    assert (report.done, report.failed, report.skipped, len(begun)) == (5, 1, 0, 2)
    assert results(folder / "out") == results(alone / "out")
    assert sorted(r["name"] for r in lines(folder / "out")) == [*NAMES, "f.png"]
    assert {r["status"] for r in lines(folder / "out")} == {"done", "failed"}
    (remark,) = [status.remark for status in seen if status.remark]
    assert remark.startswith(f"failed: {folder}/images/f.png: begins with b'no pictu'")
    assert [status.done for status in seen] == sorted(status.done for status in seen)
    assert {name for status in seen for name in status.working_on} == set(NAMES)
    assert all(0 <= status.share <= 1 for status in seen)
    assert "f.png" in (folder / "out" / "report.html").read_text()
    again, _ = statuses(config(folder, processes=2))  # which is one, for one photo is left
    assert (again.done, again.failed, again.skipped, len(begun)) == (0, 1, 5, 2)


def killing(begun: list[int], count: int, said: list[str | None]):
    """What kills so many of two processes when they have begun, and listens."""

    def watch(status) -> None:
        said.append(status.remark)
        if len(begun) == 2 and not status.working_on and status.remark is None:
            for _ in range(count):
                os.kill(begun.pop(0), signal.SIGKILL)

    return watch


def test_one_that_is_killed_is_said_and_the_other_makes_its_photos(tmp_path, begun):
    folder = dataset(tmp_path, *(f"{i:02}.png" for i in range(9)))
    said = []
    report = run(config(folder, processes=2), killing(begun, 1, said))
    assert (report.done, report.failed) == (9, 0)
    assert "processes: 1 of 2 ended by signal 9; its photos go to the others" in said
    assert run(config(folder, "alone")).done == 9
    assert results(folder / "out") == results(folder / "alone")


def test_where_all_are_killed_the_next_start_does_what_is_missing(alone, tmp_path, begun):
    out, said = str(tmp_path / "out"), []
    with pytest.raises(RunStopped, match=r"^processes: 2 of 2 ended before .*; results kept: [0-4], the same command"):
        run(config(alone, out, processes=2), killing(begun, 2, said))
    assert [r for r in said if r][-1] in [
        f"processes: {n} of 2 ended by signal 9; what it had at hand is left" for n in (1, 2)
    ]
    kept = len(Manifest(out).records)
    report = run(config(alone, out, processes=2))
    assert (report.done, report.skipped) == (5 - kept, kept)
    assert results(out) == results(alone / "out")


def test_samples_of_photos_are_told_to_whoever_makes_them(alone, tmp_path, begun):
    out = str(tmp_path / "out")
    run(config(alone, out, samples=3, limit=2))
    report = run(config(alone, out, samples=3, processes=2))
    assert (report.done, report.skipped, len(begun)) == (9, 6, 2)
    run(config(alone, str(tmp_path / "one"), samples=3))
    assert results(out) == results(tmp_path / "one")


def test_what_a_library_prints_and_a_name_that_is_no_text_disturb_nothing(tmp_path, monkeypatch):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "sitecustomize.py").write_text("print('no message', flush=True)")
    (tmp_path / "queue.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "more"))
    monkeypatch.chdir(tmp_path)
    folder = dataset(tmp_path, "a.png", "b.png")
    assert run(config(folder, os.fsdecode(b"out\xff"), processes=2)).done == 2


def test_ctrl_c_ends_all_of_them(alone, tmp_path, begun):
    def stop(status) -> None:
        if status.working_on:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(config(alone, str(tmp_path / "out"), processes=2), stop)
    assert len(begun) == 2
    assert not any(map(is_there, begun))


def test_one_that_cannot_begin_stops_the_run_in_one_line(alone, tmp_path, monkeypatch, begun):
    begin = subprocess.Popen

    def second_fails(*args, **more):
        if begun:
            raise OSError(12, "Cannot allocate memory")
        return begin(*args, **more)

    monkeypatch.setattr(subprocess, "Popen", second_fails)
    with pytest.raises(RunStopped, match=r"^processes: 2 of 2 cannot begin: Cannot allocate memory; results kept: 0"):
        run(config(alone, str(tmp_path / "out"), processes=2))
    assert not any(map(is_there, begun))


def test_what_stops_one_stops_all(alone, tmp_path, begun):
    out = tmp_path / "out"
    (out / "report").mkdir(parents=True)

    def full(status) -> None:
        if len(begun) == 2 and not status.working_on:
            (out / "report").rmdir()
            (out / "report").write_text("a file where a folder must be")
            begun.append(0)

    with pytest.raises(RunStopped, match=r"out: cannot be written: .*; results kept: 0, the same command goes on"):
        run(config(alone, str(out), processes=2), full)
    assert not any(map(is_there, begun[:2]))


@pytest.mark.parametrize(
    ("named", "seen"),
    [
        (None, ["0", "1", "2", "0"]),
        ("", ["0", "1", "2", "0"]),
        ("5, 7", ["5", "7", "5", "7"]),
        ("GPU-a", ["GPU-a"] * 4),
        ("0,1,-1,2", ["0", "1", "0", "1"]),
        ("4,,6", ["4"] * 4),
    ],
)
def test_each_has_a_gpu_of_its_own_as_long_as_there_are_some(monkeypatch, named, seen):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert [member.environment("cuda", nth, 4)["CUDA_VISIBLE_DEVICES"] for nth in range(4)] == seen


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_cores_are_shared(monkeypatch, device):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert [member.environment(device, 0, count)["OMP_NUM_THREADS"] for count in (2, 5, 16, 40)] == ["8", "3", "1", "1"]


def test_there_are_as_many_as_gpus_but_never_more_than_photos_to_make(alone, tmp_path, monkeypatch):
    def size(recorded: str, **changed) -> int:
        chosen = config(alone, **changed)
        return crew.size(chosen, paired(chosen)[0], Manifest(recorded))

    new, done = str(tmp_path / "new"), str(alone / "out")
    assert size(new) == 1
    assert size(new, processes=3) == 3
    assert size(new, processes=3, limit=2) == 2
    assert size(done, processes=3) == 1
    assert size(done, processes=3, samples=2) == 3
    thrown_away = shutil.copytree(done, tmp_path / "thrown away")
    for name in NAMES[:2]:
        (thrown_away / name).unlink()
    assert size(str(thrown_away), output=str(thrown_away), processes=3) == 2
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert size(new, device="auto") == 4
    assert size(new, device="cuda", limit=3) == 3
    assert size(new, device="cpu") == 1
