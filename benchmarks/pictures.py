"""Pictures for benchmarks: aligned faces, fixed random windows of photos, and sheets to look at."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps

from repaint.errors import RunError

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
SCALES = (1, 2)  # px of the photo that make one px of a window: native and half scale, by turns
GAP_PX, LINE_PX, LETTER_PX = 2, 14, 7  # of sheets


@dataclass(frozen=True)
class Picture:
    """A square picture, (size, size, 3) uint8, and the name of what it shows."""

    name: str
    pixels: np.ndarray


def face(file: Path, size: int) -> Picture:
    """The whole picture, its middle if it is not square."""
    with Image.open(file) as image:
        return Picture(file.stem, np.asarray(ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BOX)))


def window(file: Path, size: int, scale: int, place: tuple[float, float]) -> Picture:
    """A window of a photo, shrunk `scale` times by an area filter.

    Args:
        place: where it lies, 0..1 of the way down and to the right.

    Raises:
        RunError: if the photo is smaller than the window.
    """
    photo = _decoded(file)
    side = size * scale
    if min(photo.shape[:2]) < side:
        raise RunError(f"{file}: is {photo.shape[1]} x {photo.shape[0]} px; a window needs {side} x {side}")
    top, left = (round(at * (length - side)) for at, length in zip(place, photo.shape, strict=False))
    cut = photo[top : top + side, left : left + side]
    pixels = cut.reshape(size, scale, size, scale, 3).mean((1, 3)).round().astype(np.uint8)
    return Picture(f"{file.stem}-{top}-{left}-{scale}", pixels)


def faces(folder: Path, size: int, count: int) -> list[Picture]:
    return [face(file, size) for file in images_in(folder)[:count]]


def windows(folder: Path, size: int, count: int, seed: int) -> list[Picture]:
    """`count` windows, the photos and the scales by turns; the i-th is the same whatever `count` is."""
    files = images_in(folder)
    return [
        window(files[i % len(files)], size, SCALES[i // len(files) % len(SCALES)], _place(seed, i))
        for i in range(count)
    ]


def many_windows(folder: Path, size: int, count: int, seed: int) -> Iterator[Picture]:
    """About `count` random windows of the scales at which a photo is large enough, photo after photo."""
    files = images_in(folder)
    each = -(-count // len(files))
    for p, file in enumerate(files):
        scales = [scale for scale in SCALES if size * scale <= min(_decoded(file).shape[:2])]
        for i in range(each if scales else 0):
            yield window(file, size, scales[i % len(scales)], _place(seed, p * each + i))


def images_in(folder: Path) -> list[Path]:
    """Sorted by name.

    Raises:
        RunError: if there are none.
    """
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in ENDINGS)
    if not found:
        raise RunError(f"{folder}: holds no images ({', '.join(ENDINGS)})")
    return found


def sheet(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str] = (), *, enlarge: int = 2) -> Image.Image:
    """Pictures of one size in rows and columns, enlarged pixel by pixel, with titles over the columns."""
    size = len(rows[0][0]) * enlarge
    wrapped = ["\n".join(textwrap.wrap(title, size // LETTER_PX)) for title in titles]
    head = LINE_PX * max((title.count("\n") + 1 for title in wrapped), default=0)
    step = size + GAP_PX
    canvas = Image.new("RGB", (max(map(len, rows)) * step, head + len(rows) * step), "white")
    for y, row in enumerate(rows):
        for x, pixels in enumerate(row):
            enlarged = Image.fromarray(pixels).resize((size, size), Image.Resampling.NEAREST)
            canvas.paste(enlarged, (x * step, head + y * step))
    for x, title in enumerate(wrapped):
        ImageDraw.Draw(canvas).text((x * step, 0), title, fill="black")
    return canvas


@lru_cache(maxsize=64)
def _decoded(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def _place(seed: int, i: int) -> tuple[float, float]:
    y, x = torch.rand(2, generator=torch.Generator().manual_seed((seed << 32) + i)).tolist()
    return y, x
