"""The stage from Python: with a network, devices and seeds of one's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from repaint import ConfigError, Inpaint
from repaint.diffusion import NetworkPrior, linear_schedule
from repaint.weights.load import LoadedPrior

from . import tiny


def test_a_network_of_ones_own_fills_holes():
    """It knows one picture, of one grey, and says of all noise that this lies behind it."""
    schedule, bars = linear_schedule(), linear_schedule().alpha_bar

    def network(x_t, step):
        bar = bars[int(step) + 1]
        return (x_t - bar.sqrt() * 0.5) / (1 - bar).sqrt()

    own = LoadedPrior(NetworkPrior(network, schedule), size=16, classes=0, sha256="mine")
    stage = Inpaint(sampler="fast", prior="not there").build("cpu", own_prior=own)
    photo = tiny.photo(20, 24, (4, 5, 11, 12))
    *_, last = stage([photo], [0])
    (after,) = last.photos
    assert torch.equal(after.rgb[:, photo.keep[0]], photo.rgb[:, photo.keep[0]])
    torch.testing.assert_close(after.rgb[:, ~photo.keep[0]], torch.full((3, 49), 0.75), atol=0.02, rtol=0)
    assert stage.weights == {"own prior": "mine"}


@pytest.mark.parametrize(
    ("device", "words"),
    [("cuda:1", "found 'cuda:1'; must be one of auto, cpu, cuda, mps"), (torch.device("cpu"), "found 'cpu'; must be")],
    ids=str,
)
def test_a_device_of_another_form_is_refused_with_those_there_are(device, words):
    with pytest.raises(ConfigError, match=words):
        Inpaint().build(device)


def test_a_precision_of_another_name_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match="found 'fp16'; must be one of float32, bfloat16, float16"):
        Inpaint().build("cpu", "fp16")


def test_seeds_are_whole_numbers_of_any_kind_one_for_each_photo():
    own = LoadedPrior(NetworkPrior(lambda x_t, step: x_t, linear_schedule()), size=16, classes=0, sha256="mine")
    stage = Inpaint(sampler="fast").build("cpu", own_prior=own)
    photo = tiny.photo(20, 24, (4, 5, 11, 12))
    fills = [list(stage([photo], [kind(3)]))[-1].photos[0].rgb for kind in (int, np.int64, np.uint8)]
    assert all(torch.equal(fill, fills[0]) for fill in fills)
    with pytest.raises(ValueError, match="a seed for each photo, found 2 for 1"):
        next(stage([photo], [0, 1]))
