"""manifest.jsonl: one line for each result, written after the result; what a run trusts when it goes on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from .. import files
from ..errors import RunError

NAME = "manifest.jsonl"
LATEST = "manifest.latest.jsonl"  # of a bucket, whose objects cannot grow: lines that are not in the manifest yet
SO_MANY = 100  # of those, at most


@dataclass(frozen=True)
class Record:
    """What became of one sample of one image.

    Attributes:
        fingerprint: of image, mask, settings, weights and seed; the same fingerprint means the same picture.
        output: the result, relative to the folder of results.
        calls: network calls.
        note: why it failed, or a remark.
    """

    name: str
    sample: int
    status: Literal["done", "failed"]
    fingerprint: str
    seed: int
    weights: str
    output: str | None = None
    calls: int = 0
    seconds: float = 0.0
    note: str = ""


def fingerprint(*parts: Any) -> str:
    """A hash that changes whenever one of `parts` (JSON values) does."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


Records = dict[tuple[str, int], Record]
"""By name and sample."""


def is_done(records: Records, name: str, sample: int, fingerprint: str) -> bool:
    """Whether a sample of an image was made, of the very same everything."""
    record = records.get((name, sample))
    return record is not None and record.status == "done" and record.fingerprint == fingerprint


def names_done(folder: str) -> set[str]:
    """The images that were done by the manifest in a folder, if there is one; what is no record is passed over."""
    found = set()
    for name in (NAME, LATEST):
        path = files.join(folder, name)
        for line in files.read_bytes(path).split(b"\n") if files.exists(path) else ():
            with contextlib.suppress(ValueError, TypeError, KeyError):
                record = json.loads(line)
                if record["status"] == "done":
                    found.add(record["name"])
    return found


class Ledger(Protocol):
    """What a run asks and tells of its records."""

    path: str

    def is_done(self, name: str, sample: int, fingerprint: str) -> bool: ...
    def add(self, record: Record) -> None: ...


class Manifest:
    """The records of an output folder; the last one of each sample counts."""

    def __init__(self, folder: str) -> None:
        self.path, self._latest_path = files.join(folder, NAME), files.join(folder, LATEST)
        self.records: Records = {}
        *self._lines, torn = self._read(self.path).split(b"\n")
        self._latest: list[bytes] = []
        if files.is_remote(self.path):
            *self._latest, _ = self._read(self._latest_path).split(b"\n")
            self._lines += self._latest
        if torn:  # by a kill
            self._rewrite()
        for number, line in enumerate(self._lines, 1):
            try:
                record = Record(**json.loads(line))
            except (ValueError, TypeError):
                raise RunError(f"{self.path}:{number}: is not a record of a run; remove that line to go on") from None
            self.records[record.name, record.sample] = record

    def is_done(self, name: str, sample: int, fingerprint: str) -> bool:
        return is_done(self.records, name, sample, fingerprint)

    def add(self, record: Record) -> None:
        """Append a record: in one write, so that a kill leaves a whole line or a last one that is dropped."""
        self.records[record.name, record.sample] = record
        text = json.dumps(asdict(record), ensure_ascii=False)
        self._lines.append(text.encode(errors="backslashreplace"))  # a name that is not UTF-8, as JSON escapes it
        line = self._lines[-1] + b"\n"
        if files.is_remote(self.path):
            self._latest.append(self._lines[-1])
            if len(self._latest) >= SO_MANY:
                self.settle()
            else:
                files.write_bytes(self._latest_path, _text(self._latest))
            return
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            if os.write(handle, line) < len(line):
                raise OSError(28, "No space left on device")
            os.fsync(handle)
        finally:
            os.close(handle)

    def settle(self) -> None:
        """Bring into the manifest what is not in it yet; a line that a failure leaves in both counts once."""
        if self._latest:
            self._rewrite()
            files.write_bytes(self._latest_path, b"")
            self._latest = []

    def _read(self, path: str) -> bytes:
        try:
            return files.read_bytes(path) if files.exists(path) else b""
        except OSError as e:
            raise RunError(f"{path}: cannot be read: {e.strerror or e}") from None

    def _rewrite(self) -> None:
        files.write_bytes(self.path, _text(self._lines))


def _text(lines: Sequence[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)
