"""How long work looks on a terminal: a bar there, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .jobs.running import Status
    from .stages.pipeline import Step
    from .stages.progress import Progress
    from .train.loop import Status as TrainingStatus

SECONDS_BETWEEN_LINES = 10
TELLING_S, TELLING_SHARE = 4, 0.03  # from which on it can be told how long work will take


@contextlib.contextmanager
def watching() -> Iterator[Callable[[Status], None]]:
    """What a run may tell its status to."""
    if not sys.stderr.isatty():
        yield _Lines().tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.fields[ready]}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rate]} {task.fields[name]}"),
    )
    began = time.monotonic()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, ready="", rate="", name="")

        def tell(status: Status) -> None:
            if status.remark is not None:
                console.print(f"repaint: {status.remark}", markup=False, highlight=False)
                return
            bar.update(
                task,
                total=status.total - status.skipped,
                completed=_made(status),
                ready=f"{_made(status):.1f}/{status.total - status.skipped}",
                rate=_rate(status, began),
                name=_names(status),
            )

        yield tell


@contextlib.contextmanager
def stage_bar(name: str) -> Iterator[Callable[[Progress], None]]:
    """What a stage's progress on one photo may be told to."""
    if not sys.stderr.isatty():
        line, began = _NowAndThen(), time.monotonic()

        def calls(progress: Progress) -> None:
            left = about_left(progress.done / max(1, progress.total), time.monotonic() - began)
            line.tell(f"{name}: {progress.done} of {progress.total} network calls{left}")

        yield calls
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn(name, markup=False),
        MofNCompleteColumn(),
        TextColumn("network calls,"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda progress: bar.update(task, total=progress.total, completed=progress.done)


@contextlib.contextmanager
def restore_bar(name: str) -> Iterator[Callable[[Step], None]]:
    """What a pipeline's step on one photo may be told to."""
    if not sys.stderr.isatty():
        line, began = _NowAndThen(), time.monotonic()

        def stages(step: Step) -> None:
            left = about_left(step.share, time.monotonic() - began)
            line.tell(f"{name}: {step.stage}, {100 * step.share:.0f} % of all{left}")

        yield stages
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn(name, markup=False), BarColumn(), TextColumn("{task.fields[stage]}"), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0, stage="")
        yield lambda step: bar.update(task, completed=step.share, stage=step.stage)


@contextlib.contextmanager
def fetch_bar(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """What a download may be told to: bytes done, bytes in all."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn(name, markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def training_lines() -> Callable[[TrainingStatus], None]:
    """What a training may tell its status to: a line now and then, and one for each validation."""
    last = time.monotonic() - SECONDS_BETWEEN_LINES

    def tell(status: TrainingStatus) -> None:
        nonlocal last
        if status.remark:
            print(f"repaint: {status.remark}", file=sys.stderr, flush=True)
            return
        if not status.measured and time.monotonic() - last < SECONDS_BETWEEN_LINES:
            return
        last = time.monotonic()
        left = (status.steps - status.step) * status.images_per_step / max(1e-9, status.images_per_s)
        looked = "".join(f", held-out {name} {value:.4f}" for name, value in status.measured.items())
        rate = f"{status.images_per_s:.0f} images/s, {left / 60:.0f} min left"
        print(
            f"repaint: step {status.step}/{status.steps}, loss {status.loss:.4f}{looked}, {rate}",
            file=sys.stderr,
            flush=True,
        )

    return tell


class _NowAndThen:
    """A line every some seconds, none before."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def tell(self, line: str) -> None:
        if time.monotonic() - self._last > SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            print(f"repaint: {line}", file=sys.stderr, flush=True)


class _Lines:
    """The first and the last result, and a line every some seconds between."""

    def __init__(self) -> None:
        self._began = self._last = time.monotonic()
        self._counted = -1

    def tell(self, status: Status) -> None:
        if status.remark is not None:
            self._print(status.remark)
            return
        counted, now = status.done + status.failed, time.monotonic()
        is_new = counted > max(0, self._counted) and (self._counted <= 0 or counted + status.skipped == status.total)
        if status.total and (is_new or now - self._last > SECONDS_BETWEEN_LINES):
            left = status.total - status.skipped - _made(status)
            rate = ""
            if made := _made(status):
                rate = f", {_rate(status, self._began)}, {duration((now - self._began) / made * left)} left"
            percent = f", {100 * status.share:.0f} % of {_names(status)}" if status.share else ""
            ready = f"{counted + status.skipped}/{status.total}"
            self._print(f"{ready}{percent}{rate}")
            self._last = now
        self._counted = counted

    def _print(self, line: str) -> None:
        print(f"repaint: {line}", file=sys.stderr, flush=True)


def about_left(share: float, seconds: float) -> str:
    """', about 40 s left', of work of which a share is done after so many seconds; '' where that cannot be told."""
    if seconds < TELLING_S or share < TELLING_SHARE:
        return ""
    return f", about {duration(seconds / share * (1 - share))} left"


def duration(seconds: float) -> str:
    """In the unit that suits it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _made(status: Status) -> float:
    batch = len(status.working_on) if status.share else 0
    return min(status.done + status.failed + status.share * batch, status.total - status.skipped)


def _rate(status: Status, began: float) -> str:
    made, seconds = _made(status), time.monotonic() - began
    if made <= 0:
        return ""
    return f"{made / seconds:.2f} photos/s" if made > seconds else f"{seconds / made:.1f} s a photo"


def _names(status: Status) -> str:
    more = f" and {len(status.working_on) - 1} more" if len(status.working_on) > 1 else ""
    return f"{status.working_on[0]}{more}" if status.working_on else ""
