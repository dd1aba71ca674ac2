"""One map of damage out of those that a detector gave for several sizes of a photo."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..archs.scratch_net import hint

NEAR, THICK = 2, 7  # pixels of the smaller copy: how far a finer mark reaches, and what it cannot outline
AS_GOOD = 0.6  # a finer mark as probable as this is as good as any
HINTED = 0.85  # share of the largest size in its mean with the next, where it was shown what the next one found


@dataclass(eq=False)
class Together:
    """The map of several sizes of a photo, added from the smallest to the largest, each twice as large.

    max: the surest; mean: all must agree; neighbours: the surest mean of two sizes, one half the other. There a
    scratch that is seen in several sizes is as wide as in the finest of them: a small copy shows that it is there, and
    makes it as wide as its own pixels.

    Attributes:
        hinted: each size was shown what the one before had found; then the largest counts most in its mean.
    """

    how: Literal["neighbours", "max", "mean"]
    hinted: bool = False
    maps: list[Tensor] = field(default_factory=list)

    def add(self, found: Tensor) -> None:
        """Add the probabilities (B, 1, H, W) of one size."""
        self.maps.append(found)

    def map(self) -> Tensor:
        """Of all that was added, at least one map, in the size of the last one."""
        if self.how == "neighbours":
            return self._of_neighbours()
        full = [hint(found, self.maps[-1]) for found in self.maps]
        return torch.stack(full).mean(0) if self.how == "mean" else torch.stack(full).amax(0)

    def _of_neighbours(self) -> Tensor:
        if len(self.maps) == 1:
            return self.maps[0]
        *coarser, found = ((fine + hint(coarse, fine)) / 2 for coarse, fine in pairwise(self.maps))
        if self.hinted:
            found = self.maps[-1].lerp(hint(self.maps[-2], self.maps[-1]), 1 - HINTED)
        for pair in reversed(coarser):
            found = torch.maximum(found, hint(outlined(pair, found), found))
        return found


def outlined(coarse: Tensor, fine: Tensor) -> Tensor:
    """What a coarse map (B, 1, h, w) adds to a finer one (B, 1, H, W).

    Where the finer one is as sure, at most `NEAR` coarse pixels away, it says how wide a mark is: of the coarse one
    there remains what lies in a gap between finer marks, and what is thicker than `THICK`, of which a close look sees
    the rim only.
    """
    fine = F.adaptive_max_pool2d(fine, coarse.shape[-2:])
    enough, widened = coarse.clamp(max=AS_GOOD), widest(fine, NEAR)
    gaps = torch.where(fine < enough, -widest(-widened, NEAR), 0.0)
    thick = widest(-widest(-coarse, THICK // 2), THICK // 2)
    return torch.where(widened >= enough, torch.minimum(torch.maximum(gaps, thick), coarse), coarse)


def widest(x: Tensor, reach: int) -> Tensor:
    """The maximum over squares of 2 `reach` + 1 pixels, rows and columns one after the other."""
    side = 2 * reach + 1
    return F.max_pool2d(F.max_pool2d(x, (side, 1), 1, (reach, 0)), (1, side), 1, (0, reach))
