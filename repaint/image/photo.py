"""The words for a picture in memory, and the names of the files it can live in."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..errors import ImageError

ENDINGS = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",  # as Windows and browsers name some
    ".tif": "tiff",
    ".tiff": "tiff",
    ".webp": "webp",
}
FORMATS = tuple(dict.fromkeys(ENDINGS.values()))  # read and written
READABLE = (*ENDINGS, ".gif", ".bmp")  # published datasets hold these two; they are read, never written

DEFAULT_MAX_PIXELS = 80_000_000
FAR_OUTSIDE = 4.0  # no photo in [0, 1], and no step that overshoots, comes to this


@dataclass(frozen=True)
class Meta:
    """What is kept of a file beside its pixels."""

    format: str  # what it was read from: one of FORMATS, "gif" or "bmp"
    bits: int = 8  # 8 or 16 per channel
    grey: bool = False  # one channel in the file, apart from alpha: saved as grey again
    icc: bytes | None = None
    exif: bytes | None = None  # begins with b"Exif\0\0"; its orientation is 1
    dpi: tuple[float, float] | None = None
    frames: int = 1  # pages or frames in the file, of which this is the first


def of_frames(frames: int) -> str:
    """What to say of a file with several pages or frames."""
    return f"holds {frames} pages or frames; the first is read, and no other"


@dataclass(frozen=True, eq=False)
class Photo:
    """A picture with what is damaged in it.

    Args:
        rgb: (3, H, W) float32 in [0, 1]; other floats become that, as NumPy's doubles.
        keep: (1, H, W) bool, False = damaged; float weights in [0, 1] are a soft mask.
        alpha: (1, H, W) float32 in [0, 1], not multiplied into `rgb`.

    Raises:
        ImageError: if one of them is of another shape, or `rgb` is no tensor of floats in about [0, 1].
    """

    rgb: Tensor
    keep: Tensor | None = None
    alpha: Tensor | None = None
    meta: Meta = Meta("png")

    def __post_init__(self) -> None:
        if not isinstance(self.rgb, Tensor) or not self.rgb.is_floating_point():
            found = self.rgb.dtype if isinstance(self.rgb, Tensor) else type(self.rgb).__name__
            raise ImageError(f"a photo's rgb must be a tensor of floats in [0, 1], found {found}")
        if self.rgb.numel() and (largest := float(self.rgb.amax())) > FAR_OUTSIDE:
            raise ImageError(
                f"a photo's rgb must be in [0, 1], found {largest:g}; levels of 255 have to be divided by 255"
            )
        if self.rgb.ndim != 3 or self.rgb.shape[0] != 3:
            raise ImageError(f"a photo's rgb must be (3, H, W), found {tuple(self.rgb.shape)}")
        for name, values in (("keep", self.keep), ("alpha", self.alpha)):
            if values is not None and values.shape != (1, *self.rgb.shape[1:]):
                found, wanted = tuple(values.shape), (1, *self.rgb.shape[1:])
                raise ImageError(f"a photo's {name} must be {wanted} as its rgb is, found {found}")
        object.__setattr__(self, "rgb", self.rgb.float())
        if self.alpha is not None:
            object.__setattr__(self, "alpha", self.alpha.float())


@dataclass(frozen=True, eq=False)
class MaskImage:
    """A mask as read: keep (1, H, W), bool or float32 weights, and one plain line per doubt about it."""

    keep: Tensor
    warnings: tuple[str, ...] = ()


def luma(rgb: Tensor) -> Tensor:
    """(1, H, W) Rec. 601 luma of (3, H, W), exact where the three are equal."""
    red, green, blue = rgb.split(1)
    return green + 0.299 * (red - green) + 0.114 * (blue - green)
