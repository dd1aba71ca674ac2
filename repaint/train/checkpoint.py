"""Checkpoints: written whole or not at all, and nothing in them that runs code."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .. import files
from ..config import Settings
from ..errors import RunError

NAME = "checkpoint.pt"
FREE_TO_CHANGE = (
    "steps",
    "max_minutes",
    "validate_every",
    "workers",
    "cache_mb",
    "tensorboard",
    "output",
    "device",
    "compile",
    "licence",
    "decay_from",
)


def save(folder: str, state: dict[str, Any], settings: Settings) -> None:
    """Write the state of a training, with the settings it belongs to.

    Raises:
        RunError: if it cannot be written; the one before is still there.
    """
    held = io.BytesIO()
    torch.save({**state, "settings": json.dumps(settings.model_dump(mode="json"))}, held)
    path = files.join(folder, NAME)
    try:
        files.write_bytes(path, held.getvalue())
    except OSError as e:
        raise RunError(f"{path}: cannot be written: {e.strerror or e}; the checkpoint before is kept") from None


def load(folder: str, settings: Settings) -> dict[str, Any] | None:
    """The state a folder's training had reached, on the CPU; None where there is none.

    Raises:
        RunError: if it is of other settings, or damaged.
    """
    path = files.join(folder, NAME)
    if not files.exists(path):
        return None
    try:
        state = torch.load(io.BytesIO(files.read_bytes(path)), map_location="cpu", weights_only=True)
        there = json.loads(state.pop("settings"))
    except Exception as e:  # torch raises many kinds for damaged files
        reason = str(e).partition("\n")[0]
        raise RunError(f"{path}: is no checkpoint of a training ({reason}); remove it to begin anew") from None
    here = settings.model_dump(mode="json")
    for key in here.keys() | there.keys():
        if key not in FREE_TO_CHANGE and here.get(key) != there.get(key):
            found = f"{key}: {there.get(key)} there, {here.get(key)} here"
            raise RunError(f"{path}: is of other settings ({found}); choose another output")
    return state


def export(path: str, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write weights for use: half precision, safetensors, with what they are in the metadata.

    Raises:
        RunError: if they cannot be written.
    """
    from safetensors.torch import save

    half = {name: value.detach().half().cpu().contiguous() for name, value in state.items()}
    try:
        files.write_bytes(path, save(half, metadata))
    except OSError as e:
        raise RunError(f"{path}: cannot be written: {e.strerror or e}") from None


@contextlib.contextmanager
def interrupts_wait() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, so that it can take effect between steps; pressed twice, it takes effect at once."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    pressed = False
    before = signal.getsignal(signal.SIGINT)

    def remember(number: int, frame: object) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
