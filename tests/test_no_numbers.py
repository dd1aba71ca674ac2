"""Pixels that are no numbers, as scientific data mark what is missing."""

import dataclasses

import torch

from repaint.stages.inpaint import Inpaint

from . import tiny


def test_what_is_no_number_in_a_hole_does_no_harm(tmp_path):
    prior = tiny.checkpoint(tmp_path / "p.safetensors", num_channels=32, channel_mult="1,1")
    walk = {"repaint": {"t_T": 4, "jump_length": 2, "jump_n_sample": 1}}
    stage = Inpaint.model_validate({"prior": str(prior), "sampler": walk}).build("cpu")
    photo = tiny.photo(40, 40, (5, 5, 12, 30))
    spoiled = dataclasses.replace(photo, rgb=torch.where(photo.keep > 0, photo.rgb, torch.nan))
    ends = []
    for each in (photo, spoiled):
        *_, last = stage([each], [0])
        ends.append(last.photos[0].rgb)
    assert torch.equal(*ends)
