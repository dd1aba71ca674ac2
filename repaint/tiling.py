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
    """(top, left) of few windows of `size` px that together show every part of the hole well inside.

    Each hole pixel lies at least half of `overlap` px, but for a cell of 1/8 window, inside some window, or as far as
    the canvas goes. Greedy, the next window being the one that shows most of what none has shown yet; or a regular
    grid, if that takes fewer.

    Args:
        hole: (1, H, W) bool, at least `size` px on both sides.

    Raises:
        ValueError: if `overlap` is more than half of `size`; windows would have no inside.
    """
    if not 0 <= overlap <= size // 2:
        raise ValueError(f"overlap must lie in 0..{size // 2} px, got {overlap}")
    cell = max(1, size // 8)
    tops, rows = _shown(hole.shape[-2], size, overlap // 2, cell)
    lefts, columns = _shown(hole.shape[-1], size, overlap // 2, cell)
    left_to_show = F.max_pool2d(hole[None].float().cpu(), cell, ceil_mode=True)[0, 0]
    found = []
    while left_to_show.any():
        gain = rows @ left_to_show @ columns.T
        i, j = divmod(int(gain.argmax()), len(lefts))
        left_to_show[torch.outer(rows[i], columns[j]) > 0] = 0
        found.append((tops[i], lefts[j]))
    grid = [
        (top, left)
        for top in starts(hole.shape[-2], size, overlap)
        for left in starts(hole.shape[-1], size, overlap)
        if hole[:, top : top + size, left : left + size].any()
    ]
    return sorted(found) if len(found) < len(grid) else grid


def _shown(length: int, size: int, margin: int, cell: int) -> tuple[list[int], Tensor]:
    """Where windows may begin along a side, and which cells of it each shows well inside: (windows, cells) 0 or 1."""
    begins = sorted({*range(0, length - size, cell), length - size})
    first = torch.arange(0, length, cell)
    last = (first + cell).clamp(max=length)
    inner = [(b + margin if b else 0, b + size - margin if b + size < length else length) for b in begins]
    low, high = torch.tensor(inner).T[:, :, None]
    return begins, ((first >= low) & (last <= high)).float()


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
