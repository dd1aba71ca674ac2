"""The loss of a prior: what its terms are, and how noise levels weigh."""

from typing import get_args

import pytest
import torch

from repaint.diffusion import linear_schedule
from repaint.train.loss import HybridLoss
from repaint.train.prior_settings import Weighting


def test_loss_of_a_network_that_knows_the_noise_is_nothing_but_the_variance_term():
    loss_of = HybridLoss(linear_schedule(), "simple")
    x_0, eps = torch.rand(4, 3, 8, 8) * 2 - 1, torch.randn(4, 3, 8, 8)
    index = torch.tensor([5, 100, 500, 999])

    def knowing(x_t, t):
        return torch.cat([eps, torch.full_like(eps, -1.0)], dim=1)  # the posterior variance: no gap, no divergence

    loss, simple = loss_of(knowing, x_0, index, eps)
    torch.testing.assert_close(simple, torch.zeros(4))
    torch.testing.assert_close(loss, torch.zeros(4), atol=1e-3, rtol=0)


@pytest.mark.parametrize("weighting", get_args(Weighting))
def test_weights_of_noise_levels_have_mean_one(weighting):
    loss_of = HybridLoss(linear_schedule(), weighting)
    eps = torch.randn(1000, 1, 1, 1)
    index = torch.arange(1000)

    def answer(x_t, t):  # eps off by 1 everywhere; the clean image is clamped, so that only the simple part is read
        return torch.cat([eps + 1, torch.zeros_like(eps)], dim=1)

    _, simple = loss_of(answer, torch.zeros_like(eps), index, eps)
    torch.testing.assert_close(simple, torch.ones(1000))
    assert loss_of.get_buffer("_weight").mean().item() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize(("weighting", "power"), [("simple", 0), ("p2", -1), ("min-snr", 0), ("debiased", -0.5)])
def test_how_noise_levels_weigh_where_there_is_hardly_any_signal_or_noise(weighting, power):
    """As powers of the SNR: of p2 where it is high, for it is level where it is low."""
    weight = HybridLoss(linear_schedule(), weighting).get_buffer("_weight")
    bar = linear_schedule().alpha_bar[1:]
    snr = bar / (1 - bar)
    here, there = (2, 12) if weighting == "p2" else (989, 999)
    assert (weight[here] / weight[there]).item() == pytest.approx((snr[here] / snr[there]).item() ** power, rel=0.02)
