"""Damage found in files: a mask for each photo, and a picture to look at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import torch

from .errors import ConfigError, ImageError, RunError
from .files import is_named, is_within, list_files
from .image import (
    DEFAULT_MAX_PIXELS,
    ENDINGS,
    READABLE,
    Meta,
    Photo,
    luma,
    of_frames,
    read_photo,
    unread_in,
    write_mask,
    write_photo,
)
from .stages.progress import Progress
from .stages.scratches import Detected, ScratchesStage

RED = (1.0, 0.1, 0.05)
QUALITY = 90  # of the overlays
CORRECTED_S = 1e-3  # a mask and its overlay are of one time; one that was changed, or is of others, is not
OVERLAY, PROBABILITY = "_overlay.jpg", "_probability.png"  # beside the mask NAME.png

Bar = Callable[[str], AbstractContextManager[Callable[[Progress], None]]]
"""Of a photo's name: what the stage's progress on it is told to."""


@dataclass(frozen=True)
class Detection:
    """What became of one photo.

    Attributes:
        name: of the photo, as seen from its folder.
        damaged: share of the photo that is marked.
        notes: what the user should know.
        flaw: why there is no mask; None if there is one.
    """

    name: str
    damaged: float = 0.0
    notes: tuple[str, ...] = ()
    flaw: str | None = None


def photos_in(source: Path, out: Path, *, probability: bool = False) -> list[tuple[Path, PurePosixPath]]:
    """The photo, or those of a folder and its subfolders, each with the name that its mask gets without an ending.

    Args:
        probability: whether NAME_probability.png is written, too.

    Raises:
        ConfigError: if what is written could overwrite a photo or a file of others, or two photos would write to the
            same name.
        ImageError: if there is no photo.
    """
    if is_named(out, ENDINGS):
        raise ConfigError(f"--out {out}: is the name of a picture; a folder for the masks would be right")
    beside = (OVERLAY, PROBABILITY) if probability else (OVERLAY,)
    if not source.is_dir():
        if not source.exists():
            raise ImageError(f"{source}: does not exist")
        if out.resolve() == source.resolve().parent:
            raise ConfigError(f"--out {out}: is the folder of the photo; choose another folder")
        _refuse_files_of_others(out, [PurePosixPath(source.stem)], beside)
        return [(source, PurePosixPath(source.stem))]
    if is_within(out, source):
        raise ConfigError(f"--out {out}: lies in {source}, among the photos; choose another folder")
    names = list_files(source, READABLE)
    if not names:
        unread = unread_in(source)
        more = "" if unread is None else f"; {unread}"
        raise ImageError(f"{source}: holds no photos ({', '.join(READABLE)}){more}")
    taken: dict[PurePosixPath, str] = {}
    for name in names:
        stem = PurePosixPath(name).with_suffix("")
        if stem in taken:
            raise ConfigError(f"{source}: {taken[stem]} and {name} would both write {stem}.png; rename one")
        taken[stem] = name
    for stem, name in taken.items():
        for ending in beside:
            if (other := taken.get(_beside(stem, ending).with_suffix(""))) is not None:
                what = ending.strip("_").partition(".")[0]
                raise ConfigError(f"{source}: the {what} of {name} has the name of the mask of {other}; rename one")
    _refuse_files_of_others(out, list(taken), beside)
    return [(source / name, stem) for stem, name in taken.items()]


def _beside(stem: PurePosixPath, ending: str) -> PurePosixPath:
    return stem.with_name(stem.name + ending)


def _refuse_files_of_others(out: Path, stems: Sequence[PurePosixPath], beside: Sequence[str]) -> None:
    """Ours are only files where mask and overlay lie together and are of one time, as `_written` leaves them."""
    for stem in stems:
        mask, *others = (out / _beside(stem, ending) for ending in (".png", *beside))
        there = [path for path in (mask, *others) if path.exists()]
        if there and not (mask.exists() and others[0].exists()):
            raise ConfigError(f"--out {out}: {there[0]} is there already, and no mask of ours; choose another folder")
        if there and abs(mask.stat().st_mtime - others[0].stat().st_mtime) > CORRECTED_S:
            raise ConfigError(
                f"--out {out}: {mask} was changed since it was found, or never found here; choose another folder"
            )


def detect_files(
    source: Path,
    out: Path,
    stage: ScratchesStage,
    bar: Bar,
    *,
    probability: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Iterator[Detection]:
    """Write NAME.png (white = keep, black = fill) and NAME_overlay.jpg for each photo, and say what became of it.

    Args:
        probability: write NAME_probability.png (white = certain damage) as well; the stage has to keep it.

    Raises:
        ConfigError, ImageError: as `photos_in`.
    """
    for path, stem in photos_in(source, out, probability=probability):
        name = path.name if path == source else path.relative_to(source).as_posix()
        try:
            photo = read_photo(path, max_pixels=max_pixels)
            progress = _looked(photo, path, name, stage, bar)
            found = _written(photo, name, out / stem, progress, probability=probability)
            frames = (of_frames(photo.meta.frames),) if photo.meta.frames > 1 else ()
            yield replace(found, notes=(*frames, *found.notes))
        except (ImageError, RunError) as e:
            yield Detection(name, flaw=str(e))


def _looked(photo: Photo, path: Path, name: str, stage: ScratchesStage, bar: Bar) -> Detected:
    progress = None
    try:
        with bar(name) as tell:
            for progress in stage([photo]):
                tell(progress)
    except (RuntimeError, MemoryError) as e:
        reason = str(e).strip().partition("\n")[0] or type(e).__name__
        raise RunError(f"{path}: cannot be looked at: {reason}") from None
    assert progress is not None
    return progress


def _written(photo: Photo, name: str, stem: Path, progress: Detected, *, probability: bool) -> Detection:
    keep = progress.photos[0].keep
    assert keep is not None
    write_photo(f"{stem}{OVERLAY}", overlay(photo, keep), quality=QUALITY)
    write_mask(f"{stem}.png", keep)
    together = os.stat(f"{stem}{OVERLAY}")  # however long one took: a mask that is younger was changed by hand
    os.utime(f"{stem}.png", ns=(together.st_atime_ns, together.st_mtime_ns))
    if probability:
        write_mask(f"{stem}{PROBABILITY}", progress.probabilities[0])
    return Detection(name, (~keep).float().mean().item(), progress.notes)


def overlay(photo: Photo, keep: torch.Tensor) -> Photo:
    """The photo in grey, what is not kept in red; transparent parts white."""
    grey = luma(photo.rgb).clamp(0, 1)
    if photo.alpha is not None:
        grey = grey * photo.alpha + 1 - photo.alpha
    red = torch.tensor(RED)[:, None, None] * (0.75 + 0.25 * grey)
    return Photo(torch.where(keep, grey, red), meta=Meta("jpeg"))
