"""Grey photos stay grey and sepia ones sepia, whatever colours the prior has in mind."""

import dataclasses

import pytest
import torch

from repaint import Inpaint, Photo
from repaint.colour import in_tone_of
from repaint.image import luma
from repaint.image.photo import Meta
from repaint.stages.toning import is_toned

from . import tiny


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    prior = tiny.checkpoint(tmp_path_factory.mktemp("w") / "p.safetensors", num_channels=32, channel_mult="1,1")
    sampler = {"repaint": {"t_T": 4, "jump_length": 2, "jump_n_sample": 1}}
    return Inpaint.model_validate({"prior": str(prior), "sampler": sampler}).build("cpu")


def filled(stage, rgb):
    keep = torch.ones(1, *rgb.shape[1:], dtype=torch.bool)
    keep[:, 10:14, 8:30] = False
    *_, last = stage([Photo(rgb, keep=keep)], [0])
    return last.photos[0].rgb[:, ~keep[0]], last.photos[0], keep


def test_a_hole_in_a_grey_photo_is_filled_with_greys_exactly(stage):
    hole, _, _ = filled(stage, torch.rand(1, 40, 40).expand(3, -1, -1))
    assert torch.equal(hole[0], hole[1])
    assert torch.equal(hole[1], hole[2])
    assert hole.std() > 0


@pytest.mark.parametrize("grey", [False, True])
def test_a_photo_of_which_nothing_is_known_is_grey_only_if_its_file_is(stage, grey):
    photo = Photo(torch.zeros(3, 40, 40), keep=torch.zeros(1, 40, 40, dtype=torch.bool), meta=Meta("png", grey=grey))
    *_, last = stage([photo], [0])
    rgb = last.photos[0].rgb
    assert bool((rgb[0] == rgb[1]).all()) == grey


def test_a_hole_in_a_sepia_photo_is_filled_with_its_sepia(stage):
    ramp = torch.rand(1, 40, 40) * 0.7 + 0.15
    hole, _, _ = filled(stage, torch.cat([ramp + 0.06, ramp, ramp - 0.08]))
    grey = luma(hole[..., None])[0, :, 0]
    expected = torch.stack([hole[0] - grey, hole[1] - grey, hole[2] - grey])
    inside = (hole > 0).all(0) & (hole < 1).all(0)
    torch.testing.assert_close(expected[:, inside].std(1), torch.zeros(3), atol=1e-3, rtol=0)
    assert (hole[0] > hole[2])[inside].all()


def test_a_photo_tinted_by_hand_keeps_its_tints_where_they_are(stage):
    ramp = torch.rand(1, 40, 40) * 0.7 + 0.15
    pink = torch.zeros(40, 40)
    pink[:, :16] = 1  # of 40 columns; the hole reaches from 8 to 30
    tint = torch.tensor([0.05, -0.02, -0.015])[:, None, None] * pink
    hole, photo, keep = filled(stage, torch.cat([ramp + 0.06, ramp, ramp - 0.08]) + tint)
    assert is_toned(photo, keep)
    inside = ((hole > 0) & (hole < 1)).all(0).reshape(4, 22)
    colour = (hole - luma(hole[..., None])[..., 0]).reshape(3, 4, 22)
    (tinted, plain) = (colour[:, :, part][:, inside[:, part]].mean(1) for part in (slice(0, 5), slice(-8, None)))
    torch.testing.assert_close(tinted - plain, tint[:, 0, 0] - luma(tint[:, :1, :1]).flatten(), atol=0.01, rtol=0)


def test_a_hole_in_a_colour_photo_is_filled_with_the_priors_colours(stage):
    hole, photo, keep = filled(stage, torch.rand(3, 40, 40))
    assert (hole[0] - hole[1]).std() > 0.01
    again = filled(stage, dataclasses.replace(photo).rgb)[1].rgb
    assert torch.equal(again[:, keep[0]], photo.rgb[:, keep[0]])


def test_a_fill_lighter_than_all_that_is_known_does_not_stray_from_the_tone():
    grey = torch.linspace(0.02, 0.4, 400)
    warm = torch.stack([grey + 0.3 * grey - 0.4 * grey**2, grey, grey - 0.25 * grey + 0.5 * grey**2])
    light = in_tone_of(torch.full((3, 4, 4), 0.95), warm)
    red, green, blue = light[:, 0, 0].tolist()
    assert red > green > blue
    assert red - blue < 0.2
