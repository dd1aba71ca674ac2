"""Bytes in and out of local folders and of anything `blobfile` opens (gs://, az://, https://)."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import socket
import tempfile
import time
import zlib
from collections.abc import Container, Iterator, Sequence
from pathlib import Path, PurePosixPath
from types import ModuleType

PART = re.compile(r"\.([0-9a-f]{4})([0-9a-f]+)-[^.]*\.part$")  # the writer's machine and process
SHOWN = 3  # names in a message before "and so many more"
ABANDONED_S = 86_400  # of age is a part that nobody is still writing, whoever its writer was


def is_remote(path: str | Path) -> bool:
    return "://" in str(path)


def blobfile() -> ModuleType:
    import blobfile  # heavy, and needed for remote paths alone

    return blobfile


def read_bytes(path: str | Path) -> bytes:
    """The content of a file.

    Raises:
        OSError: as `open` does, for remote paths too.
    """
    if is_remote(path):
        with _remote() as remote, remote.BlobFile(str(path), "rb") as f:
            return f.read()
    return Path(path).read_bytes()


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file so that its name shows either the old content or the new, never a part.

    Local files go to a temporary name in the same folder, are synced and renamed; remote objects
    appear when they are closed. Folders are made as needed; a failure leaves no temporary file.

    Raises:
        OSError: if the folder cannot be written or the disk is full.
    """
    if is_remote(path):
        with _remote() as remote, remote.BlobFile(str(path), "wb", partial_writes_on_exc=False) as f:
            f.write(data)
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{_machine()}{os.getpid():x}-{secrets.token_hex(4)}.part")
    handle = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


def try_writing(path: str | Path) -> None:
    """Nothing, if a local file could be written there now; its folder is made as needed.

    Raises:
        OSError: otherwise.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def exists(path: str | Path) -> bool:
    if is_remote(path):
        with _remote() as remote:
            return remote.exists(str(path))
    return Path(path).exists()


def has_content(path: str | Path) -> bool:
    """Whether a file is there and, if local, not empty; remote objects are there when they are whole."""
    if is_remote(path):
        return exists(path)
    return Path(path).is_file() and Path(path).stat().st_size > 0


def is_dir(path: str | Path) -> bool:
    if is_remote(path):
        with _remote() as remote:
            return remote.isdir(str(path))
    return Path(path).is_dir()


def join(folder: str | Path, *parts: str) -> str:
    if is_remote(folder):
        return "/".join([str(folder).rstrip("/"), *parts])
    return str(Path(folder, *parts))


def relative(path: str, folder: str) -> str:
    """`path` as seen from `folder`, '/' between parts; remote paths that are not below it as they are."""
    if is_remote(path):
        return path.removeprefix(f"{str(folder).rstrip('/')}/")
    return Path(os.path.relpath(path, folder)).as_posix()


def is_within(path: str | Path, folder: str | Path) -> bool:
    """Whether `path` is `folder` or lies below it."""
    if is_remote(path) or is_remote(folder):
        return f"{str(path).rstrip('/')}/".startswith(f"{str(folder).rstrip('/')}/")
    return Path(path).resolve().is_relative_to(Path(folder).resolve())


def remove_parts(folder: str | Path) -> None:
    """Remove the temporary files that killed writers left below a local folder; those of living ones stay."""
    if not is_remote(folder):
        for part in Path(folder).rglob(".*.part"):
            if _is_abandoned(part):
                part.unlink(missing_ok=True)


def _is_abandoned(part: Path) -> bool:
    said = PART.search(part.name)
    if said is None:  # of another program
        return False
    if said[1] == _machine() and not _is_alive(int(said[2], 16)):
        return True
    try:
        return time.time() - part.stat().st_mtime > ABANDONED_S
    except OSError:  # renamed meanwhile
        return False


def _is_alive(process: int) -> bool:
    if os.name == "nt":
        return True  # there it cannot be asked without harm
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _machine() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()) & 0xFFFF:04x}"


def list_files(folder: str | Path, endings: tuple[str, ...]) -> list[str]:
    """Paths relative to `folder` ('/' between parts) of the files below it, folder by folder; hidden ones left out.

    Args:
        endings: lower-case endings with their dot, '.png'; compared without regard to case.

    Raises:
        OSError: if the folder, or one below it, cannot be listed.
    """
    if is_remote(folder):
        with _remote() as remote:
            walked = [(at.rstrip("/"), names) for at, _, names in remote.walk(str(folder).rstrip("/"))]
        root = walked[0][0] if walked else ""  # as blobfile spells it: https:// has become az://
        found = [f"{at}/{name}"[len(root) + 1 :] for at, names in walked for name in names]
    else:
        paths = _below(folder) if os.path.isdir(folder) else ()
        found = [Path(path).relative_to(folder).as_posix() for path in paths]
    wanted = [f for f in found if f.lower().endswith(endings)]
    shown = (f for f in wanted if not any(part.startswith(".") for part in PurePosixPath(f).parts))
    return sorted(shown, key=lambda f: PurePosixPath(f).parts)


def _below(folder: str | Path, around: tuple[str, ...] = ()) -> Iterator[str]:
    """The files below a folder, also those of folders that are links; none of the hidden."""
    here = os.path.realpath(folder)
    if here in around:  # a link to what holds it
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                if not entry.name.startswith(".") and entry.name != "lost+found":
                    yield from _below(entry.path, (*around, here))
            else:
                yield entry.path


def in_short(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def is_named(path: str | Path, endings: Container[str]) -> bool:
    """Whether a path ends as a file of these kinds does, and is no folder."""
    return Path(path).suffix.lower() in endings and not os.path.isdir(path)


@contextlib.contextmanager
def _remote() -> Iterator[ModuleType]:
    """`blobfile`, its own errors as OSError."""
    module = blobfile()
    try:
        yield module
    except module.Error as e:
        raise OSError(e.message) from e
