"""Stamps: pictures of real damage, pasted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from .damage import dark, light
from .drawing import count, happens, number, pick, place
from .painting import DARK_BLENDS, LIGHT_BLENDS, Damaged, checked, painted, whole

MOST = 0.02  # share of the image that a stamp may cover at strength 1


def stamped(image: Tensor, stamps: Sequence[Tensor], strength: float, generator: Generator) -> Damaged:
    """The image with a few stamps, each at a random place, size, turn and opacity, light or dark.

    None covers more than `MOST` of the image times the strength: what is full is put down small, what is sparse large.

    Args:
        stamps: opacities (1, h, w) float32 in [0, 1], 1 = damaged, of any sizes.

    Raises:
        ValueError: if there is no stamp, or one is not (1, h, w) float32.
    """
    checked(image, strength)
    if not stamps:
        raise ValueError("stamps must hold at least one (1, h, w) tensor, got none")
    canvas = whole(image)
    for _ in range(count(generator, 1, 1 + 4 * strength) if strength else 0):
        stamp = pick(generator, stamps)
        if stamp.ndim != 3 or stamp.shape[0] != 1 or stamp.dtype != torch.float32:
            raise ValueError(f"a stamp must be (1, h, w) float32, got {tuple(stamp.shape)} {stamp.dtype}")
        height, width = image.shape[1:]
        filled = max(1e-6, stamp.sum().item() / max(stamp.shape[1:]) ** 2)
        cover = placed(
            stamp,
            height,
            width,
            middle=place(generator, height, width),
            longest_px=math.sqrt(height * width)
            * min(number(generator, 0.3, 0.6 + 0.6 * strength), math.sqrt(MOST * strength / filled)),
            turn=number(generator, 0, math.tau),
            flip=happens(generator, 0.5),
        ) * number(generator, 0.4, 1)
        if happens(generator, 0.25):
            canvas = painted(canvas, cover, dark(generator), pick(generator, DARK_BLENDS))
        else:
            canvas = painted(canvas, cover, light(generator), pick(generator, LIGHT_BLENDS))
    return canvas


def placed(
    stamp: Tensor, height: int, width: int, *, middle: Tensor, longest_px: float, turn: float, flip: bool
) -> Tensor:
    """The stamp (1, h, w) on an empty image: (1, H, W).

    Args:
        middle: (2,) y and x of the stamp's middle; pixel centres lie at halves.
        longest_px: the longer side of the stamp in the image.
        turn: radians, clockwise.
        flip: mirrored, before it is turned.
    """
    shrink = longest_px / max(stamp.shape[1:])
    h, w = (max(1, round(side * shrink)) for side in stamp.shape[1:])
    # Shrunk with a filter first: grid_sample alone would skip thin lines.
    small = F.interpolate(stamp[None], (h, w), mode="bilinear", antialias=True).clamp(0, 1)
    reach = math.hypot(h, w) / 2 + 1
    (top, bottom), (left, right) = (
        (max(0, math.floor(at - reach)), min(side, math.ceil(at + reach)))
        for at, side in zip(middle.tolist(), (height, width), strict=True)
    )
    cover = torch.zeros(1, height, width)
    y = torch.arange(top, bottom)[:, None] + 0.5 - middle[0]
    x = torch.arange(left, right)[None] + 0.5 - middle[1]
    along, down = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    grid = torch.stack([along * (-2 if flip else 2) / w, down * 2 / h], 2)
    cover[:, top:bottom, left:right] = F.grid_sample(small, grid[None], align_corners=False)[0]
    return cover
