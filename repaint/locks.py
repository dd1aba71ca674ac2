"""One writer a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from . import files
from .errors import RunError


@contextlib.contextmanager
def alone_in(folder: str, what: str = "run") -> Iterator[None]:
    """Hold a local folder for this process alone; the system lets go of it when the process ends, however it ends.

    A remote one is not held: there, nobody tells that a second writer came.

    Args:
        what: is written there, for the message.

    Raises:
        RunError: if another holds it, or it cannot be written.
    """
    if files.is_remote(folder):
        yield
        return
    from filelock import FileLock, Timeout

    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        lock = FileLock(Path(folder, ".lock"), timeout=0)
        lock.acquire()
    except Timeout:
        raise RunError(f"{folder}: another {what} is writing there; wait for it or choose another output") from None
    except OSError as e:
        raise RunError(f"{folder}: cannot be written: {e.strerror or e}") from None
    try:
        yield
    finally:
        lock.release()
