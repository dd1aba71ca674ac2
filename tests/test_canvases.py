"""Which parts of a photo are worked on: holes far apart are independent work."""

import pytest
import torch

from repaint.masks import make_mask
from repaint.stages.native import canvases

SIZE = 16


def holes(height, width, *boxes):
    keep = torch.ones(1, height, width, dtype=torch.bool)
    for top, left, bottom, right in boxes:
        keep[:, top:bottom, left:right] = False
    return keep


@pytest.mark.parametrize("kind", ["wide", "narrow", "strokes", "scratches", "half", "expand"])
@pytest.mark.parametrize("sides", [(40, 50), (90, 300), (500, 70), (260, 256)])
def test_every_hole_is_in_exactly_one_canvas(kind, sides):
    keep = make_mask(kind, *sides, torch.Generator().manual_seed(3))
    seen = torch.zeros(keep.shape)
    for top, left, bottom, right in canvases(keep, SIZE):
        seen[:, top:bottom, left:right] += 1
    assert seen.max() <= 1
    assert (seen[~keep] == 1).all()


def test_holes_far_apart_get_canvases_of_their_own_with_context():
    found = canvases(holes(200, 300, (20, 20, 23, 24), (180, 280, 181, 290)), SIZE)
    assert found == [(12, 12, 31, 32), (172, 272, 189, 298)]


def test_holes_whose_surroundings_meet_share_a_canvas():
    assert canvases(holes(200, 300, (20, 20, 23, 60), (42, 20, 45, 24)), SIZE) == [(0, 0, 53, 80)]


def test_small_photo_is_worked_on_whole():
    assert canvases(holes(64, 60, (1, 1, 2, 2)), SIZE) == [(0, 0, 64, 60)]


def test_photo_without_a_hole_has_no_canvas():
    assert canvases(holes(64, 300), SIZE) == []


def test_soft_masks_have_canvases_too():
    assert canvases(torch.full((1, 100, 100), 0.5), SIZE) == [(0, 0, 100, 100)]
