"""Damage: what lies on a photograph, cuts it, or is missing from it. Each effect knows exactly which pixels it spoiled.

All lengths are px of a 256 x 256 image, scaled by sqrt(H * W) / 256.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from .drawing import (
    bell,
    blob,
    cloud,
    count,
    covered,
    curve,
    happens,
    inside,
    line,
    number,
    pick,
    pixels,
    place,
    stroke,
    uniform,
    wavy,
)
from .painting import DARK_BLENDS, LIGHT_BLENDS, Damaged, Structural, painted, scale_of, structural, whole

EVEN_SHARE = 0.3  # of the lines of `scratches`: straight and even, as film transports and scanners draw them
UPRIGHT, SHARP, THROUGH = 0.5, 0.5, 0.25  # shares of these: upright or level, as sharp as pixels are, and all the way


@structural
def scratches(image: Tensor, strength: float, generator: Generator) -> Damaged:
    """Long thin lines, mostly one way, that break off and go on; some straight and even; now and then a scuff."""
    height, width = image.shape[1:]
    scale = scale_of(image)
    grain = number(generator, 0, math.pi)
    lines, even = [], torch.zeros(1, height, width)
    for _ in range(count(generator, 1 + 2 * strength, 1 + 8 * strength)):
        if happens(generator, EVEN_SHARE):
            even = even.maximum(_even_line(height, width, strength, scale, generator))
            continue
        spread = 0.15 if happens(generator, 0.7) else math.pi / 2
        heading = grain + number(generator, -spread, spread)
        length = scale * number(generator, 30, 100 + 250 * strength)
        points = curve(generator, place(generator, height, width), heading, length, bend=0.5, wobble=0.3 * scale)
        n, radius = len(points), scale * (0.3 + (0.4 + 0.9 * strength) * number(generator, 0, 1) ** 2)
        pressure = wavy(generator, -0.2, 1.5, n, n // 25).clamp(0, 1) * number(generator, 0.5, 1)
        lines.append(stroke(points, radius * wavy(generator, 0.6, 1, n, n // 10), pressure))
    if happens(generator, 0.5 * strength):
        lines += _scuff(generator, place(generator, height, width), scale)
    cover = covered(torch.cat(lines), height, width).maximum(even) if lines else even
    return _on_print_or_negative(whole(image), cover, generator)


def _even_line(height: int, width: int, strength: float, scale: float, generator: Generator) -> Tensor:
    """The cover of a line as a machine draws it, of any width and opacity."""
    heading = number(generator, 0, math.pi)
    if happens(generator, UPRIGHT):
        heading = pick(generator, (0.0, math.pi / 2))
    length = 2 * scale * number(generator, 30, 100 + 250 * strength)
    if happens(generator, THROUGH):
        length = 2 * math.hypot(height, width)
    radius, opacity = scale * number(generator, 0.35, 2), number(generator, 0.2, 1)
    cover = line(height, width, place(generator, height, width), heading, length, radius=radius)
    return opacity * (cover.round() if happens(generator, SHARP) else cover)


def _scuff(generator: Generator, middle: Tensor, scale: float) -> list[Tensor]:
    """Many short faint lines."""
    heading, reach = number(generator, 0, math.pi), scale * number(generator, 10, 40)
    lines = []
    for _ in range(count(generator, 15, 40)):
        start = middle + reach * torch.randn(2, generator=generator) * 0.6
        turn = heading + number(generator, -0.25, 0.25)
        points = curve(generator, start, turn, scale * number(generator, 4, 40), bend=0.2)
        worn = wavy(generator, -0.5, 1, len(points), len(points) // 6).clamp(min=0)
        lines.append(stroke(points, scale * number(generator, 0.25, 0.6), worn * number(generator, 0.3, 0.9)))
    return lines


@structural
def hairs(image: Tensor, strength: float, generator: Generator) -> Damaged:
    """Curled hairs and fibres of even width, at rest anywhere."""
    height, width = image.shape[1:]
    scale = scale_of(image)
    lines = []
    for _ in range(count(generator, 1 + 2 * strength, 1 + 7 * strength)):
        length = scale * number(generator, 12, 30 + 110 * number(generator, 0, strength))
        heading, bend = number(generator, 0, math.tau), number(generator, 2, 14)
        points = curve(generator, place(generator, height, width), heading, length, bend=bend)
        tapered = wavy(generator, 0.75, 1, len(points), 5)
        lines.append(stroke(points, scale * number(generator, 0.35, 0.9) * tapered, number(generator, 0.6, 1)))
    return _on_print_or_negative(whole(image), covered(torch.cat(lines), height, width), generator, dark_share=0.5)


@structural
def dust(image: Tensor, strength: float, generator: Generator) -> Damaged:
    """Specks, most of them tiny, in drifts."""
    height, width = image.shape[1:]
    scale = scale_of(image)
    n, size = count(generator, 4 + 30 * strength, 6 + 110 * strength), torch.tensor([height, width])
    drifts = size * uniform(generator, 0, 1, 4, 2)
    drifted = drifts[torch.randint(4, (n,), generator=generator)] + scale * 35 * torch.randn(n, 2, generator=generator)
    middle = torch.where(uniform(generator, 0, 1, n, 1) < 0.5, drifted, size * uniform(generator, 0, 1, n, 2))
    radius = scale * (0.4 + 2.2 * uniform(generator, 0, 1, n) ** 4)
    opacity = uniform(generator, 0.4, 1, n)
    lumps = (uniform(generator, 2, 5, n) + uniform(generator, 0, 1, n)).long()
    of = torch.arange(n).repeat_interleave(lumps)  # the speck that each lump is part of
    points = middle[of] + radius[of, None] * uniform(generator, -1, 1, len(of), 2)
    specks = stroke(points, radius[of] * uniform(generator, 0.4, 1, len(of)), opacity[of])
    return _on_print_or_negative(whole(image), covered(specks, height, width), generator)


@structural
def stains(image: Tensor, strength: float, generator: Generator) -> Damaged:
    """Patches that water, mould or chemistry left: brown or bleached, mottled, often with a tide line."""
    height, width = image.shape[1:]
    scale = scale_of(image)
    canvas = whole(image)
    for _ in range(count(generator, 1, 1 + 3 * strength)):
        radius = scale * number(generator, 6, 12 + 40 * strength)
        middle = place(generator, height, width)
        field = blob(generator, height, width, middle, radius, rough=number(generator, 0.3, 0.8))
        mottled = 0.75 + 0.25 * cloud(generator, height, width, 12 * scale)
        edge = scale * number(generator, 2, 10)
        tide = bell((field + edge / 2) / (1.2 * scale + 0.5)) * number(generator, 0, 0.8)
        depth = number(generator, 0.3, 0.5 + 0.45 * strength)
        cover = ((inside(field, edge_px=edge) * mottled + tide) * depth).clamp(0, 1)
        if happens(generator, 0.3):
            canvas = painted(canvas, cover, light(generator), pick(generator, ("screen", "lighten", "replacement")))
        else:
            brown = torch.tensor([0.55, 0.42, 0.26]) + uniform(generator, -0.12, 0.12, 3)
            canvas = painted(canvas, cover, brown[:, None, None], pick(generator, ("multiply", "multiply", "darken")))
    return canvas


@structural
def folds(image: Tensor, strength: float, generator: Generator) -> Damaged:
    """Creases from side to side or across a corner: a broken white line that flakes, and a slight relief."""
    height, width = image.shape[1:]
    scale = scale_of(image)
    canvas = whole(image)
    for _ in range(count(generator, 1 + strength, 1 + 2 * strength)):
        square = pick(generator, (0.0, math.pi / 2, number(generator, 0, math.pi)))
        heading = square + number(generator, -0.12, 0.12)
        middle = (0.1 + 0.8 * place(generator, 1, 1)) * torch.tensor([height, width])
        points = curve(generator, middle, heading, 2 * math.hypot(height, width), bend=0.1, wobble=0.5 * scale)
        canvas = _relief(canvas, middle, heading, scale * number(generator, 0.7, 1.6), generator)

        n = len(points)
        worn = wavy(generator, -0.4, 1.4, n, int(n / 20 / scale)).clamp(0, 1)
        radius = scale * number(generator, 0.4, 0.6 + strength)
        lines = [stroke(points, radius * wavy(generator, 0.4, 1.4, n, int(n / 6 / scale)), 0.25 + 0.75 * worn)]
        flakes = points[torch.randint(n, (count(generator, 0, 60 * strength),), generator=generator)]
        flakes = flakes + scale * 1.2 * torch.randn(len(flakes), 2, generator=generator)
        lines.append(stroke(flakes, scale * (0.5 + 2 * uniform(generator, 0, 1, len(flakes)) ** 3)))
        cover = covered(torch.cat(lines), height, width) * number(generator, 0.6, 1)
        canvas = painted(canvas, cover, light(generator), pick(generator, ("replacement", "lighten", "screen")))
    return canvas


def _relief(canvas: Damaged, middle: Tensor, heading: float, width_px: float, generator: Generator) -> Damaged:
    """The paper that rises to a crease: one side catches the light, the other lies in shadow."""
    y, x = pixels(*canvas.image.shape[1:]) - middle[:, None, None]
    aside = ((y * math.cos(heading) - x * math.sin(heading)) / width_px)[None]
    slope = aside * bell(aside * math.sqrt(0.5)) * math.exp(0.5) * number(generator, -0.12, 0.12)
    white, black = torch.ones(3, 1, 1), torch.zeros(3, 1, 1)
    canvas = painted(canvas, slope.clamp(min=0), white, "screen")
    return painted(canvas, (-slope).clamp(min=0), black, "multiply")


@structural
def tears(image: Tensor, strength: float, generator: Generator) -> Damaged:
    """Torn off corners and pieces of the edge, worn edges, rips, cracks, and flakes of lost emulsion."""
    canvas = whole(image)
    for _ in range(count(generator, 1 + 2 * strength, 1 + 4 * strength)):
        tear = pick(generator, (_torn_corner, _torn_edge, _worn_edges, _rip, _cracks, _cracks, _flakes, _flakes))
        canvas = tear(canvas, strength, generator)
    return canvas


def _torn_corner(canvas: Damaged, strength: float, generator: Generator) -> Damaged:
    height, width = canvas.image.shape[1:]
    scale = scale_of(canvas.image)
    y, x = pixels(height, width)
    y, x = pick(generator, (y, height - 1 - y)), pick(generator, (x, width - 1 - x))
    angle = number(generator, 0.3, 1.27)
    deep = scale * number(generator, 4, 10 + 45 * strength)
    ragged = cloud(generator, height, width, 25 * scale, octaves=4) * deep * 0.2
    return _gone(canvas, y * math.sin(angle) + x * math.cos(angle) - deep + ragged, generator)


def _torn_edge(canvas: Damaged, strength: float, generator: Generator) -> Damaged:
    height, width = canvas.image.shape[1:]
    size = torch.tensor([height, width], dtype=torch.float32)
    middle = place(generator, height, width)
    side = pick(generator, (0, 1))
    middle[side] = pick(generator, (0.0, 1.0)) * size[side]
    deep = scale_of(canvas.image) * number(generator, 3, 8 + 30 * strength)
    return _gone(canvas, blob(generator, height, width, middle, deep, rough=0.6), generator)


def _gone(canvas: Damaged, field: Tensor, generator: Generator) -> Damaged:
    """The canvas without the part where the field is negative: torn paper along the edge, then what lies behind."""
    height, width = canvas.image.shape[1:]
    scale = scale_of(canvas.image)
    fibres = scale * (1 + 1.5 * cloud(generator, height, width, 10 * scale)).clamp(min=0) * number(generator, 0, 2.5)
    canvas = painted(canvas, inside(field - fibres), _paper(generator, height, width, scale), "replacement")
    behind = torch.full((3, 1, 1), pick(generator, (0.03, number(generator, 0.2, 0.95), 0.97)))
    return painted(canvas, inside(field), behind, "replacement")


def _rip(canvas: Damaged, strength: float, generator: Generator) -> Damaged:
    height, width = canvas.image.shape[1:]
    scale = scale_of(canvas.image)
    heading = number(generator, 0, math.tau)
    length = scale * number(generator, 20, 40 + 130 * strength)
    points = curve(generator, torch.zeros(2), heading, length, bend=1.5, wobble=1.5 * scale)
    out = torch.tensor([math.sin(heading), math.cos(heading)])
    size = torch.tensor([height, width], dtype=torch.float32)
    start = place(generator, height, width)
    # Back along the heading to where it enters the image.
    back = torch.where(out > 0, start / out, (start - size) / out).min()
    points = points - points[0] + start - back * out
    taper = torch.linspace(1, 0.15, len(points)) * wavy(generator, 0.5, 1.2, len(points), len(points) // 8)
    radius = scale * number(generator, 0.8, 1 + 2 * strength) * taper
    shadow = covered(stroke(points + scale * radius.mean() * 0.8, radius), height, width)
    canvas = painted(canvas, shadow * number(generator, 0, 0.6), torch.zeros(3, 1, 1), "multiply")
    return painted(canvas, covered(stroke(points, radius), height, width), light(generator), "replacement")


def _worn_edges(canvas: Damaged, strength: float, generator: Generator) -> Damaged:
    """Edges chipped by many hands, corners most."""
    height, width = canvas.image.shape[1:]
    scale = scale_of(canvas.image)
    y, x = pixels(height, width)[:, None]
    to_side = torch.stack([y, x, height - 1 - y, width - 1 - x])
    worn_sides = torch.where(uniform(generator, 0, 1, 4, 1, 1, 1) < 0.6, to_side, math.inf).amin(0)
    nearest, second = to_side.sort(0).values[:2]
    from_edge = worn_sides.minimum(torch.hypot(nearest, second) * 0.6)
    chips = (
        cloud(generator, height, width, 25 * scale, octaves=4).abs() * scale * number(generator, 2, 3 + 7 * strength)
    )
    return painted(canvas, inside(from_edge - chips), _paper(generator, height, width, scale), "replacement")


def _cracks(canvas: Damaged, strength: float, generator: Generator) -> Damaged:
    """Jagged white lines that branch, with flakes gone where they part."""
    height, width = canvas.image.shape[1:]
    scale = scale_of(canvas.image)
    heading, length = number(generator, 0, math.tau), scale * number(generator, 15, 40 + 100 * strength)
    start = place(generator, height, width)
    lines = []
    for branch in range(count(generator, 1, 2 + 5 * strength)):
        reach = length * (0.4 if branch else 1) * number(generator, 0.4, 1)
        turn = heading + (number(generator, -1.4, 1.4) if branch else 0)
        points = curve(generator, torch.zeros(2), turn, reach, bend=2.5, wobble=1.2 * scale)
        points = points - points[0] + start
        width_px = scale * number(generator, 0.4, 0.7 + 0.9 * strength)
        taper = torch.linspace(1.2, 0.3, len(points)) * wavy(generator, 0.3, 1.3, len(points), len(points) // 7)
        lines.append(stroke(points, width_px * taper, wavy(generator, 0.5, 1, len(points), 6)))
        start = pick(generator, lines[0].unbind(0))[:2]
        if happens(generator, 0.5):
            gone = start + scale * 1.5 * torch.randn(6, 2, generator=generator)
            lines.append(stroke(gone, scale * uniform(generator, 0.4, 1 + strength, 6)))
    cover = covered(torch.cat(lines), height, width)
    return painted(canvas, cover, _paper(generator, height, width, scale), "replacement")


def _flakes(canvas: Damaged, strength: float, generator: Generator) -> Damaged:
    """A few patches of bare paper close to each other."""
    height, width = canvas.image.shape[1:]
    scale = scale_of(canvas.image)
    middle, field = place(generator, height, width), torch.full((1, height, width), math.inf)
    reach = scale * number(generator, 4, 10 + 14 * strength)
    for _ in range(count(generator, 1, 3)):
        near = middle + reach * torch.randn(2, generator=generator)
        size = reach * number(generator, 0.2, 0.9)
        field = field.minimum(blob(generator, height, width, near, size, rough=1))
    rim = inside(field - scale) * (1 - inside(field)) * number(generator, 0, 0.5)
    canvas = painted(canvas, rim, torch.zeros(3, 1, 1), "multiply")
    return painted(canvas, inside(field), _paper(generator, height, width, scale), "replacement")


@structural
def white_borders(image: Tensor, strength: float, generator: Generator) -> Damaged:
    """The unprinted rim of a print: cream paper along all four sides, not quite even, its corners round or sharp."""
    height, width = image.shape[1:]
    scale = scale_of(image)
    wide = scale * number(generator, 3, 5 + 13 * strength)
    top, left, bottom, right = (max(1.0, wide * number(generator, 0.7, 1.3)) for _ in range(4))
    y, x = pixels(height, width)[:, None]
    out_y, out_x = (top - y).maximum(y - (height - 1 - bottom)), (left - x).maximum(x - (width - 1 - right))
    curved = pick(generator, (0.0, 0.0, scale * number(generator, 2, 12)))
    corner = torch.hypot((out_y + curved).clamp(min=0), (out_x + curved).clamp(min=0)) - curved
    outward = torch.where(corner > -curved, corner, out_y.maximum(out_x)) if curved else out_y.maximum(out_x)
    outward = outward + cloud(generator, height, width, 20 * scale) * scale * number(generator, 0, 0.6)
    return painted(whole(image), inside(-outward), _paper(generator, height, width, scale), "replacement")


# --- what it is painted with ---


def light(generator: Generator) -> Tensor:
    """A white or cream (3, 1, 1)."""
    white, warm = number(generator, 0.78, 1), number(generator, 0, 0.2) ** 1.5
    return torch.tensor([white, white - 0.5 * warm, white - 2 * warm])[:, None, None]


def dark(generator: Generator) -> Tensor:
    """A black or brown (3, 1, 1)."""
    return (number(generator, 0, 0.25) * torch.tensor([1, 0.85, 0.7]))[:, None, None]


def _paper(generator: Generator, height: int, width: int, scale: float) -> Tensor:
    """Bare paper (3, H, W): cream, uneven and a little soiled."""
    soiled = cloud(generator, height, width, 15 * scale, octaves=4) * number(generator, 0, 0.12)
    fibre = 0.015 * torch.randn(1, height, width, generator=generator)
    return (light(generator) * (1 - soiled.abs()) + fibre).clamp(0, 1)


def _on_print_or_negative(canvas: Damaged, cover: Tensor, generator: Generator, *, dark_share: float = 0.25) -> Damaged:
    """The canvas with a layer that is light, or dark with the given probability."""
    if happens(generator, dark_share):
        return painted(canvas, cover, dark(generator), pick(generator, DARK_BLENDS))
    return painted(canvas, cover, light(generator), pick(generator, LIGHT_BLENDS))


DAMAGING: dict[str, Structural] = {
    "scratches": scratches,
    "hairs": hairs,
    "dust": dust,
    "stains": stains,
    "folds": folds,
    "tears": tears,
    "white_borders": white_borders,
}
