"""Any size from what knows one size: where overlapping windows stand and how they blend."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def starts(length: int, window: int, overlap: int) -> list[int]:
    """Where windows of `window` px begin so that they cover `length` px, neighbours sharing at least `overlap`."""
    if not 0 <= overlap < window:
        raise ValueError(f"overlap must lie in 0..{window - 1} px, got {overlap}")
    if length <= window:
        return [0]
    count = -(-(length - overlap) // (window - overlap))
    return [round(i * (length - window) / (count - 1)) for i in range(count)]


def corners(hole: Tensor, size: int, overlap: int) -> list[tuple[int, int]]:
    """(top, left) of the windows of `size` px, of those that cover the canvas, that touch the hole; hole (1, H, W)."""
    H, W = hole.shape[-2:]
    return [
        (top, left)
        for top in starts(H, size, overlap)
        for left in starts(W, size, overlap)
        if hole[:, top : top + size, left : left + size].any()
    ]


def feather(window: int, overlap: int) -> Tensor:
    """(1, 1, window, window) weights that fall towards the borders over `overlap` px and are nowhere 0."""
    distance = torch.arange(window).minimum(torch.arange(window - 1, -1, -1)) + 0.5
    ramp = (distance / max(overlap, 1)).clamp(max=1)
    return (ramp[:, None] * ramp)[None, None]


def resized(x: Tensor, height: int, width: int) -> Tensor:
    """`x` (B, C, H, W) at another size: antialiased bicubic, as Pillow does it."""
    if x.shape[-2:] == (height, width):
        return x
    return F.interpolate(x, (height, width), mode="bicubic", antialias=True, align_corners=False)
