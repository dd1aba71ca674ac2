"""What damage is drawn with: random numbers, clouds, the area inside a field, and soft strokes.

A stroke is a float32 tensor of discs, (N, 4): y, x, radius and opacity, in px. A cover is (1, H, W) in [0, 1]: how much
of each pixel is painted over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

THINNEST_PX = 0.35  # radius below which a stroke could no longer be seen
STEP_PX = 0.7  # between the discs of a stroke
CHUNK = 1 << 20  # pixels of discs painted at once
KEPT = 1 << 18  # numbers of a matrix that is kept for the next cloud

T = TypeVar("T")


def uniform(generator: Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def number(generator: Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def count(generator: Generator, low: float, high: float) -> int:
    """An integer of about low to high, both included; fractions are rounded up as often as they say."""
    return math.floor(number(generator, low, high) + number(generator, 0, 1))


def happens(generator: Generator, probability: float) -> bool:
    return number(generator, 0, 1) < probability


def pick(generator: Generator, options: Sequence[T]) -> T:
    return options[int(torch.randint(len(options), (), generator=generator))]


def place(generator: Generator, height: int, width: int) -> Tensor:
    """A random point (2,) of the image: y and x."""
    return uniform(generator, 0, 1, 2) * torch.tensor([height, width])


def wavy(generator: Generator, low: float, high: float, n: int, knots: int) -> Tensor:
    """A random function of n points: straight lines between `knots` uniform values."""
    values = uniform(generator, low, high, 1, 1, max(2, knots))
    return F.interpolate(values, size=n, mode="linear", align_corners=True)[0, 0]


def cloud(generator: Generator, height: int, width: int, cell_px: float, *, octaves: int = 3) -> Tensor:
    """Smooth noise (1, H, W) of about -1 to 1: lumps of `cell_px`, and finer, lower ones on them."""
    total = torch.zeros(height, width)
    for octave in range(octaves):
        rows, columns = (min(side, int(side * 2**octave / cell_px) + 2) for side in (height, width))
        lumps = uniform(generator, -(0.5**octave), 0.5**octave, rows, columns)
        total += _smooth(rows, height) @ lumps @ _smooth(columns, width).T
    return total[None]


def _smooth(knots: int, n: int) -> Tensor:
    """The (n, knots) matrix of bicubic interpolation along one axis; as a product, it takes a tenth of the time."""
    return _kept(knots, n) if knots * n <= KEPT else _kept.__wrapped__(knots, n)


@lru_cache(64)
def _kept(knots: int, n: int) -> Tensor:
    return F.interpolate(torch.eye(knots)[None, None], (n, knots), mode="bicubic", align_corners=True)[0, 0]


def pixels(height: int, width: int) -> Tensor:
    """y and x of the pixels: (2, H, W)."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([y, x]).float()


def inside(field: Tensor, *, edge_px: float = 1) -> Tensor:
    """The cover of where `field`, px outward from an outline, is negative; the edge is soft over `edge_px`."""
    return (0.5 - field / edge_px).clamp(0, 1)


def bell(x: Tensor) -> Tensor:
    """exp(-x^2), and nearly 0 far out, for what underflows takes ten times as long."""
    return x.square().clamp(max=40).neg().exp()


def blob(generator: Generator, height: int, width: int, middle: Tensor, radius: float, *, rough: float) -> Tensor:
    """The field (1, H, W) of a ragged disc: px outward from its outline, which strays by `rough` of its radius."""
    distance = (pixels(height, width) - middle[:, None, None]).square().sum(0, keepdim=True).sqrt()
    return distance - radius * (1 + rough * cloud(generator, height, width, max(4.0, radius), octaves=4))


def curve(
    generator: Generator, middle: Tensor, heading: float, length: float, *, bend: float = 0, wobble: float = 0
) -> Tensor:
    """Points (N, 2) of a curve whose curvature changes steadily, as that of a hair does.

    Args:
        middle: (2,) y and x.
        heading: radians, 0 = to the right.
        bend: the most that it can turn in all, in radians.
        wobble: px that it strays sideways every few px.
    """
    n = max(4, math.ceil(length / STEP_PX))
    turned = wavy(generator, -bend, bend, n, 5).cumsum(0) / n
    angle = heading + turned - turned[n // 2]
    points = torch.stack([angle.sin(), angle.cos()], 1).cumsum(0) * (length / n)
    aside = torch.stack([angle.cos(), -angle.sin()], 1) * wavy(generator, -wobble, wobble, n, n // 6)[:, None]
    return points - points[n // 2] + middle + aside


def line(
    height: int, width: int, middle: Tensor, heading: float, length: float, *, radius: float, opacity: float = 1.0
) -> Tensor:
    """The cover (1, H, W) of a straight line that is the same from end to end, `heading` as in `curve`."""
    y, x = pixels(height, width) - middle[:, None, None]
    along, aside = x * math.cos(heading) + y * math.sin(heading), y * math.cos(heading) - x * math.sin(heading)
    distance = torch.hypot((along.abs() - length / 2).clamp(min=0), aside)
    return (max(radius, THINNEST_PX) + 0.5 - distance).clamp(0, 1)[None] * opacity


def stroke(points: Tensor, radius: Tensor | float, opacity: Tensor | float = 1.0) -> Tensor:
    """The discs (N, 4) of a stroke through `points` (N, 2)."""
    one = torch.ones(len(points))
    return torch.cat([points, (radius * one).clamp(min=THINNEST_PX)[:, None], (opacity * one)[:, None]], 1)


def covered(discs: Tensor, height: int, width: int) -> Tensor:
    """The cover (1, H, W) of soft discs; where they overlap, the most opaque counts."""
    reach = discs[:, 2].ceil() + 1
    size = torch.tensor([height, width])
    near = ((discs[:, :2] > -reach[:, None]) & (discs[:, :2] < size + reach[:, None])).all(1)
    discs, reach = discs[near], reach[near].int()
    # Around the image is room for all of each disc.
    room = 2 * int(reach.max()) + 1 if len(reach) else 0
    canvas = torch.zeros(height + 2 * room, width + 2 * room)
    for k in reach.unique().tolist():
        window = torch.arange(-k, k + 1)
        for part in discs[reach == k].split(max(1, CHUNK // len(window) ** 2)):
            y, x, radius, opacity = part[:, :, None].unbind(1)
            ys, xs = y.round() + window, x.round() + window
            distance = ((ys - y).square()[:, :, None] + (xs - x).square()[:, None]).sqrt()
            cover = (radius[:, None] + 0.5 - distance).clamp(0, 1) * opacity[:, None]
            at = (ys.long() + room)[:, :, None] * canvas.shape[1] + (xs.long() + room)[:, None]
            canvas.view(-1).scatter_reduce_(0, at.flatten(), cover.flatten(), "amax")
    return canvas[None, room : room + height, room : room + width]
