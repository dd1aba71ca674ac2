"""Strips along the border of a photo, in pictures where they are known."""

import pytest
import torch
from torch import Tensor

from repaint.stages.margins import without_dark_rims


def box(top: int, left: int, bottom: int, right: int) -> Tensor:
    found = torch.zeros(1, 120, 160, dtype=torch.bool)
    found[:, top:bottom, left:right] = True
    return found


def picture(strip: Tensor, tone: float) -> Tensor:
    return torch.where(strip, tone, 0.5 + 0.02 * torch.randn(1, 120, 160, generator=torch.Generator().manual_seed(0)))


SPECK = box(60, 60, 64, 64)
STRIPS = {"top": box(0, 0, 3, 160), "left": box(20, 0, 110, 3), "bottom": box(117, 40, 120, 120)}


@pytest.mark.parametrize("side", STRIPS)
@pytest.mark.parametrize("turned", [False, True])
def test_a_dark_rim_is_no_mark_and_other_marks_stay(side, turned):
    rim = STRIPS[side]
    hole, light, left = rim | SPECK, picture(rim, 0.05), SPECK
    if turned:
        hole, light, left = (x.flip(1, 2) for x in (hole, light, left))
    assert torch.equal(without_dark_rims(hole, light), left)


def test_a_rim_may_have_gaps():
    rim = STRIPS["top"] & ~box(0, 70, 3, 73)
    assert not without_dark_rims(rim, picture(rim, 0.05)).any()


def test_a_piece_that_is_torn_off_beside_a_rim_stays_whole():
    torn = box(0, 40, 12, 60)
    marked = STRIPS["top"] | torn
    assert torch.equal(without_dark_rims(marked, picture(marked, 0.05)), torn)


@pytest.mark.parametrize(
    ("marked", "tone"),
    [
        (STRIPS["top"], 0.95),  # the worn rim of a print
        (STRIPS["top"], 0.47),  # no darker than the photo
        (box(0, 0, 12, 160), 0.05),  # too deep: torn off
        (box(0, 40, 120, 43), 0.05),  # a scratch from border to border
        (box(0, 40, 3, 52), 0.05),  # too short: a speck
        (box(20, 0, 23, 160), 0.05),  # a scratch along the photo
    ],
)
def test_what_is_no_dark_rim_stays(marked, tone):
    assert torch.equal(without_dark_rims(marked, picture(marked, tone)), marked)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 300), (1, 40, 8)])
def test_small_photos_and_strips(shape):
    hole = torch.ones(shape, dtype=torch.bool)
    assert torch.equal(without_dark_rims(hole, torch.zeros(shape)), hole)
    assert not without_dark_rims(~hole, torch.zeros(shape)).any()
