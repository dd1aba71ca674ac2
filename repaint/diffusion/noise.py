"""Randomness as an argument: one stream per image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Noise:
    """Standard normal noise for a batch, each image drawing from a CPU generator of its own.

    So a picture depends on its own seed alone: not on its neighbours in the batch, nor on the device.

    Args:
        seeds: one for each image of the batch.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._streams = [torch.Generator().manual_seed(seed) for seed in seeds]

    def like(self, x: Tensor) -> Tensor:
        """N(0, 1) of the shape, dtype and device of `x` (B, C, H, W)."""
        if len(x) != len(self._streams):
            raise ValueError(f"x must hold {len(self._streams)} images, one a seed, got {len(x)}")
        drawn = [torch.randn(x.shape[1:], generator=stream) for stream in self._streams]
        return torch.stack(drawn).to(x)

    def integers(self, high: int) -> Tensor:
        """(B,) whole numbers in 0..high-1."""
        return torch.cat([torch.randint(high, (1,), generator=stream) for stream in self._streams])
