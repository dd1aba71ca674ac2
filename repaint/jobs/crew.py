"""Several processes that share the photos of a run: one for each GPU, or some cores of a CPU each.

Each is a program of its own (`jobs.share`): it is told photos on its standard input, a few ahead of what it has done,
and answers in lines of JSON. It writes results; the manifest has one writer, the process that began it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import torch

from ..errors import RunStopped
from ..stages.device import chosen_device
from .manifest import Manifest, Record
from .pairing import Item
from .settings import RunConfig

LEAVING_S = 10  # that a process has to end when it is told to
ROOT = str(Path(__file__).parents[2])
BEGIN = f"import sys; {ROOT!r} in sys.path or sys.path.insert(0, {ROOT!r}); import repaint.jobs.share as s; s.begin()"
COUNTED = ("done", "failed", "skipped")
Heard = queue.Queue[tuple[int, dict[str, Any] | None]]  # which process said what; None: it will say no more


def size(config: RunConfig, items: Sequence[Item], manifest: Manifest) -> int:
    """How many processes share these photos: no more than are still to be made."""
    if config.processes != "auto":
        wanted = config.processes
    elif chosen_device(config.device).type == "cuda":
        wanted = torch.cuda.device_count()
    else:
        wanted = 1
    return max(1, min(wanted, sum(not _is_recorded(item, config, manifest) for item in items)))


def _is_recorded(item: Item, config: RunConfig, manifest: Manifest) -> bool:
    records = (manifest.records.get((item.name, sample)) for sample in range(config.samples))
    return all(record is not None and record.status == "done" for record in records)


def work(
    config: RunConfig,
    items: Sequence[Item],
    manifest: Manifest,
    *,
    count: int,
    batch_size: int,
    tell: Callable[..., None],
    say: Callable[[str], None],
) -> None:
    """Restore the photos of a run by so many processes; who is done with some is told more.

    Args:
        batch_size: photos that each makes at once.
        tell: told of changes of the run's status, by their names.
        say: told what the user should know.

    Raises:
        RunStopped: if one of them had to stop, or was ended.
    """
    heard: Heard = queue.Queue()
    # What a process reads ahead, a batch, and one more; if that is all there is, everybody has an equal part of it.
    at_once = min(2 * batch_size + config.workers + 1, math.ceil(len(items) / count))
    left = deque(items)
    crew: list[_Member] = []
    try:
        for nth in range(count):
            try:
                crew.append(_Member(config, manifest, nth, count, at_once, heard))
            except OSError as e:
                raise RunStopped(f"processes: {nth + 1} of {count} cannot begin: {e.strerror or e}") from None
            crew[-1].told_more(left)
        _told_all(crew, left)
        _listen(crew, left, heard, manifest, tell, say)
    finally:
        for one in crew:
            one.end()
        while not heard.empty():  # what was made while others ended is made
            message = heard.get()[1]
            if message is not None and "record" in message:
                _write(manifest, message["record"])


class _Member:
    """One of the processes.

    Attributes:
        status: what it last said of how far it is.
    """

    def __init__(self, config: RunConfig, manifest: Manifest, nth: int, count: int, at_once: int, heard: Heard) -> None:
        device = chosen_device(config.device).type
        self._samples, self._manifest, self._at_once, self._told = config.samples, manifest, at_once, 0
        self.status: dict[str, Any] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", BEGIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(device, nth, count),
            start_new_session=True,  # Ctrl-C is for the process that began it
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in = self._process.stdin
        self._hears = threading.Thread(target=_hear, args=(self._process.stdout, nth, heard), daemon=True)
        self._hears.start()
        self._write({"config": {**config.model_dump(mode="json"), "device": device}, "manifest": manifest.path})

    def told_more(self, left: deque[Item]) -> None:
        """Tell it of as many of the photos left as it may have at once."""
        settled = sum(self.status.get(key, 0) for key in COUNTED)
        while left and self._told * self._samples - settled < self._at_once * self._samples:
            item = left.popleft()
            records = (self._manifest.records.get((item.name, sample)) for sample in range(self._samples))
            self._write({"item": asdict(item), "records": [asdict(record) for record in records if record is not None]})
            self._told += 1

    def told_all(self) -> None:
        """Tell it that no more photos will come."""
        with contextlib.suppress(BrokenPipeError):
            self._in.close()

    def _write(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended; that is heard
            self._in.write(json.dumps(message).encode() + b"\n")
            self._in.flush()

    def ended(self) -> str:
        """How it ended, if not well; else ''. It has said its last."""
        code = self._process.wait()
        self.status = {key: self.status[key] for key in COUNTED if key in self.status}
        return "" if code == 0 else f"by signal {-code}" if code < 0 else f"with exit code {code}"

    def stop(self) -> None:
        self._process.terminate()

    def end(self) -> None:
        """Have it ended, and all heard that it said."""
        self.stop()
        self.told_all()
        try:
            self._process.wait(LEAVING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._hears.join(LEAVING_S)


def _told_all(crew: Sequence[_Member], left: deque[Item]) -> None:
    """Whoever waits for more, and has not yet begun with what it has, is told that there is none."""
    if not left:
        for one in crew:
            one.told_all()


def environment(device: str, nth: int, count: int) -> dict[str, str]:
    """What the `nth` of `count` processes sees: one GPU, going round them all, and its share of the cores."""
    env = dict(os.environ)
    if device == "cuda":
        gpus: list[str] = []
        for name in env.get("CUDA_VISIBLE_DEVICES", "").split(","):
            if not name.strip() or name.strip().startswith("-"):
                break  # as CUDA reads it
            gpus.append(name.strip())
        gpus = gpus or [str(i) for i in range(torch.cuda.device_count())]
        env["CUDA_VISIBLE_DEVICES"] = gpus[nth % len(gpus)]
    env["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // count))
    return env


def _hear(said: IO[bytes], nth: int, heard: Heard) -> None:
    try:
        with said:
            for line in said:
                with contextlib.suppress(ValueError):  # cut by a kill, or printed by somebody else
                    message = json.loads(line)
                    if isinstance(message, dict):
                        heard.put((nth, message))
    finally:
        heard.put((nth, None))


def _listen(
    crew: Sequence[_Member],
    left: deque[Item],
    heard: Heard,
    manifest: Manifest,
    tell: Callable[..., None],
    say: Callable[[str], None],
) -> None:
    """Write down what is done and pass on how it goes, until all have ended; what stops one stops all."""
    at_work, lost, stopped = len(crew), 0, None
    while at_work:
        nth, message = heard.get()
        if message is None:
            at_work -= 1
            if (how := crew[nth].ended()) and stopped is None:
                lost += 1
                say(f"processes: {nth + 1} of {len(crew)} ended {how}; what it had at hand is left")
        elif "record" in message:
            _write(manifest, message["record"])
        elif "remark" in message:
            say(message["remark"])
        elif "stopped" in message:
            stopped = message["stopped"]
            for one in crew:
                one.stop()
        elif "status" in message:
            crew[nth].status = message["status"]
            if left:
                crew[nth].told_more(left)
                _told_all(crew, left)
            tell(**_together([one.status for one in crew]))
    if stopped is not None:
        raise RunStopped(stopped)
    if lost:
        raise RunStopped(f"processes: {lost} of {len(crew)} ended before their work was done")


def _write(manifest: Manifest, record: dict[str, Any]) -> None:
    try:
        manifest.add(Record(**record))
    except OSError as e:
        raise RunStopped(f"{manifest.path}: cannot be written: {e.strerror or e}") from None


def _together(status: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The status of a run of those of its processes; the share is that of all photos at work."""
    at_work = [(one["working_on"], one["share"]) for one in status if one.get("working_on")]
    photos = sum(len(names) for names, _ in at_work)
    return {
        **{key: sum(one.get(key, 0) for one in status) for key in COUNTED},
        "working_on": tuple(name for names, _ in at_work for name in names),
        "share": sum(len(names) * share for names, share in at_work) / photos if photos else 0.0,
    }
