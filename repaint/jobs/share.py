"""One of several processes of a run: told photos on standard input, it answers in lines of JSON. See `jobs.crew`."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import BinaryIO

from ..errors import RepaintError
from .manifest import Record, Records, is_done
from .pairing import Item
from .settings import RunConfig

SAID_OF_STATUS = ("working_on", "share")
Say = Callable[[str, object], None]


def begin() -> None:
    """What the program is."""
    heard = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no message
    warnings.filterwarnings("ignore", module=r"PIL\.")  # as the command line does
    make(sys.stdin.buffer, saying_to(heard))


def make(told: BinaryIO, say: Say) -> None:
    """Make what is told: first the run, then its photos, each in a line; null where none should wait for more."""
    run = json.loads(told.readline())
    from .part import run_part
    from .running import GpuLost, Status

    def watch(status: Status) -> None:
        if status.remark is not None:
            say("remark", status.remark)
        else:
            say("status", {key: getattr(status, key) for key in SAID_OF_STATUS})

    ledger = Told(run["manifest"], say)
    try:
        run_part(RunConfig.model_validate(run["config"]), ledger.rounds(told), ledger, watch)
    except GpuLost as e:
        say("lost", str(e))
    except RepaintError as e:
        say("stopped", str(e))


def saying_to(out: BinaryIO) -> Say:
    """What says one thing in one line; where nobody is left to hear it, this process ends."""

    def say(kind: str, what: object) -> None:
        try:
            out.write(json.dumps({kind: what}).encode() + b"\n")
            out.flush()
        except BrokenPipeError:
            os._exit(1)

    return say


class Told:
    """The records of the photos told so far; those that are added are told to the process that writes the manifest."""

    def __init__(self, path: str, say: Say) -> None:
        self.path, self._say = path, say
        self._records: Records = {}

    def rounds(self, told: BinaryIO) -> Iterator[Iterator[Item]]:
        """The photos, as they are told, up to where none should wait for more; and so on."""
        self._has_more = True
        while self._has_more:
            yield self._round(told)

    def _round(self, told: BinaryIO) -> Iterator[Item]:
        for line in told:
            photo = json.loads(line)
            if photo is None:
                return
            for record in (Record(**said) for said in photo["records"]):
                self._records[record.name, record.sample] = record
            yield Item(**photo["item"])
        self._has_more = False

    def is_done(self, name: str, sample: int, fingerprint: str) -> bool:
        return is_done(self._records, name, sample, fingerprint)

    def add(self, record: Record) -> None:
        self._say("record", asdict(record))

    def skipped(self, name: str, sample: int) -> None:
        self._say("skipped", (name, sample))

    def unmade(self, record: Record) -> None:
        self._say("unmade", asdict(record))
