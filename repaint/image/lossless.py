"""PNG and TIFF files laid out by hand, where Pillow would lose bits (16-bit colour) or tags (EXIF in TIFF)."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL.ExifTags import IFD
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from repaint.image.exif import EXIF_HEAD
from repaint.image.metadata import DESCRIPTIVE_TAGS, ICC_TAG, RESOLUTION_TAGS, parse_exif
from repaint.image.photo import Meta

PNG_COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> colour type
STRIP_BYTES = 1 << 20
DEFLATE_LEVEL = 4  # on photographs 6 takes three times as long and gains nothing


def png16(samples: np.ndarray, meta: Meta) -> bytes:
    """A 16-bit PNG file of (H, W, C) uint16 samples with the profile, EXIF and dpi of `meta` (PNG 1.2, eXIf)."""
    height, width, channels = samples.shape
    rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = 1  # Sub: each byte less the same byte of the pixel to its left
    filtered[:, 1:] = rows
    filtered[:, 1 + 2 * channels :] -= rows[:, : -2 * channels]

    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, PNG_COLOUR[channels], 0, 0, 0))]
    if meta.icc:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(meta.icc)))
    if meta.dpi:
        per_metre = [round(d / 0.0254) for d in meta.dpi]
        chunks.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if meta.exif:
        chunks.append((b"eXIf", meta.exif.removeprefix(EXIF_HEAD)))
    chunks += [(b"IDAT", zlib.compress(filtered.data, DEFLATE_LEVEL)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def tiff(samples: np.ndarray, meta: Meta) -> bytes:
    """A TIFF file of (H, W, C) uint8 or uint16 samples, deflated, with the profile, EXIF and dpi of `meta`.

    Of the EXIF block it takes the EXIF and GPS directories and the tags that describe the photo; none if one of them
    is too damaged to be written.
    """
    height, width, channels = samples.shape
    differences = samples.copy()  # horizontal predictor
    differences[:, 1:] -= samples[:, :-1]
    differences = differences.astype(differences.dtype.newbyteorder("<"))
    rows_per_strip = max(1, STRIP_BYTES // differences[0].nbytes)
    strips = [
        zlib.compress(differences[y : y + rows_per_strip].data, DEFLATE_LEVEL) for y in range(0, height, rows_per_strip)
    ]
    sizes = [len(strip) for strip in strips]

    tags = ImageFileDirectory_v2()
    tags[256], tags[257] = width, height
    tags[258] = (samples.dtype.itemsize * 8,) * channels
    tags[259], tags[317] = 8, 2  # Adobe deflate, horizontal predictor
    tags[262] = 1 if channels <= 2 else 2
    tags[277], tags[284] = channels, 1
    tags[278] = rows_per_strip
    if channels in (2, 4):
        tags[338] = 2  # alpha, not multiplied in
    tags[339] = (1,) * channels
    if meta.dpi:
        for tag, value in zip(RESOLUTION_TAGS, (*meta.dpi, 2), strict=True):
            tags[tag] = value
    if meta.icc:
        tags[ICC_TAG] = meta.icc
    if meta.exif:
        for tag, value in _exif_tags(meta.exif).items():
            tags[tag] = value
    tags.tagtype[273] = tags.tagtype[279] = 4  # LONG
    # Pillow moves strip offsets behind the directory as it writes it.
    tags[273] = tuple(np.cumsum([0, *sizes[:-1]]).tolist())
    tags[279] = tuple(sizes)
    buffer = io.BytesIO()
    tags.save(buffer)
    return buffer.getvalue() + b"".join(strips)


def _exif_tags(block: bytes) -> dict[int, Any]:
    trial = ImageFileDirectory_v2()
    try:
        exif = parse_exif(block)
        tags: dict[int, Any] = {tag: exif[tag] for tag in DESCRIPTIVE_TAGS if tag in exif}
        for ifd in (IFD.Exif, IFD.GPSInfo):
            if entries := {tag: value for tag, value in exif.get_ifd(ifd).items() if tag != IFD.Interop}:
                tags[ifd] = entries
        for tag, value in tags.items():
            trial[tag] = value
        trial.tobytes()
    except Exception:  # Pillow raises whatever the damage makes it raise
        return {}
    return tags


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
