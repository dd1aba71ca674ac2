"""Randomness as an argument: one stream per image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor

WORTH_A_THREAD = 1 << 14  # numbers of an image


class Noise:
    """Standard normal noise for a batch, each image drawing from a CPU generator of its own.

    So a picture depends on its own seed alone: not on its neighbours in the batch, nor on the device. The images of a
    batch draw side by side, while a GPU still works on what it was given before.

    Args:
        seeds: one for each image of the batch.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._streams = [torch.Generator().manual_seed(seed) for seed in seeds]

    def like(self, x: Tensor) -> Tensor:
        """N(0, 1) of the shape, dtype and device of `x` (B, C, H, W)."""
        if len(x) != len(self._streams):
            raise ValueError(f"x must hold {len(self._streams)} images, one a seed, got {len(x)}")
        drawn = torch.empty(x.shape, pin_memory=x.is_cuda)

        def draw(stream: torch.Generator, image: Tensor) -> None:
            torch.randn(image.shape, generator=stream, out=image)

        at_once = len(x) > 1 and drawn[0].numel() >= WORTH_A_THREAD
        for _ in (_threads().map if at_once else map)(draw, self._streams, drawn):
            pass
        return drawn.to(x, non_blocking=True)

    def integers(self, high: int) -> Tensor:
        """(B,) whole numbers in 0..high-1."""
        return torch.cat([torch.randint(high, (1,), generator=stream) for stream in self._streams])


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="noise")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # a child has none of its parent's threads
