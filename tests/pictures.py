"""Pictures and files of pictures for the tests of `repaint.image`."""

import io
import itertools
import struct
import zlib

import cv2
import numpy as np
import tifffile
import torch
from PIL import Image, ImageCms
from PIL.ExifTags import IFD, Base

from repaint.image import Meta, Photo

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY = SRGB[:16] + b"GRAY" + SRGB[20:]
KINDS = [  # every kind of photo a format holds exactly: format, bits, grey, alpha
    *itertools.product(("png", "tiff"), (8, 16), (False, True), (False, True)),
    *itertools.product(("webp",), (8,), (False,), (False, True)),
]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def levels(height: int, width: int, channels: int, bits: int) -> np.ndarray:
    return rng().integers(0, 2**bits, (height, width, channels), dtype=np.uint16 if bits == 16 else np.uint8)


def planes(samples: np.ndarray) -> torch.Tensor:
    full = np.iinfo(samples.dtype).max
    return torch.from_numpy(np.moveaxis(samples, -1, 0).astype(np.float32) / full)


def samples_of(x: torch.Tensor, bits: int) -> np.ndarray:
    """Exact integers of a read photo; a value off the grid of its bits is a failure."""
    scaled = x.double().permute(1, 2, 0).numpy() * (2**bits - 1)
    np.testing.assert_allclose(scaled, scaled.round(), atol=1e-2)
    return scaled.round().astype(np.uint16 if bits == 16 else np.uint8)


def make_exif(**tags: int | str | float) -> bytes:
    exif = Image.Exif()
    exif.update({Base[name]: value for name, value in tags.items()})
    exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = "1931:05:01 12:00:00"
    exif.get_ifd(IFD.GPSInfo)[1] = "N"
    return exif.tobytes()


def make_photo(format="png", bits=8, grey=False, alpha=False, size=(13, 17)) -> Photo:
    samples = levels(*size, 1 if grey else 3, bits)
    return Photo(
        planes(samples).expand(3, -1, -1).clone(),
        alpha=planes(levels(*size, 1, bits)) if alpha else None,
        meta=Meta(
            format,
            bits=bits,
            grey=grey,
            icc=GREY if grey else SRGB,
            exif=make_exif(ImageDescription="grandmother", Artist="unknown", Orientation=1),
            dpi=(300.0, 200.0),
        ),
    )


def saved(image: Image.Image, format: str, **settings) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **settings)
    return buffer.getvalue()


def saved_tiff(samples: np.ndarray, **settings) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **settings)
    return buffer.getvalue()


def cv2_png(samples: np.ndarray) -> bytes:
    return cv2.imencode(".png", samples)[1].tobytes()


def with_chunk(png: bytes, kind: bytes, content: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + content))
    return png[:33] + struct.pack(">I", len(content)) + kind + content + crc + png[33:]


def picture(mode: str) -> Image.Image:
    """9 x 7 noise in a Pillow mode."""
    shape = {"1": (), "L": (), "LA": (2,), "P": (), "RGB": (3,), "RGBA": (4,), "CMYK": (4,)}[mode]
    noise = rng().integers(0, 256, (7, 9, *shape), dtype=np.uint8)
    if mode == "1":
        return Image.fromarray(noise).convert("1")
    if mode == "P":
        image = Image.fromarray(noise % 16).convert("P")
        image.putpalette(rng().integers(0, 256, 48, dtype=np.uint8).tobytes())
        return image
    return Image.frombytes("CMYK", (9, 7), noise.tobytes()) if mode == "CMYK" else Image.fromarray(noise)


def assert_same_exif(raw, expected):
    got, want = Image.Exif(), Image.Exif()
    got.load(raw)
    want.load(expected)
    for tag in (Base.ImageDescription, Base.Artist, Base.Orientation):
        assert got[tag] == want[tag]
    for ifd in (IFD.Exif, IFD.GPSInfo):
        assert got.get_ifd(ifd) == want.get_ifd(ifd)
        assert got.get_ifd(ifd)
