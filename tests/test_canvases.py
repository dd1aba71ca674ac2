"""Which parts of a photo are worked on: holes far apart are independent work."""

import pytest
import torch

from repaint import Inpaint
from repaint.masks import make_mask
from repaint.stages.native import canvases

from . import tiny

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


FAR_APART = ((20, 20, 23, 24), (150, 200, 152, 230), (10, 250, 40, 280))  # canvases of three shapes


def filled(weights, **settings):
    short = {"repaint": {"t_T": 4, "jump_length": 2, "jump_n_sample": 1}}
    stage = Inpaint.model_validate({"prior": str(weights), "sampler": short, **settings}).build("cpu", batch_size=2)
    photo = tiny.photo(180, 300, *FAR_APART)
    return photo, list(stage([photo, photo], [5, 5]))[-1]


@pytest.mark.parametrize("label", [1, "random"])
def test_canvases_of_a_photo_may_differ_in_shape_whatever_the_prior_knows(tmp_path, label):
    weights = tiny.checkpoint(tmp_path / "classes.safetensors", **tiny.CLASSES)
    photo, progress = filled(weights, label=label)
    one, two = progress.photos
    assert torch.equal(one.rgb, two.rgb)
    assert (one.rgb != photo.rgb).any(0)[~photo.keep[0]].float().mean() > 0.9
    assert torch.equal(torch.where(photo.keep, one.rgb, 0), torch.where(photo.keep, photo.rgb, 0))


def test_all_canvases_of_a_photo_are_filled_and_counted(tmp_path):
    weights = tiny.checkpoint(tmp_path / "prior.safetensors")
    photo, progress = filled(weights)
    assert progress.done == progress.total == sum(progress.calls)
    assert progress.calls[0] == progress.calls[1] > 0
    one, two = progress.photos
    assert torch.equal(one.rgb, two.rgb)
    assert torch.equal(torch.where(photo.keep, one.rgb, 0), torch.where(photo.keep, photo.rgb, 0))
    for top, left, bottom, right in FAR_APART:
        assert (one.rgb != photo.rgb)[:, top:bottom, left:right].any()
