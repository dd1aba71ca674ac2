"""The geometry of holes: how far they reach, how deep they are, where they lie; and what fills them plainly.

A mask is `keep`, (1, H, W) bool, True = leave alone. A hole is what is not kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from .tiling import off_mps

GRID_CELLS = 512  # along the longer side at most, where holes are grouped
CHUNK = 1 << 17  # elements of a distance field worked on at once, to stay in the cache


def grown(keep: Tensor, px: int) -> Tensor:
    """The mask whose hole reaches `px` further on all sides (a Euclidean disc); less far if `px` is negative.

    Args:
        keep: (1, H, W) or (B, 1, H, W) bool. A shrinking hole recedes from kept pixels, not from the image border.
    """
    if px >= 0:
        return _squared_distance(~keep, px) > px * px
    return _squared_distance(keep, -px) <= px * px


def feathered(keep: Tensor, px: int) -> Tensor:
    """Weights that are exactly 1 on kept pixels and fall smoothly to 0 inside the hole: float32, shaped like `keep`.

    Args:
        keep: (1, H, W) or (B, 1, H, W) bool.
        px: the distance to the nearest kept pixel from which on the weight is 0. Below 2 there is no ramp.

    Raises:
        ValueError: if `px` is negative.
    """
    if px < 0:
        raise ValueError(f"px must not be negative, got {px}")
    ramp = (1 - _squared_distance(keep, px).sqrt() / max(px, 1)).clamp(min=0)
    return ramp * ramp * (3 - 2 * ramp)


def hole_depth(keep: Tensor, *, limit_px: int) -> float:
    """The largest distance in px from a hole pixel to its nearest kept pixel; 0 without a hole, at most `limit_px`.

    The image border is not a kept pixel. Time grows with the depth found.
    """
    return min(math.sqrt(_squared_distance(keep, limit_px).max().item()), limit_px)


def boxes_of_holes(keep: Tensor, *, gap: int) -> list[tuple[int, int, int, int]]:
    """The bounding box (top, left, bottom, right) of every group of hole pixels, sorted from top to bottom.

    Hole pixels that touch, or whose rows and columns both differ by less than `gap`, are of one group. Images with a
    side above 512 px are grouped on a grid of cells of 1/512 of that side: there, groups whose distance is between
    `gap` and `gap` + 2 cells may come out as one. The boxes are exact at any size.

    Args:
        keep: (1, H, W) bool. Boxes are half-open: `keep[:, top:bottom, left:right]` is the crop.
    """
    hole = ~keep[0]
    cell = -(-max(hole.shape) // GRID_CELLS)
    below, right = (-side % cell for side in hole.shape)
    grid = F.pad(hole, (0, right, 0, below)).unflatten(1, (-1, cell)).unflatten(0, (-1, cell))
    rows, columns = grid.any(3).transpose(1, 2), grid.any(1)  # which px rows and columns of a cell have a hole
    damaged = rows.any(2)

    group, groups = _components(damaged, reach=max(1, (gap - 2) // cell + 1))
    y, x = (damaged.nonzero() * cell).unbind(1)
    rows, columns = rows[damaged].byte(), columns[damaged].byte()
    last_row, last_column = (cell - 1 - side.flip(1).argmax(1) for side in (rows, columns))
    # The far edges are negated, so that one minimum finds all four.
    edges = torch.stack([y + rows.argmax(1), x + columns.argmax(1), -(y + last_row + 1), -(x + last_column + 1)])
    boxes = edges.new_zeros(4, groups).scatter_reduce(1, group.expand(4, -1), edges, "amin", include_self=False)
    return sorted((top, left, -bottom, -right) for top, left, bottom, right in boxes.T.tolist())


def thicker_than(keep: Tensor, px: float, *, corners: bool = True) -> Tensor:
    """The holes, or parts of holes, that are thicker than `px`, to their square corners: (1, H, W) bool.

    What hangs on them and is thin counts as thick as near to them as a corner can be: a fifth of `px`, and a pixel.

    Args:
        keep: (1, H, W) bool.
        corners: or not: then what hangs on them is thin from 2 px on, and so are corners.
    """
    hole, radius = ~keep, max(1, round(px / 2))
    core = ~grown(keep, -radius)
    back = math.ceil(math.sqrt(2) * radius) + 1 if corners else radius + 2
    return ~grown(~core, back) & hole if core.any() else torch.zeros_like(hole)


def smoothly_filled(known: Tensor, keep: Tensor) -> Tensor:
    """The images with their holes filled from the means of ever larger surroundings (push-pull)."""
    weight = keep.to(known)
    H, W = known.shape[-2:]
    if weight.min() > 0 or (H, W) == (1, 1):
        return known
    half = (math.ceil(H / 2), math.ceil(W / 2))
    share = area_means(weight, *half)
    mean = area_means(known * weight, *half) / share.clamp(min=1e-6)
    coarse = smoothly_filled(mean, share > 0)
    return torch.where(keep > 0, known, F.interpolate(coarse, (H, W), mode="bilinear", align_corners=False))


def area_means(x: Tensor, height: int, width: int) -> Tensor:
    """`x` (B, C, H, W) at a smaller size, each pixel the mean of its area."""
    return F.interpolate(off_mps(x), (height, width), mode="area").to(x.device)


# --- distances and groups ---


def _squared_distance(target: Tensor, reach: int) -> Tensor:
    """The squared Euclidean distance to the nearest True, exact up to `reach` and larger than reach**2 beyond: float32.

    The squares are separable: first along columns, then along rows (Saito & Toriwaki 1994).
    """
    squared = torch.where(target, 0.0, float((reach + 1) ** 2))
    for dim, other in ((-2, -1), (-1, -2)):
        lines = max(1, CHUNK * squared.shape[other] // squared.numel())
        squared = torch.cat([_spread(part, reach, dim) for part in squared.split(lines, other)], other)
    return squared


def _spread(squared: Tensor, reach: int, dim: int) -> Tensor:
    """The minimum of `squared[i + d] + d**2` over |d| <= reach, along `dim`."""
    nearest = squared.clone()
    if squared.min() > reach**2:
        return nearest
    for d in range(1, min(reach, squared.shape[dim] - 1) + 1):
        if nearest.max() <= d * d:
            break
        n = squared.shape[dim] - d
        for here, there in ((0, d), (d, 0)):
            place = nearest.narrow(dim, here, n)
            torch.minimum(place, squared.narrow(dim, there, n) + d * d, out=place)
    return nearest


def _components(cells: Tensor, *, reach: int) -> tuple[Tensor, int]:
    """The group (0, 1, ...) of every True cell, in reading order, and how many groups there are.

    Cells whose rows and columns both differ by at most `reach` are of one group.
    """
    # As squares of `reach` cells, those of one group touch.
    solid = F.pad(cells, (reach - 1, 0, reach - 1, 0)).half()[None]
    solid = F.max_pool2d(F.max_pool2d(solid, (1, reach), 1), (reach, 1), 1)[0].bool()
    starts = solid & ~F.pad(solid, (1, 0))[:, :-1]
    run = starts.flatten().cumsum(0).view_as(cells) - 1  # runs of True in a row, numbered
    runs = int(starts.sum())

    width = cells.shape[1]
    pairs = []
    for d in (-1, 0, 1):
        upper, lower = slice(max(0, d), width + min(0, d)), slice(max(0, -d), width + min(0, -d))
        touch = solid[:-1, upper] & solid[1:, lower]
        pairs.append(run[:-1, upper][touch] * runs + run[1:, lower][touch])
    root = _roots(runs, (divmod(pair, runs) for pair in torch.cat(pairs).unique().tolist()))
    names, group = torch.tensor(root, device=cells.device, dtype=torch.long)[run[cells]].unique(return_inverse=True)
    return group, len(names)


def _roots(nodes: int, links: Iterable[tuple[int, int]]) -> list[int]:
    """For every node the smallest one it is linked with, directly or not (union-find)."""
    parent = list(range(nodes))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    for one, other in links:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return [root(node) for node in range(nodes)]
