"""Pictures whose damage is known to the pixel, and how well marks meet it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from repaint.degrade import DAMAGED, DAMAGING, Damaged, aged, damaged, scanned, weathered
from repaint.degrade.painting import whole
from repaint.holes import grown
from repaint.image import luma, read_photo
from repaint.train.scratches import HIDDEN, HOLES, SOFT, truth_of

from .pictures import images_in

TOLERANCE_PX = 2
STRENGTH = 0.5


class Case(NamedTuple):
    """A picture (3, H, W) in 0..1, and what its pixels are, (1, H, W): 1 damaged, 0 not, -1 not to be counted."""

    image: Tensor
    truth: Tensor


def aged_cases(photos: Sequence[Tensor], stamps: Sequence[Tensor], seed: int) -> Iterator[Case]:
    """Old photographs as `aged` makes them, the i-th of the seed `seed` + i: all that was spoiled counts."""
    for i, photo in enumerate(photos):
        image, damage = aged(photo, _generator(seed + i), stamps=stamps, strength=STRENGTH)
        yield Case(image, damage.float())


def clean_cases(photos: Sequence[Tensor], seed: int) -> Iterator[Case]:
    """Photographs that aged as a whole, and were never damaged."""
    for i, photo in enumerate(photos):
        g = _generator(seed + i)
        image = scanned(whole(weathered(photo, g, strength=STRENGTH)), g, strength=STRENGTH).image
        yield Case(image, torch.zeros_like(image[:1]))


class Spoiled(NamedTuple):
    """An old photograph before it was damaged (3, H, W), and after, with its exact damage."""

    whole: Tensor
    damaged: Damaged


def spoiled_photos(photos: Sequence[Tensor], stamps: Sequence[Tensor], seed: int) -> Iterator[Spoiled]:
    """Old photographs and holes in them: scratches, hairs, dust, folds, tears and stamps, not scanned again."""
    for i, photo in enumerate(photos):
        g = _generator(seed + i)
        clean = weathered(photo, g, strength=STRENGTH)
        yield Spoiled(clean, damaged(clean, g, HOLES, stamps=stamps, strength=STRENGTH))


def hole_cases(photos: Sequence[Tensor], stamps: Sequence[Tensor], seed: int) -> Iterator[Case]:
    """Old photographs, of whose damage that counts which hides the picture and can be seen.

    Stains and the rim of a print are no damage; where they hide as much as a hole would, it is not counted. Nor is what
    is thick and yet shows the picture below: `train.scratches.truth_of`, as detectors are trained.
    """
    for i, photo in enumerate(photos):
        g = _generator(seed + i)
        clean = weathered(photo, g, strength=STRENGTH)
        below = damaged(clean, g, {name: DAMAGED[name] for name in SOFT}, strength=STRENGTH)
        above = damaged(below.image, g, HOLES, stamps=stamps, strength=STRENGTH)
        hidden = (luma(below.image) - luma(clean)).abs() > HIDDEN
        truth = truth_of(above, below.image).masked_fill(hidden & ~above.damage, -1)
        yield Case(scanned(above, g, strength=STRENGTH).image, truth)


def cases_of(kind: str, photos: Sequence[Tensor], seed: int) -> Iterator[Case]:
    """Photographs with one kind of damage alone; what is too faint to be seen does not count."""
    for i, photo in enumerate(photos):
        g = _generator(seed + i)
        below = weathered(photo, g, strength=STRENGTH)
        canvas = DAMAGING[kind](below, STRENGTH, g)
        yield Case(scanned(canvas, g, strength=STRENGTH).image, truth_of(canvas, below))


def photos_in(folder: Path, size: int, count: int) -> list[Tensor]:
    """The middle `size` px of photos; those that are smaller as they are. The first ones again if there are too few."""
    files = images_in(folder)
    return [_middle(read_photo(files[i % len(files)]).rgb, size) for i in range(count)]


class Met(NamedTuple):
    """How marks and damage met, in px: what is at most 2 px away counts as met."""

    marked: int = 0
    right: int = 0
    damaged: int = 0
    found: int = 0

    def plus(self, other: Met) -> Met:
        return Met(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def precision(self) -> float:
        return self.right / max(1, self.marked)

    @property
    def recall(self) -> float:
        return self.found / max(1, self.damaged)

    @property
    def f1(self) -> float:
        return 2 * self.precision * self.recall / max(1e-12, self.precision + self.recall)


def met(hole: Tensor, truth: Tensor, tolerance_px: int = TOLERANCE_PX) -> Met:
    """How the marks (1, H, W) bool met the truth of a `Case`."""
    damage, said = truth > 0, truth >= 0
    near_damage, near_marks = ~grown(~damage, tolerance_px), ~grown(~hole, tolerance_px)
    hole = hole & said
    pixels = (hole, hole & near_damage, damage, damage & near_marks)
    return Met(*(int(x.sum()) for x in pixels))


def _middle(image: Tensor, size: int) -> Tensor:
    top, left = (max(0, (side - size) // 2) for side in image.shape[1:])
    return image[:, top : top + size, left : left + size]


def _generator(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)
