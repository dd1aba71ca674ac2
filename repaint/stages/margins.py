"""Dark rims of scans and negatives: a strip along the border, which is no damage."""

from __future__ import annotations

import math

import torch
from torch import Tensor

WIDE_PX = 4  # or 1/40 of the photo's side (the root of its area): what goes deeper into the photo is no rim
LONG = 0.15  # of the border that a rim lies along, at least
WHOLE = 0.6  # of that length that is marked
DARKER = 0.08  # of luma, than as much of the photo beside it


def without_dark_rims(hole: Tensor, light: Tensor) -> Tensor:
    """The marks (1, H, W) bool, less those that lie along a border of the photo, long, thin and darker than the photo.

    Scans show what lay around a print, and prints the rebate of their negative: a dark strip, to which a detector sees
    as sharp an edge as that of torn paper. Light ones stay: they are where a print is worn.

    Args:
        light: (1, H, W), luma of the photo.
    """
    wide = max(WIDE_PX, math.ceil(math.sqrt(hole.numel()) / 40))
    rims = torch.zeros_like(hole)
    for turns in range(4):
        marks, tones = (torch.rot90(x, turns, (1, 2))[0] for x in (hole, light))
        if marks.shape[0] < 3 * wide:
            continue
        rim = torch.zeros_like(marks)
        along = marks[:wide].any(0) & ~marks[wide : 2 * wide].any(0)
        for start, end in _runs(along, gap=wide):
            here = marks[:wide, start:end] & along[start:end]
            is_long = end - start >= LONG * len(along) and along[start:end].float().mean() >= WHOLE
            if is_long and tones[:wide, start:end][here].median() + DARKER < tones[wide : 2 * wide, start:end].median():
                rim[:wide, start:end] = here
        rims |= torch.rot90(rim[None], -turns, (1, 2))
    return hole & ~rims


def _runs(marked: Tensor, *, gap: int) -> list[tuple[int, int]]:
    """Where marked places (n,) lie, half-open, gaps of up to `gap` bridged."""
    places = marked.nonzero()[:, 0]
    if not len(places):
        return []
    ends = (places.diff() > gap + 1).nonzero()[:, 0]
    first = torch.cat([places[:1], places[ends + 1]])
    last = torch.cat([places[ends], places[-1:]])
    return list(zip(first.tolist(), (last + 1).tolist(), strict=True))
