"""Damage found in files: a mask for each photo, and a picture to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch

from .errors import ConfigError, ImageError, RunError
from .files import is_within, list_files
from .image import DEFAULT_MAX_PIXELS, READABLE, Meta, Photo, luma, read_photo, write_mask, write_photo
from .stages.progress import Progress
from .stages.scratches import ScratchesStage

RED = (1.0, 0.1, 0.05)
QUALITY = 90  # of the overlays
BESIDE = ("overlay", "probability")  # NAME_overlay.jpg, NAME_probability.png

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


def photos_in(source: Path, out: Path) -> list[tuple[Path, PurePosixPath]]:
    """The photo, or those of a folder and its subfolders, each with the name that its mask gets without an ending.

    Raises:
        ConfigError: if a mask could overwrite a photo, or two photos would write to the same name.
        ImageError: if there is no photo.
    """
    if not source.is_dir():
        if not source.exists():
            raise ImageError(f"{source}: does not exist")
        if out.resolve() == source.resolve().parent:
            raise ConfigError(f"--out {out}: is the folder of the photo; choose another folder")
        _refuse_files_of_others(out, [PurePosixPath(source.stem)])
        return [(source, PurePosixPath(source.stem))]
    if is_within(out, source):
        raise ConfigError(f"--out {out}: lies in {source}, among the photos; choose another folder")
    names = list_files(source, READABLE)
    if not names:
        raise ImageError(f"{source}: holds no photos ({', '.join(READABLE)})")
    taken: dict[PurePosixPath, str] = {}
    for name in names:
        stem = PurePosixPath(name).with_suffix("")
        if stem in taken:
            raise ConfigError(f"{source}: {taken[stem]} and {name} would both write {stem}.png; rename one")
        taken[stem] = name
    for stem, name in taken.items():
        for written in BESIDE:
            if (other := taken.get(stem.with_name(f"{stem.name}_{written}"))) is not None:
                raise ConfigError(f"{source}: the {written} of {name} has the name of the mask of {other}; rename one")
    _refuse_files_of_others(out, list(taken))
    return [(source / name, stem) for stem, name in taken.items()]


def _refuse_files_of_others(out: Path, stems: Sequence[PurePosixPath]) -> None:
    for stem in stems:
        mask = out / f"{stem}.png"
        if mask.exists() and not (out / f"{stem}_overlay.jpg").exists():
            raise ConfigError(f"--out {out}: {mask} is there already, and no mask of ours; choose another folder")


def detect_files(
    source: Path, out: Path, stage: ScratchesStage, bar: Bar, *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Iterator[Detection]:
    """Write NAME.png (white = keep, black = fill) and NAME_overlay.jpg for each photo, and say what became of it.

    Where the stage keeps its probabilities, NAME_probability.png (white = certain damage) is written as well.

    Raises:
        ConfigError, ImageError: as `photos_in`.
    """
    for path, stem in photos_in(source, out):
        name = path.name if path == source else path.relative_to(source).as_posix()
        try:
            photo = read_photo(path, max_pixels=max_pixels)
            yield _detected(photo, path, name, out / stem.parent, stem.name, stage, bar)
        except (ImageError, RunError) as e:
            yield Detection(name, flaw=str(e))


def _detected(
    photo: Photo, path: Path, name: str, folder: Path, stem: str, stage: ScratchesStage, bar: Bar
) -> Detection:
    progress = None
    try:
        with bar(name) as tell:
            for progress in stage([photo]):
                tell(progress)
    except (RuntimeError, MemoryError) as e:
        reason = str(e).strip().partition("\n")[0] or type(e).__name__
        raise RunError(f"{path}: cannot be looked at: {reason}") from None
    assert progress is not None
    keep = progress.photos[0].keep
    assert keep is not None
    write_photo(folder / f"{stem}_overlay.jpg", overlay(photo, keep), quality=QUALITY)  # first: it tells whose mask
    write_mask(folder / f"{stem}.png", keep)
    for probability in progress.probabilities:
        write_mask(folder / f"{stem}_probability.png", probability)
    return Detection(name, (~keep).float().mean().item(), progress.notes)


def overlay(photo: Photo, keep: torch.Tensor) -> Photo:
    """The photo in grey, what is not kept in red; transparent parts white."""
    grey = luma(photo.rgb).clamp(0, 1)
    if photo.alpha is not None:
        grey = grey * photo.alpha + 1 - photo.alpha
    red = torch.tensor(RED)[:, None, None] * (0.75 + 0.25 * grey)
    return Photo(torch.where(keep, grey, red), meta=Meta("jpeg"))
