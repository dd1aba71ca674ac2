"""A prior for any canvas, from a prior for one size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..tiling import corners, feather
from .conditioned import Conditioned
from .process import Denoised, Denoiser
from .schedule import Schedule, State


@dataclass(frozen=True, eq=False)
class Windowed:
    """A `Denoiser` for a canvas of any size: runs a prior on overlapping windows and blends what it says.

    Attributes:
        denoiser: a prior for `size` x `size` px, `Conditioned` on what is known of the canvas or not; its labels, if it
            has any, one for all: windows are shown in batches that know nothing of whose they are.
        hole: (B, 1, H, W) bool; windows that no hole touches are not run, and there x_0 is x_t as it came.
        overlap: px shared by neighbouring windows, at least.
        batch: windows shown to the prior at once.
        places: (top, left) of the windows of each image, where they are known: `tiling.corners`.
    """

    denoiser: Denoiser
    size: int
    hole: Tensor
    overlap: int
    batch: int = 8
    places: Sequence[Sequence[tuple[int, int]]] | None = None
    _places: list[tuple[int, int, int]] = field(init=False)
    _weights: Tensor = field(init=False)
    _total: Tensor = field(init=False)

    def __post_init__(self) -> None:
        B, _, H, W = self.hole.shape
        if min(H, W) < self.size:
            raise ValueError(f"the canvas must be at least {self.size} x {self.size} px, got {H} x {W}")
        each = self.places or [corners(hole, self.size, self.overlap) for hole in self.hole]
        places = [(b, *corner) for b in range(B) for corner in each[b]]
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

            def cut(x: Tensor, places: Sequence[tuple[int, int, int]] = places) -> Tensor:
                return torch.stack([self._cut(x, place) for place in places])

            said = _told(self.denoiser, cut)(cut(x_t), t)
            for name, answer in said._asdict().items():
                if answer is None:
                    continue
                if name not in blended:
                    blended[name] = torch.zeros_like(x_t)
                canvas = blended[name]
                for i, place in enumerate(places):
                    share = self._weights[0] / self._cut(self._total, place)
                    self._cut(canvas, place).add_(answer[i] * share)
        return Denoised(**blended)

    def _cut(self, x: Tensor, place: tuple[int, int, int]) -> Tensor:
        b, top, left = place
        return x[b, :, top : top + self.size, left : left + self.size]


@dataclass(frozen=True, eq=False)
class Packed:
    """A `Denoiser` for those pixels of one canvas that some window sees, in a row: (1, C, 1, N).

    Says of them what `Windowed` says, in the memory of the windows, however large the canvas is.

    Attributes:
        hole: (1, 1, H, W) bool with a hole; windows that no hole touches are not run.
        places: (top, left) of the windows, where they are known: `tiling.corners`.
    """

    denoiser: Denoiser
    size: int
    hole: Tensor
    overlap: int
    batch: int = 8
    places: Sequence[tuple[int, int]] | None = None
    _index: Tensor = field(init=False)  # (N,) of each pixel in the canvas, row after row
    _windows: Tensor = field(init=False)  # (W, size * size) of each window's pixels in the row
    _shares: Tensor = field(init=False)  # (W, 1, size * size) of each window at its pixels

    def __post_init__(self) -> None:
        H, W = self.hole.shape[-2:]
        places = self.places or corners(self.hole[0], self.size, self.overlap)
        seen = torch.zeros(H, W, dtype=torch.bool)
        parts = [(slice(top, top + self.size), slice(left, left + self.size)) for top, left in places]
        for part in parts:
            seen[part] = True
        order = seen.flatten().cumsum(0, dtype=torch.int32).view(H, W) - 1
        windows = torch.stack([order[part].flatten() for part in parts]).long()
        weights = feather(self.size, self.overlap).flatten()
        total = torch.zeros(int(seen.sum())).index_add_(0, windows.flatten(), weights.repeat(len(parts)))
        for name, value in {
            "_index": seen.flatten().nonzero()[:, 0],
            "_windows": windows,
            "_shares": (weights / total[windows])[:, None],
        }.items():
            object.__setattr__(self, name, value.to(self.hole.device))

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def pack(self, x: Tensor) -> Tensor:
        """(1, C, 1, N) of a canvas (1, C, H, W)."""
        return x.flatten(2)[:, :, None, self._index]

    def unpack(self, row: Tensor, onto: Tensor) -> Tensor:
        """A copy of the canvas `onto` (1, C, H, W) with the pixels of a row (1, C, 1, N) in it."""
        canvas = onto.clone(memory_format=torch.contiguous_format)
        canvas.view(*onto.shape[:2], -1)[:, :, self._index] = row[:, :, 0]
        return canvas

    def __call__(self, x_t: Tensor, t: State) -> Denoised:
        blended: dict[str, Tensor] = {}
        windows, shares = self._windows.split(self.batch), self._shares.split(self.batch)
        for at, share in zip(windows, shares, strict=True):

            def cut(row: Tensor, at: Tensor = at) -> Tensor:
                return row[0, :, 0, at].transpose(0, 1).unflatten(2, (self.size, self.size))

            def cut_canvas(x: Tensor, at: Tensor = at) -> Tensor:
                return x.flatten(2)[0, :, self._index[at]].transpose(0, 1).unflatten(2, (self.size, self.size))

            for name, answer in _told(self.denoiser, cut_canvas)(cut(x_t), t)._asdict().items():
                if answer is None:
                    continue
                if name not in blended:
                    blended[name] = torch.zeros_like(x_t)
                row = blended[name][0, :, 0]
                for pixels, part in zip(at, answer.flatten(2) * share, strict=True):  # as one sum their order is chance
                    row[:, pixels] += part
        return Denoised(**blended)


def _told(denoiser: Denoiser, cut: Callable[[Tensor], Tensor]) -> Denoiser:
    """The denoiser as it is for windows: one that is told what is known of the canvas is told what is known of them."""
    if not isinstance(denoiser, Conditioned):
        return denoiser
    return denoiser.of(cut(denoiser.known), cut(denoiser.keep))
