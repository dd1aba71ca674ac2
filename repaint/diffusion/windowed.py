"""A prior for any canvas, from a prior for one size."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..tiling import corners, feather
from .process import Denoised, Denoiser
from .schedule import Schedule, State


@dataclass(frozen=True, eq=False)
class Windowed:
    """A `Denoiser` for a canvas of any size: runs a prior on overlapping windows and blends what it says.

    Attributes:
        denoiser: a prior for `size` x `size` px.
        hole: (B, 1, H, W) bool; windows that no hole touches are not run, and there x_0 is x_t as it came.
        overlap: px shared by neighbouring windows, at least.
        batch: windows shown to the prior at once.
    """

    denoiser: Denoiser
    size: int
    hole: Tensor
    overlap: int
    batch: int = 8
    _places: list[tuple[int, int, int]] = field(init=False)
    _weights: Tensor = field(init=False)
    _total: Tensor = field(init=False)

    def __post_init__(self) -> None:
        B, _, H, W = self.hole.shape
        if min(H, W) < self.size:
            raise ValueError(f"the canvas must be at least {self.size} x {self.size} px, got {H} x {W}")
        places = [(b, *corner) for b in range(B) for corner in corners(self.hole[b], self.size, self.overlap)]
        weights = feather(self.size, self.overlap).to(self.hole.device)
        total = torch.zeros(self.hole.shape, device=self.hole.device)
        for b, top, left in places:
            total[b, :, top : top + self.size, left : left + self.size] += weights[0]
        object.__setattr__(self, "_places", places)
        object.__setattr__(self, "_weights", weights)
        object.__setattr__(self, "_total", total)

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: State) -> Denoised:
        blended: dict[str, Tensor] = {"x_0": torch.where(self._total > 0, 0, x_t)}
        for begin in range(0, len(self._places), self.batch):
            places = self._places[begin : begin + self.batch]
            said = self.denoiser(torch.stack([self._cut(x_t, place) for place in places]), t)
            for name, answer in said._asdict().items():
                if answer is None:
                    continue
                canvas = blended.setdefault(name, torch.zeros_like(x_t))
                for i, place in enumerate(places):
                    share = self._weights[0] / self._cut(self._total, place)
                    self._cut(canvas, place).add_(answer[i] * share)
        return Denoised(**blended)

    def _cut(self, x: Tensor, place: tuple[int, int, int]) -> Tensor:
        b, top, left = place
        return x[b, :, top : top + self.size, left : left + self.size]
