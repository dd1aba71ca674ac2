"""A finished run as one HTML page: what was asked, what it cost, and every photo before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from statistics import fmean
from urllib.parse import quote

from .files import join, write_bytes

NAME = "report.html"


@dataclass(frozen=True)
class Row:
    """One photo of the run. Every path is relative to the folder of the report, '/' between its parts.

    Args:
        name: as the user knows it, 'family/aunt.png'.
        status: 'done'; anything else is shown as failed.
        calls: of the network.
        note: why it failed, or a remark.
        input: a thumbnail, as is `mask`; None leaves the picture out.
        results: thumbnails, one per sample.
        links: the full-size results, in the same order; one without a thumbnail becomes a plain link.
    """

    name: str
    status: str
    seconds: float | None
    calls: int | None
    seed: int | None
    note: str = ""
    input: str | None = None
    mask: str | None = None
    results: tuple[str, ...] = ()
    links: tuple[str, ...] = ()


@dataclass(frozen=True)
class Summary:
    """All the page says.

    Args:
        seconds: from the start of the run to its end, as a clock on the wall saw it.
        version: of this package.
        weights: name and sha256; one per line if there are several.
    """

    title: str
    settings_yaml: str
    rows: Sequence[Row]
    device: str
    seconds: float
    version: str
    weights: str


def render(summary: Summary) -> str:
    """The page, complete in itself: it asks for nothing but the thumbnails named in its rows."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    page = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters.update(url=_url, duration=_duration, samples=_samples)
    rows = summary.rows
    timed = [row.seconds for row in rows if row.status == "done" and row.seconds is not None]
    return page.get_template("report.html.j2").render(
        summary=summary,
        failed=[row for row in rows if row.status != "done"],
        done=[row for row in rows if row.status == "done"],
        calls=sum(row.calls or 0 for row in rows),
        seconds_per_photo=fmean(timed) if timed else None,
    )


def write_report(folder: str | Path, summary: Summary) -> str:
    """The path of `report.html` in `folder`, where the page now stands whole.

    Raises:
        OSError: if the folder cannot be written.
    """
    path = join(folder, NAME)
    write_bytes(path, render(summary).encode("utf-8", "replace"))  # a name that is not UTF-8 shows as '?'
    return path


def _url(path: str) -> str:
    """A relative path as a URL that leads to the same file, also if its name is not UTF-8."""
    return "/".join(quote(part, safe="", errors="surrogateescape") for part in path.split("/"))


def _samples(row: Row) -> list[tuple[str | None, str | None]]:
    """Thumbnail and full-size picture of each sample."""
    return list(zip_longest(row.results, row.links))


def _duration(seconds: float) -> str:
    """'0.42 s', '12.4 s', '5 min 12 s' or '3 h 05 min'."""
    if seconds < 0.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 3599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes:02d} min"
