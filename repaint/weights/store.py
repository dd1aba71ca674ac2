"""Weights on disk: where they lie, and how they get there whole.

A fetch goes to `<file>.part`, continues where an earlier one stopped, is hashed, and only then gets its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from ..errors import WeightsError
from ..files import write_bytes
from .entry import ByHand, Drive, Entry, HuggingFace, Url

Report = Callable[[int, int | None], None]
"""Told the bytes that are there and the bytes there will be (None = not known), while they come."""
Say = Callable[[str], None]
"""Told one line a person should read: the licence, a retry, an unknown hash."""

DEFAULT_DIR = "data/pretrained"
CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30.0
RETRY_AFTER_S = (1.0, 2.0, 5.0, 10.0)

_EMBEDDED = Path(__file__).parent / "embedded"
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)")
_BROKEN = (HTTPException, OSError)  # whatever a socket raises


class _DroppedError(Exception):
    """The transfer broke off in a way that another try may mend."""


def path_of(entry: Entry, dir: str | Path = DEFAULT_DIR) -> Path:
    """Where the weights lie, or will lie; inside this package for embedded ones, whatever `dir` is."""
    return (_EMBEDDED if entry.embedded else Path(dir)) / entry.file


def is_present(entry: Entry, dir: str | Path = DEFAULT_DIR) -> bool:
    """Whether the weights are on disk, all of them as far as names and sizes tell."""
    path = path_of(entry, dir)
    return path.exists() and _flaw(entry, path) is None


def sha256_of(path: str | Path) -> str:
    """The hash of a file of any size, in lower-case hex."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def fetch(entry: Entry, dir: str | Path = DEFAULT_DIR, *, report: Report | None = None, say: Say | None = None) -> Path:
    """The path of the weights, fetched first if they are not there yet.

    What was interrupted continues when called again. Two calls at once make one transfer.

    Raises:
        WeightsError: one line, for whatever keeps the weights from being there and right: no network,
            an answer such as 404, a full disk, another hash, a file of another size under that name, a file that can
            only be fetched by hand.
    """
    path = path_of(entry, dir)
    if is_present(entry, dir):
        return path
    if entry.embedded:
        raise WeightsError(f"{path}: missing or damaged in the installed package; install repaint again")
    if isinstance(entry.source, ByHand):
        raise WeightsError(f"{entry.name}: to be fetched by hand from {entry.source.url} to {path}: {entry.source.how}")
    say = say or _unheard
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path, say):
            if not is_present(entry, dir):  # another process may have brought it while this one waited
                _bring(entry, path, report or _unheard, say)
    except OSError as e:  # network trouble became a WeightsError where it happened, so this is the disk
        raise WeightsError(f"{e.filename or path}: cannot be written: {e.strerror or e}") from e
    return path


def _bring(entry: Entry, path: Path, report: Report, say: Say) -> None:
    if path.exists():
        raise WeightsError(f"{path}: {_flaw(entry, path)}; delete it and fetch again")
    say(f"{entry.name}: {entry.size}, licence: {entry.licence}")
    if not entry.commercial:
        say(f"{entry.name}: NOT FOR COMMERCIAL USE")
    part = path.with_name(f"{path.name}.part")
    match entry.source:
        case Url(url):
            _from_url(url, part, report, say)
        case Drive():
            _from_drive(entry.source, part, report, path)
        case HuggingFace():
            _from_hub(entry.source, part, report, path)
    _check(entry, part, path, say)
    os.replace(part, path)


def _flaw(entry: Entry, path: Path) -> str | None:
    """What can be seen at a glance to be wrong with what lies at `path`."""
    if isinstance(entry.source, HuggingFace):
        missing = [name for name in entry.source.files if not (path / name).is_file()]
        return f"{', '.join(missing)} missing" if missing else None
    if not path.is_file():
        return "not a file"
    size = path.stat().st_size
    if entry.size_bytes is not None and size != entry.size_bytes:
        return f"{size:,} bytes, the catalogue says {entry.size_bytes:,}"
    return None if size else "empty"


def _check(entry: Entry, part: Path, path: Path, say: Say) -> None:
    """Compare the hash with the catalogue's; where it has none, say the hash and write it beside `path`."""
    if entry.sha256 is None:
        inside = entry.source.files if isinstance(entry.source, HuggingFace) else ("",)
        hashes = {(Path(path.name) / name).as_posix(): sha256_of(part / name) for name in inside}
        for name, found in hashes.items():
            say(f"{name}: sha256 unknown to the catalogue; this file has {found}")
        lines = "".join(f"{found}  {name}\n" for name, found in hashes.items())  # as sha256sum -c reads them
        write_bytes(path.with_name(f"{path.name}.sha256"), lines.encode())
    elif (found := sha256_of(part)) != entry.sha256:
        part.unlink()
        raise WeightsError(
            f"{path}: the fetched file has sha256 {found}, the catalogue says {entry.sha256}; it was deleted"
        )


def _from_url(url: str, part: Path, report: Report, say: Say) -> None:
    """Make `part` complete, in as many tries as `RETRY_AFTER_S` allows."""
    for delay_s in (*RETRY_AFTER_S, None):
        try:
            return _transfer(url, part, report)
        except _DroppedError as e:
            if delay_s is None:
                raise WeightsError(f"{url}: {e}; the same command resumes") from e
            say(f"{url}: {e}; trying again in {delay_s:g} s")
            time.sleep(delay_s)
    return None


def _transfer(url: str, part: Path, report: Report) -> None:
    """Make `part` complete in one request, starting from what it has."""
    have = part.stat().st_size if part.exists() else 0
    with contextlib.closing(_open(url, have)) as response:
        start, total = _span(response, have)
        if response.status != 200 and start != have:
            part.unlink()
            raise _DroppedError(f"the {have:,} bytes that are here do not fit the file there; starting over")
        if response.status == 416:
            return  # nothing is missing
        _check_room(part.parent, (total or 0) - start)
        done = start
        with part.open("ab" if start else "wb") as f:
            while chunk := _read(response, done, total):
                f.write(chunk)
                done += len(chunk)
                report(done, total)
            f.flush()
            os.fsync(f.fileno())
    if total is not None and done < total:
        raise _DroppedError(f"{_came(done, total)}, then the connection closed")


def _read(response: Any, done: int, total: int | None) -> bytes:
    try:
        return response.read(CHUNK_BYTES)
    except _BROKEN as e:
        raise _DroppedError(f"{_came(done, total)}, then {_one_line(e)}") from e


def _open(url: str, have: int) -> Any:
    """The answer to a request for all bytes from `have` on; its status is 200, 206 or, if there are none, 416."""
    headers = {"User-Agent": "repaint", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        return urlopen(Request(url, headers=headers), timeout=TIMEOUT_S)
    except HTTPError as e:
        if e.code == 416 and have:
            return e
        e.close()
        said = f"the server answers {e.code} {e.reason}"
        if e.code in (408, 429) or e.code >= 500:
            raise _DroppedError(said) from e
        raise WeightsError(f"{url}: {said}") from e
    except URLError as e:
        if have:
            raise _DroppedError(f"cannot be reached: {e.reason}") from e
        raise WeightsError(f"{url}: cannot be reached: {e.reason}") from e
    except _BROKEN as e:
        raise _DroppedError(f"no answer: {_one_line(e)}") from e


def _span(response: Any, have: int) -> tuple[int, int | None]:
    """Where the bytes of an answer begin (for a 416: would begin), and the size of the whole file if told."""
    if response.status == 200:
        length = response.headers.get("Content-Length")
        return 0, int(length) if length else None
    told = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    start, total = (int(n) if n else None for n in told.groups()) if told else (None, None)
    if response.status == 416:
        start = total
    return have if start is None else start, total


def _check_room(dir: Path, wanted_bytes: int) -> None:
    free_bytes = shutil.disk_usage(dir).free
    if wanted_bytes > free_bytes:
        raise WeightsError(f"{dir}: {wanted_bytes:,} bytes are to come, the disk has {free_bytes:,} free")


def _came(done: int, total: int | None) -> str:
    return f"{done:,} of {total:,} bytes came" if total is not None else f"{done:,} bytes came"


def _from_drive(source: Drive, part: Path, report: Report, path: Path) -> None:
    """Make `part` complete; gdown keeps what it has so far beside it, as `<part>????????.part`."""
    try:
        import gdown
        import requests
        from gdown.exceptions import DownloadError
    except ImportError as e:
        raise WeightsError(f"{path.name} lies on Google Drive, which takes gdown: pip install gdown") from e
    try:
        gdown.download(
            id=source.id,
            output=str(part),
            quiet=True,
            use_cookies=False,
            resume=True,
            progress=report,
            timeout=TIMEOUT_S,
            retries=len(RETRY_AFTER_S),
        )
    except (DownloadError, requests.RequestException) as e:
        by_hand = f"or open {source.url} in a browser and save it as {path}"
        raise WeightsError(f"{path.name}: {_one_line(e)}; the same command resumes, {by_hand}") from e


def _from_hub(source: HuggingFace, part: Path, report: Report, path: Path) -> None:
    """Make the folder `part` complete; huggingface_hub keeps what it has so far in its `.cache`."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils import tqdm
    except ImportError as e:
        raise WeightsError(
            f"{path.name} lies on the Hugging Face hub, which takes huggingface_hub: pip install huggingface_hub"
        ) from e
    seen = 0

    class Bar(tqdm):
        """Reports instead of printing. The hub counts some bytes twice over, so the largest count is told."""

        def __init__(self, *args: Any, **settings: Any) -> None:
            self.of_bytes = settings.get("unit") == "B"
            super().__init__(*args, **{**settings, "disable": True})

        def update(self, n: float | None = 1) -> None:
            nonlocal seen
            self.n += n or 0
            if self.of_bytes and self.n > seen:
                seen = int(self.n)
                report(seen, None)

    try:
        snapshot_download(repo_id=source.repo, local_dir=str(part), allow_patterns=list(source.files), tqdm_class=Bar)
    except Exception as e:  # what the hub and its HTTP library raise has no base class in common
        if isinstance(e, OSError) and e.errno is not None and not isinstance(e, (ConnectionError, TimeoutError)):
            raise  # the disk
        raise WeightsError(f"{source.url}: {_one_line(e)}; the same command resumes") from e
    missing = [name for name in source.files if not (part / name).is_file()]
    if missing:  # without a network the hub answers with whatever is there
        raise WeightsError(f"{source.url}: {', '.join(missing)} did not come; the same command resumes")
    shutil.rmtree(part / ".cache", ignore_errors=True)


@contextlib.contextmanager
def _alone(path: Path, say: Say) -> Iterator[None]:
    """Hold the only right to write `path`, among threads and processes."""
    from filelock import FileLock, Timeout

    lock_path = path.with_name(f".{path.name}.lock")
    lock = FileLock(lock_path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"{path.name}: is being fetched already; waiting for that")
        lock.acquire()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows does not delete what is open
            lock_path.unlink()  # before the release: whoever waits finds its lock nameless and asks anew
        lock.release()


def _one_line(e: BaseException) -> str:
    return " ".join(str(e).split()) or type(e).__name__


def _unheard(*_: Any) -> None:
    pass
