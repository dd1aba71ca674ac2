"""Flakes that were marked in part, in pictures where they are known."""

import pytest
import torch
from torch import Tensor

from repaint.image import Photo
from repaint.stages.detecting import Finder
from repaint.stages.flakes import whole_flakes
from repaint.stages.scratches import Scratches


def picture(height: int = 120, width: int = 160) -> Tensor:
    """Luma of a dark, grained photo."""
    g = torch.Generator().manual_seed(0)
    return 0.3 + 0.03 * torch.randn(1, height, width, generator=g)


def box(like: Tensor, top: int, left: int, bottom: int, right: int) -> Tensor:
    found = torch.zeros(like.shape, dtype=torch.bool)
    found[:, top:bottom, left:right] = True
    return found


@pytest.mark.parametrize("tone", [0.9, 0.02])
def test_a_flake_of_which_half_was_marked_is_marked_whole(tone):
    light = picture()
    flake = box(light, 40, 50, 64, 90)
    light = torch.where(flake, tone + 0.02 * torch.rand(light.shape), light)
    marked = box(light, 40, 50, 64, 70)
    assert torch.equal(whole_flakes(marked, light), flake)


def test_a_piece_of_a_sky_is_no_mark():
    """Dark houses below, a white sky that goes on beyond the mark."""
    light = picture()
    light[:, :60] = 0.97
    corner, scratch = box(light, 0, 0, 60, 50), box(light, 80, 20, 82, 140)
    assert torch.equal(whole_flakes(corner | scratch, light), scratch)


def test_away_from_the_border_a_mark_of_the_tone_of_the_picture_stays_and_does_not_run_over():
    light = torch.full((1, 120, 160), 0.9)
    marked = box(light, 40, 50, 64, 70)
    assert torch.equal(whole_flakes(marked, light), marked)


def test_what_was_made_whole_is_no_sky_for_a_smaller_mark_in_it():
    light = picture()
    flake = box(light, 0, 0, 50, 40)
    light = torch.where(flake, 0.95, light)
    marked = box(light, 0, 0, 50, 22) | box(light, 0, 27, 9, 36)
    assert torch.equal(whole_flakes(marked, light), flake)


def test_a_mark_with_an_edge_stays_though_its_tone_goes_on_through_a_gap():
    light = picture()
    flake, shirt, gap = box(light, 0, 50, 24, 70), box(light, 30, 0, 120, 160), box(light, 24, 58, 30, 60)
    light = torch.where(flake | shirt | gap, 0.9, light)
    assert torch.equal(whole_flakes(flake, light), flake)


@pytest.mark.parametrize("marked", [(40, 50, 43, 90), (40, 50, 41, 51)])
def test_scratches_and_specks_stay_as_they_are(marked):
    light = picture()
    light = torch.where(box(light, 40, 40, 64, 100), 0.9, light)
    assert torch.equal(whole_flakes(box(light, *marked), light), box(light, *marked))


def test_a_mark_that_is_not_of_one_tone_stays_as_it_is():
    light = torch.rand(1, 120, 160, generator=torch.Generator().manual_seed(1))
    marked = box(light, 40, 50, 64, 70)
    assert torch.equal(whole_flakes(marked, light), marked)


def test_flakes_at_the_border_and_pictures_without_any():
    light = picture()
    flake = box(light, 0, 0, 20, 20)
    light = torch.where(flake, 0.95, light)
    assert torch.equal(whole_flakes(box(light, 0, 0, 20, 10), light), flake)
    none = torch.zeros_like(flake)
    assert torch.equal(whole_flakes(none, light), none)
    assert whole_flakes(~none, light).all()


def test_the_stage_fills_flakes_whole_but_not_what_is_dear():
    light = picture(60, 80)
    flake = box(light, 20, 20, 40, 60)
    light = torch.where(flake, 0.9, light)
    half = box(light, 20, 20, 40, 35)[None].float()
    finder = Finder(Scratches(smallest_px=None), lambda light: half, 0.5)
    photo = Photo(light.expand(3, -1, -1))
    for protect, first_kept in (([], 63), ([(15, 45, 45, 70)], 48)):
        *_, found = finder.run([photo], [protect])
        keep = found.photos[0].keep
        assert keep is not None
        assert not keep[:, 20:40, 20 : first_kept - 3].any()
        assert keep[:, :, first_kept:].all()
