"""How far the rims of marks reach: a scratch in a large or soft scan is wider than what is surely one."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..holes import grown, smoothly_filled

CELL_PX, CELLS = 256, 24  # squares of a photo that are looked at, at most so many
BLOCK_PX = 32  # squares that say how much of it is chance
FAINT = 0.04  # of a mark's contrast: less is no rim
CHANCE = 3  # times the standard error of that share: less is none, either
REACH = 1 / 250  # of the photo's side, the root of its area
AROUND_PX = 8


def rim_px(hole: Tensor, light: Tensor) -> int:
    """How far from the marks the photo still shows them, on the mean: px, at most 2 or 1/250 of its side.

    Around every mark the photo is guessed from what lies further away; what differs from that guess as the mark does,
    by a share of its contrast, is rim, and so is what differs the other way: the halo that sharpening gave it. What the
    picture itself shows there differs now this way and now that, and leaves the mean as it is; how far it may still be
    from that, by chance, the squares of the photo tell: a rim differs more.

    Args:
        hole: (1, H, W) bool, the marks.
        light: (1, H, W), luma of the photo.
    """
    H, W = hole.shape[-2:]
    reach = max(2, round(REACH * math.sqrt(H * W)))
    margin = reach + AROUND_PX
    marked = F.max_pool2d(hole.float()[None], CELL_PX, ceil_mode=True)[0, 0].nonzero() * CELL_PX
    rings: list[list[Tensor]] = [[] for _ in range(reach)]
    for top, left in marked[:: max(1, math.ceil(len(marked) / CELLS))].tolist():
        rows = slice(max(0, top - margin), top + CELL_PX + margin)
        columns = slice(max(0, left - margin), left + CELL_PX + margin)
        here, mark = light[:, rows, columns], hole[:, rows, columns]
        around = grown(~mark, reach + 2)
        if not around.any():
            continue
        apart = here - smoothly_filled(here[None], around[None])[0]
        of_mark = _mean_near(apart, mark, reach + 2)
        before = mark
        for k in range(reach):
            wider = ~grown(~mark, k + 1)
            ring = wider & ~before
            rings[k].append(_by_blocks(torch.cat([apart * of_mark, of_mark.square()]) * ring))
            before = wider
    rim = 0
    for k, ring in enumerate(rings, 1):
        if ring and _shows(*torch.cat(ring, 1)):
            rim = k
        elif k - rim == 2:  # one faint px may lie between rim and halo
            break
    return rim


def _by_blocks(x: Tensor) -> Tensor:
    """The sums of x (2, H, W) over squares of it: (2, N) float64."""
    below, right = (-side % BLOCK_PX for side in x.shape[1:])
    padded = F.pad(x, (0, right, 0, below)).double()
    return padded.unflatten(2, (-1, BLOCK_PX)).unflatten(1, (-1, BLOCK_PX)).sum((2, 4)).flatten(1)


def _shows(alike: Tensor, contrast: Tensor) -> bool:
    """Whether a ring differs as its marks do, or the other way: by more than the picture does, and than by chance."""
    total = contrast.sum()
    share = alike.sum() / total.clamp(min=1e-12)
    error = (alike - share * contrast).square().sum().sqrt() / total.clamp(min=1e-12)
    return bool(share.abs() > max(FAINT, CHANCE * error.item()))


def _mean_near(x: Tensor, of: Tensor, reach: int) -> Tensor:
    """The mean of x (1, H, W) over the pixels of a mask in squares of 2 `reach` + 1 px; 0 where there are none."""
    weight = of.float()
    total, share = (_box(y[None], reach)[0] for y in (x * weight, weight))
    return torch.where(share > 1e-6, total / share.clamp(min=1e-6), 0.0)


def _box(x: Tensor, reach: int) -> Tensor:
    side = 2 * reach + 1
    return F.avg_pool2d(F.avg_pool2d(x, (side, 1), 1, (reach, 0)), (1, side), 1, (0, reach))
