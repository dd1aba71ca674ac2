"""A run: read ahead, fill in batches, write atomically, record; killed and started again, it goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from .. import files, report
from ..config import resolved
from ..errors import ImageError, RepaintError, RunError, RunStopped
from ..image import Photo
from ..locks import alone_in
from ..stages.device import chosen_device, device_name
from ..stages.frugal import give_back_memory, is_gpu_lost
from ..stages.inpaint import InpaintStage
from ..stages.pipeline import Pipeline, Step
from ..stages.progress import Note
from . import crew
from .manifest import Ledger, Manifest, Record, fingerprint
from .opening import opened
from .outputs import Outputs
from .pairing import Item, paired
from .reading import Loaded, read_ahead
from .settings import RunConfig

OF_THE_NAME = {  # faults of one photo, not of the place
    errno.ENAMETOOLONG: "the name is too long for what is written beside its result",
    errno.EISDIR: "a folder has the name of its result",
    errno.EEXIST: "a file has the name of a folder of its result",
    errno.ENOTDIR: "a file has the name of a folder of its result",
    errno.EINVAL: "no file can have the name of its result there",
    errno.EILSEQ: "no file can have the name of its result there",
}
BATCH_PIXELS = 16_000_000  # of larger photos fewer are made at once: what each stage made of them is held


@dataclass(frozen=True)
class Status:
    """Where a run stands; results are counted, `samples` for each photo.

    Attributes:
        skipped: done by an earlier start.
        share: of the batch at work, 0..1.
        remark: a line for the user, else None.
    """

    done: int
    failed: int
    skipped: int
    total: int
    working_on: tuple[str, ...] = ()
    share: float = 0.0
    remark: str | None = None


@dataclass(frozen=True)
class Report:
    """What a run did.

    Attributes:
        records: of every result it was asked for, also of those an earlier start had made.
    """

    output: str
    done: int
    failed: int
    skipped: int
    seconds: float
    records: tuple[Record, ...]


Watch = Callable[[Status], None]


@dataclass(frozen=True, eq=False)
class Shot:
    """One result to make: a sample of a photo."""

    loaded: Loaded
    sample: int
    seed: int
    fingerprint: str

    @property
    def photo(self) -> Photo:
        assert self.loaded.photo is not None
        return self.loaded.photo


def run(config: RunConfig, watch: Watch = lambda status: None) -> Report:
    """Restore every photo of `config`; what an earlier start has done already is left as it is.

    Args:
        watch: told how it goes, after every network call.

    Raises:
        RunError: before any work: folders, pairing, other settings or another run in the same local output.
        ConfigError, WeightsError: before any work.
        RunStopped: in the middle of it, if results cannot be written or a GPU no longer answers; the same call goes on.
    """
    items, remarks = paired(config)
    try:
        Outputs(config).refuse_among_sources(items)
        Outputs(config).refuse_files_of_others(items)
    except OSError as e:
        raise RunError(f"{config.output}: cannot be looked at: {e.strerror or e}") from None
    with alone_in(config.output):
        manifest = opened(config, items)
        processes = crew.size(config, items, manifest)
        running = Running(config, manifest, watch, shared=processes > 1)
        others = {r.weights for r in manifest.records.values() if r.status == "done"} - {running.weights}
        if others:
            raise RunError(
                f"{config.output}: holds results of other weights "
                f"(sha256 {_differing(others.pop(), running.weights)}); choose another output"
            )
        return running.through(items, manifest, processes, remarks)


class GpuLost(RunStopped):
    """The GPU answers nothing more to this process; others may go on."""


class _StageFailed(Exception):
    def __init__(self, reason: Exception) -> None:
        self.reason = reason


class Running:
    """A run at work; or, with another ledger, a part of it (`jobs.part`)."""

    def __init__(self, config: RunConfig, ledger: Ledger, watch: Watch, *, shared: bool = False) -> None:
        self.config, self.ledger, self.watch = config, ledger, watch
        at = chosen_device(config.device)
        self.device = device_name(at)
        auto = 1 if at.type == "cpu" else 8
        self.batch_size = config.batch_size if isinstance(config.batch_size, int) else auto
        # Where others do the work nothing is computed here: no GPU needs these weights.
        where = ("cpu", "float32") if shared and at.type != "cpu" else (config.device, config.precision)
        self.pipeline = Pipeline(
            {stage.name: stage.settings.build(*where, batch_size=self.batch_size) for stage in config.stages}
        )
        self.weights = "+".join(self.pipeline.weights.values())
        self.outputs = Outputs(config)
        self.settings = config.what_makes_pictures()
        self.status = Status(0, 0, 0, 0)
        self.began = time.monotonic()

    def work(self, items: Iterable[Item]) -> None:
        for batch in self._batches(items):
            self._make(batch)

    def through(self, items: Sequence[Item], manifest: Manifest, processes: int, remarks: Sequence[str]) -> Report:
        """All of it, by this process or by several, and the report."""
        self.tell(total=len(items) * self.config.samples)
        for remark in (*(() if processes > 1 else self.pipeline.remarks), *remarks):  # several say their own
            self.say(remark)
        try:
            if processes > 1:
                sizes = {"count": processes, "batch_size": self.batch_size}
                crew.work(self.config, items, manifest, **sizes, tell=self.tell, say=self.say)
            else:
                self.work(items)
        except RunStopped as e:
            kept = self.status.done + self.status.skipped
            raise RunStopped(f"{e}; results kept: {kept}, the same command goes on from there") from None
        finally:
            with contextlib.suppress(OSError, RepaintError):
                manifest.settle()
                self._write_report(items, manifest)
        s, records = self.status, self._records(items, manifest)
        return Report(self.config.output, s.done, s.failed, s.skipped, time.monotonic() - self.began, records)

    def _records(self, items: Sequence[Item], manifest: Manifest) -> tuple[Record, ...]:
        """Of the results that were asked for; an earlier start that made nothing may have been asked for others."""
        wanted = {(item.name, sample) for item in items for sample in range(self.config.samples)}
        return tuple(record for key, record in manifest.records.items() if key in wanted)

    def _batches(self, items: Iterable[Item]) -> Iterator[list[Shot]]:
        """What is still to be made, some photos at a time; failures to read are recorded on the way."""
        batch: list[Shot] = []
        first, inpaint = next(iter(self.pipeline.stages.values())), self.config.inpaint
        cropped = inpaint is not None and inpaint.fit == "crop"
        crop_px = first.size if isinstance(first, InpaintStage) and cropped else None
        ahead = self.batch_size + self.config.workers
        for loaded in read_ahead(items, self.config, self._all_done, ahead=ahead, crop_px=crop_px):
            for remark in loaded.remarks:
                self.say(remark)
            for sample in range(self.config.samples):
                shot = self._shot(loaded, sample)
                if loaded.flaw is not None:
                    self._failed(shot, loaded.flaw)
                elif self._is_done(shot.loaded.item, sample, shot.fingerprint):
                    self.skipped(shot)
                else:
                    batch.append(shot)
                pixels = sum(shot.photo.rgb[0].numel() for shot in batch)
                if len(batch) == self.batch_size or pixels >= BATCH_PIXELS:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def _make(self, batch: Sequence[Shot]) -> None:
        """The results of a batch; if it fails as a whole, each photo on its own."""
        began = time.monotonic()
        step, why = None, ""
        try:
            step = self._last_step(batch)
        except _StageFailed as failed:
            if is_gpu_lost(failed.reason):
                raise GpuLost(f"the GPU no longer answers ({_one_line(failed.reason)})") from None
            why = _one_line(failed.reason)
        if step is None:  # not in the except clause, where the exception still holds the tensors of the batch
            give_back_memory()
            if len(batch) > 1:
                for shot in batch:
                    self._make([shot])
            else:
                self.unmade(batch[0], why)
            return
        seconds = (time.monotonic() - began) / len(batch)
        for note in step.notes:
            one = batch[0] if len(batch) == 1 else batch[note.photo] if isinstance(note, Note) else None
            self.say(f"{one.loaded.item.name}: {note}" if one else note)
        for i, (shot, calls) in enumerate(zip(batch, step.calls, strict=True)):
            self._done(shot, {name: photos[i] for name, photos in step.results.items()}, calls, seconds)

    def _last_step(self, batch: Sequence[Shot]) -> Step:
        names = tuple(dict.fromkeys(shot.loaded.item.name for shot in batch))
        steps, last = self.pipeline([shot.photo for shot in batch], [shot.seed for shot in batch]), None
        while True:
            try:
                step = next(steps, None)
            except Exception as e:  # whatever a photo makes a stage raise, the others are still to be made
                raise _StageFailed(e) from e
            if step is None:
                break
            last = step
            self.tell(working_on=names, share=step.share)  # what the watcher raises ends the run
        assert last is not None
        return last

    def _prepared(self, photo: Photo, results: dict[str, Photo]) -> Photo:
        """The photo as it was filled: its damage found, cut to size, its holes grown."""
        photo = results.get("scratches", photo)
        inpaint = self.pipeline.stages.get("inpaint")
        return inpaint.prepared(photo) if isinstance(inpaint, InpaintStage) else photo

    def _done(self, shot: Shot, results: dict[str, Photo], calls: int, seconds: float) -> None:
        item = shot.loaded.item
        prepared = self._prepared(shot.photo, results)
        note = _note(prepared, found="scratches" in results) if "inpaint" in results else ""
        try:
            output = self.outputs.write(item, shot.sample, prepared, results)
            more = {"output": output, "calls": calls, "seconds": round(seconds, 3), "note": note}
            self.ledger.add(self.record(shot, "done", **more))
        except ImageError as e:
            self._failed(shot, str(e))
            return
        except (RuntimeError, MemoryError) as e:  # too large to be encoded in what memory there is
            self._failed(shot, f"{item.name}: cannot be written: {_one_line(e)}")
            return
        except OSError as e:
            of_folder = e.errno in (errno.EEXIST, errno.ENOTDIR)  # of its own, if it has one; else of the place
            if e.errno in OF_THE_NAME and ("/" in item.name or not of_folder):
                self._failed(shot, f"{item.name}: {OF_THE_NAME[e.errno]}")
                return
            raise RunStopped(f"{self.config.output}: cannot be written: {e.strerror or e}") from None
        if note:
            self.say(f"{item.name}: {note}")
        self.tell(done=self.status.done + 1, share=0.0)

    def _failed(self, shot: Shot, why: str) -> None:
        try:
            self.ledger.add(self.record(shot, "failed", note=why))
        except OSError as e:
            raise RunStopped(f"{self.ledger.path}: cannot be written: {e.strerror or e}") from None
        self.tell(failed=self.status.failed + 1)
        self.say(f"failed: {why}" if shot.loaded.item.name in why else f"{shot.loaded.item.name}: failed: {why}")

    def unmade(self, shot: Shot, why: str) -> None:
        """A stage failed at it."""
        self._failed(shot, why)

    def skipped(self, shot: Shot) -> None:
        self.tell(skipped=self.status.skipped + 1)

    def record(self, shot: Shot, status, **more) -> Record:
        return Record(shot.loaded.item.name, shot.sample, status, shot.fingerprint, shot.seed, self.weights, **more)

    def _shot(self, loaded: Loaded, sample: int) -> Shot:
        seed = loaded.item.seed(self.config, sample)
        return Shot(loaded, sample, seed, self._fingerprint(loaded.content, seed))

    def _fingerprint(self, content: tuple[str, str], seed: int) -> str:
        return fingerprint(content, self.settings, self.weights, seed)

    def _all_done(self, item: Item, content: tuple[str, str]) -> bool:
        return all(
            self._is_done(item, sample, self._fingerprint(content, item.seed(self.config, sample)))
            for sample in range(self.config.samples)
        )

    def _is_done(self, item: Item, sample: int, fingerprint: str) -> bool:
        path = self.outputs.path(item, sample)
        try:
            return self.ledger.is_done(item.name, sample, fingerprint) and self.outputs.are_there(item, sample)
        except OSError as e:
            raise RunStopped(f"{path}: cannot be looked at: {e.strerror or e}") from None

    def tell(self, **changes) -> None:
        self.status = dataclasses.replace(self.status, **changes)
        self.watch(self.status)

    def say(self, remark: str) -> None:
        self.watch(dataclasses.replace(self.status, remark=remark))

    def _write_report(self, items: Sequence[Item], manifest: Manifest) -> None:
        output = self.config.output
        rows = self.outputs.rows(self._records(items, manifest), items)
        summary = report.Summary(
            title=Path(output if files.is_remote(output) else os.path.abspath(output)).name,
            settings_yaml=resolved(self.config),
            rows=rows,
            device=f"{self.device}, {platform.machine()}, {self.settings['precision']}",
            seconds=time.monotonic() - self.began,
            version=_version(),
            weights="\n".join(f"{name}, sha256 {sha256}" for name, sha256 in self.pipeline.weights.items()),
        )
        report.write_report(output, summary)


def _note(prepared: Photo, *, found: bool) -> str:
    """What to say of a mask that has no hole, or nothing else."""
    assert prepared.keep is not None
    hole = float((prepared.keep < 1).float().mean())
    if found:
        return f"{100 * hole:.2f} % of it filled" if hole else "no damage found; nothing filled"
    if hole == 0:
        return "the mask marks nothing to fill; written unchanged"
    return "the mask keeps nothing; all of the picture is invented" if hole == 1 else ""


def _one_line(e: BaseException) -> str:
    text = str(e).strip().splitlines()
    return f"{type(e).__name__}: {text[0]}" if text else type(e).__name__


def _differing(there: str, here: str) -> str:
    """The first of two lists of hashes, joined by +, in which they differ."""
    pairs = zip_longest(there.split("+"), here.split("+"), fillvalue="none")
    a, b = next(pair for pair in pairs if pair[0] != pair[1])
    return f"{a[:12]} there, {b[:12]} here"


def _version() -> str:
    from importlib.metadata import version

    return version("repaint")
