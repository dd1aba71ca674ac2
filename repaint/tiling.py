"""Any size from what knows one size: where overlapping windows stand and how they blend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

MOST_SHRUNK_ELSEWHERE = 32  # CUDA kernels hold the whole filter in the shared memory of a block, which is small


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
    found, gain = [], rows @ left_to_show @ columns.T
    while left_to_show.any():
        i, j = divmod(int(gain.argmax()), len(lefts))
        down, across = (slice(int(s.argmax()), int(s.argmax() + s.sum())) for s in (rows[i], columns[j]))
        gain -= rows[:, down] @ left_to_show[down, across] @ columns[:, across].T
        left_to_show[down, across] = 0
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
    far = max(x.shape[-2] / height, x.shape[-1] / width) > MOST_SHRUNK_ELSEWHERE
    there = x.cpu() if far else off_mps(x)
    return F.interpolate(there, (height, width), mode="bicubic", antialias=True, align_corners=False).to(x.device)


def off_mps(x: Tensor) -> Tensor:
    """`x`, on the CPU if it is on an Apple GPU, where not every PyTorch we run with has every filter.

    Antialiased bicubic is there from 2.8 on (pytorch#149378), grids that go on beyond a border came after 2.9
    (pytorch#125098), and areas must divide (pytorch#96056).
    """
    return x.cpu() if x.device.type == "mps" else x


class Tiled(NamedTuple):
    """Where work on tiles stands: `image` is whole when `done` is `total`, and 0 where nothing has been done yet."""

    done: int
    total: int
    image: Tensor


def by_tiles(fn: Callable[[Tensor], Tensor], x: Tensor, *, tile: int, overlap: int, scale: int = 1) -> Iterator[Tiled]:
    """`fn(x)`, computed tile after tile and blended, in the memory of one tile beside the result.

    Equal to `fn(x)` wherever `fn` sees no further around a pixel than a quarter of `overlap`: tiles count for nothing
    in the outer quarter of what they share, and blend linearly in its middle half.

    Args:
        fn: maps (B, C, h, w) to (B, D, h * scale, w * scale) for any h, w up to `tile`; may answer on another device.
        x: (B, C, H, W), of any size, also smaller than `tile`.
        overlap: px shared by neighbours.

    Raises:
        ValueError: if `overlap` is not smaller than `tile`.
    """
    H, W = x.shape[-2:]
    rows, columns = (_shares(side, tile, overlap, scale) for side in (H, W))
    total, image = len(rows) * len(columns), None
    for i, (top, down) in enumerate(rows):
        for j, (left, across) in enumerate(columns):
            out = fn(x[..., top : top + tile, left : left + tile]).to(x.device)
            if image is None:
                image = out.new_zeros(*out.shape[:2], H * scale, W * scale)
            share = (down[:, None] * across).to(out)
            top_out, left_out = top * scale, left * scale
            image[..., top_out : top_out + len(down), left_out : left_out + len(across)] += out * share
            yield Tiled(i * len(columns) + j + 1, total, image)


def tiled(fn: Callable[[Tensor], Tensor], x: Tensor, *, tile: int, overlap: int, scale: int = 1) -> Tensor:
    """The last image of `by_tiles`."""
    *_, last = by_tiles(fn, x, tile=tile, overlap=overlap, scale=scale)
    return last.image


def _shares(length: int, tile: int, overlap: int, scale: int) -> list[tuple[int, Tensor]]:
    """Where tiles begin along a side, and each tile's share of every output pixel there; shares add up to 1."""
    begins = starts(length, tile, overlap)
    at = (torch.arange(length * scale) + 0.5) / scale
    ramps = []
    for begin in begins:
        end = min(begin + tile, length)
        from_start = at - begin if begin else torch.full_like(at, float("inf"))
        to_end = end - at if end < length else torch.full_like(at, float("inf"))
        reach = max(overlap, 1)
        ramp = (torch.minimum(from_start, to_end) / reach * 2 - 0.5).clamp(1e-6, 1)  # not 0: some see it alone
        ramps.append(torch.where((at > begin) & (at < end), ramp, 0.0))
    whole = torch.stack(ramps).sum(0)
    return [
        (begin, (ramp / whole)[begin * scale : min(begin + tile, length) * scale])
        for begin, ramp in zip(begins, ramps, strict=True)
    ]
