"""A run as commands show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from .answers import SOME_FAILED, say

if TYPE_CHECKING:
    from .jobs import RunConfig


def run_and_show(config: RunConfig) -> None:
    """Run, show how it goes, and say what was done.

    Raises:
        RepaintError: if nothing can start, or it has to stop.
        typer.Exit: 1 if some photos failed.
    """
    from .jobs.running import run
    from .terminal import watching

    with watching() as watch:
        report = run(config, watch)
    summary = f"{report.done} done"
    summary += f", {report.skipped} done before" if report.skipped else ""
    summary += f", {report.failed} failed" if report.failed else ""
    say(f"{summary} in {report.seconds:.1f} s; see {report.output}/report.html")
    if report.failed:
        raise typer.Exit(SOME_FAILED)
