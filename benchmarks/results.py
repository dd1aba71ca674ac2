"""Where a benchmark keeps what it has done, so that it goes on after a stop, and the tables of it.

A folder holds fills, METHOD/SET/PICTURE.png, and figures.jsonl, one line a fill. Folders of several runs merge by
copying their files together; lines of figures are appended to one another, the last of a fill counts.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from repaint.files import write_bytes

from .fills import FIGURES, interval, win_rate


class Key(NamedTuple):
    """What a fill is of: a set of pictures ('faces wide'), a method and a picture."""

    set: str
    method: str
    picture: str


class Store:
    """Fills and their figures in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "figures.jsonl"
        self.figures: dict[Key, dict[str, float]] = {}
        for line in self._whole_lines():
            said: dict[str, Any] = json.loads(line)
            key = Key(*(said.pop(name) for name in Key._fields))
            self.figures[key] = said

    def fill(self, key: Key) -> np.ndarray:
        """(H, W, 3) uint8."""
        with Image.open(self._path(key)) as image:
            return np.asarray(image.convert("RGB"))

    def has_fill(self, key: Key) -> bool:
        return self._path(key).exists()

    def keep_fill(self, key: Key, pixels: np.ndarray) -> None:
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG")
        write_bytes(self._path(key), png.getvalue())

    def keep_figures(self, found: Mapping[Key, dict[str, float]]) -> None:
        self.figures.update(found)
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.file, "a") as f:
            f.writelines(json.dumps({**key._asdict(), **figures}) + "\n" for key, figures in found.items())

    def of(self, set: str, method: str, figure: str) -> dict[str, float]:
        """A figure by picture."""
        return {
            key.picture: figures[figure]
            for key, figures in self.figures.items()
            if (key.set, key.method) == (set, method) and figure in figures
        }

    def _whole_lines(self) -> list[str]:
        """What a killed run wrote last may be half a line; it is cut off."""
        if not self.file.exists():
            return []
        text = self.file.read_text()
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            write_bytes(self.file, whole.encode())
        return whole.splitlines()

    def _path(self, key: Key) -> Path:
        return self.folder.joinpath(slug(key.method), slug(key.set), f"{key.picture}.png")


def slug(words: str) -> str:
    return re.sub(r"[^\w.]+", "-", words).strip("-")


# ---- tables


def figure_table(store: Store, sets: Sequence[str], methods: Sequence[str], figure: str) -> str:
    """Means with half the width of their 95 % bootstrap intervals; the best of each row in bold.

    A row is of the pictures that all its methods have filled; how many stands behind its name.
    """
    spec = FIGURES[figure]

    def row(set: str) -> list[str]:
        values = [store.of(set, method, figure) for method in methods]
        shared = sorted(frozenset.intersection(*(frozenset(v) for v in values if v)))
        found = [interval([v[picture] for picture in shared]) if v and shared else None for v in values]
        best = max((spec.sign * f[0] for f in found if f), default=None)
        cells = [_cell(f, spec.digits, f is not None and spec.sign * f[0] == best) for f in found]
        return [f"{set} ({len(shared)})", *cells]

    title = f"{spec.title}, {'higher' if spec.sign > 0 else 'lower'} is better"
    return _markdown([title, *methods], map(row, (s for s in sets if any(store.of(s, m, figure) for m in methods))))


def win_table(store: Store, sets: Sequence[str], ours: str, others: Sequence[str], measured: Sequence[str]) -> str:
    """On how many of 100 pictures ours is better than each of the others, figure by figure."""

    def cell(set: str, figure: str) -> str:
        return " / ".join(_wins(store.of(set, ours, figure), store.of(set, o, figure), figure) for o in others)

    title = f"{ours} better than {' / '.join(others)}, % of pictures"
    rows = ([set, *(cell(set, figure) for figure in measured)] for set in sets)
    return _markdown([title, *(FIGURES[figure].title for figure in measured)], rows)


def _wins(ours: Mapping[str, float], theirs: Mapping[str, float], figure: str) -> str:
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        return "–"
    return f"{100 * win_rate([ours[p] for p in shared], [theirs[p] for p in shared], FIGURES[figure].sign):.0f}"


def _cell(found: tuple[float, float, float] | None, digits: int, is_best: bool) -> str:
    if found is None:
        return "–"
    mean, low, high = found
    said = _short(mean, digits)
    return f"{f'**{said}**' if is_best else said} ± {_short((high - low) / 2, digits)}"


def _short(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 and digits > 1 else f"{value:.{digits}f}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
