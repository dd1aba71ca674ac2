"""One photo, one mask, one result."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .errors import ConfigError, ImageError, RunError
from .files import try_writing
from .image import (
    DEFAULT_MAX_PIXELS,
    ENDINGS,
    Photo,
    check_mask_fits,
    check_size,
    of_frames,
    read_mask,
    read_photo,
    write_photo,
)
from .stages.inpaint import Inpaint
from .stages.progress import Device, Precision, Progress

if TYPE_CHECKING:
    from torch import Tensor

REMOTE = re.compile(r"(gs|az|https?):/")
SHOWN_SHARE = 0.00005  # what two decimals of a percentage show


def inpaint_file(
    photo: Path,
    mask: Path,
    out: Path,
    settings: Inpaint,
    *,
    seed: int,
    hole: Literal["black", "white"],
    device: Device,
    precision: Precision,
    quality: int,
    tell: Callable[[Progress], None],
    say: Callable[[str], None],
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> None:
    """Fill the holes of one photo and write the result.

    Args:
        tell: told after every network call.
        say: told what the user should know.

    Raises:
        ImageError: if the photo or the mask cannot be read, they do not fit each other, or `out` is one of them or
            cannot be written.
        WeightsError, ConfigError: as `Inpaint.build`.
        RunError: if the network fails, for want of memory or otherwise.
    """
    picture = opened(photo, mask, out, hole=hole, say=say, max_pixels=max_pixels)
    assert picture.keep is not None
    stage = settings.build(device, precision)
    for remark in stage.remarks:
        say(remark)
    check_writable(out)
    progress, told = None, 0
    with network_failures(f"{photo}: cannot be filled"):
        for progress in stage([picture], [seed]):
            tell(progress)
            for note in progress.notes[told:]:
                say(note)
            told = max(told, len(progress.notes))
    assert progress is not None
    write_photo(out, progress.photos[0], quality=quality)


def result_path(out: str, photo: Path) -> Path:
    """Where the result of a photo goes: NAME.png in `out`, if that is a folder or ends with a slash.

    Raises:
        ConfigError: if `out` is empty, its ending is no format, or NAME.png is there already: whose it is nobody said.
    """
    if not out:
        raise ConfigError("--out: is empty; the result, or a folder for it, would be right")
    ending = Path(out).suffix
    if out.endswith(("/", os.sep)) or (ending.lower() not in ENDINGS and Path(out).is_dir()):
        result = Path(out) / f"{photo.stem}.png"
        if result.exists() and not (photo.exists() and result.samefile(photo)):  # of that `opened` tells
            raise ConfigError(f"--out {out}: {result} is there already; name the result, --out {result} if that is it")
        return result
    if ending.lower() not in ENDINGS:
        raise ConfigError(
            f"--out {out}: ending {ending!r} is not a format; must be one of {', '.join(ENDINGS)}, "
            "or a folder, which ends with a slash"
        )
    return Path(out)


def opened(
    photo: Path,
    mask: Path | None,
    out: Path,
    *,
    hole: Literal["black", "white"],
    say: Callable[[str], None],
    max_pixels: int = DEFAULT_MAX_PIXELS,
    scale: float = 1.0,
) -> Photo:
    """The photo, with the mask that marks its holes.

    Args:
        scale: how many times as wide and high the result will be.
        say: told what is doubtful of the mask, and what of the photo `out` cannot hold.
        max_pixels: of photo and mask, at most.

    Raises:
        ImageError: if one cannot be read, they do not fit each other, or `out` is one of them or cannot be so large.
    """
    if REMOTE.match(str(out)):  # as a path shows it: one slash less
        raise ImageError(f"--out {out}: one photo is written to a local file; remote paths are for folders")
    refuse_to_overwrite(out, "--out", photo, mask)
    picture = read_photo(photo, max_pixels=max_pixels)
    try:
        check_size(ENDINGS.get(out.suffix.lower(), "png"), *(round(scale * side) for side in picture.rgb.shape[-2:]))
    except ImageError as e:
        raise ImageError(f"{out}: {e}") from None
    if picture.meta.frames > 1:
        say(f"{photo}: {of_frames(picture.meta.frames)}")
    for loss in _losses(picture, out):
        say(loss)
    if mask is None:
        return picture
    marks = read_mask(mask, hole=hole, max_pixels=max_pixels)
    check_mask_fits(mask, picture, marks.keep)
    for warning in marks.warnings:
        say(warning)
    if marks.keep.all():
        say(f"{mask}: marks nothing to fill ({hole} marks the hole)")
    elif not marks.keep.any():
        say(f"{mask}: keeps nothing; all of the picture is invented")
    return replace(picture, keep=marks.keep)


def refuse_to_overwrite(written: Path, option: str, photo: Path, mask: Path | None) -> None:
    """Nothing, if a file that is written is not one that is read.

    Raises:
        ImageError: if it is.
    """
    for source, what in ((photo, "photo"), (mask, "mask")):
        if source is not None and written.exists() and source.exists() and written.samefile(source):
            raise ImageError(f"{option} {written}: is the {what}, which would be overwritten; choose another name")


def _losses(photo: Photo, out: Path) -> Iterator[str]:
    """What of a photo the format of `out` cannot hold."""
    format = ENDINGS.get(out.suffix.lower(), "png")
    if photo.alpha is not None and format == "jpeg" and (photo.alpha < 1).any():
        yield f"{out}: JPEG holds no transparency, which is left out; PNG, TIFF and WebP hold it"
    if photo.meta.bits == 16 and format in ("jpeg", "webp"):
        yield f"{out}: holds 8 bits, the photo has 16; PNG and TIFF hold them"


def check_writable(out: Path) -> None:
    """Nothing, if a result can be written there.

    Raises:
        ImageError: if not.
    """
    try:
        try_writing(out)
    except OSError as e:
        raise ImageError(f"cannot write {out}: {e.strerror or e}") from None


def percent(share: float) -> str:
    """A share above 0 in words; a little is not none."""
    return f"{100 * share:.2f} %" if share >= SHOWN_SHARE else "less than 0.01 %"


def of_damage(share: float) -> str:
    """What to say of the share of a photo that was found damaged."""
    return f"damage found on {percent(share)} of the photo" if share else "no damage found"


def found_share(photo: Photo, keep: Tensor) -> float:
    """The share of a photo that was found damaged, beside what it marked already."""
    found = keep < 1
    return float((found if photo.keep is None else found & (photo.keep >= 1)).float().mean())


@contextlib.contextmanager
def network_failures(what: str) -> Iterator[None]:
    """What networks fail with, for want of memory or otherwise, as one line.

    Raises:
        RunError: in place of it.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as e:
        reason = str(e).strip().partition("\n")[0] or type(e).__name__
        raise RunError(f"{what}: {reason}") from None
