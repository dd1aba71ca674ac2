"""A process that is ill, among several that share a run, costs no photo."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from repaint.errors import RunStopped
from repaint.jobs import Record, manifest, member, running
from repaint.jobs.running import run

from .test_run import config, dataset, lines, results, statuses

NAMES = [f"{i:02}.png" for i in range(9)]
GPU_ERROR = 'RuntimeError("CUDA error: an illegal memory access was encountered\\nmore")'
STAGE = """
import os, time
from repaint.stages import pipeline
stages = pipeline.Pipeline.__call__
def called(self, photos, seeds):
    with open(os.environ["LOG"], "a") as log:
        print(ME, *seeds, file=log)
    {0}
    yield from stages(self, photos, seeds)
pipeline.Pipeline.__call__ = called
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """A dataset, and in out/ what one process makes of it."""
    folder = dataset(tmp_path_factory.mktemp("alone"), *NAMES)
    run(config(folder))
    return folder


@pytest.fixture
def begin_with(monkeypatch, tmp_path):
    """A function: let each process run lines of Python first, in which ME is its number from 0."""
    environment = member.environment
    monkeypatch.setattr(member, "environment", lambda device, nth, n: {**environment(device, nth, n), "ME": str(nth)})
    monkeypatch.setenv("LOG", str(tmp_path / "log"))

    def begun(text: str) -> None:
        (tmp_path / "first.py").write_text(f"import os\nME = int(os.environ['ME'])\n{text}")
        first = f"exec(open({str(tmp_path / 'first.py')!r}).read(), {{}}); import repaint.jobs.share"
        monkeypatch.setattr(member, "BEGIN", member.BEGIN.replace("import repaint.jobs.share", first))

    return begun


def attempts(folder: Path) -> list[tuple[int, int]]:
    """The process and the seed, for each photo a stage was shown."""
    return [(int(me), int(seed)) for me, seed in (line.split() for line in (folder / "log").read_text().splitlines())]


def remarks(seen) -> list[str]:
    return [status.remark for status in seen if status.remark]


def test_a_process_that_fails_at_what_another_makes_is_taken_out_and_no_photo_fails(tmp_path, begin_with):
    """It is the faster one, for it fails at once."""
    folder = dataset(tmp_path, *(f"{i:02}.png" for i in range(16)))
    begin_with(STAGE.format('if ME == 0: raise RuntimeError("no memory here")\n    time.sleep(0.2)'))
    report, seen = statuses(config(folder, processes=2))
    assert (report.done, report.failed) == (16, 0)
    assert len([me for me, _ in attempts(tmp_path) if me == 0]) <= 7  # 5 at first, and for the first two of them
    (said,) = remarks(seen)
    why = "failed at 3 photos in a row that others made (RuntimeError: no memory here): it is ended"
    assert said.startswith(f"processes: 1 of 2 {why}")


@pytest.mark.parametrize("samples", [1, 2])
def test_a_photo_that_is_to_blame_is_tried_by_two_and_recorded_once(alone, tmp_path, begin_with, samples):
    bad = {r["seed"] for r in lines(alone / "out") if r["name"] in NAMES[:4]}
    begin_with(STAGE.format(f'if seeds[0] in {bad}: raise RuntimeError("too large")'))
    report, seen = statuses(config(alone, str(tmp_path / "out"), processes=2, samples=samples))
    assert (report.done, report.failed, report.skipped) == (9 * samples - 4, 4, 0)
    tried = attempts(tmp_path)
    assert sorted((me, seed) for me, seed in tried if seed in bad) == sorted(
        (me, seed) for me in (0, 1) for seed in bad
    )
    assert len(tried) == 9 * samples + 4
    assert len(lines(tmp_path / "out")) == 9 * samples
    assert sorted(remarks(seen)) == [f"{name}: failed: RuntimeError: too large" for name in NAMES[:4]]


def test_where_a_gpu_no_longer_answers_others_make_the_photos_of_its_process(alone, tmp_path, begin_with):
    begin_with(STAGE.format(f"if ME == 0: raise {GPU_ERROR}"))
    report, seen = statuses(config(alone, str(tmp_path / "out"), processes=2))
    assert (report.done, report.failed) == (9, 0)
    assert results(tmp_path / "out") == results(alone / "out")
    (said,) = remarks(seen)
    assert said.startswith("processes: 1 of 2 ended: the GPU no longer answers (RuntimeError: CUDA error: an illegal")
    assert said.endswith("encountered); its photos go to the others")


def test_where_no_gpu_answers_the_run_stops_and_no_photo_fails(alone, tmp_path, begin_with):
    begin_with(STAGE.format(f"raise {GPU_ERROR}"))
    with pytest.raises(RunStopped, match=r"^processes: 2 of 2 ended before their work was done; results kept: 0, the"):
        run(config(alone, str(tmp_path / "out"), processes=2))
    assert not (tmp_path / "out" / "manifest.jsonl").exists()


def test_all_begin_before_one_is_told_more_than_a_pipe_holds(tmp_path, begin_with):
    folder = dataset(tmp_path, *NAMES[:2])
    run(config(folder, limit=1))
    log = manifest.Manifest(str(folder / "out"))
    for name in NAMES[:2]:
        log.add(Record(name, 0, "failed", "", 0, "", note="x" * 1_000_000))
    begin_with(
        "import sys, time\nopen(os.environ['LOG'] + str(ME), 'w')\nbegan = time.monotonic()\n"
        "while not os.path.exists(os.environ['LOG'] + str(1 - ME)):\n    time.sleep(0.05)\n"
        "    time.monotonic() - began < 20 or sys.exit(1)"
    )
    _, seen = statuses(config(folder, processes=2))
    assert remarks(seen) == []


def test_what_the_stages_remark_where_they_compute_is_said_once(alone, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "chosen_device", lambda device: torch.device("cuda"))
    monkeypatch.setattr(running, "device_name", lambda at: "a GPU")
    half = config(alone, str(tmp_path / "out"), processes=2, precision="float16", limit=2, batch_size=1)
    assert remarks(statuses(half)[1]) == ["precision: float16 is slower than float32 on a CPU: using float32"]
