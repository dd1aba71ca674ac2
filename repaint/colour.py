"""Colours of photographs: fading and casts undone by one smooth curve per channel, and local contrast. Tensors only.

Pictures are (3, H, W) float32 in [0, 1], gamma-encoded as in files; all is computed in float, so that 16 bits survive.
Statistics never look at damage (`keep` False) nor at a frame: they do not tell how the photograph faded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import starmap
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .image import luma
from .tiling import resized

Tone = Literal["auto", "color", "mono"]

LOOKED_AT_PX = 256  # longer side of the copy that tells whether a photo is toned
SEEN_PX = 640  # longer side of the small copy that statistics are taken of; averages out grain and dust
FEWEST = 64  # cells of that copy, below which there is nothing to go by
KNOTS = 2049
STRIP_PX = 1 << 18  # worked on at once, to stay in the cache

DARKEST, LIGHTEST = 0.001, 0.999  # quantiles that become black and white
FLAT, LIVELY = 0.06, 0.16  # contrast up to which a picture is left alone, and from which on it is fully corrected
GAIN, MOST_GAIN = 1.5, 2.2  # stretches up to the first are made; beyond, less and less, and never the second
LIFT, MOST_LIFT = 1.1, 1.3  # the same for whites alone: a night is dark, and not faded
WHITES = 0.98  # quantile of luma from which on colours should be white
TOE = 0.04  # share of the output, at either end, that takes in what lies beyond black and white

# What a good picture may show is left alone, and no more than the second number is ever corrected:
CAST, MOST_CAST = 0.07, 0.45  # of the whites: log gain of a channel against the strongest one
STAIN, MOST_STAIN = 0.03, 0.12  # of the blacks: how far a channel lies above the least one
BEND, MOST_BEND = 0.08, 0.3  # of the middle tones: the bend of a channel's curve
GREYISH = 0.12  # chroma of what may be grey
BELIEF = 0.3  # log of how much more of a picture must turn greyish for a cast to be fully believed
TONED, ASIDE = 0.115, 0.043  # how far colours of one dye stray along their tone, and aside; shares of the contrast
UNLIKELY = 0.025  # of the contrast: how far a tone may lean towards green or violet

PLAIN = 0.08  # colours of a frame differ by no more
PLAIN_SHARE = 0.9  # of an edge that ends in a frame
FRAMED_SHARE = 0.25  # of the photo, which a frame must leave

TILES = 8  # along the longer side, for local contrast
BINS = 128
CLIP = 2.5  # the steepest local curve


def corrected(rgb: Tensor, keep: Tensor | None = None, *, strength: float, tone: Tone = "auto") -> Tensor:
    """The picture without its fading and its cast; `rgb` itself at strength 0 or where there is nothing to go by.

    Args:
        keep: (1, H, W) bool or weights; statistics are taken where it is True or 1.
        strength: 0..1, the share of the correction that is made.
        tone: mono = of one dye, whose tone belongs to it, as sepia; color = a cast is a fault; auto = either, by looks.
    """
    curves = curves_for(rgb, keep, tone=tone) if strength else None
    return rgb if curves is None else with_curves(rgb, curves, strength=strength)


def with_curves(rgb: Tensor, curves: Tensor, *, strength: float = 1.0) -> Tensor:
    """The picture with `curves` (see `curves_for`) applied; what is grey in a monochrome picture stays grey."""
    knots = torch.linspace(0, 1, KNOTS)
    curves = knots + strength * (curves - knots)

    def change(part: Tensor, _: int) -> Tensor:
        if len(curves) == 3:
            return _each(curves, part)
        grey = luma(part)
        return (part * (_looked_up(curves[0], grey) / grey.clamp(min=1e-6))).clamp(max=1)

    return _by_strips(change, rgb)


def with_local_contrast(rgb: Tensor, keep: Tensor | None = None, *, strength: float) -> Tensor:
    """The picture with more contrast in each neighbourhood, and all colour differences as they were.

    CLAHE (Zuiderveld 1994) on luma, its curves interpolated in float. Equal channels stay equal; 0 = `rgb` itself.
    """
    if not strength:
        return rgb
    curves = _local_curves(*_looked_at(rgb, keep))
    H, W = rgb.shape[1:]
    across = _tile_of(torch.arange(W), W, curves.shape[4])

    def change(part: Tensor, top: int) -> Tensor:
        grey = luma(part)
        down = _tile_of(torch.arange(top, top + part.shape[1]), H, curves.shape[3])
        where = torch.stack([*torch.broadcast_tensors(across, down[:, None], 2 * grey[0] - 1)], -1)
        new = F.grid_sample(curves, where[None, None], padding_mode="border", align_corners=True)[0, 0]
        return (part + strength * (new - grey)).clamp(0, 1)

    return _by_strips(change, rgb)


# --- curves ---


def curves_for(rgb: Tensor, keep: Tensor | None = None, *, tone: Tone = "auto") -> Tensor | None:
    """The curves that undo fading and cast, or None where there is nothing to go by: almost all damaged.

    Returns:
        (C, KNOTS), rising: the new value at each of so many evenly spaced values 0..1. C is 3; or 1 for a monochrome
        picture, of which luma changes and colour in proportion.
    """
    small, used = _looked_at(rgb, keep)
    seen = small[:, used]
    if seen.shape[1] < FEWEST:
        return None
    if tone == "mono" or bool((seen == seen[:1]).all()) or (tone == "auto" and is_monochrome(seen)):
        return _mono_curve(seen)
    return _colour_curves(seen)


def _mono_curve(seen: Tensor) -> Tensor:
    """(1, KNOTS) for luma: the white of the paper becomes as light as its strongest channel can be."""
    grey = luma(seen[..., None]).flatten()
    low, high = _ends(grey)
    white = float(seen[:, grey >= high].mean(1).max())
    return _stretched(*_window(low, low + (high - low) * white / max(high, 1e-6)), _liveliness(grey))[None]


def _colour_curves(seen: Tensor) -> Tensor:
    """(3, KNOTS): all stretched alike, as far as none is cut off; then whites, blacks and greys made neutral.

    The latter as far as it turns more of the picture greyish: a cast lies on all things, a sunset on some.
    """
    grey = luma(seen[..., None]).flatten()
    live = _liveliness(grey)
    black, white = seen.quantile(DARKEST, 1), seen[:, grey >= grey.quantile(WHITES)].mean(1).clamp(min=1e-3)
    low, high = _window(black.min().item(), _ends(seen.amax(0))[1])
    alike = _stretched(low, high, live).expand(3, -1)

    lows = low + _beyond(black - black.min(), STAIN, MOST_STAIN)
    highs = high / _beyond((white.max() / white).log(), CAST, MOST_CAST).exp()
    ends = zip(lows.tolist(), highs.tolist(), strict=True)
    neutral = torch.stack([_stretched(*both, live) for both in ends])

    now = _each(neutral, seen)
    weight = _greyish(now)
    mean, room = ((values * weight).sum(1) / weight.sum() for values in (now, now * (1 - now)))
    bend = live * _beyond((mean.mean() - mean) / room.clamp(min=1e-6), BEND, MOST_BEND)
    neutral = neutral + bend[:, None] * neutral * (1 - neutral)

    more = (_greyish(_each(neutral, seen)).mean() / _greyish(_each(alike, seen)).mean()).log()
    return torch.lerp(alike, neutral, float((more / BELIEF).clamp(0, 1)))


def _window(low: float, high: float) -> tuple[float, float]:
    """What may become black, and what white."""
    high = 1 / _limited(1 / max(high, 1e-3), LIFT, MOST_LIFT)
    return max(0.0, high - 1 / _limited(1 / max(high - low, 1e-3), GAIN, MOST_GAIN)), high


def _stretched(low: float, high: float, amount: float) -> Tensor:
    """(KNOTS,) the line through (low, 0) and (high, 1), its ends bent to meet (0, 0) and (1, 1); rises everywhere."""
    x = torch.linspace(0, 1, KNOTS, dtype=torch.float64)
    gain = 1 / (high - low)
    line = (x - low) * gain
    # Powers that continue the line with its slope; they are the line where low is 0 and high is 1.
    toe = TOE * (x / (low + TOE / gain)) ** (1 + gain * low / TOE)
    shoulder = 1 - TOE * ((1 - x) / (1 - high + TOE / gain)) ** (1 + gain * (1 - high) / TOE)
    curve = torch.where(line < TOE, toe, torch.where(line > 1 - TOE, shoulder, line))
    return (x + amount * (curve - x)).float()


def _limited(x: float, free: float, most: float) -> float:
    """`x` up to `free`, and from there on smoothly towards `most`."""
    room = most - free
    return x if x <= free else free + room * math.tanh((x - free) / room)


def _beyond(x: Tensor, usual: float, most: float) -> Tensor:
    """By how much `x` leaves -usual..usual, smoothly limited to +-`most`."""
    return most * ((x - x.clamp(-usual, usual)) / most).tanh()


def _each(curves: Tensor, x: Tensor) -> Tensor:
    """(3, ...) each channel through its curve."""
    return torch.stack(list(starmap(_looked_up, zip(curves, x, strict=True))))


def _looked_up(curve: Tensor, x: Tensor) -> Tensor:
    place = x.clamp(0, 1) * (len(curve) - 1)
    below = place.int().clamp(max=len(curve) - 2)
    return torch.lerp(curve[below], curve[below + 1], place - below)


# --- local contrast ---


def _local_curves(small: Tensor, used: Tensor) -> Tensor:
    """(1, 1, BINS + 1, rows, columns): the new luma at evenly spaced lumas, in each tile; a straight line if unseen."""
    h, w = used.shape
    rows, columns = (max(1, round(TILES * side / max(h, w))) for side in (h, w))
    bins = (luma(small)[0] * BINS).long().clamp(0, BINS - 1)
    tile = torch.arange(h)[:, None] * rows // h * columns + torch.arange(w) * columns // w
    counts = torch.bincount((tile * BINS + bins)[used], minlength=rows * columns * BINS)
    counts = counts.view(-1, BINS).double()
    share = torch.where(counts.sum(1, keepdim=True) >= FEWEST, counts, 1.0)
    share = share / share.mean(1, keepdim=True)
    clipped = share.clamp(max=CLIP)
    # What is cut off goes to all alike, but that none rises above the clip again.
    room = CLIP - clipped
    clipped = clipped + room * ((share - clipped).sum(1, keepdim=True) / room.sum(1, keepdim=True))
    curves = F.pad(clipped.cumsum(1) / BINS, (1, 0)).float()
    return curves.T.reshape(1, 1, BINS + 1, rows, columns)


def _tile_of(px: Tensor, size: int, tiles: int) -> Tensor:
    """Where pixels lie between the middles of the first tile (-1) and of the last one (1)."""
    place = ((px + 0.5) * tiles / size - 0.5).clamp(0, tiles - 1)
    return place * 2 / max(1, tiles - 1) - 1


# --- what is looked at ---


def is_toned(rgb: Tensor) -> bool:
    """Whether a photo (3, H, W) in [0, 1] is grey or of one dye, as sepia is; a small copy of it tells."""
    if bool((rgb == rgb[:1]).all()):
        return True
    scale = min(1.0, LOOKED_AT_PX / max(rgb.shape[1:]))
    small = resized(rgb[None], *(max(1, round(side * scale)) for side in rgb.shape[1:]))
    return is_monochrome(small[0].clamp(0, 1).flatten(1))


def is_monochrome(seen: Tensor) -> bool:
    """Whether colours (3, N) are of one dye: grey, warm as sepia, or blue; the same tone wherever it is equally light.

    Age makes a tone stronger here and weaker there; colours stray to either side of it as well. No process tones
    photographs green or violet: such a picture is faded, and what is left of its colours hides under a cast.
    """
    grey = luma(seen[..., None]).flatten()
    chroma = torch.complex(seen[0] - grey, seen[2] - grey)[grey.argsort()]
    tone = chroma.mean()
    groups = [torch.view_as_real(g * tone.conj().sgn()) for g in chroma.tensor_split(32) if len(g)]
    strays = torch.cat([g - g.median(0).values for g in groups]).abs()
    low, high = _ends(grey)
    contrast = max(high - low, LIVELY)
    along, aside = (strays.quantile(0.98, 0) / contrast).tolist()
    red, blue = tone.real.item(), tone.imag.item()
    unlikely = red * blue > 0 and min(abs(red), abs(blue)) > UNLIKELY * contrast
    return along <= TONED and aside <= ASIDE and not unlikely


def in_tone_of(rgb: Tensor, like: Tensor) -> Tensor:
    """`rgb` (3, H, W) in the tone of the colours `like` (3, N): of each luma the colour that they have there.

    The tone over luma is a parabola, fitted in the least squares; what is darker or lighter than nearly all of `like`
    has the tone of its darkest or lightest. Grey stays exactly grey.
    """
    grey = luma(rgb)
    if (like.amax(0) - like.amin(0)).max() == 0:
        return grey.expand_as(rgb)
    seen = luma(like[..., None]).flatten().double()
    powers = torch.stack([seen**0, seen, seen**2], 1)
    tone = torch.linalg.pinv(powers, rtol=1e-6) @ (like.double() - seen).T  # (3 powers, 3 channels)
    known = grey.clamp(*_ends(seen.float()))
    shift = torch.stack([known**0, known, known**2]).flatten(1).T.double() @ tone
    return (grey + shift.T.reshape(rgb.shape).to(rgb)).clamp(0, 1)


def _greyish(x: Tensor) -> Tensor:
    """(N,) weights of the colours (3, N) that may be grey; nowhere 0."""
    return (-((x.amax(0) - x.amin(0)) / GREYISH).square()).exp() + 1e-6


def _ends(values: Tensor) -> tuple[float, float]:
    low, high = values.quantile(torch.tensor([DARKEST, LIGHTEST])).tolist()
    return low, high


def _liveliness(grey: Tensor) -> float:
    low, high = _ends(grey)
    return min(1.0, max(0.0, (high - low - FLAT) / (LIVELY - FLAT)))


def _looked_at(rgb: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    """A small copy (3, h, w), and (h, w) bool what counts of it: cells that are no frame, and mostly undamaged."""
    small, share = _shrunk(rgb, keep)
    used = share >= 0.5
    photo = used & ~_frame(small, used)
    return small, photo if photo.sum() >= FRAMED_SHARE * used.sum() else used


def _shrunk(rgb: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    """(3, h, w) the mean of what is kept in each cell, and (h, w) the share of it."""
    cell = -(-max(rgb.shape[1:]) // SEEN_PX)
    rows = max(1, STRIP_PX // rgb.shape[2] // cell) * cell
    parts = []
    for top in range(0, rgb.shape[1], rows):
        part = rgb[:, top : top + rows]
        kept = torch.ones_like(part[:1]) if keep is None else (keep[:, top : top + rows] >= 1).float()
        both = torch.cat([torch.where(kept > 0, part, 0.0), kept])
        parts.append(F.avg_pool2d(both[None], cell, ceil_mode=True)[0])
    means = torch.cat(parts, 1)
    return means[:3] / means[3:].clamp(min=1e-6), means[3]


def _frame(small: Tensor, used: Tensor) -> Tensor:
    """(h, w) bool: what reaches in from two plain opposite edges in one colour, as the paper around a print does."""
    frame = torch.zeros_like(used)
    for _ in range(2):
        first, last = (_plain_colour(small[:, side], used[side]) for side in (0, -1))
        if first is not None and last is not None and (first - last).abs().max() <= PLAIN:
            alike = (((small - first[:, None, None]).abs().amax(0) <= PLAIN) | ~used).byte()
            frame |= (alike.cumprod(0) | alike.flip(0).cumprod(0).flip(0)).bool()
        small, used, frame = small.mT, used.T, frame.T
    return F.max_pool2d(frame[None].float(), 5, 1, 2)[0] > 0  # the cells on its edge are of neither


def _plain_colour(line: Tensor, used: Tensor) -> Tensor | None:
    """(3,) the colour of a line (3, n), or None if it has more than one."""
    if not used.any():
        return None
    colour = line[:, used].median(1).values
    alike = (line[:, used] - colour[:, None]).abs().amax(0) <= PLAIN
    return colour if alike.float().mean() >= PLAIN_SHARE else None


# --- strips ---


def _by_strips(change: Callable[[Tensor, int], Tensor], rgb: Tensor) -> Tensor:
    """`change(strip, top)` of a few rows after the other, in little memory."""
    out = torch.empty_like(rgb, memory_format=torch.contiguous_format)
    rows = max(1, STRIP_PX // rgb.shape[2])
    for top in range(0, rgb.shape[1], rows):
        out[:, top : top + rows] = change(rgb[:, top : top + rows], top)
    return out
