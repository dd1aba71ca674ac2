"""A run stopped by a full disk or by Ctrl-C loses nothing, and goes on when started again."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from repaint.errors import RunError, RunStopped
from repaint.jobs.running import run

from .test_run import config, dataset, lines, results

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = dataset(tmp_path_factory.mktemp("undisturbed"), "a.png", "b.png")
    run(config(folder))
    return folder


def assert_as_undisturbed(out: Path, undisturbed: Path) -> None:
    assert results(out) == results(undisturbed / "out")
    assert [{**r, "seconds": 0} for r in lines(out)] == [{**r, "seconds": 0} for r in lines(undisturbed / "out")]
    assert not list(out.rglob("*.part"))


def failing_from(number: int, error: BaseException, patch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Let whatever writes raise from the write of a number on; a function that says whether any did."""
    made = 0

    def failing(write):
        def fails(*args):
            nonlocal made
            made += 1
            if made > number:
                raise error
            return write(*args)

        return fails

    for name in ("fsync", "replace", "write"):
        patch.setattr(os, name, failing(getattr(os, name)))
    return lambda: made > number


def outcomes(error: BaseException, undisturbed: Path, folder: Path) -> list[type | None]:
    """What a run ends with if `error` is raised from its first, second, third... write on; each started again."""
    ended: list[type | None] = []
    while True:
        out = folder / f"out{len(ended)}"
        with pytest.MonkeyPatch.context() as patch:
            failed = failing_from(len(ended), error, patch)
            try:
                run(config(undisturbed, str(out)))
                ended.append(None)
            except (RunError, KeyboardInterrupt) as e:
                ended.append(type(e))
        assert not list(out.rglob("*.part"))
        run(config(undisturbed, str(out)))
        assert_as_undisturbed(out, undisturbed)
        if not failed():
            return ended[:-1]


def test_whatever_write_fills_the_disk_the_next_start_ends_as_if_undisturbed(undisturbed, tmp_path):
    """The two writes before any work, those of the results, and those of the report, which may wait."""
    first, second, *middle, last_but_one, last = outcomes(FULL, undisturbed, tmp_path)
    assert {first, second} == {RunError}
    assert (set(middle), len(middle) > 16) == ({RunStopped}, True)
    assert {last_but_one, last} == {None}


def test_whatever_write_meets_ctrl_c_the_next_start_ends_as_if_undisturbed(undisturbed, tmp_path):
    ended = outcomes(KeyboardInterrupt(), undisturbed, tmp_path)
    assert (set(ended), len(ended) > 20) == ({KeyboardInterrupt}, True)


def test_a_full_disk_is_said_in_one_line_with_what_is_kept(undisturbed, tmp_path, monkeypatch):
    replace = os.replace

    def full(source, target) -> None:
        if Path(target) == tmp_path / "out" / "b.png":
            raise FULL
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    for _ in range(2):
        with pytest.raises(RunStopped) as stopped:
            run(config(undisturbed, str(tmp_path / "out")))
        assert str(stopped.value) == (
            f"{tmp_path}/out: cannot be written: No space left on device; "
            "results kept: 1, the same command goes on from there"
        )
    assert [r["name"] for r in lines(tmp_path / "out")] == ["a.png"]
    assert "a.png" in (tmp_path / "out" / "report.html").read_text()


def test_a_line_of_the_manifest_cut_by_a_full_disk_stops_the_run(undisturbed, tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[: len(data) // 2]))
    with pytest.raises(RunStopped, match="No space left on device; results kept: 0"):
        run(config(undisturbed, str(tmp_path / "out")))
    monkeypatch.undo()
    assert run(config(undisturbed, str(tmp_path / "out"))).done == 2
    assert_as_undisturbed(tmp_path / "out", undisturbed)


@pytest.mark.parametrize(
    ("batch_size", "calls", "done"), [(1, 0, []), (1, 5, []), (1, 7, ["a.png"]), (1, 11, ["a.png"]), (2, 3, [])]
)
def test_ctrl_c_between_network_calls_keeps_what_is_done(undisturbed, tmp_path, batch_size, calls, done):
    left, out = iter(range(calls)), tmp_path / "out"

    def watch(status) -> None:
        if status.share and next(left, None) is None:
            raise KeyboardInterrupt

    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run(config(undisturbed, str(out), batch_size=batch_size), watch)
    assert threading.active_count() == threads
    page = (out / "report.html").read_text()
    assert [name for name in ("a.png", "b.png") if name in page] == done
    assert [name for name in ("a.png", "b.png") if (out / name).exists()] == done
    report = run(config(undisturbed, str(out)))
    assert (report.done, report.skipped) == (2 - len(done), len(done))
    assert_as_undisturbed(out, undisturbed)
