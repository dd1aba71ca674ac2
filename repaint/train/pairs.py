"""Poor pictures beside the good ones they were made of.

The poor ones went twice through what pictures go through (Wang et al. 2021, Real-ESRGAN, in simple form): out of focus,
shrunk, noisy, saved; and, half of them, once more on another's computer. Colours and contrast are never spoilt here:
what they were, nobody can tell from the picture, and a network that guesses them changes those of good photos.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, Tensor
from torch.nn import functional as F

from ..degrade.drawing import happens, number, pick
from ..degrade.overall import blur, colour, contrast, grain, jpeg, noise
from .data import Picture, below, cut, varied

GRID_PX = 8  # the grid of JPEG blocks may begin at any of so many px of what the network is shown
LIKELY = 0.7  # each thing that happens in a round
TWICE = 0.5
DRIFTED = 0.4  # in contrast, and in colour
AGAIN = 0.5  # how strong the second round is, against the first
LEAST_PX = 32  # of what is degraded


@dataclass(frozen=True)
class Pair:
    """A poor picture (3, s / scale, s / scale) in [0, 1], and the good one (3, s, s).

    Its strength is anywhere between none and `strength`; a `clean_share` is at most shrunk. Colours and contrast drift
    by up to `drift` in both.
    """

    size: int
    scale: int = 1
    strength: float = 0.5
    clean_share: float = 0.0
    drift: float = 0.0
    flip: bool = False
    grey_share: float = 0.0

    def __call__(self, picture: Picture, g: Generator) -> tuple[Tensor, Tensor]:
        top, left = below(GRID_PX, g), below(GRID_PX, g)
        good = self._with_margin(picture, top, left, g)
        for effect in (contrast, colour):
            if happens(g, DRIFTED):
                good = effect(good, self.drift * number(g, 0, 1), g)
        strength = 0.0 if happens(g, self.clean_share) else self.strength * number(g, 0, 1)
        poor = poor_copy(good, g, scale=self.scale, strength=strength)
        n, s = self.size // self.scale, self.scale
        return (
            poor[:, top : top + n, left : left + n].contiguous(),
            good[:, top * s : (top + n) * s, left * s : (left + n) * s].contiguous(),
        )

    def _with_margin(self, picture: Picture, top: int, left: int, g: Generator) -> Tensor:
        """The window with `GRID_PX` more; a picture that is shown whole, as an aligned face, is mirrored there."""
        is_whole = picture.source.scales is None
        x = cut(picture, self.size + (0 if is_whole else GRID_PX * self.scale), g)
        x = varied(x, g, flip=self.flip, grey_share=self.grey_share)
        if is_whole:
            s = self.scale
            margins = (left * s, (GRID_PX - left) * s, top * s, (GRID_PX - top) * s)
            x = F.pad(x[None], margins, mode="reflect")[0]
        return (x + 1) / 2


def poor_copy(image: Tensor, g: Generator, *, scale: int = 1, strength: float = 0.5) -> Tensor:
    """A poor copy (3, H / scale, W / scale) of an image (3, H, W) in [0, 1]; its colours and contrast are kept.

    Args:
        strength: 0 = shrunk, by one of three filters, and nothing else; 1 = hardly to be recognised.
    """
    h, w = (side // scale for side in image.shape[1:])
    if happens(g, TWICE) and strength:
        image = _round(image, _smaller((h, w), strength, g), strength, g)
        return _round(image, (h, w), AGAIN * strength, g)
    return _round(image, (h, w), strength, g)


def _round(image: Tensor, size: tuple[int, int], strength: float, g: Generator) -> Tensor:
    """Out of focus, brought to a size, noisy, saved; each of these at times left out."""
    if happens(g, LIKELY):
        image = blur(image, strength * number(g, 0, 1), g)
    image = _resized(image, size, g).clamp(0, 1)
    if happens(g, LIKELY):
        image = pick(g, (noise, grain))(image, strength * number(g, 0, 1), g)
    if happens(g, LIKELY):
        image = jpeg(image, strength * number(g, 0, 1), g)
    return (image * 255).round() / 255


def _resized(image: Tensor, size: tuple[int, int], g: Generator) -> Tensor:
    """By one of the filters that cameras and programs use."""
    filter = pick(g, ("area", "bilinear", "bicubic"))
    if image.shape[1:] == size:
        return image
    if filter == "area":
        filter = "area" if size[0] < image.shape[1] else "bilinear"
    return F.interpolate(image[None], size, mode=filter, antialias=filter != "area")[0]


def _smaller(size: tuple[int, int], strength: float, g: Generator) -> tuple[int, int]:
    factor = 1 + 2 * strength * number(g, 0, 1)
    h, w = (max(LEAST_PX, round(side / factor)) for side in size)
    return h, w
