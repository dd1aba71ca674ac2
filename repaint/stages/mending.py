"""Thin holes filled in one call by a network that has learned what most likely lies below them.

What is a few pixels thick is told by its surroundings: one good guess serves better than a sample, and costs a call
where RePaint takes hundreds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..holes import smoothly_filled, thicker_than
from ..tiling import resized
from .native import shrunk, shrunk_mask

ORDINARY_PX = 1024  # side of a photo, the root of its area, up to twice which holes are measured as they are
CELL_PX, AROUND_PX = 128, 32  # each cell with a hole is mended by itself, with so much around it for the network to see


@dataclass(frozen=True, eq=False)
class Mender:
    """Fills holes of a photo that are at most `thickest_px` thick; in a large photo as much thicker as it is larger.

    A photo whose side (the root of its area) is 2,048 px is taken for one of 1,024 px, enlarged: what is too thick at
    its own size is filled at half of it, and so on for larger ones.

    Attributes:
        network: (B, 3, h, w) of (B, 4, h, w): RGB in [0, 1] with its holes filled smoothly, and 1 where it is known.
        batch: cells shown at once.
    """

    network: Callable[[Tensor], Tensor]
    thickest_px: float
    device: torch.device
    batch: int = 1

    def thin(self, keep: Tensor) -> Tensor:
        """The holes that are thin enough, (1, H, W) bool, of a mask (1, H, W) bool."""
        return ~keep & ~thicker_than(keep, self.thickest_px * enlarged(keep), corners=False)

    def __call__(self, rgb: Tensor, keep: Tensor, thin: Tensor) -> Tensor:
        """The image (3, H, W) in [0, 1] with what is `thin` filled; all else keeps its bits.

        Args:
            keep: (1, H, W) bool, what is known.
            thin: (1, H, W) bool, of what is not.
        """
        times = enlarged(keep)
        while times > 1:
            thick = thin & thicker_than(keep, self.thickest_px * times / 2, corners=False)
            if thick.any():
                rgb, keep, thin = self._smaller(rgb, keep, thick, times), keep | thick, thin & ~thick
            times //= 2
        return self._filled(rgb, keep, thin)

    def _smaller(self, rgb: Tensor, keep: Tensor, thick: Tensor, times: int) -> Tensor:
        """The image with what is `thick` filled at 1 / `times` of its size."""
        H, W = rgb.shape[-2:]
        h, w = math.ceil(H / times), math.ceil(W / times)
        known = shrunk_mask(keep[None], h, w)[0]
        hole = F.adaptive_max_pool2d(thick.float(), (h, w)) > 0
        small = self._filled(shrunk(rgb[None], keep[None], h, w)[0], known, hole & ~known)
        return torch.where(thick, resized(small[None], H, W)[0].clamp(0, 1), rgb)

    @torch.no_grad()
    def _filled(self, rgb: Tensor, keep: Tensor, thin: Tensor) -> Tensor:
        if not thin.any():
            return rgb
        H, W = rgb.shape[-2:]
        side = CELL_PX + 2 * AROUND_PX
        below, right = (-n % CELL_PX + AROUND_PX for n in (H, W))
        margins = (AROUND_PX, right, AROUND_PX, below)
        image = F.pad(torch.where(keep, rgb, 0.0)[None], margins, mode="replicate")
        known = F.pad(keep[None].float(), margins, mode="replicate") >= 1
        has_hole = F.max_pool2d(thin[None].float(), CELL_PX, ceil_mode=True)[0, 0]
        result = rgb.clone()
        for cells in has_hole.nonzero().split(self.batch):
            corners = (cells * CELL_PX).tolist()
            windows = [
                torch.cat([x[..., top : top + side, left : left + side] for top, left in corners])
                for x in (image, known)
            ]
            filled = self.network(shown_to_mender(*windows).to(self.device)).float().to(rgb)
            for (top, left), fill in zip(corners, filled, strict=True):
                there = (slice(None), slice(top, top + CELL_PX), slice(left, left + CELL_PX))
                old = result[there]
                h, w = old.shape[-2:]
                new = fill[:, AROUND_PX : AROUND_PX + h, AROUND_PX : AROUND_PX + w]
                result[there] = torch.where(thin[there], new, old)
        return result


def enlarged(keep: Tensor) -> int:
    """How many times larger than an ordinary one a photo with this mask (1, H, W) is: 1, 2, 4, ..."""
    return 2 ** max(0, math.floor(math.log2(math.sqrt(keep.numel()) / ORDINARY_PX)))


def shown_to_mender(image: Tensor, keep: Tensor) -> Tensor:
    """(B, 4, H, W) of images (B, 3, H, W) in [0, 1] and what is known of them (B, 1, H, W), bool."""
    return torch.cat([smoothly_filled(image, keep), keep.to(image)], 1)
