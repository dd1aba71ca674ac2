"""EXIF, ICC profile, resolution and orientation, from whichever place a format keeps them in."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from repaint.image.exif import EXIF_HEAD, upright_block

ICC_TAG = 34675
RESOLUTION_TAGS = (Base.XResolution, Base.YResolution, Base.ResolutionUnit)
# What the first directory of a TIFF file says about the photo; the rest says how the pixels are laid out.
DESCRIPTIVE_TAGS = (
    Base.DocumentName,
    Base.ImageDescription,
    Base.Make,
    Base.Model,
    Base.PageName,
    Base.Software,
    Base.DateTime,
    Base.Artist,
    Base.HostComputer,
    Base.Copyright,
    Base.Rating,
    Base.XPTitle,
    Base.XPComment,
    Base.XPAuthor,
    Base.XPKeywords,
    Base.XPSubject,
)


class Notes(NamedTuple):
    """What a file says beside its pixels; `exif` and `dpi` already as they are once the photo is upright."""

    orientation: int = 1  # what is left to do to the pixels, 1..8
    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    frames: int = 1


def notes_of_info(info: Mapping[Any, Any], kind: str) -> Notes:
    """The notes of a PNG, JPEG, WebP, GIF or BMP file from Pillow's `info`, once its pixels are loaded."""
    raw = info.get("exif")
    if raw is None and "Raw profile type exif" in info:  # PNG files by older ImageMagick
        raw = _unhex(info["Raw profile type exif"])
    orientation, exif = upright_exif(raw) if raw else (1, None)
    # Pillow answers 72 dpi for a JPEG file that says nothing.
    says = kind != "jpeg" or info.get("jfif_unit")
    dpi = _dpi(*info["dpi"]) if says and "dpi" in info else None
    if dpi and orientation >= 5:
        dpi = dpi[1], dpi[0]
    if dpi is None and exif:
        dpi = _dpi_of_tags(parse_exif(exif))
    return Notes(orientation, info.get("icc_profile"), exif, dpi)


def notes_of_tiff(tags: Image.Exif) -> Notes:
    orientation = _orientation(tags)
    kept = Image.Exif()
    kept.update({tag: tags[tag] for tag in DESCRIPTIVE_TAGS if tag in tags})
    for ifd in (IFD.Exif, IFD.GPSInfo):
        # The interoperability directory is an offset into the old file.
        if entries := {tag: value for tag, value in tags.get_ifd(ifd).items() if tag != IFD.Interop}:
            kept.get_ifd(ifd).update(entries)
    exif = None
    if len(kept) or kept.get_ifd(IFD.Exif) or kept.get_ifd(IFD.GPSInfo):
        kept[Base.Orientation] = 1
        exif = _to_bytes(kept)
    dpi = _dpi_of_tags(tags)
    if dpi and orientation >= 5:
        dpi = dpi[1], dpi[0]
    return Notes(orientation, tags.get(ICC_TAG), exif, dpi)


def tiff_tags(data: bytes) -> Image.Exif:
    """The tags of the first page, read without its pixels."""
    big = data[2] == 43
    head = ImageFileDirectory_v2(data[:16] if big else data[:8])
    tags = Image.Exif()
    tags.bigtiff = big
    tags.endian = "<" if data[:2] == b"II" else ">"
    tags.load_from_fp(io.BytesIO(data), head.next)
    return tags


def parse_exif(raw: bytes) -> Image.Exif:
    """The tags of a block; none if it is no EXIF at all."""
    exif = Image.Exif()
    with suppress(SyntaxError, struct.error):  # of its first eight bytes
        exif.load(raw)
    return exif


def upright_exif(raw: bytes) -> tuple[int, bytes | None]:
    """The orientation an EXIF block asks for, and the block for the photo turned accordingly.

    It is changed where it stands: maker's notes do not survive rewriting. A block in which that cannot be done is
    rewritten by Pillow; one that cannot be parsed is no EXIF: (1, None).
    """
    raw = EXIF_HEAD + raw.removeprefix(EXIF_HEAD)
    try:
        exif = parse_exif(raw)
        orientation = _orientation(exif)
        if not len(exif):
            return 1, None
        if exif.get(Base.Orientation, 1) == 1:
            return 1, raw
    except Exception:  # Pillow raises whatever the damage makes it raise
        return 1, None
    if (block := upright_block(raw, swapped=orientation >= 5)) is not None:
        return orientation, block
    exif[Base.Orientation] = 1
    if orientation >= 5:
        across, down = exif.get(Base.XResolution), exif.get(Base.YResolution)
        if across is not None and down is not None:
            exif[Base.XResolution], exif[Base.YResolution] = down, across
    return orientation, _to_bytes(exif)


def exif_with_dpi(exif: bytes | None, dpi: tuple[float, float] | None) -> bytes | None:
    """EXIF that tells the resolution, if need be by one of its own, for a format that has no other place for it."""
    if dpi is None:
        return exif
    tags = parse_exif(exif) if exif else Image.Exif()
    if _dpi_of_tags(tags) or (exif and not len(tags)):
        return exif
    tags.update(dict(zip(RESOLUTION_TAGS, (*dpi, 2), strict=True)))
    return _to_bytes(tags) or exif


def fitting_icc(icc: bytes | None, *, grey: bool) -> bytes | None:
    """The profile, if it describes pixels of this kind."""
    return icc if icc and icc[16:20] == (b"GRAY" if grey else b"RGB ") else None


def upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, C) samples turned so that EXIF `orientation` becomes 1."""
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return samples


def _orientation(tags: Image.Exif) -> int:
    value = tags.get(Base.Orientation, 1)
    return value if value in range(1, 9) else 1


def _dpi_of_tags(tags: Image.Exif) -> tuple[float, float] | None:
    across, down, unit = (tags.get(tag) for tag in RESOLUTION_TAGS)
    if across is None or down is None or unit not in (None, 2, 3):
        return None
    try:
        return _dpi(float(across), float(down), scale=2.54 if unit == 3 else 1.0)
    except (TypeError, ValueError, ZeroDivisionError):
        return None


def _dpi(across: float, down: float, *, scale: float = 1.0) -> tuple[float, float] | None:
    # PNG counts pixels per metre: 300 dpi comes back as 299.9994.
    dpi = round(float(across) * scale, 2), round(float(down) * scale, 2)
    return dpi if all(math.isfinite(d) and 1 <= d <= 65535 for d in dpi) else None


def _to_bytes(exif: Image.Exif) -> bytes | None:
    try:
        return exif.tobytes()
    except Exception:  # a tag whose value Pillow can read and not write
        return None


def _unhex(text: str) -> bytes | None:
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return None
