"""Several processes that share the photos of a run: one for each GPU, or some cores of a CPU each.

Each is a program of its own (`jobs.share`) that is told its share on its standard input and answers in lines of JSON.
It writes results; the manifest has one writer, the process that started it.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
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
ROOT = Path(__file__).parents[2]
COUNTED = ("done", "failed", "skipped")


def size(config: RunConfig, photos: int) -> int:
    """How many processes share so many photos."""
    if config.processes == "auto":
        wanted = torch.cuda.device_count() if chosen_device(config.device).type == "cuda" else 1
    else:
        wanted = config.processes
    return max(1, min(wanted, photos))


def work(
    config: RunConfig,
    items: Sequence[Item],
    manifest: Manifest,
    count: int,
    tell: Callable[..., None],
    say: Callable[[str], None],
) -> None:
    """Restore the photos of a run by so many processes; each takes every `count`-th.

    Args:
        tell: told of changes of the run's status, by their names.
        say: told what the user should know.

    Raises:
        RunStopped: if one of them had to stop, or was ended.
    """
    crew: list[subprocess.Popen[bytes]] = []
    heard: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
    try:
        for nth in range(count):
            crew.append(_begun(config, items[nth::count], manifest, nth, count, heard))
        _listen(crew, heard, manifest, tell, say)
    finally:
        for one in crew:
            one.terminate()
        for one in crew:
            _ended(one)


def _begun(
    config: RunConfig,
    items: Sequence[Item],
    manifest: Manifest,
    nth: int,
    count: int,
    heard: queue.Queue[tuple[int, dict[str, Any] | None]],
) -> subprocess.Popen[bytes]:
    """A process that knows its share, and a thread that hears what it says."""
    names = {item.name for item in items}
    share = {
        "config": config.model_dump(mode="json"),
        "items": [asdict(item) for item in items],
        "records": [asdict(record) for record in manifest.records.values() if record.name in names],
        "manifest": manifest.path,
    }
    one = subprocess.Popen(
        [sys.executable, "-m", "repaint.jobs.share"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(chosen_device(config.device).type, nth, count),
        start_new_session=True,  # Ctrl-C is for the process that began it
    )
    assert one.stdin is not None
    assert one.stdout is not None
    try:
        with one.stdin as told:
            told.write(json.dumps(share).encode())
    except BrokenPipeError:
        pass  # it has ended; that is heard below
    threading.Thread(target=_hear, args=(one.stdout, nth, heard), daemon=True).start()
    return one


def environment(device: str, nth: int, count: int) -> dict[str, str]:
    """What the `nth` of `count` processes sees: one GPU, going round them all, or its share of the cores."""
    env = dict(os.environ)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")]))
    if device == "cuda":
        named = env.get("CUDA_VISIBLE_DEVICES")
        gpus = named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
        env["CUDA_VISIBLE_DEVICES"] = gpus[nth % len(gpus)]
    elif device == "cpu":
        env["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // count))
    return env


def _hear(said: IO[bytes], nth: int, heard: queue.Queue[tuple[int, dict[str, Any] | None]]) -> None:
    with said:
        for line in said:
            if line.endswith(b"\n"):  # a kill leaves a part of one
                heard.put((nth, json.loads(line)))
    heard.put((nth, None))


def _listen(
    crew: Sequence[subprocess.Popen[bytes]],
    heard: queue.Queue[tuple[int, dict[str, Any] | None]],
    manifest: Manifest,
    tell: Callable[..., None],
    say: Callable[[str], None],
) -> None:
    """Write down what is done and pass on how it goes, until all have ended; what stops one stops all."""
    status: list[dict[str, Any]] = [{} for _ in crew]
    gone, ended, stopped = 0, 0, None
    while ended < len(crew):
        nth, message = heard.get()
        if message is None:
            ended += 1
            gone += crew[nth].wait() != 0
            status[nth] = {key: status[nth][key] for key in COUNTED if key in status[nth]}
        elif "record" in message:
            _written(manifest, Record(**message["record"]))
        elif "remark" in message:
            say(message["remark"])
        elif "stopped" in message:
            stopped = message["stopped"]
            for one in crew:
                one.terminate()
        else:
            status[nth] = message["status"]
            tell(**_together(status))
    if stopped is not None:
        raise RunStopped(stopped)
    if gone:
        raise RunStopped(
            f"processes: {gone} of {len(crew)} ended before their share was done (killed for want of memory, perhaps: "
            "fewer need less)"
        )


def _written(manifest: Manifest, record: Record) -> None:
    try:
        manifest.add(record)
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


def _ended(one: subprocess.Popen[bytes]) -> None:
    try:
        one.wait(LEAVING_S)
    except subprocess.TimeoutExpired:
        one.kill()
        one.wait()
