"""Masks: the six of the paper, painted strokes, the scratches of old photographs.

A mask is `keep`, (1, H, W) bool, True = leave alone. A hole is what is not kept.
"""

from __future__ import annotations

import difflib
import math
from bisect import bisect_right
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

NOMINAL_PX = 256  # the side of the square image all px numbers of the drawings are meant for
SMALLEST_PX = 16
STEP_PX = 3  # between the points of a curve
ATTEMPTS = 10  # drawings that cover more than half of the image before the last one is cut short
CHUNK = 1 << 17  # elements of a drawing worked on at once, to stay in the cache


def make_mask(kind: str, height: int, width: int, generator: Generator) -> Tensor:
    """A mask of the given kind: keep (1, H, W) bool.

    The px numbers of the paper, for 256 x 256, are scaled by sqrt(height * width) / 256, so that about the same
    share of the image is lost whatever its size and shape; at every size of one shape a seed draws the same picture.
    The hole is never empty, and at most half of the image for wide, narrow, strokes and scratches.

    Args:
        kind: a key of `KINDS`.
        generator: on the CPU. Fixed kinds (super-resolution, lines, half, expand) draw nothing from it.

    Raises:
        ValueError: if the kind is unknown or a side is shorter than 16 px.
    """
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"mask kind {kind!r} is unknown; {hint}There are: {', '.join(KINDS)}")
    if min(height, width) < SMALLEST_PX:
        raise ValueError(f"a mask must be at least {SMALLEST_PX} x {SMALLEST_PX} px, got {height} x {width}")
    return KINDS[kind](height, width, generator)


# --- drawing ---
#
# A drawing is a float64 tensor of marks, (N, 6): y and x of two ends, width, and 1 for round ends (a segment of a
# stroke) or 0 for flat ones (a box). Its unit is a px of the nominal image; y and x count from the top left corner.


def _painted(marks: Tensor, height: int, width: int) -> Tensor:
    """The pixels (H, W) whose centre lies on a mark. A mark is convex, so that it covers one interval of each row."""
    scale = math.sqrt(height * width) / NOMINAL_PX
    # Quarters of a px swallow the last digit in which platforms differ.
    ends = ((marks[:, :4] * scale - 0.5) * 4).round() / 4
    radius = ((marks[:, 4] * scale).clamp(min=1) * 4).round() / 8
    rows = torch.arange(height, dtype=torch.float64)[:, None]

    change = torch.zeros(height, width + 1, dtype=torch.int32)  # +1 where a mark begins, -1 behind its end
    for part in torch.cat([ends, radius[:, None], marks[:, 5:]], 1).split(max(1, CHUNK // height)):
        first, last = _intervals(part, rows)
        first = first.ceil().clamp(0, width).long()
        behind = (last.floor() + 1).clamp(0, width).long().maximum(first)
        one = torch.ones_like(first, dtype=torch.int32)
        change.scatter_add_(1, first, one).scatter_add_(1, behind, -one)
    return change.cumsum(1, dtype=torch.int32)[:, :width] > 0


def _intervals(marks: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The first and last x of each of N marks on each of H rows, both (H, N); inf and -inf where there is none.

    Args:
        marks: (N, 6), with the radius in the place of the width.
        rows: (H, 1), their y.
    """
    y_a, x_a, y_b, x_b, radius, is_round = marks.unbind(1)
    length = torch.hypot(y_b - y_a, x_b - x_a)
    along_y = torch.where(length > 0, (y_b - y_a) / length, 0)  # a point counts as level
    along_x = torch.where(length > 0, (x_b - x_a) / length, 1)
    dy = rows - y_a

    left, right = _between(along_x, along_y * dy, torch.zeros_like(length), length)
    side_left, side_right = _between(-along_y, along_x * dy, -radius, radius)
    left, right = x_a + left.maximum(side_left), x_a + right.minimum(side_right)
    empty = left > right
    left, right = left.masked_fill(empty, math.inf), right.masked_fill(empty, -math.inf)

    for y, x in ((y_a, x_a), (y_b, x_b)):
        inside = radius**2 - (rows - y) ** 2
        half = inside.clamp(min=0).sqrt().masked_fill((inside < 0) | (is_round == 0), -math.inf)
        left, right = left.minimum(x - half), right.maximum(x + half)
    return left, right


def _between(slope: Tensor, offset: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The first and last x for which low <= slope * x + offset <= high; inf and -inf where there is none."""
    one, other = (low - offset) / slope, (high - offset) / slope
    everywhere = torch.where((low <= offset) & (offset <= high), math.inf, -math.inf)
    first = torch.where(slope == 0, -everywhere, one.minimum(other))
    return first, torch.where(slope == 0, everywhere, one.maximum(other))


def _uniform(generator: Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


def _number(generator: Generator, low: float, high: float) -> float:
    return _uniform(generator, low, high).item()


def _count(generator: Generator, low: int, high: int) -> int:
    """An integer from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def _smooth(generator: Generator, low: float, high: float, n: int, knots: int) -> Tensor:
    """A random function of n points: straight lines between `knots` uniform values."""
    values = _uniform(generator, low, high, 1, 1, knots)
    return F.interpolate(values, size=n, mode="linear", align_corners=True)[0, 0]


def _line(points: Tensor, width: Tensor) -> Tensor:
    """The marks of a line through `points` (n, 2), with a width (n - 1) for each segment."""
    return torch.cat([points[:-1], points[1:], width[:, None], torch.ones_like(width)[:, None]], 1)


def _curve(
    generator: Generator,
    middle: Tensor,
    heading: float,
    length: float,
    width: float,
    *,
    bend: float = 0,
    wobble: float = 0,
    pressure: float = 1,
) -> Tensor:
    """The marks of a curve whose curvature changes steadily, as that of a hand does.

    Args:
        middle: (2,) y and x.
        heading: radians, 0 = to the right.
        bend: the most that it can turn in all, in radians.
        wobble: px that single points stray from the curve.
        pressure: the smallest width, relative to the largest.
    """
    n = max(2, math.ceil(length / STEP_PX))
    turned = _smooth(generator, -bend, bend, n, 4).cumsum(0) / n
    angle = heading + turned - turned[n // 2]
    points = torch.stack([angle.sin(), angle.cos()], 1).cumsum(0) * (length / n)
    points = points - points[n // 2] + middle + _uniform(generator, -wobble, wobble, n, 2)
    return _line(points, width * _smooth(generator, pressure, 1, n - 1, max(2, n // 8)))


def _zigzags(generator: Generator, size: Tensor, *, strokes: tuple[int, int], width: float, length: float) -> Tensor:
    """Polylines of one to five segments, each of its own width: LaMa's masks (Suvorov et al. 2022).

    Widths and lengths reach those that its configs name; its code draws up to 5 px more and 10 px more, so its narrow
    masks cover more (of 256 px, .28 in the mean; these .20).
    """
    drawing = []
    for stroke in range(_count(generator, *strokes)):
        turn = 1 if stroke % 2 else -1
        points = [_uniform(generator, 0, 1, 2) * size]
        for _ in range(_count(generator, 1, 5)):
            angle = turn * _uniform(generator, 0, 4)
            ahead = points[-1] + _uniform(generator, 10, length) * torch.stack([angle.cos(), angle.sin()])
            points.append(ahead.clamp(min=0).minimum(size))
        drawing.append(_line(torch.stack(points), _uniform(generator, 5, width, len(points) - 1)))
    return torch.cat(drawing)


def _wide(generator: Generator, size: Tensor) -> Tensor:
    """LaMa's thick polylines, and now and then boxes beside them (its code draws boxes instead)."""
    drawing = [_zigzags(generator, size, strokes=(1, 5), width=100, length=200)]
    for _ in range(_count(generator, 1, 3) if _number(generator, 0, 1) < 0.3 else 0):
        extent = _uniform(generator, 30, 150, 2)
        top, left = (10 + _uniform(generator, 0, 1, 2) * (size - 20 - extent).clamp(min=0)).tolist()
        height, width = extent.tolist()
        middle = top + height / 2
        drawing.append(torch.tensor([[middle, left, middle, left + width, height, 0]], dtype=torch.float64))
    return torch.cat(drawing)


def _strokes(generator: Generator, size: Tensor) -> Tensor:
    """A few strokes of a brush, as a person covers what is to go."""
    brush = _number(generator, 10, 36)
    drawing = []
    for _ in range(_count(generator, 1, 6)):
        middle, heading = _uniform(generator, 0, 1, 2) * size, _number(generator, 0, math.tau)
        length, width = _number(generator, 30, 280), brush * _number(generator, 0.7, 1.3)
        drawing.append(_curve(generator, middle, heading, length, width, bend=7, pressure=0.75))
    return torch.cat(drawing)


def _scratches(generator: Generator, size: Tensor) -> Tensor:
    """What age does to a photograph: long scratches, mostly one way, hairs, dust, and now and then a crease."""
    grain = _number(generator, 0, math.pi)
    drawing = []
    for _ in range(_count(generator, 1, 7)):
        spread = 0.2 if _number(generator, 0, 1) < 0.7 else math.pi / 2
        heading = grain + _number(generator, -spread, spread)
        middle, length = _uniform(generator, 0, 1, 2) * size, _number(generator, 50, 350)
        width = 1 + 3 * _number(generator, 0, 1) ** 2
        scratch = _curve(generator, middle, heading, length, width, bend=0.6, wobble=0.4, pressure=0.5)
        gone = _smooth(generator, 0, 1, len(scratch), 8) < _number(generator, 0, 0.4)  # it breaks off and goes on
        drawing.append(scratch[~gone])
    for _ in range(_count(generator, 0, 8)):
        middle, heading = _uniform(generator, 0, 1, 2) * size, _number(generator, 0, math.tau)
        drawing.append(_curve(generator, middle, heading, _number(generator, 8, 40), 1.2, bend=6))
    for _ in range(_count(generator, 0, 25)):
        drawing.append(_speck(generator, _uniform(generator, 0, 1, 2) * size, largest=4))
    if _number(generator, 0, 1) < 0.2:
        middle, heading = _uniform(generator, 0.2, 0.8, 2) * size, _number(generator, 0, math.pi)
        across = 2 * float(size.norm())
        crease = _curve(generator, middle, heading, across, 3, bend=0.3, wobble=0.8, pressure=0.3)
        flaked = crease[torch.randint(len(crease), (20,), generator=generator), :2]
        drawing += [crease, *(_speck(generator, near + _uniform(generator, -2, 2, 2), largest=7) for near in flaked)]
    return torch.cat(drawing)


def _speck(generator: Generator, middle: Tensor, *, largest: float) -> Tensor:
    """A grain of dust or a missing flake: a short stub, mostly small."""
    width = 1 + (largest - 1) * _number(generator, 0, 1) ** 3
    return _curve(generator, middle, _number(generator, 0, math.tau), _number(generator, 1, 1 + width), width)


def _at_most_half(draw: Callable[[Generator, Tensor], Tensor], height: int, width: int, generator: Generator) -> Tensor:
    """The first of a few drawings that leaves half of the image; failing that, as much of the last one as does."""
    half = height * width // 2
    size = torch.tensor([height, width], dtype=torch.float64) * NOMINAL_PX / math.sqrt(height * width)
    marks = torch.empty(0, 6)
    for _ in range(ATTEMPTS):
        marks = draw(generator, size)
        hole = _painted(marks, height, width)
        if 0 < hole.sum() <= half:
            return ~hole[None]
    enough = bisect_right(range(1, len(marks) + 1), half, key=lambda n: int(_painted(marks[:n], height, width).sum()))
    return ~_painted(marks[: max(1, enough)], height, width)[None]


def _crossings(height: int, width: int, rows: slice, columns: slice) -> Tensor:
    """Keeps the pixels where these rows and columns cross."""
    keep = torch.zeros(1, height, width, dtype=torch.bool)
    keep[:, rows, columns] = True
    return keep


def _middle_quarter(side: int) -> slice:
    start = (side - side // 4) // 2
    return slice(start, start + side // 4)


KINDS: dict[str, Callable[[int, int, Generator], Tensor]] = {
    "wide": partial(_at_most_half, _wide),
    "narrow": partial(_at_most_half, partial(_zigzags, strokes=(4, 50), width=10, length=40)),
    "super-resolution": lambda h, w, _: _crossings(h, w, slice(0, h, 2), slice(0, w, 2)),
    "lines": lambda h, w, _: _crossings(h, w, slice(0, h, 2), slice(w)),
    "half": lambda h, w, _: _crossings(h, w, slice(h), slice(w // 2)),
    "expand": lambda h, w, _: _crossings(h, w, _middle_quarter(h), _middle_quarter(w)),
    "strokes": partial(_at_most_half, _strokes),
    "scratches": partial(_at_most_half, _scratches),
}
"""The generators by name: the six of the paper (Lugmayr et al. 2022), and two that look like real work.

super-resolution keeps the pixels on even rows and columns, lines the even rows, half the left half, expand the middle:
a quarter of the height by a quarter of the width.
"""
