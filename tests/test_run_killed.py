"""A run killed with SIGKILL, again and again, ends with the bytes of an undisturbed one."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import pytest
import torch
import yaml

from repaint.errors import RunError
from repaint.jobs import RunConfig
from repaint.jobs.running import Status, run

from .test_run import config, dataset, lines, results

PHOTOS = [f"{i:02}.png" for i in range(30)]
KILLS = 20
FORKS = multiprocessing.get_context("forkserver")  # a process that has imported torch once, and forks
FORKS.set_forkserver_preload(["repaint.jobs.running", "repaint.stages.filling", "repaint.report", "tests.test_run"])


@dataclass
class Child:
    """A run in a process of its own, which sends a byte after every network call."""

    process: multiprocessing.process.BaseProcess
    beats: multiprocessing.connection.Connection

    def works(self, calls: int) -> bool:
        """Whether it still runs after so many more network calls."""
        try:
            for _ in range(calls):
                self.beats.recv_bytes()
        except EOFError:
            return False
        return True

    def is_killed(self) -> bool:
        """Whether SIGKILL, sent now, was what ended it."""
        self.process.kill()
        self.process.join()
        return self.process.exitcode == -signal.SIGKILL


@pytest.fixture
def start() -> Iterator[Callable[..., Child]]:
    """A function: start a run in a child, which kills itself at a step if one is given."""
    children: list[Child] = []

    def started(config: RunConfig, die_at: int | None = None) -> Child:
        beats, send = FORKS.Pipe(duplex=False)
        process = FORKS.Process(target=work, args=(config, die_at, send))
        process.start()
        send.close()
        children.append(Child(process, beats))
        return children[-1]

    yield started
    for child in children:
        child.process.kill()
        child.process.join()
        child.process.close()
        child.beats.close()


def work(config: RunConfig, die_at: int | None, send: multiprocessing.connection.Connection) -> None:
    torch.set_num_threads(1)

    def watch(status: Status) -> None:
        if status.share:
            send.send_bytes(b".")

    if die_at is not None:
        die_at_step(die_at)
    run(config, watch)


def die_at_step(number: int) -> None:
    """Be killed at one of the moments around every rename and every line of the manifest, or in the middle of one."""
    replace, write, left = os.replace, os.write, iter(range(number, -1, -1))

    def step() -> None:
        if next(left, None) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def replace_between_steps(source, target) -> None:
        step()
        replace(source, target)
        step()

    def write_between_steps(handle: int, data: bytes) -> int:
        step()
        written = write(handle, data[: len(data) // 2])
        step()
        written += write(handle, data[len(data) // 2 :])
        step()
        return written

    os.replace, os.write = replace_between_steps, write_between_steps


def assert_all_readable(out: Path) -> None:
    """Whatever stands under a final name is whole, but for the last line of the manifest."""
    for path in out.rglob("*"):
        if path.suffix in (".png", ".jpg"):
            assert cv2.imread(str(path)) is not None, path
        elif path.suffix == ".yml":
            assert "stages" in yaml.safe_load(path.read_text())
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>")
        elif path.suffix == ".jsonl":
            *whole, _ = path.read_text().split("\n")
            for line in whole:
                record = json.loads(line)
                assert (out / record["output"]).exists(), record
        else:
            assert path.is_dir() or path.name == ".lock" or path.suffix == ".part", path


def assert_as_undisturbed(out: Path, undisturbed: Path) -> None:
    """The same bytes, every result recorded once, and nothing left over."""
    assert results(out) == results(undisturbed)
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in undisturbed.iterdir())
    assert not list(out.rglob("*.part"))
    assert [{**record, "seconds": 0} for record in lines(out)] == [{**r, "seconds": 0} for r in lines(undisturbed)]


def test_a_run_killed_at_20_moments_ends_as_if_undisturbed(tmp_path, start):
    dataset(tmp_path, *PHOTOS)
    run(config(tmp_path, "undisturbed"))
    dice, kills, rounds = random.Random(0), 0, 0
    while kills < KILLS:  # on a slow day a run may end between two kills; then another one is begun
        out = tmp_path / f"out{rounds}"
        child = start(config(tmp_path, out.name))
        child.works(dice.randrange(12))
        time.sleep(dice.random() * 0.02)
        if child.is_killed():
            kills += 1
            assert_all_readable(out)
        else:
            assert_as_undisturbed(out, tmp_path / "undisturbed")
            rounds += 1
    run(config(tmp_path, f"out{rounds}"))
    assert_as_undisturbed(tmp_path / f"out{rounds}", tmp_path / "undisturbed")


def test_a_run_killed_at_any_step_goes_on_from_there(tmp_path, start):
    dataset(tmp_path, "a.png", "b.png")
    run(config(tmp_path, "undisturbed"))
    for step in range(100):
        child = start(config(tmp_path, f"out{step}"), die_at=step)
        child.process.join()
        out = tmp_path / f"out{step}"
        assert_all_readable(out)
        if child.process.exitcode == 0:
            break
        assert child.process.exitcode == -signal.SIGKILL
        run(config(tmp_path, f"out{step}"))
        assert_as_undisturbed(out, tmp_path / "undisturbed")
    assert step > 20  # ten renames and two lines of the manifest, before, after and between


def test_another_run_in_the_same_output_is_refused_while_the_first_lives(tmp_path, start):
    dataset(tmp_path, *PHOTOS)
    child = start(config(tmp_path))
    assert child.works(3)
    before = (tmp_path / "out" / "config.yml").read_bytes()
    with pytest.raises(RunError, match=r"out: another run is writing there; .*choose another output"):
        run(config(tmp_path, limit=1))
    assert (tmp_path / "out" / "config.yml").read_bytes() == before
    assert child.is_killed()
    assert run(config(tmp_path, limit=2)).failed == 0


@pytest.mark.parametrize("kept", [1, 0.5, -1], ids=["one byte", "half", "all but the newline"])
def test_a_torn_last_line_of_the_manifest_is_dropped_and_its_photo_made_again(tmp_path, kept):
    dataset(tmp_path, "a.png", "b.png")
    run(config(tmp_path))
    before, manifest = results(tmp_path / "out"), tmp_path / "out" / "manifest.jsonl"
    first, last = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(first + last[: int(len(last) * kept) if kept == 0.5 else kept])
    report = run(config(tmp_path))
    assert (report.done, report.skipped) == (1, 1)
    assert results(tmp_path / "out") == before
    assert [r["name"] for r in lines(tmp_path / "out")] == ["a.png", "b.png"]
    assert manifest.read_bytes().startswith(first)


def test_a_line_that_is_no_record_is_named_by_its_number(tmp_path):
    dataset(tmp_path, "a.png")
    run(config(tmp_path))
    with (tmp_path / "out" / "manifest.jsonl").open("a") as f:
        f.write('{"name": "a.png"}\n')
    with pytest.raises(RunError, match=r"manifest\.jsonl:2: is not a record of a run; remove that line"):
        run(config(tmp_path))
