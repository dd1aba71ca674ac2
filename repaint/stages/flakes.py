"""Flakes marked whole, and no skies: where the picture has come off, paper of one tone shows, up to a sharp edge."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..holes import grown, thicker_than

THICK_PX = 6  # of marks, or 1/100 of the photo's side (the root of its area): what is thinner is no flake
ALIKE = 0.07  # of luma, from the middle of a mark
EVEN = 0.7  # of a mark that must be alike
MOST = 3  # times its area may the whole be of what was marked; more is the picture itself
OPEN, RING_PX = 0.2, 3  # of the ring around a mark, px wide, that has its tone: it has no edge there
FLAKES = 200  # looked at, the largest first


def whole_flakes(hole: Tensor, light: Tensor) -> Tensor:
    """The marks (1, H, W) bool, and with each thick and even one what touches it and has its tone.

    A detector is unsure in the middle of a flake, where there is nothing to see. If what has the tone of a mark goes
    on for far more than the mark, that tone is the picture's, and the mark stays as it is. At the border of the photo
    it is left out if the tone goes on, without an edge, for a good part of the way around: a piece of a white sky.

    Args:
        light: (1, H, W), luma of the photo.
    """
    from skimage.measure import label, regionprops

    px = max(THICK_PX, math.sqrt(hole.numel()) / 100)
    thick = thicker_than(~hole, px)
    if not thick.any():
        return hole
    marked, tones = hole[0].cpu().numpy(), light[0].cpu().numpy()
    flakes, skies = np.zeros((2, *marked.shape), bool)
    marks = regionprops(np.asarray(label(thick[0].cpu().numpy(), connectivity=2)))
    for mark in sorted(marks, key=lambda m: -m.area)[:FLAKES]:
        top, left, bottom, right = mark.bbox
        around = MOST * max(bottom - top, right - left)
        start_y, start_x = max(0, top - around), max(0, left - around)
        place = slice(start_y, bottom + around), slice(start_x, right + around)
        here, tone = np.zeros(tones[place].shape, bool), tones[place]
        here[top - start_y : bottom - start_y, left - start_x : right - start_x] = mark.image
        alike = np.abs(tone - np.median(tone[here])) < ALIKE
        if alike[here].mean() < EVEN:
            continue
        groups = np.asarray(label(alike | here, connectivity=1))
        flake = np.isin(groups, np.unique(groups[here]))
        if flake.sum() <= MOST * here.sum():
            flakes[place] |= flake
            continue
        if min(top, left, tones.shape[0] - bottom, tones.shape[1] - right) > 0:
            continue
        near = _wider(here, math.ceil(px))
        ring = _wider(marked[place] & near, RING_PX) & ~marked[place]
        if ring.any() and alike[ring].mean() > OPEN:
            skies[place] |= near
    return torch.from_numpy((marked & ~skies) | flakes)[None].to(hole.device)


def _wider(mask: np.ndarray, px: int) -> np.ndarray:
    return (~grown(~torch.from_numpy(mask)[None], px))[0].numpy()
