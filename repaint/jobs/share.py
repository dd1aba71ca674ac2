"""One of several processes of a run: told its share on standard input, it answers in lines of JSON. See `jobs.crew`."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict
from typing import BinaryIO

from ..errors import RepaintError
from .manifest import Record, is_done
from .pairing import Item
from .settings import RunConfig

SAID_OF_STATUS = ("done", "failed", "skipped", "working_on", "share")
Say = Callable[[str, object], None]


class Told:
    """The records of a share; those that are added are told to the process that writes the manifest."""

    def __init__(self, path: str, records: list[Record], say: Say) -> None:
        self.path, self._say = path, say
        self._records = {(record.name, record.sample): record for record in records}

    def is_done(self, name: str, sample: int, fingerprint: str) -> bool:
        return is_done(self._records, name, sample, fingerprint)

    def add(self, record: Record) -> None:
        self._say("record", asdict(record))


def saying_to(out: BinaryIO) -> Say:
    """What says one thing in one line; where nobody is left to hear it, this process ends."""

    def say(kind: str, what: object) -> None:
        try:
            out.write(json.dumps({kind: what}).encode() + b"\n")
            out.flush()
        except BrokenPipeError:
            os._exit(1)

    return say


def main(say: Say) -> None:
    share = json.load(sys.stdin.buffer)  # before torch is loaded: who began this writes it, and waits
    from .running import Status, run_share

    def watch(status: Status) -> None:
        if status.remark is not None:
            say("remark", status.remark)
        else:
            say("status", {key: getattr(status, key) for key in SAID_OF_STATUS})

    records = [Record(**record) for record in share["records"]]
    items = [Item(**item) for item in share["items"]]
    try:
        config = RunConfig.model_validate_json(json.dumps(share["config"]))
        run_share(config, items, Told(share["manifest"], records, say), watch)
    except RepaintError as e:
        say("stopped", str(e))


if __name__ == "__main__":
    heard = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # as the command line does
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no message
    main(saying_to(heard))
