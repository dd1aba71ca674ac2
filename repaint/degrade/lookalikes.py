"""What looks like damage and is none: wires, hair, bars, edges, branches, writing. Drawn in, it belongs to the picture.

All lengths are px of a 256 x 256 image, scaled by sqrt(H * W) / 256.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor

from .damage import dark, light
from .drawing import count, covered, curve, happens, number, pick, pixels, place, stroke, uniform
from .painting import checked, scale_of

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,&-"
OF_TEXT_PX = (7, 28)
DARK_SHARE = 0.6
MOST_TWIGS = 12

Cover = Callable[[int, int, float, Generator], Tensor]
"""How much of each pixel is drawn over, (1, height, width), at a scale."""


def lookalikes(image: Tensor, generator: Generator, *, most: int = 2) -> Tensor:
    """The picture with one or more things in it that a detector of damage could fall for.

    Their tone is even or follows the picture's, as that of real things does: none of it is damage.

    Args:
        image: (3, H, W) float32 in [0, 1], at least 32 px.
    """
    checked(image, 0)
    height, width = image.shape[1:]
    for _ in range(count(generator, 1, most)):
        cover = pick(generator, tuple(LOOKALIKES.values()))(height, width, scale_of(image), generator)
        colour = dark(generator) if happens(generator, DARK_SHARE) else light(generator) * number(generator, 0.6, 1)
        colour = colour + number(generator, 0, 0.4) * (image - colour)
        image = image + cover * number(generator, 0.6, 1) * (colour - image)
    return image.clamp(0, 1)


def wires(height: int, width: int, scale: float, generator: Generator) -> Tensor:
    """A few lines of even width that hang from side to side, about parallel; at times a pole."""
    reach = 1.5 * math.hypot(height, width)
    heading, sag = number(generator, -0.6, 0.6), number(generator, -0.5, 0.5)
    radius = scale * number(generator, 0.35, 1)
    start, gap = place(generator, height, width), scale * number(generator, 4, 30)
    lines = []
    for i in range(count(generator, 1, 6)):
        middle = start + torch.tensor([i * gap * number(generator, 0.8, 1.2), 0.0])
        lines.append(_sagging(middle, heading + number(generator, -0.04, 0.04), reach, sag, radius))
    if happens(generator, 0.4):
        pole = _sagging(place(generator, height, width), math.pi / 2, reach, 0, scale * number(generator, 1, 4))
        lines.append(pole)
    return covered(torch.cat(lines), height, width)


def strands(height: int, width: int, scale: float, generator: Generator) -> Tensor:
    """A lock of hair, or grass: many fine curves that begin close to each other and go about the same way."""
    root, heading = place(generator, height, width), number(generator, 0, math.tau)
    bend, length = number(generator, -2.5, 2.5), scale * number(generator, 25, 110)
    spread, wide = number(generator, 0.03, 0.35), scale * number(generator, 3, 25)
    lines = []
    for _ in range(count(generator, 12, 60)):
        n = max(8, int(length * number(generator, 0.6, 1)))
        turned = heading + torch.linspace(0, bend + number(generator, -0.4, 0.4), n) + spread * _normal(generator)
        points = torch.stack([turned.sin(), turned.cos()], 1).cumsum(0) * 0.8
        points = points + root + wide * torch.randn(2, generator=generator)
        taper = torch.linspace(1, 0.3, n)
        lines.append(stroke(points, scale * number(generator, 0.3, 0.6), taper * number(generator, 0.3, 1)))
    return covered(torch.cat(lines), height, width)


def bars(height: int, width: int, scale: float, generator: Generator) -> Tensor:
    """A railing, a grid or the bars of a window: straight lines at even distances, one way or both."""
    heading = pick(generator, (0.0, math.pi / 2)) + number(generator, -0.15, 0.15)
    reach = (math.hypot(height, width) * number(generator, 0.1, 0.4)) if happens(generator, 0.4) else math.inf
    y, x = pixels(height, width) - place(generator, height, width)[:, None, None]
    along, aside = x * math.cos(heading) + y * math.sin(heading), y * math.cos(heading) - x * math.sin(heading)
    radius, cover = scale * number(generator, 0.4, 2), torch.zeros(height, width)
    for across in (aside, along) if happens(generator, 0.5) else (aside,):
        gap = scale * number(generator, 5, 40)
        from_line = ((across / gap + 0.5).remainder(1) - 0.5).abs() * gap
        cover = cover.maximum((radius + 0.5 - from_line).clamp(0, 1))
    return (cover * ((along.abs() < reach) & (aside.abs() < reach)))[None]


def ledges(height: int, width: int, scale: float, generator: Generator) -> Tensor:
    """The edge of a roof, a step or a quay: a straight even line, and a paler band on one side of it alone."""
    heading = pick(generator, (0.0, math.pi / 2, number(generator, 0, math.pi))) + number(generator, -0.1, 0.1)
    y, x = pixels(height, width) - place(generator, height, width)[:, None, None]
    along, aside = x * math.cos(heading) + y * math.sin(heading), y * math.cos(heading) - x * math.sin(heading)
    aside = aside * pick(generator, (-1.0, 1.0))
    reach = math.hypot(height, width) * number(generator, 0.15, 1)
    radius, deep = scale * number(generator, 0.35, 1.5), scale * number(generator, 3, 40)
    edge = (radius + 0.5 - aside.abs()).clamp(0, 1)
    band = number(generator, 0.15, 0.6) * (aside + 0.5).clamp(0, 1) * (deep + 0.5 - aside).clamp(0, 1)
    return (edge.maximum(band) * (reach - along.abs()).clamp(0, 1))[None]


def branches(height: int, width: int, scale: float, generator: Generator) -> Tensor:
    """A bough that divides and divides, each part thinner than what it grew from."""
    tips = [(place(generator, height, width), number(generator, 0, math.tau), scale * number(generator, 1, 4))]
    length, lines = scale * number(generator, 40, 140), []
    for _ in range(count(generator, 3, 4)):
        grown = []
        for root, heading, radius in tips:
            points = curve(generator, torch.zeros(2), heading, length, bend=1, wobble=0.8 * scale)
            points = points - points[0] + root
            lines.append(stroke(points, torch.linspace(radius, 0.6 * radius, len(points))))
            for _ in range(count(generator, 1.5, 3)):
                from_ = points[int(len(points) * number(generator, 0.4, 1)) - 1]
                grown.append((from_, heading + number(generator, -0.9, 0.9), radius * number(generator, 0.35, 0.6)))
        tips, length = grown[:MOST_TWIGS], length * 0.6
    return covered(torch.cat(lines), height, width)


def writing(height: int, width: int, scale: float, generator: Generator) -> Tensor:
    """A few lines of letters, level or turned."""
    size = max(6, round(scale * number(generator, *OF_TEXT_PX)))
    font = ImageFont.load_default(size)
    lines = []
    for _ in range(count(generator, 1, 4)):
        letters = torch.randint(len(LETTERS), (count(generator, 3, 18),), generator=generator)
        blank = uniform(generator, 0, 1, len(letters)) < 0.15
        lines.append("".join(" " if b else LETTERS[i] for i, b in zip(letters.tolist(), blank.tolist(), strict=True)))
    page = Image.new("L", (width, height))
    y, x = place(generator, height, width).tolist()
    ImageDraw.Draw(page).multiline_text((x - width / 3, y - size), "\n".join(lines), fill=255, font=font)
    if happens(generator, 0.5):
        turn = pick(generator, (90.0, number(generator, -15, 15)))
        page = page.rotate(turn, Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(page))[None].float() / 255


def _sagging(middle: Tensor, heading: float, length: float, sag: float, radius: float) -> Tensor:
    """The discs of an even line through `middle` that turns by `sag` radians from end to end."""
    n = math.ceil(length)
    angle = heading + sag * torch.linspace(-0.5, 0.5, n)
    points = torch.stack([angle.sin(), angle.cos()], 1).cumsum(0)
    return stroke(points - points[n // 2] + middle, radius)


def _normal(generator: Generator) -> float:
    return torch.randn((), generator=generator).item()


LOOKALIKES: dict[str, Cover] = {
    "wires": wires,
    "strands": strands,
    "bars": bars,
    "ledges": ledges,
    "branches": branches,
    "writing": writing,
}
