"""A photo of any size filled by a prior of one size: coarse to fine for large holes, in windows for thin ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from ..diffusion import Conditioned, Denoiser, Noise, Packed, State, Windowed, network_calls, q_sample, repaint
from ..holes import area_means, boxes_of_holes, hole_depth, smoothly_filled, thicker_than
from ..tiling import corners, resized

THIN = 1 / 4  # of the prior's window: holes thinner than this are filled at their own scale
COARSEST_DEPTH = 1 / 32  # of the window: how deep the deepest hole still is at the coarsest level
OVERLAP = 1 / 4  # of the window
WHOLE = 4  # windows: a photo no larger than this is worked on whole
LARGE = 64  # windows: of a larger canvas only what windows see is held in memory


@dataclass(frozen=True)
class Walk:
    """How the sampler moves.

    Attributes:
        times: the states to visit when the chain begins at a state.
        begin: the state at a share of the way from the image to pure noise.
        refine: share at which finer levels take up an enlarged guess.
        thin: share at which thin holes take up a smooth guess; 1 = pure noise.
    """

    times: Callable[[State], list[State]]
    begin: Callable[[float], State]
    refine: float
    thin: float


@dataclass(frozen=True, eq=False)
class Pass:
    """One walk of the sampler over a canvas.

    Attributes:
        keep: (1, h, w), what is known on this canvas.
        share: of the way to pure noise, where the walk begins; 1 = there.
        on_top: what earlier passes filled is known now.
    """

    keep: Tensor
    share: float
    on_top: bool = False
    _places: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        return self.keep.shape[-2], self.keep.shape[-1]

    def to(self, device: torch.device) -> Pass:
        return replace(self, keep=self.keep.to(device))

    def windows(self, size: int) -> int:
        """How often a prior of `size` px is called for each step down."""
        return len(self.places(size))

    def places(self, size: int) -> list[tuple[int, int]]:
        """Where a prior of `size` px is called, (top, left)."""
        if size not in self._places:
            self._places[size] = corners(self.keep < 1, size, overlap_of(size))
        return self._places[size]

    def calls(self, size: int, walk: Walk) -> int:
        return self.windows(size) * network_calls(walk.times(walk.begin(self.share)))


def plan(keep: Tensor, size: int, walk: Walk) -> tuple[Pass, ...]:
    """The walks that fill a canvas, for a prior of `size` px.

    Holes thicker than a quarter of the window are filled at a size where they are small, then enlarged step by step,
    each step adding the detail of its size; meanwhile thin ones have a smooth fill, and are filled at the end, at full
    size.

    Args:
        keep: (1, H, W) bool with a hole, at least `size` px on both sides; float weights only at `size` x `size`.
    """
    H, W = keep.shape[-2:]
    if (size, size) == (H, W):
        return (Pass(keep, 1.0),)
    thick = thicker_than(keep, THIN * size)
    thin = ~keep & ~thick
    found: list[Pass] = []
    if thick.any():
        depth = hole_depth(keep, limit_px=math.ceil(COARSEST_DEPTH * min(H, W)))  # deeper changes nothing
        shrink = max(1.0, min(min(H, W) / size, depth / (COARSEST_DEPTH * size)))
        for level in range(math.ceil(math.log2(shrink) - 1e-9), -1, -1):
            scale = max(2.0**-level, 1 / shrink)
            small = shrunk_mask(~thick[None], max(size, round(H * scale)), max(size, round(W * scale)))[0]
            found.append(Pass(small, walk.refine if found else 1.0))
    if thin.any():
        found.append(Pass(~thin, walk.thin, on_top=bool(found)))
    return tuple(found)


def canvases(keep: Tensor, size: int) -> list[tuple[int, int, int, int]]:
    """The parts (top, left, bottom, right) of a photo that are worked on, each by itself; none without a hole.

    A small photo is worked on whole. In a large one, each group of holes gets a crop with as much around it as it is
    wide, at least half a window; crops that meet become one, so that no hole is seen by two.

    Args:
        keep: (1, H, W).
    """
    H, W = keep.shape[-2:]
    if bool((keep >= 1).all()):
        return []
    if max(H, W) <= WHOLE * size:
        return [(0, 0, H, W)]
    found: list[tuple[int, int, int, int]] = []
    for top, left, bottom, right in boxes_of_holes(keep >= 1, gap=size):
        around = max(size, bottom - top, right - left) // 2
        box = (max(0, top - around), max(0, left - around), min(H, bottom + around), min(W, right + around))
        while met := [other for other in found if _meet(box, other)]:
            found = [other for other in found if other not in met]
            tops, lefts, bottoms, rights = zip(box, *met, strict=True)
            box = (min(tops), min(lefts), max(bottoms), max(rights))
        found.append(box)
    return sorted(found)


def _meet(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def fill(
    denoiser: Denoiser,
    size: int,
    known: Tensor,
    keep: Tensor,
    plans: Sequence[tuple[Pass, ...]],
    walk: Walk,
    noise: Noise,
    *,
    batch: int,
) -> Iterator[tuple[Sequence[int], Callable[[], Tensor]]]:
    """The network calls made for each image, and the images so far (B, 3, H, W), after every step of the sampler.

    Args:
        denoiser: a prior for `size` x `size` px; if it is `Conditioned`, then on what each pass knows.
        known: (B, 3, H, W) in [-1, 1].
        keep: (B, 1, H, W), what is known at full size.
        plans: one an image, from `plan`; all with canvases of the same sizes.
        batch: windows shown to the prior at once.
    """
    H, W = known.shape[-2:]
    on_top = plans[0][-1].on_top
    guess = smoothly_filled(known, keep) if plans[0][0].share < 1 or on_top else known
    if on_top:  # until they are filled, thin holes are known
        thin = torch.stack([passes[-1].keep for passes in plans]) < 1
        known, keep = torch.where(thin, guess, known), keep | thin
    calls = [0] * len(known)
    for passes in zip(*plans, strict=True):
        (h, w), share = passes[0].shape, passes[0].share
        here_keep = torch.stack([p.keep for p in passes])
        here = guess if passes[0].on_top else shrunk(known, keep, h, w)
        begin, start = walk.begin(share), None
        if share < 1:
            guess = torch.where(here_keep >= 1, here, resized(guess, h, w).clamp(-1, 1))
        at = denoiser = denoiser.of(here, here_keep) if isinstance(denoiser, Conditioned) else denoiser
        row, onto, unpack = here, here, _itself
        if is_large((h, w), size):
            at = packed = Packed(denoiser, size, here_keep < 1, overlap_of(size), batch, passes[0].places(size))
            here, here_keep, guess = (packed.pack(x) for x in (here, here_keep, guess))
            unpack = packed.unpack
        elif (h, w) != (size, size):
            at = Windowed(denoiser, size, here_keep < 1, overlap_of(size), batch, [p.places(size) for p in passes])
        if share < 1:
            start = q_sample(denoiser.schedule, guess, begin, noise.like(guess))
        per_call = [p.windows(size) for p in passes]
        for sample in repaint(at, here, here_keep, walk.times(begin), noise, start=start):
            calls = [c + n for c, n in zip(calls, per_call, strict=True)]
            row = torch.where(here_keep >= 1, here, sample.x_t if sample.t == 0 else sample.x_0)
            yield calls, partial(_shown, row, onto, unpack, (H, W))
        guess = unpack(row, onto)


def is_large(shape: tuple[int, int], size: int) -> bool:
    """Whether of a canvas of this shape only what windows see is held; such a one is worked on alone."""
    return math.prod(shape) > LARGE * size**2


def _itself(row: Tensor, onto: Tensor) -> Tensor:
    return row


def _shown(row: Tensor, onto: Tensor, unpack: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, int]) -> Tensor:
    return resized(unpack(row, onto), *shape)


def overlap_of(size: int) -> int:
    return round(OVERLAP * size)


def shrunk(known: Tensor, keep: Tensor, height: int, width: int) -> Tensor:
    """The images (B, C, H, W) at a smaller size: each pixel the mean of what is known of it."""
    if known.shape[-2:] == (height, width):
        return known
    weight = keep.to(known)
    share = area_means(weight, height, width)
    return area_means(known * weight, height, width) / share.clamp(min=1e-6)


def shrunk_mask(keep: Tensor, height: int, width: int) -> Tensor:
    """The masks (B, 1, H, W) at a smaller size: a pixel is known if half of it is."""
    if keep.shape[-2:] == (height, width):
        return keep
    return area_means(keep.float(), height, width) >= 0.5
