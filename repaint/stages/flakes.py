"""Flakes marked whole: where the picture has come off, paper of one tone shows, up to a sharp edge."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..holes import thicker_than

THICK_PX = 6  # of marks, or 1/100 of the photo's side (the root of its area): what is thinner is no flake
ALIKE = 0.07  # of luma, from the middle of a mark
EVEN = 0.7  # of a mark that must be alike
MOST = 3  # times its area may the whole be of what was marked; more is the picture itself
FLAKES = 200  # looked at, the largest first


def whole_flakes(hole: Tensor, light: Tensor) -> Tensor:
    """The marks (1, H, W) bool, and with each thick and even one what touches it and has its tone.

    A detector is unsure in the middle of a flake, where there is nothing to see. If what has the tone of a mark goes
    on for far more than the mark, that tone is the picture's, and the mark stays as it is.

    Args:
        light: (1, H, W), luma of the photo.
    """
    from skimage.measure import label, regionprops

    px = max(THICK_PX, math.sqrt(hole.numel()) / 100)
    thick = thicker_than(~hole, px)
    if not thick.any():
        return hole
    whole, tones = hole[0].cpu().numpy().copy(), light[0].cpu().numpy()
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
            whole[place] |= flake
    return torch.from_numpy(whole)[None].to(hole.device)
