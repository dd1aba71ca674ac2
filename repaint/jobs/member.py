"""One of several processes that share a run, as the one that began it sees it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import torch

from ..stages.device import chosen_device
from .manifest import Manifest, Record
from .pairing import Item
from .settings import RunConfig

LEAVING_S = 10  # that a process has to end when it is told to
ROOT = str(Path(__file__).parents[2])
BEGIN = f"import sys; {ROOT!r} in sys.path or sys.path.insert(0, {ROOT!r}); import repaint.jobs.share as s; s.begin()"
Heard = queue.Queue[tuple[int, dict[str, Any] | None]]  # which process said what; None: it will say no more


@dataclass(eq=False)
class Task:
    """A photo, until it is settled.

    Attributes:
        open: samples that whoever has it at hand is to make.
        unmade: samples that a stage failed at, in the process `failed_by`, and that another is to try.
        is_orphan: it was at hand of a process that ended.
    """

    item: Item
    open: set[int]
    unmade: dict[int, Record] = field(default_factory=dict)
    failed_by: Member | None = None
    is_orphan: bool = False


class Member:
    """One of the processes.

    Attributes:
        name: as the user is told it.
        at_hand: photos it was told that are not settled, by name.
        failures: photos in a row that a stage failed at in it, by name; and whether another made them.
        status: what it last said of how far it is.
        is_there: it takes photos.
    """

    def __init__(self, config: RunConfig, manifest: Manifest, nth: int, count: int, heard: Heard) -> None:
        device = chosen_device(config.device).type
        self.name = f"processes: {nth + 1} of {count}"
        self.at_hand: dict[str, Task] = {}
        self.failures: dict[str, bool] = {}
        self.status: dict[str, Any] = {}
        self.is_there = True
        self._samples, self._manifest, self._may_wait = config.samples, manifest, False
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", BEGIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(device, nth, count),
            start_new_session=True,  # Ctrl-C is for the process that began it
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=_hear, args=(self._process.stdout, nth, heard), daemon=True),
            threading.Thread(target=_tell, args=(self._process.stdin, self._lines), daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self._write({"config": {**config.model_dump(mode="json"), "device": device}, "manifest": manifest.path})

    def told(self, photo: Task) -> None:
        """Tell it of a photo."""
        self.at_hand[photo.item.name] = photo
        records = (self._manifest.records.get((photo.item.name, sample)) for sample in range(self._samples))
        known = [asdict(record) for record in records if record is not None]
        self._write({"item": asdict(photo.item), "records": known})
        self._may_wait = True

    def told_so_far(self) -> None:
        """Tell it to make what it has, and not to wait for more before."""
        if self._may_wait:
            self._write(None)
        self._may_wait = False

    def told_all(self) -> None:
        """Tell it that no more photos will come."""
        self._lines.put(None)

    def _write(self, message: dict[str, Any] | None) -> None:
        self._lines.put(json.dumps(message).encode() + b"\n")

    def how_it_ended(self) -> str:
        """If not well; else ''. It has said its last."""
        code = self._process.wait()
        return "" if code == 0 else f"by signal {-code}" if code < 0 else f"with exit code {code}"

    def stop(self) -> None:
        self.is_there = False
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
        for thread in self._threads:
            thread.join(LEAVING_S)


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


def _tell(told: IO[bytes], lines: queue.SimpleQueue[bytes | None]) -> None:
    with contextlib.suppress(OSError), told:  # it has ended; that is heard
        while (line := lines.get()) is not None:
            told.write(line)
            told.flush()
