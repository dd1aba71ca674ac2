"""What one of several processes makes of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from .manifest import Ledger, Record
from .pairing import Item
from .running import Running, Shot, Watch
from .settings import RunConfig


class Shared(Ledger, Protocol):
    """What such a process asks and tells; what a stage failed at has not failed before others tried."""

    def skipped(self, name: str, sample: int) -> None: ...
    def unmade(self, record: Record) -> None: ...


def run_part(config: RunConfig, rounds: Iterable[Iterable[Item]], shared: Shared, watch: Watch) -> None:
    """Restore some of a run's photos, as they come, for `run` in another process: that opens the folder and reports.

    Args:
        rounds: photos; those of one are made before the next is asked for.

    Raises:
        GpuLost: if other processes may go on.
        RepaintError: as `run`.
    """
    part = _Part(config, shared, watch)
    for remark in part.pipeline.remarks:
        part.say(remark)
    for items in rounds:
        part.tell(working_on=(), share=0.0)
        part.work(items)


class _Part(Running):
    def __init__(self, config: RunConfig, shared: Shared, watch: Watch) -> None:
        super().__init__(config, shared, watch)
        self._shared = shared

    def unmade(self, shot: Shot, why: str) -> None:
        self._shared.unmade(self.record(shot, "failed", note=why))

    def skipped(self, shot: Shot) -> None:
        self._shared.skipped(shot.loaded.item.name, shot.sample)
