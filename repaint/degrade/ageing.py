"""Random old photographs, and random poor copies of new ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor

from .damage import DAMAGING
from .drawing import happens, number, pick
from .overall import blur, colour, contrast, down_up, fading, grain, halftone, jpeg, noise, toning, yellowing
from .painting import Damaged, checked, whole
from .stamps import stamped

CLEAN = 0.15  # share of old photographs without any damage
TONED, YELLOWED = 0.5, 0.25  # shares that are monochrome, and that are yellow; the rest has drifted colours
LIKELY = (  # what happens to a photograph, in this order, and how often
    (contrast, 0.5),
    (fading, 0.5),
    (blur, 0.4),
    (grain, 0.6),
    (down_up, 0.15),
    (halftone, 0.04),
    (jpeg, 0.4),
)
DAMAGED = {
    "stains": 0.25,
    "white_borders": 0.06,
    "folds": 0.25,
    "tears": 0.25,
    "scratches": 0.7,
    "hairs": 0.3,
    "dust": 0.6,
}  # how often each damage occurs on a photograph that is damaged; what comes later lies on top
STAMPED = 0.7
SCANNED = 0.5


def aged(image: Tensor, generator: Generator, *, stamps: Sequence[Tensor] = (), strength: float = 0.5) -> Damaged:
    """An old photograph made of a new one, and its exact damage; one in seven has none.

    First the photograph ages as a whole, then it is damaged, and half of them are then scanned: blurred a little and
    saved as JPEG together with their damage. The damage is what was spoiled before the scan.

    Args:
        image: (3, H, W) float32 in [0, 1], at least 32 px.
        stamps: opacities (1, h, w) of real damage; drawn damage alone if there are none.
        strength: 0 = the image itself; 0.5 = the usual range; 1 = all of it bad.
    """
    image = weathered(image, generator, strength=strength)
    if happens(generator, CLEAN):
        return scanned(whole(image), generator, strength=strength)
    canvas = damaged(image, generator, DAMAGED, stamps=stamps, strength=strength)
    return scanned(canvas, generator, strength=strength)


def weathered(image: Tensor, generator: Generator, *, strength: float = 0.5) -> Tensor:
    """The photograph aged as a whole, without damage."""
    checked(image, strength)
    tone = number(generator, 0, 1)
    if tone < TONED:
        image = toning(image, min(1, 3 * strength), generator)
    elif tone < TONED + YELLOWED:
        image = yellowing(image, _drawn(strength, generator), generator)
    else:
        image = colour(image, _drawn(strength, generator), generator)
    for effect, likely in LIKELY:
        if happens(generator, likely):
            image = effect(image, 0.6 * _drawn(strength, generator), generator)
    return image


def damaged(
    image: Tensor,
    generator: Generator,
    likely: Mapping[str, float],
    *,
    stamps: Sequence[Tensor] = (),
    strength: float = 0.5,
) -> Damaged:
    """The photograph with some damage on it, and all of it known.

    Args:
        likely: how often each damage of `DAMAGING` occurs; what comes later lies on top, the stamps on all.
    """
    canvas = whole(image)
    for name, often in likely.items():
        if happens(generator, often):
            canvas = _over(canvas, DAMAGING[name](canvas.image, _drawn(strength, generator), generator))
    if stamps and happens(generator, STAMPED):
        canvas = _over(canvas, stamped(canvas.image, stamps, _drawn(strength, generator), generator))
    return canvas


def scanned(canvas: Damaged, generator: Generator, *, strength: float = 0.5) -> Damaged:
    """Half of them blurred a little and saved as JPEG, together with their damage."""
    if not happens(generator, SCANNED):
        return canvas
    image = blur(canvas.image, strength * number(generator, 0, 0.1), generator)
    return Damaged(jpeg(image, strength * number(generator, 0, 0.6), generator), canvas.damage)


def degraded(image: Tensor, generator: Generator, *, strength: float = 0.5) -> Tensor:
    """A poor copy of the image, without damage: resized, blurred, noisy, saved as JPEG, its tones and colours drifted.

    The steps come in random order, each with its own strength of at most `strength`, and some are left out.
    """
    checked(image, strength)
    steps = (blur, down_up, pick(generator, (noise, grain)), jpeg, contrast, colour)
    for step in torch.randperm(len(steps), generator=generator).tolist():
        if happens(generator, 0.7):
            image = steps[step](image, strength * number(generator, 0, 1), generator)
    return image


def _drawn(strength: float, generator: Generator) -> float:
    """The strength of one step: from a fifth of the strength to twice as much."""
    return min(1.0, strength * number(generator, 0.2, 2))


def _over(below: Damaged, above: Damaged) -> Damaged:
    return Damaged(above.image, below.damage | above.damage)
