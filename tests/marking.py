"""A finder of damage that anyone can foretell: what is light is damage."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from repaint.faces import Dear
from repaint.image import Photo
from repaint.stages.detecting import Finder
from repaint.stages.scratches import Detected, Scratches

PLAIN = {"grow_px": 0, "min_area_px": 1, "protect_faces": False, "smallest_px": None, "thickest": None}
PLAIN |= {"second_look": False}


def finds_light(*, threshold: float = 0.5, **settings) -> Finder:
    """A finder to which all that is light is damage: the probability of a pixel is its luma."""
    return Finder(Scratches.model_validate({**PLAIN, **settings}), lambda light: light, threshold)


def dark(height: int = 24, width: int = 32, *light: tuple[int, int, int, int], **more) -> Photo:
    """A black photo with white boxes (top, left, bottom, right)."""
    rgb = torch.zeros(3, height, width)
    for top, left, bottom, right in light:
        rgb[:, top:bottom, left:right] = 1
    return Photo(rgb, **more)


def last(finder: Finder, *photos: Photo, protect: Sequence[Sequence[Dear]] = ()) -> Detected:
    *_, progress = finder.run(photos, protect or [()] * len(photos))
    return progress


def hole(finder: Finder, photo: Photo, protect: Sequence[Dear] = ()) -> Tensor:
    (found,) = last(finder, photo, protect=[protect]).photos
    assert found.keep is not None
    return found.keep < 1


def boxes(height: int, width: int, *marked: tuple[int, int, int, int]) -> Tensor:
    return dark(height, width, *marked).rgb[:1] > 0
