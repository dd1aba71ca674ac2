"""What the page asks for: a photo opened, its damage found, the photo restored. Nothing here knows of a browser.

A view is the photo at the size at which the page lets marks be painted, in the middle of a square canvas. Marks are
what it shows there in red, (h, w) bool. A hole is (1, H, W) bool, True = to be filled, at the photo's own size. What a
person paints comes to that size; what was found and left alone keeps its own pixels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..errors import RunError
from ..image import ENDINGS, Photo, check_size, decode_photo, of_frames, write_photo
from ..image.writing import to_samples
from ..restoring import Restore
from ..single import found_share, network_failures, of_damage
from ..stages.progress import Device, Precision
from ..stages.scratches import Scratches
from ..terminal import about_left, duration

T = TypeVar("T")
VIEW_PX = 1000  # the longest side of a view; a small photo is enlarged to it, for the brush is no finer than its pixels
RED, SHOWN_ALPHA = (255, 32, 16), 153  # of marks
MARKED_ALPHA = 48  # what is fainter is what wiping left
PREVIEW_PX = 1600  # the longest side of what is only looked at
SECONDS_BETWEEN_LOOKS = 2.0  # of the photo while it is worked on
QUALITY = 95
DOING = {
    "scratches": "Looking for damage",
    "inpaint": "Filling the damage",
    "faces": "Restoring faces",
    "upscale": "Enlarging",
    "color": "Correcting colours",
}


@dataclass(frozen=True, eq=False)
class Look:
    """Where the work stands.

    Attributes:
        words: for the person who waits.
        picture: (h, w, 3) uint8, the photo so far; None if nothing new is to be seen.
        file: the result; None before the end.
        notes: what the person should know.
    """

    words: str
    picture: np.ndarray | None = None
    file: Path | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Found:
    """What a detector found in a photo: its hole (1, H, W), and that as marks on the view (h, w)."""

    hole: Tensor
    marks: np.ndarray


def opened(path: str | Path, *, max_pixels: int) -> Photo:
    """The photo of an uploaded file.

    Raises:
        ImageError: if it cannot be read; of the folder it lies in nothing is said.
    """
    return decode_photo(Path(path).read_bytes(), Path(path).name, max_pixels=max_pixels)


def view(photo: Photo) -> np.ndarray:
    """(h, w, 3) uint8, the photo at the size of its view."""
    return _at_size(photo, *view_sides(*photo.rgb.shape[-2:]))


def view_sides(height: int, width: int) -> tuple[int, int]:
    """Height and width of the view of a photo."""
    times = VIEW_PX / max(height, width)
    return max(1, round(height * times)), max(1, round(width * times))


def preview(photo: Photo) -> np.ndarray:
    """(h, w, 3) uint8, at most PREVIEW_PX a side."""
    height, width = photo.rgb.shape[-2:]
    times = min(1.0, PREVIEW_PX / max(height, width))
    return _at_size(photo, max(1, round(height * times)), max(1, round(width * times)))


def _at_size(photo: Photo, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8; what is transparent is white."""
    shown = photo.rgb if photo.alpha is None else photo.rgb * photo.alpha + 1 - photo.alpha
    image = Image.fromarray(to_samples(shown, bits=8))
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(image)


# ---- marks and holes


def marks_of_hole(hole: Tensor) -> np.ndarray:
    """(h, w) bool of a hole (1, H, W): every pixel of the view in which there is any of it."""
    sides = view_sides(*hole.shape[-2:])
    return (F.adaptive_max_pool2d(hole.float()[None], sides)[0, 0] > 0).numpy()


def hole_of_marks(marks: np.ndarray, sides: tuple[int, int], found: Found | None) -> Tensor:
    """The hole (1, H, W) that marks mean, in a photo of these sides.

    Args:
        marks: (h, w) bool, as a person left them.
        found: what the marks were before; of these, what was wiped out is none, and the rest keeps its outline.
    """

    def enlarged(x: np.ndarray) -> Tensor:
        return F.interpolate(torch.from_numpy(x)[None, None].float(), sides, mode="nearest-exact")[0] > 0.5

    if found is None:
        return enlarged(marks)
    return found.hole & ~enlarged(found.marks & ~marks) | enlarged(marks & ~found.marks)


def looked_again(marks: np.ndarray, before: Found | None, now: Found) -> np.ndarray:
    """Marks (h, w) after another search: those of now; what a person painted or wiped out before stays so."""
    if before is None:
        return now.marks | marks
    return (now.marks & ~(before.marks & ~marks)) | (marks & ~before.marks)


def on_canvas(view: np.ndarray, marks: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """A view (h, w, 3) on its canvas, RGB uint8, and its marks (h, w) as a layer over that, RGBA uint8."""
    there = _within_canvas(view.shape[0], view.shape[1])
    canvas = np.full((VIEW_PX, VIEW_PX, 3), 255, np.uint8)
    layer = np.zeros((VIEW_PX, VIEW_PX, 4), np.uint8)
    canvas[there] = view
    if marks is not None:
        layer[there][marks] = (*RED, SHOWN_ALPHA)
    return canvas, layer


def marks_on_canvas(layers: Sequence[np.ndarray], sides: tuple[int, int]) -> np.ndarray:
    """(h, w) bool, of a view of these sides: where anything is painted on layers (VIEW_PX, VIEW_PX, 4) uint8."""
    marks = np.zeros(sides, bool)
    for layer in layers:
        marks |= layer[_within_canvas(*sides)][..., 3] >= MARKED_ALPHA
    return marks


def _within_canvas(height: int, width: int) -> tuple[slice, slice]:
    top, left = (VIEW_PX - height) // 2, (VIEW_PX - width) // 2
    return slice(top, top + height), slice(left, left + width)


# ---- work


def finding(photo: Photo, sensitivity: float, device: Device) -> Iterator[Look | Found]:
    """How the search for damage goes; the last is what was found.

    Raises:
        RunError: if the network fails.
    """
    stage = Scratches(sensitivity=sensitivity).build(device)
    clock, progress = _Clock(), None
    with network_failures("the photo cannot be looked at"):
        for progress in stage([photo]):
            yield Look(clock.words(DOING["scratches"], progress.done / max(1, progress.total)))
    assert progress is not None
    (looked_at,) = progress.photos
    assert looked_at.keep is not None
    hole = looked_at.keep < 1
    yield Found(hole, marks_of_hole(hole))


def restoring(
    photo: Photo,
    name: str,
    settings: Restore,
    folder: Path,
    *,
    hole: Tensor | None,
    seed: int,
    device: Device,
    precision: Precision,
) -> Iterator[Look]:
    """How a photo is restored; the last look has its result, written to `folder`.

    Args:
        name: of the photo's file; the result is called NAME-restored, in the same format where that can be written.
        hole: (1, H, W) bool, what is filled beside what is found; None: nothing is.

    Raises:
        RunError: if there is nothing to do, or a network fails.
        ImageError: if the result cannot be written, or cannot be so large.
    """
    ending = Path(name).suffix.lower()
    ending = ending if ending in ENDINGS else ".png"
    height, width = (round(settings.scale * side) for side in photo.rgb.shape[-2:])
    check_size(ENDINGS[ending], height, width)
    hole = hole if hole is not None and hole.any() else None
    try:
        settings.stages(masked=hole is not None)
    except RunError:  # its words are those of options
        raise RunError("nothing to do: nothing is red, no other box is ticked, and the size is as it is") from None
    pipeline = settings.pipeline(device, precision, masked=hole is not None)
    given = photo if hole is None else replace(photo, keep=~hole)
    clock, seen, step = _Clock(), "", None
    shown_at = time.monotonic()
    with network_failures("the photo cannot be restored"):
        for step in pipeline([given], [seed]):
            doing = "Cleaning" if step.stage == "upscale" and settings.scale == 1 else DOING[step.stage]
            words = clock.words(doing, step.share)
            picture = None
            if time.monotonic() - shown_at > SECONDS_BETWEEN_LOOKS and step.stage != "scratches":
                picture, shown_at = preview(step.guess[0]), time.monotonic()
            if picture is not None or words != seen:
                yield Look(words, picture)
            seen = words
    if step is None:
        raise RunError("there is nothing to do")
    (result,) = step.photos
    path = folder / f"{Path(name).stem}-restored{ending}"
    write_photo(path, result, quality=QUALITY)
    pages = (of_frames(photo.meta.frames),) if photo.meta.frames > 1 else ()
    notes = (*pages, *pipeline.remarks, *_marked(step.results, given), *step.notes)
    yield Look(clock.done(), preview(result), path, notes)


def _marked(results: dict[str, list[Photo]], photo: Photo) -> Iterator[str]:
    if (looked_at := results.get("scratches")) and (keep := looked_at[0].keep) is not None:
        yield of_damage(found_share(photo, keep)) + ("" if photo.keep is None else ", beside what is painted")


class AtWork:
    """How many photos are being worked on: one, while others wait for their turn without being asked for anything."""

    def __init__(self) -> None:
        self._now: set[object] = set()

    def during(self, work: Iterator[T]) -> Iterator[T]:
        """The work as it is; until it ends, or is dropped, it counts."""
        one = object()
        self._now.add(one)
        try:
            yield from work
        finally:
            self._now.discard(one)

    def words(self) -> str:
        """What to say to somebody who asks for more."""
        return "Another photo is being worked on; yours comes after it …" if self._now else "Beginning …"


class _Clock:
    """How long work takes, in words."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began = now()

    def words(self, doing: str, share: float) -> str:
        """What is done, how much of all, and how long it may take yet, once that can be told."""
        left = about_left(share, self._now() - self._began)
        return f"{doing}: {100 * share:.0f} % of all{left}" if left else f"{doing} …"

    def done(self) -> str:
        return f"Done in {duration(self._now() - self._began)}."
