"""Several processes that share the photos of a run: one for each GPU, or some cores of a CPU each.

Each is a program of its own (`jobs.share`): it is told photos on its standard input, a few ahead of what it has done,
and answers in lines of JSON. It writes results; the manifest has one writer, the process that began it. A photo that a
stage fails at in one of them is given to another before it counts as failed: it may be the process that is ill.
"""

from __future__ import annotations

import contextlib
import math
import queue
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from .. import files
from ..errors import RunStopped
from ..image import ENDINGS
from ..stages.device import chosen_device
from .manifest import Manifest, Record
from .member import Heard, Member, Task
from .outputs import Outputs
from .pairing import Item
from .settings import RunConfig

ILL = 3  # photos in a row that a process failed at; if others made them, it is taken out
COUNTED = ("done", "failed", "skipped")


def size(config: RunConfig, items: Sequence[Item], manifest: Manifest) -> int:
    """How many processes share these photos: no more than have no result yet, by the names of files alone."""
    if config.processes != "auto":
        wanted = config.processes
    elif chosen_device(config.device).type == "cuda":
        wanted = torch.cuda.device_count()
    else:
        wanted = 1
    there: set[str] = set()
    if wanted > 1:
        with contextlib.suppress(OSError):
            there.update(files.list_files(Outputs(config).results, tuple(ENDINGS)))
    return max(1, min(wanted, sum(not _is_made(item, config, manifest, there) for item in items)))


def _is_made(item: Item, config: RunConfig, manifest: Manifest, there: set[str]) -> bool:
    records = (manifest.records.get((item.name, sample)) for sample in range(config.samples))
    return all(record is not None and record.status == "done" and record.output in there for record in records)


def work(
    config: RunConfig,
    items: Sequence[Item],
    manifest: Manifest,
    *,
    count: int,
    batch_size: int,
    tell: Callable[..., None],
    say: Callable[[str], None],
) -> None:
    """Restore the photos of a run by so many processes; who is done with some is told more.

    Args:
        batch_size: photos that each makes at once.
        tell: told of changes of the run's status, by their names.
        say: told what the user should know.

    Raises:
        RunStopped: if one of them had to stop, or so many were ended that photos are left.
    """
    heard: Heard = queue.Queue()
    photos = deque(Task(item, set(range(config.samples))) for item in items)
    # What a process reads ahead, a batch, and one more; if that is all there is, everybody has an equal part of it.
    at_once = 2 * batch_size + config.workers + 1
    crew = _Crew([], photos, at_once, manifest, tell, say)
    try:
        for nth in range(count):
            try:
                crew.members.append(Member(config, manifest, nth, count, heard))
            except OSError as e:
                raise RunStopped(f"processes: {nth + 1} of {count} cannot begin: {e.strerror or e}") from None
        crew.share_out(min(at_once, math.ceil(len(items) / count)))
        crew.listen(heard)
        if crew.counts.total() < len(items) * config.samples:
            raise RunStopped(f"processes: {crew.ended} of {count} ended before their work was done")
    finally:
        for one in crew.members:
            one.end()
        while not heard.empty():  # what was made while others ended is made
            message = heard.get()[1]
            if message is not None and "record" in message:
                _write(manifest, Record(**message["record"]))


@dataclass(eq=False)
class _Crew:
    """The processes, what is left for them to do, and what became of the rest.

    Attributes:
        at_once: photos that one has at hand where there are more; with so many it never waits.
        ended: processes that were, before all was done.
    """

    members: list[Member]
    left: deque[Task]
    at_once: int
    manifest: Manifest
    tell: Callable[..., None]
    say: Callable[[str], None]
    counts: Counter[str] = field(default_factory=Counter)
    ended: int = 0
    stopped: str | None = None

    def share_out(self, most: int) -> None:
        """Tell each of photos left until it has so many at hand; one that may be ill is told no new ones."""
        for one in self.members:
            may_be_ill = len(one.failures) >= ILL and self._others(one)
            while self.left and one.is_there and len(one.at_hand) < most and not may_be_ill:
                one.told(self.left.popleft())
            if len(one.at_hand) < self.at_once:
                one.told_so_far()
        if not self.left and not any(one.at_hand for one in self.members):
            for one in self.members:
                one.told_all()

    def listen(self, heard: Heard) -> None:
        """Write down what is done and pass on how it goes, until all have ended; what stops one stops all."""
        at_work, said = len(self.members), set()
        while at_work:
            nth, message = heard.get()
            one = self.members[nth]
            if message is None:
                at_work -= 1
                self._has_ended(one)
            elif "record" in message:
                self._recorded(one, Record(**message["record"]))
            elif "skipped" in message:
                name, sample = message["skipped"]
                self._settled(one, name, sample, "skipped")
            elif "unmade" in message:
                self._unmade(one, Record(**message["unmade"]))
            elif "remark" in message and message["remark"] not in said:
                said.add(message["remark"])
                self.say(message["remark"])
            elif "lost" in message:
                self._take_out(one, f"ended: {message['lost']}")
            elif "stopped" in message:
                self.stopped = message["stopped"]
                for each in self.members:
                    each.stop()
            elif "status" in message:
                one.status = message["status"]
            if self.stopped is None:
                self.share_out(self.at_once)
            working = _together(each.status for each in self.members)
            self.tell(**{key: self.counts[key] for key in COUNTED}, **working)
        if self.stopped is not None:
            raise RunStopped(self.stopped)

    def _recorded(self, one: Member, record: Record) -> None:
        photo = one.at_hand.get(record.name)
        if record.status == "done":
            one.failures.clear()
            if photo is not None and photo.failed_by is not None:
                self._was_made(photo, photo.failed_by)
        _write(self.manifest, record)
        self._settled(one, record.name, record.sample, record.status)

    def _was_made(self, photo: Task, failed_by: Member) -> None:
        """A photo that another failed at: so that may be ill."""
        if photo.item.name in failed_by.failures:
            failed_by.failures[photo.item.name] = True
        if sum(failed_by.failures.values()) >= ILL and failed_by.is_there and self._others(failed_by):
            why = next((record.note for record in photo.unmade.values()), "")
            self._take_out(failed_by, f"failed at {ILL} photos in a row that others made ({why}): it is ended")

    def _unmade(self, one: Member, record: Record) -> None:
        photo = one.at_hand.get(record.name)
        if photo is None or record.sample not in photo.open:
            return
        if photo.failed_by is None:
            one.failures.setdefault(record.name, False)
            photo.unmade[record.sample] = record
            self._settled(one, record.name, record.sample)
        else:
            self._failed(photo, record)
            self._settled(one, record.name, record.sample, "failed")

    def _failed(self, photo: Task, record: Record) -> None:
        if photo.failed_by is not None:
            photo.failed_by.failures.pop(record.name, None)  # the photo is to blame
        _write(self.manifest, record)
        self.say(f"{record.name}: failed: {record.note}")

    def _settled(self, one: Member, name: str, sample: int, how: str | None = None) -> None:
        """A process is through with a sample; `how` counts, unless others are to try."""
        photo = one.at_hand.get(name)
        if photo is None or sample not in photo.open:
            return  # one that was made before the photo came to this process
        photo.open.remove(sample)
        if how is not None:
            photo.unmade.pop(sample, None)
            self.counts[how] += 1
        if not photo.open:
            del one.at_hand[name]
            self._pass_on(photo, one)

    def _pass_on(self, photo: Task, by: Member, *, is_left: bool = False) -> None:
        """To another process, what one did not make of a photo; if there is none, what failed has failed."""
        photo.open |= photo.unmade.keys()
        if not photo.open or self.stopped is not None:
            return
        if photo.unmade and photo.failed_by is None:
            photo.failed_by = by
        others = self._others(photo.failed_by)
        if is_left or not others:
            for record in photo.unmade.values():
                self._failed(photo, record)
                self.counts["failed"] += 1
        elif photo.unmade:
            min(others, key=lambda each: (len(each.failures), len(each.at_hand))).told(photo)
        else:
            self.left.appendleft(photo)

    def _take_out(self, one: Member, why: str) -> None:
        self.ended += 1
        to_others = "its photos go to the others" if self._others(one) else "what it had at hand is left"
        self.say(f"{one.name} {why}; {to_others}" if one.at_hand else f"{one.name} {why}")
        one.stop()

    def _has_ended(self, one: Member) -> None:
        if (how := one.how_it_ended()) and one.is_there:
            self._take_out(one, f"ended {how}")
        one.is_there, one.status = False, {}
        for name in reversed(list(one.at_hand)):
            photo = one.at_hand.pop(name)
            was_orphan, photo.is_orphan = photo.is_orphan, True
            self._pass_on(photo, one, is_left=was_orphan)  # a photo may be what ends processes: two, not all

    def _others(self, one: Member | None) -> list[Member]:
        return [each for each in self.members if each.is_there and each is not one]


def _write(manifest: Manifest, record: Record) -> None:
    try:
        manifest.add(record)
    except OSError as e:
        raise RunStopped(f"{manifest.path}: cannot be written: {e.strerror or e}") from None


def _together(status: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What a run is working on, of what its processes are; the share is that of all photos at work."""
    at_work = [(one["working_on"], one["share"]) for one in status if one.get("working_on")]
    photos = sum(len(names) for names, _ in at_work)
    return {
        "working_on": tuple(name for names, _ in at_work for name in names),
        "share": sum(len(names) * share for names, share in at_work) / photos if photos else 0.0,
    }
