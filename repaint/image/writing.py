"""Picture files out: a Photo to bytes, and bytes under a name that is never half written."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from repaint.errors import ImageError
from repaint.files import write_bytes
from repaint.image.exif import fitted_exif
from repaint.image.lossless import DEFLATE_LEVEL, png16, tiff
from repaint.image.metadata import exif_with_dpi, fitting_icc
from repaint.image.photo import ENDINGS, FORMATS, Meta, Photo, luma

LONGEST_SIDE_PX = {"jpeg": 65500, "webp": 16383}
LARGEST_JPEG_EXIF_BYTES = 65533 - 2


def write_photo(path: str | Path, photo: Photo, *, quality: int = 95) -> None:
    """Write a photo in the format of the path's ending; the name shows the old file or the new, never a part.

    Args:
        quality: as for `encode_photo`.

    Raises:
        ImageError: if the ending is none of ENDINGS, the format cannot hold the photo, or the file cannot be written.
    """
    ending = PurePosixPath(str(path)).suffix
    if ending.lower() not in ENDINGS:
        raise ImageError(f"{path}: cannot be saved as {ending or 'a name without ending'!r}; {', '.join(ENDINGS)} can")
    try:
        data = encode_photo(photo, ENDINGS[ending.lower()], quality=quality)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    write_file(path, data)


def encode_photo(photo: Photo, format: str, *, quality: int = 95) -> bytes:
    """The photo as a file, rounded to its bits; `keep` is not part of it.

    A grey photo is saved as grey (WebP has none: three equal channels). JPEG and WebP hold 8 bits. JPEG holds no
    alpha: it is left out, and the colours beneath it are saved as they are. A profile for the wrong kind of pixels
    is left out, as is EXIF too long for JPEG. EXIF tells the photo's size and dpi where it tells any, and loses its
    thumbnail, which shows what the photo looked like before.

    Args:
        format: one of FORMATS.
        quality: 1..100, for JPEG (without chroma subsampling) and WebP (lossless at 100); ignored elsewhere.

    Raises:
        ImageError: if the format is unknown or cannot hold the photo, or a pixel is not a number.
    """
    if format not in FORMATS:
        raise ImageError(f"cannot be saved as {format!r}; one of {', '.join(FORMATS)} would be right")
    height, width = photo.rgb.shape[-2:]
    check_size(format, height, width)
    bits = photo.meta.bits if format in ("png", "tiff") else 8
    samples = to_samples(_planes(photo, format), bits=bits)
    grey = samples.shape[2] <= 2
    exif, dpi = photo.meta.exif, photo.meta.dpi
    exif = fitted_exif(exif, width=width, height=height, dpi=dpi) if exif else None
    meta = replace(photo.meta, icc=fitting_icc(photo.meta.icc, grey=grey), exif=exif)
    if format == "tiff":
        return tiff(samples, meta)
    if bits == 16:
        return png16(samples, meta)
    return _pillow_bytes(samples, format, meta, quality)


def check_size(format: str, height: int, width: int) -> None:
    """Nothing, if a format can hold pictures of this size.

    Raises:
        ImageError: if not.
    """
    limit = LONGEST_SIDE_PX.get(format)
    if limit and max(height, width) > limit:
        raise ImageError(f"is {width} x {height} pixels; {format} holds {limit} a side, png and tiff hold more")


def to_samples(planes: Tensor, *, bits: int) -> np.ndarray:
    """(H, W, C) uint8 or uint16 of (C, H, W) in [0, 1], clamped and rounded.

    Raises:
        ImageError: if a value is not a number.
    """
    values = planes.detach().to("cpu", torch.float32)
    if values.isnan().any():
        raise ImageError("has pixels that are not a number; an earlier step went wrong")
    full = 2**bits - 1
    levels = (values.clamp(0, 1) * full).round().to(torch.int32)
    return levels.permute(1, 2, 0).numpy().astype(np.uint16 if bits == 16 else np.uint8, order="C")


def write_file(path: str | Path, data: bytes) -> None:
    try:
        write_bytes(path, data)
    except OSError as error:
        raise ImageError(f"cannot write {path}: {error.strerror or error}") from error


def _planes(photo: Photo, format: str) -> Tensor:
    colour = photo.rgb
    if photo.meta.grey:
        colour = luma(colour)
        if format == "webp":
            colour = colour.repeat(3, 1, 1)
    if photo.alpha is None or format == "jpeg":
        return colour
    return torch.cat([colour, photo.alpha])


def _pillow_bytes(samples: np.ndarray, format: str, meta: Meta, quality: int) -> bytes:
    exif = meta.exif
    settings = {}
    if format == "png":
        settings = {"compress_level": DEFLATE_LEVEL}
    if format == "jpeg":
        settings = {"quality": quality, "subsampling": 0}
        if exif and len(exif) > LARGEST_JPEG_EXIF_BYTES:
            exif = None
    if format == "webp":
        settings = {"quality": quality, "lossless": quality >= 100, "exact": True}
        exif = exif_with_dpi(exif, meta.dpi)
    notes = {"icc_profile": meta.icc, "exif": exif, "dpi": meta.dpi}
    settings |= {name: value for name, value in notes.items() if value}
    image = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    buffer = io.BytesIO()
    try:
        image.save(buffer, format, **settings)
    except (OSError, ValueError, struct.error) as error:
        raise ImageError(f"cannot be saved as {format}: {error}") from error
    return buffer.getvalue()
