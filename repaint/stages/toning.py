"""Tones of photographs of one dye: grey, sepia, also unevenly faded or tinted by hand; fills are to have them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..colour import in_tone_of, is_monochrome
from ..holes import smoothly_filled
from ..image import Photo
from ..tiling import resized
from .native import shrunk, shrunk_mask

COLOURS = 50_000  # of a photo or canvas, looked at to tell its tone
CELLS, CELL_PX = 64, 4  # along a side, the root of the area, at least so many px each: where tones are told apart


@dataclass(frozen=True, eq=False)
class Tone:
    """The tone of a picture: a colour for each luma, and how far the picture strays from it, here and there.

    Attributes:
        like: (3, N) known colours.
        strays: (3, h, w) from them on the mean of a cell, of a picture of any size; smooth where nothing is known.
    """

    like: Tensor
    strays: Tensor

    def of(self, fill: Tensor) -> Tensor:
        """A fill (3, H, W) of the whole picture in its tone; its luma stays, what is grey stays exactly grey."""
        return (in_tone_of(fill, self.like) + resized(self.strays[None], *fill.shape[1:])[0]).clamp(0, 1)


def tone_of(rgb: Tensor, keep: Tensor) -> Tone:
    """The tone of what is known, `keep` (1, H, W) at least 1, of a picture (3, H, W) in [0, 1]."""
    like, known = _known_colours(rgb, keep), (keep >= 1)[None]
    H, W = rgb.shape[1:]
    cell = max(CELL_PX, round(math.sqrt(H * W) / CELLS))
    size = math.ceil(H / cell), math.ceil(W / cell)
    small, enough = shrunk(rgb[None], known, *size), shrunk_mask(known, *size)
    if not enough.any():
        return Tone(like, torch.zeros_like(small[0]))
    strays = torch.where(enough, small - in_tone_of(small[0], like)[None], 0.0)
    return Tone(like, smoothly_filled(strays, enough)[0])


def is_toned(photo: Photo, keep: Tensor) -> bool:
    """Whether what is known of a photo is grey or of one dye; where nothing is known, whether its file is grey."""
    if not bool((keep >= 1).any()):
        return photo.meta.grey
    return is_monochrome(_known_colours(photo.rgb, keep))


def _known_colours(rgb: Tensor, keep: Tensor) -> Tensor:
    """(3, N) of known pixels, evenly strewn; one black one where nothing is known."""
    step = max(1, rgb[0].numel() // COLOURS)
    while math.gcd(step, rgb.shape[2]) > 1:  # or some columns would never be seen
        step += 1
    known = rgb.flatten(1)[:, ::step][:, (keep.flatten() >= 1)[::step]]
    return known if known.shape[1] else rgb.new_zeros(3, 1)
