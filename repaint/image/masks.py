"""Mask files: white = leave alone, black = fill, unless said otherwise."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from repaint.errors import ImageError
from repaint.image.photo import DEFAULT_MAX_PIXELS, MaskImage, Photo, luma
from repaint.image.reading import decode_photo, read_file
from repaint.image.writing import to_samples, write_file

Hole = Literal["black", "white"]
MOSTLY = 0.5  # grey, from which on a picture is no mask


def check_mask_fits(mask: str | Path, photo: Photo, keep: Tensor) -> None:
    """Nothing, if the mask has the size of the photo.

    Raises:
        ImageError: if not; of a mask that was turned by a quarter it says so.
    """
    (H, W), (h, w) = photo.rgb.shape[-2:], keep.shape[-2:]
    if (h, w) == (H, W):
        return
    hint = "; turned by a quarter it would fit" if (h, w) == (W, H) else ""
    raise ImageError(f"{mask}: the mask is {w} x {h} px, the photo {W} x {H}; they must be of one size{hint}")


def read_mask(
    path: str | Path, *, hole: Hole = "black", soft: bool = False, max_pixels: int = DEFAULT_MAX_PIXELS
) -> MaskImage:
    """The mask in a file; as `decode_mask`."""
    return decode_mask(read_file(path), str(path), hole=hole, soft=soft, max_pixels=max_pixels)


def decode_mask(
    data: bytes, name: str, *, hole: Hole = "black", soft: bool = False, max_pixels: int = DEFAULT_MAX_PIXELS
) -> MaskImage:
    """The mask in the bytes of a picture file: its brightness, cut at half.

    Args:
        hole: the colour that marks what is to be filled.
        soft: keep the brightness as weights, 1 = leave alone.

    Raises:
        ImageError: as `decode_photo`; and if the picture is transparent anywhere, for its colours there were never
            seen, or is grey for the most part: a photo. One that is meant to be soft then has a doubt.
    """
    picture = decode_photo(data, name, max_pixels=max_pixels)
    if picture.alpha is not None and bool((picture.alpha < 0.5).any()):
        raise ImageError(
            f"{name}: is transparent in part, and what is below cannot be seen; a mask without transparency, "
            "white and black alone, would be right"
        )
    light, doubts = luma(picture.rgb).clamp(0, 1), []
    if (grey := _grey_share(light)) > MOSTLY:
        looks = f"{name}: looks like a photo: {100 * grey:.0f} % of it is grey"
        if not soft:
            raise ImageError(f"{looks}; a mask is white and black")
        doubts.append(f"{looks}, and is taken for weights")
    is_kept = (light >= 0.5) if hole == "black" else (light < 0.5)
    if _looks_inverted(is_kept):
        other = "white" if hole == "black" else "black"
        doubts.append(
            f"{name}: the mask looks inverted: more than half of it is hole, and so is its border; "
            f"hole: {other} (--hole {other}) is right if {other} marks the hole"
        )
    if not soft and _looks_soft(light):
        doubts.append(f"{name}: the mask has grey pixels, which are cut at half; black and white alone would be right")
    if not soft:
        return MaskImage(is_kept, tuple(doubts))
    return MaskImage(light if hole == "black" else 1 - light, tuple(doubts))


def encode_mask(keep: Tensor) -> bytes:
    """An 8-bit grey PNG of (1, H, W) bool or weights: 255 = leave alone."""
    buffer = io.BytesIO()
    Image.fromarray(to_samples(keep, bits=8)[..., 0]).save(buffer, "PNG")
    return buffer.getvalue()


def write_mask(path: str | Path, keep: Tensor) -> None:
    """Write `encode_mask(keep)`; the name shows the old file or the new, never a part.

    Raises:
        ImageError: if the file cannot be written.
    """
    write_file(path, encode_mask(keep))


def _looks_inverted(is_kept: Tensor) -> bool:
    hole = ~is_kept[0]
    border = torch.cat([hole[0], hole[-1], hole[1:-1, 0], hole[1:-1, -1]])
    if not 0.5 < hole.float().mean().item() < 1 or border.float().mean().item() < 0.9:
        return False
    expanded = torch.zeros_like(hole)  # the paper's `expand` is not inverted: of each side the middle quarter is kept
    (H, W), (top, left) = hole.shape, ((n - n // 4) // 2 for n in hole.shape)
    expanded[top : top + H // 4, left : left + W // 4] = True
    return not torch.equal(is_kept[0], expanded)


def _looks_soft(light: Tensor) -> bool:
    return _grey_share(light) > 0.001


def _grey_share(light: Tensor) -> float:
    return ((light > 10 / 255) & (light < 245 / 255)).float().mean().item()
