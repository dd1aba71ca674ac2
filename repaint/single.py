"""One photo, one mask, one result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from .errors import ImageError, RunError
from .files import try_writing
from .image import read_mask, read_photo, write_photo
from .stages.inpaint import Inpaint
from .stages.progress import Device, Precision, Progress


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
    for source, what in ((photo, "photo"), (mask, "mask")):
        if out.exists() and source.exists() and out.samefile(source):
            raise ImageError(f"--out {out}: is the {what}, which would be overwritten; choose another name")
    picture, marks = read_photo(photo), read_mask(mask, hole=hole)
    (_, H, W), (_, h, w) = picture.rgb.shape, marks.keep.shape
    if (h, w) != (H, W):
        raise ImageError(f"{mask}: the mask is {w} x {h} px, the photo {W} x {H}; they must be of one size")
    for warning in marks.warnings:
        say(warning)
    if marks.keep.all():
        say(f"{mask}: marks nothing to fill ({hole} marks the hole); the photo is written unchanged")
    elif not marks.keep.any():
        say(f"{mask}: keeps nothing; all of the picture is invented")
    stage = settings.build(device, precision)
    for remark in stage.remarks:
        say(remark)
    try:
        try_writing(out)
    except OSError as e:
        raise ImageError(f"cannot write {out}: {e.strerror or e}") from None
    progress = None
    try:
        for progress in stage([replace(picture, keep=marks.keep)], [seed]):
            tell(progress)
    except (RuntimeError, MemoryError) as e:
        reason = str(e).strip().partition("\n")[0] or type(e).__name__
        raise RunError(f"{photo}: cannot be filled: {reason}") from None
    assert progress is not None
    write_photo(out, progress.photos[0], quality=quality)
