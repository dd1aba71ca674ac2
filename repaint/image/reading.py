"""Picture files in: bytes to a Photo, or one line that says why not."""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from repaint.errors import ImageError
from repaint.files import read_bytes
from repaint.image.metadata import Notes, fitting_icc, notes_of_info, notes_of_tiff, tiff_tags, upright
from repaint.image.photo import DEFAULT_MAX_PIXELS, Meta, Photo

LIMIT = "max_megapixels, --max-megapixels"  # who sets it
# Pillow's `Image.open` warns of large pictures by a limit of its own, which is one for the whole process.
# Opened by these classes a file meets our limit alone, and no other decoder.
PILLOW: dict[str, Callable[[io.BytesIO], ImageFile]] = {
    "png": PngImageFile,
    "jpeg": JpegImageFile,
    "webp": WebPImageFile,
    "gif": GifImageFile,
    "bmp": BmpImageFile,
}
# Pillow mode -> the mode it is read in; those with transparency beside the pixels gain an A.
MODES = {
    "1": "L",
    "L": "L",
    "LA": "LA",
    "La": "LA",
    "P": "RGB",
    "PA": "RGBA",
    "RGB": "RGB",
    "RGBX": "RGB",
    "RGBA": "RGBA",
    "RGBa": "RGBA",
    "CMYK": "RGB",
    "YCbCr": "RGB",
}


def read_photo(path: str | Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Photo:
    """The photo in a file, upright; as `decode_photo`."""
    return decode_photo(read_file(path), str(path), max_pixels=max_pixels)


def decode_photo(data: bytes, name: str, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Photo:
    """The photo in the bytes of a PNG, JPEG, TIFF, WebP, GIF or BMP file, upright.

    The format is told by content, never by name. Of several pages or frames the first is read. CMYK becomes sRGB
    through its profile; where it has none, as (1 - ink) (1 - black). TIFF and 16-bit PNG files need pyvips.

    Args:
        name: what messages call the file.
        max_pixels: compared with the header before any pixel is decoded.

    Raises:
        ImageError: if the bytes are empty, another kind of file, cut short, damaged, too large, or hold samples
            that are neither 8 nor 16 bit.
    """
    try:
        kind = _kind(data)
        samples, notes = _decode(data, kind, max_pixels)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    except Image.DecompressionBombError:  # WebP alone, before its size can be asked for
        limit = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))
        words = f"has more megapixels than the limit of {limit / 1e6} ({LIMIT})"
        raise ImageError(f"{name}: {words}") from None
    except MemoryError:
        raise ImageError(f"{name}: out of memory: it does not fit") from None
    except Exception as error:  # decoders raise whatever the damage makes them raise
        raise ImageError(f"{name}: {_damage(data, _kind(data), error)}") from error
    try:
        return _photo(upright(samples, notes.orientation), notes, kind)
    except MemoryError:
        raise ImageError(f"{name}: out of memory: it does not fit") from None


def read_file(path: str | Path) -> bytes:
    try:
        return read_bytes(path)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: is a folder; the path of one picture would be right") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror or error}") from error


def _photo(samples: np.ndarray, notes: Notes, kind: str) -> Photo:
    full = np.iinfo(samples.dtype).max
    planes = torch.from_numpy(samples.transpose(2, 0, 1).astype(np.float32, order="C")).div_(full)
    grey, has_alpha = len(planes) <= 2, len(planes) in (2, 4)
    meta = Meta(
        kind,
        bits=samples.dtype.itemsize * 8,
        grey=grey,
        icc=fitting_icc(notes.icc, grey=grey),
        exif=notes.exif,
        dpi=notes.dpi,
        frames=notes.frames,
    )
    rgb = planes[:1].repeat(3, 1, 1) if grey else planes[:3].clone()
    return Photo(rgb, alpha=planes[-1:].clone() if has_alpha else None, meta=meta)


def _kind(data: bytes) -> str:
    if not data:
        raise ImageError("is empty (0 bytes)")
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "tiff"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data.startswith(b"BM"):
        return "bmp"
    if data[4:8] == b"ftyp":
        raise ImageError("is HEIC, AVIF or the like; the same picture saved as JPEG, PNG or TIFF would be right")
    raise ImageError(f"begins with {data[:8]!r}; a PNG, JPEG, TIFF, WebP, GIF or BMP image would be right")


def _decode(data: bytes, kind: str, max_pixels: int) -> tuple[np.ndarray, Notes]:
    """(H, W, C) uint8 or uint16 samples, C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; and the notes."""
    if kind == "png":
        return _decode_png(data, max_pixels)
    if kind == "tiff":
        return _decode_tiff(data, max_pixels)
    image = PILLOW[kind](io.BytesIO(data))
    _check_size(*image.size, max_pixels)
    samples = _pillow_samples(image)
    return samples, notes_of_info(image.info, kind)._replace(frames=getattr(image, "n_frames", 1))


def _decode_png(data: bytes, max_pixels: int) -> tuple[np.ndarray, Notes]:
    width, height, bits = struct.unpack(">IIB", data[16:25])
    _check_size(width, height, max_pixels)
    if _is_cut_short(data, "png"):  # Pillow and libpng accept a file without its end
        raise EOFError("no IEND chunk")
    image = PngImageFile(io.BytesIO(data))
    if bits == 16:
        samples, exif = _vips_samples(data)
        return samples, notes_of_info({"exif": exif, **image.info}, "png")
    samples = _pillow_samples(image)
    return samples, notes_of_info(image.info, "png")


def _decode_tiff(data: bytes, max_pixels: int) -> tuple[np.ndarray, Notes]:
    tags = tiff_tags(data)
    width, height = tags[256], tags[257]
    _check_size(width, height, max_pixels)
    bits, sample_format = _largest(tags.get(258, 1)), _largest(tags.get(339, 1))
    if bits not in (1, 2, 4, 8, 16) or sample_format not in (1, 4):
        what = {2: "signed", 3: "floating point"}.get(sample_format, "integer")
        raise ImageError(f"holds {bits}-bit {what} samples; 8 or 16 bit unsigned integers would be right")
    colours, compression = tags.get(262, 1), tags.get(259, 1)
    # libvips shows YCbCr as if it were RGB, unless a JPEG decoder has dealt with it.
    if colours not in (0, 1, 2, 3, 5) and (colours, compression) != (6, 7):
        raise ImageError(f"holds colours of TIFF kind {colours}; grey, palette, RGB, CMYK or JPEG would be right")
    if _ends_before_its_pixels(data, tags):  # libvips may show the rest as black
        raise EOFError("truncated")
    samples, _ = _vips_samples(data)
    if 338 in tags and _largest(tags[338]) == 0:  # a channel of unknown meaning is not alpha
        samples = samples[..., : 1 if samples.shape[2] <= 2 else 3]
    return samples, notes_of_tiff(tags)._replace(frames=_pages(data))


def _pages(data: bytes) -> int:
    try:
        return TiffImageFile(io.BytesIO(data)).n_frames
    except Exception:  # kinds of pixels that Pillow does not know
        return 1


def _ends_before_its_pixels(data: bytes, tags: Image.Exif) -> bool:
    for starts, sizes in ((273, 279), (324, 325)):  # strips, tiles
        pairs = zip(_all(tags.get(starts, ())), _all(tags.get(sizes, ())), strict=False)
        if any(start + size > len(data) for start, size in pairs):
            return True
    return False


def _all(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _largest(value: int | tuple[int, ...]) -> int:
    return max(_all(value))


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"is {width} x {height} pixels; at least one would be right")
    if width * height > max_pixels:
        raise ImageError(
            f"has {width * height / 1e6:.1f} megapixels ({width} x {height}); the limit is {max_pixels / 1e6} ({LIMIT})"
        )


def _pillow_samples(image: ImageFile) -> np.ndarray:
    image.load()
    if image.mode not in MODES:
        raise ImageError(f"holds pixels of Pillow mode {image.mode}; 8 or 16 bit grey or colour would be right")
    mode = MODES[image.mode]
    if image.has_transparency_data:
        mode = mode.removesuffix("A") + "A"
    samples = np.asarray(_cmyk_to_rgb(image) if image.mode == "CMYK" else image.convert(mode))
    return samples[..., None] if samples.ndim == 2 else samples


def _cmyk_to_rgb(image: Image.Image) -> Image.Image:
    icc = image.info.get("icc_profile")
    if icc and icc[16:20] == b"CMYK":
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            out = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):  # a broken profile is as good as none
            out = None
        if out is not None:
            return out
    return image.convert("RGB")


def _plain_cmyk_to_rgb(samples: np.ndarray) -> np.ndarray:
    full = np.iinfo(samples.dtype).max
    light = full - samples[..., :4].astype(np.float32)
    return (light[..., :3] * light[..., 3:] / full).round().astype(samples.dtype)


def _vips_samples(data: bytes) -> tuple[np.ndarray, bytes | None]:
    """(H, W, C) samples by libvips, not turned, and the EXIF block met on the way.

    Pillow would cut 16-bit colour to 8 bits, and lets libtiff print to stderr.
    """
    # Sequential loads are not cached; the cache would know a buffer by its address, which the next file may share.
    image = _pyvips().Image.new_from_buffer(data, "", access="sequential", fail_on="error")
    exif = image.get("exif-data") if "exif-data" in image.get_fields() else None
    if image.interpretation == "cmyk":
        if "icc-profile-data" not in image.get_fields():
            return _plain_cmyk_to_rgb(_vips_array(image)), exif
        depth = 16 if image.format == "ushort" else 8
        image = image.icc_transform("srgb", embedded=True, intent="perceptual", depth=depth)
    if image.interpretation not in ("b-w", "grey16", "srgb", "rgb", "rgb16"):
        raise ImageError(f"holds pixels of libvips kind {image.interpretation}; grey, RGB or CMYK would be right")
    return _vips_array(image)[..., :4], exif


def _vips_array(image: Any) -> np.ndarray:
    return image.numpy().reshape(image.height, image.width, image.bands)


def _pyvips() -> ModuleType:
    logging.getLogger("pyvips").setLevel(logging.CRITICAL)  # what is wrong comes as an exception
    try:
        import pyvips
    except (ImportError, OSError):
        raise ImageError("needs pyvips, as all 16-bit PNG and TIFF files do: pip install 'pyvips[binary]'") from None
    return pyvips


def _is_cut_short(data: bytes, kind: str) -> bool:
    """Whether the mark or the length that ends such a file is missing; False also where nobody can tell."""
    if kind == "png":
        return b"IEND\xaeB`\x82" not in data
    if kind == "jpeg":  # thumbnails end before the last scan begins
        return data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda")
    if kind == "webp":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    return False


def _damage(data: bytes, kind: str, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    if _is_cut_short(data, kind) or "truncated" in reason.lower():
        return f"is cut short: the {kind.upper()} data ends after {len(data)} bytes; a complete copy would be right"
    return f"is a damaged {kind.upper()} file ({reason}); a sound copy would be right"
