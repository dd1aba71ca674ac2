"""Thin holes filled in one call by a network that has learned what most likely lies below them.

What is a few pixels thick is told by its surroundings: one good guess serves better than a sample, and costs a call
where RePaint takes hundreds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..holes import smoothly_filled, thicker_than

CELL_PX, AROUND_PX = 128, 32  # each cell with a hole is mended by itself, with so much around it for the network to see


@dataclass(frozen=True, eq=False)
class Mender:
    """Fills holes of a photo that are at most `thickest_px` thick.

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
        return ~keep & ~thicker_than(keep, self.thickest_px)

    @torch.no_grad()
    def __call__(self, rgb: Tensor, keep: Tensor, thin: Tensor) -> Tensor:
        """The image (3, H, W) in [0, 1] with what is `thin` filled; all else keeps its bits.

        Args:
            keep: (1, H, W) bool, what is known.
            thin: (1, H, W) bool, of what is not.
        """
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


def shown_to_mender(image: Tensor, keep: Tensor) -> Tensor:
    """(B, 4, H, W) of images (B, 3, H, W) in [0, 1] and what is known of them (B, 1, H, W), bool."""
    return torch.cat([smoothly_filled(image, keep), keep.to(image)], 1)
