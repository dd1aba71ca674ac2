"""A network of one's own does the work of a stage."""

from __future__ import annotations

import torch

from repaint import Inpaint
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
