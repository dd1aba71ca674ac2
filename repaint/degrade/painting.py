"""How damage is put on an image, and which pixels it spoils."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from ..image import luma

LEVEL = 4 / 255  # a pixel is damaged where a channel changes by more; smaller changes are not painted at all
NOMINAL_PX = 256  # the side of the square image that the px numbers of damage are meant for
SMALLEST_PX = 32
FAINT = 0.05  # a change of luma by less is not seen anywhere
TEXTURE_PX = 11  # the side of the surroundings that a change is seen against


class Damaged(NamedTuple):
    image: Tensor  # (3, H, W) float32 in [0, 1]
    damage: Tensor  # (1, H, W) bool: the pixels that were spoiled


Blend = Callable[[Tensor, Tensor, Tensor], Tensor]
Structural = Callable[[Tensor, float, Generator], Damaged]
Overall = Callable[[Tensor, float, Generator], Tensor]

BLENDS: dict[str, Blend] = {
    "addition": lambda image, cover, colour: image + cover * colour,
    "lighten": lambda image, cover, colour: image + cover * (colour - image).clamp(min=0),
    "darken": lambda image, cover, colour: image + cover * (colour - image).clamp(max=0),
    "screen": lambda image, cover, colour: 1 - (1 - image) * (1 - cover * colour),
    "multiply": lambda image, cover, colour: image * (1 - cover * (1 - colour)),
    "replacement": lambda image, cover, colour: image + cover * (colour - image),
}
"""`blend(image, cover, colour)`: image (3, H, W), cover (1, H, W), colour (3, H, W) or (3, 1, 1), all in [0, 1].

Where the cover is 0 the image stays; where it is 1 the pixel is the blend of image and colour. Addition may exceed 1.
"""
LIGHT_BLENDS = ("addition", "lighten", "screen", "replacement")  # of what is lighter than the image
DARK_BLENDS = ("darken", "multiply", "replacement")


def whole(image: Tensor) -> Damaged:
    """The image without damage."""
    return Damaged(image, torch.zeros_like(image[:1], dtype=torch.bool))


def painted(canvas: Damaged, cover: Tensor, colour: Tensor, blend: str) -> Damaged:
    """The canvas with one more layer; pixels that it would change by no more than `LEVEL` keep their bits.

    Args:
        cover: (1, H, W) in [0, 1].
        colour: (3, H, W) or (3, 1, 1) in [0, 1].
        blend: a key of `BLENDS`.
    """
    # No blend changes a pixel by more than its cover, and most damage covers little.
    y, x = (cover[0] > LEVEL).nonzero(as_tuple=True)
    before = canvas.image[:, y, x]
    after = BLENDS[blend](before, cover[:, y, x], colour.expand_as(canvas.image)[:, y, x]).clamp(0, 1)
    spoiled = (after - before).abs().amax(0) > LEVEL
    image, damage = canvas.image.clone(), canvas.damage.clone()
    image[:, y, x] = torch.where(spoiled, after, before)
    damage[:, y, x] |= spoiled
    return Damaged(image, damage)


def seen(canvas: Damaged, below: Tensor) -> Tensor:
    """Where damage can be seen, (1, H, W): the luma of `below` changed by more than `FAINT` and than its own texture.

    The texture is the standard deviation of luma in a square around the pixel, before it was damaged.
    """
    if not canvas.damage.any():
        return canvas.damage
    before, change = luma(below), luma(canvas.image - below).abs()
    mean, mean_square = _around(torch.cat([before, before**2])).split(1)
    texture = (mean_square - mean**2).clamp(min=0).sqrt()
    return canvas.damage & (change > texture.clamp(min=FAINT))


def _around(x: Tensor) -> Tensor:
    """The means of (C, H, W) over a square around each pixel, as far as it lies inside: by cumulative sums."""
    reach = TEXTURE_PX // 2
    total = torch.cat([x, torch.ones_like(x[:1])])  # and how many they are
    for dim, pad in ((1, (0, 0, reach + 1, reach)), (2, (reach + 1, reach))):
        up_to, n = F.pad(total, pad).cumsum(dim), x.shape[dim]
        total = up_to.narrow(dim, TEXTURE_PX, n) - up_to.narrow(dim, 0, n)
    return total[:-1] / total[-1:]


def checked(image: Tensor, strength: float) -> None:
    """Refuse what is no image or no strength.

    Raises:
        ValueError: if this is not an image of at least 32 px, or the strength lies outside 0..1.
    """
    if image.ndim != 3 or image.shape[0] != 3 or image.dtype != torch.float32:
        raise ValueError(f"image must be (3, H, W) float32, got {tuple(image.shape)} {image.dtype}")
    if min(image.shape[1:]) < SMALLEST_PX:
        height, width = image.shape[1:]
        raise ValueError(f"image must be at least {SMALLEST_PX} x {SMALLEST_PX} px, got {height} x {width}")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must lie in 0..1, got {strength}")


def structural(effect: Structural) -> Structural:
    """The effect, with its arguments checked; at strength 0 the image, whole."""

    @wraps(effect)
    def damaged(image: Tensor, strength: float, generator: Generator) -> Damaged:
        checked(image, strength)
        return effect(image, strength, generator) if strength else whole(image)

    return damaged


def overall(effect: Overall) -> Overall:
    """The effect, with its arguments checked and its result clamped to [0, 1]; at strength 0 the image."""

    @wraps(effect)
    def changed(image: Tensor, strength: float, generator: Generator) -> Tensor:
        checked(image, strength)
        return effect(image, strength, generator).clamp(0, 1) if strength else image

    return changed


def scale_of(image: Tensor) -> float:
    """Px of this image for each px of the nominal one."""
    return math.sqrt(image.shape[1] * image.shape[2]) / NOMINAL_PX
