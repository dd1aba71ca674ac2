"""Images and masks read ahead, while the network works on those before."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch

from .. import files
from ..errors import ImageError
from ..image import (
    Photo,
    centre_cropped,
    centre_cropped_mask,
    check_mask_fits,
    decode_mask,
    decode_photo,
    of_frames,
)
from .pairing import Item
from .settings import RunConfig

AHEAD_PIXELS = 16_000_000  # of photos that wait in memory; when there are so many, no other is read


@dataclass(frozen=True, eq=False)
class Loaded:
    """An item with what its files hold.

    Attributes:
        content: hashes of the bytes of the image and of the mask.
        photo: None if all its samples were done already, or if it cannot be read.
        remarks: doubts about the mask, and what is not read of the image.
        flaw: why it cannot be read.
    """

    item: Item
    content: tuple[str, str]
    photo: Photo | None = None
    remarks: tuple[str, ...] = ()
    flaw: str | None = None


def load(
    item: Item, config: RunConfig, is_done: Callable[[Item, tuple[str, str]], bool], crop_px: int | None = None
) -> Loaded:
    """The photo of an item with its mask; not decoded if `is_done` says so of the hashes of its files.

    Args:
        crop_px: side of the middle squares that both are cut to, each in its own size (`image.centre_cropped`).
    """
    try:
        image, mask = read(item)
    except ImageError as e:
        return Loaded(item, ("", ""), flaw=str(e))
    content = hashes(image, mask)
    if is_done(item, content):
        return Loaded(item, content)
    inpaint = config.inpaint
    limit = round(config.max_megapixels * 1e6)
    try:
        photo = decode_photo(image, item.image, max_pixels=limit)
        remarks = (f"{item.name}: {of_frames(photo.meta.frames)}",) if photo.meta.frames > 1 else ()
        if crop_px is not None:
            photo = centre_cropped(photo, crop_px)
        if item.mask is None:
            return Loaded(item, content, photo, remarks)
        soft = inpaint is not None and inpaint.fit == "crop" and inpaint.soft_masks
        found = decode_mask(mask, item.mask, hole=config.hole, soft=soft, max_pixels=limit)
        keep = found.keep if crop_px is None else centre_cropped_mask(found.keep, crop_px)
        check_mask_fits(item.mask or "", photo, keep)
        photo = replace(photo, keep=keep)
    except ImageError as e:
        return Loaded(item, content, flaw=str(e))
    return Loaded(item, content, photo, (*remarks, *found.warnings))


def read(item: Item) -> tuple[bytes, bytes]:
    """What the files of an image and of its mask hold."""
    return _bytes(item.image), _bytes(item.mask) if item.mask is not None else b""


def hashes(image: bytes, mask: bytes) -> tuple[str, str]:
    return hashlib.sha256(image).hexdigest(), hashlib.sha256(mask).hexdigest()


def read_ahead(
    items: Iterable[Item],
    config: RunConfig,
    is_done: Callable[[Item, tuple[str, str]], bool],
    *,
    ahead: int,
    crop_px: int | None = None,
) -> Iterator[Loaded]:
    """All items, in order, each loaded (`load`) by a thread before it is asked for.

    At most `ahead` wait in memory, and no more when they have `AHEAD_PIXELS`: one a thread may then still come.
    """
    # One torch thread for each reader: with more OpenMP threads than cores, those of the network sleep instead of
    # waiting for one another, and each call of a small network takes twice as long.
    here = torch.get_num_threads()
    alone = {"initializer": torch.set_num_threads, "initargs": (1,)}
    with ThreadPoolExecutor(config.workers, thread_name_prefix="read-ahead", **alone) as threads:
        waiting: deque[Future[Loaded]] = deque()
        room = _Room(AHEAD_PIXELS)

        def loaded(nth: int, item: Item) -> Loaded:
            room.enter(nth)
            found = load(item, config, is_done, crop_px)
            room.holds(_pixels(found))
            return found

        def first() -> Loaded:
            found = waiting.popleft().result()
            room.left(_pixels(found))
            return found

        try:
            for nth, item in enumerate(items):
                waiting.append(threads.submit(loaded, nth, item))
                if len(waiting) >= ahead:
                    yield first()
            while waiting:
                yield first()
        finally:
            for future in waiting:
                future.cancel()
            room.close()
            torch.set_num_threads(here)  # what later threads begin with, too


class _Room:
    """Room for so many pixels; the item that is asked for next always comes in, or all would wait for one another."""

    def __init__(self, pixels: int) -> None:
        self._most, self._held, self._next, self._closed = pixels, 0, 0, False
        self._changed = threading.Condition()

    def enter(self, nth: int) -> None:
        """Wait until there is room, or it is this item's turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._held < self._most or nth <= self._next or self._closed)

    def holds(self, pixels: int) -> None:
        with self._changed:
            self._held += pixels

    def left(self, pixels: int) -> None:
        with self._changed:
            self._held -= pixels
            self._next += 1
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _pixels(found: Loaded) -> int:
    return 0 if found.photo is None else found.photo.rgb[0].numel()


def _bytes(path: str) -> bytes:
    try:
        return files.read_bytes(path)
    except OSError as e:
        raise ImageError(f"{path}: cannot be read: {e.strerror or e}") from None
