"""The Gaussian steps everything is made of, in the papers' letters."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

from torch import Tensor

from .schedule import Schedule, State


class Denoised(NamedTuple):
    """What a prior says of x_t.

    Attributes:
        x_0: (B, C, H, W), the mean of the clean images that could lie behind x_t; in [-1, 1] if the prior clips.
        var_mix: (B, C, H, W), 0 = the posterior variance ... 1 = beta, between their logarithms (learned variance,
            Nichol & Dhariwal 2021, eq. 15); None is 0.
        score: (B, C, H, W), grad log p(label | x_t), times its scale, when a classifier guides.
    """

    x_0: Tensor
    var_mix: Tensor | None = None
    score: Tensor | None = None


class Denoiser(Protocol):
    """A prior over images, whatever its network predicts."""

    @property
    def schedule(self) -> Schedule: ...

    def __call__(self, x_t: Tensor, t: State) -> Denoised: ...


def q_sample(schedule: Schedule, x_0: Tensor, t: State, noise: Tensor) -> Tensor:
    """x_t, given x_0 (Ho et al. 2020, eq. 4)."""
    bar = schedule.bar(t)
    return math.sqrt(bar) * x_0 + math.sqrt(1 - bar) * noise


def q_step(schedule: Schedule, x_t: Tensor, t: State, noise: Tensor) -> Tensor:
    """x_{t+1}, given x_t (Ho et al. 2020, eq. 2)."""
    beta = schedule.beta(t + 1)
    return math.sqrt(1 - beta) * x_t + math.sqrt(beta) * noise


def p_step(schedule: Schedule, x_t: Tensor, t: State, denoised: Denoised, noise: Tensor) -> Tensor:
    """x_{t-1}, given x_t and what the prior says of it; the last step, to the clean image, adds no noise.

    Mean: Ho et al. 2020, eq. 7. Variance: Nichol & Dhariwal 2021, eq. 15. Guidance: Dhariwal & Nichol 2021, Alg. 1.
    """
    bar, bar_before, beta = schedule.bar(t), schedule.bar(t - 1), schedule.beta(t)
    on_x_0 = math.sqrt(bar_before) * beta / (1 - bar)
    on_x_t = math.sqrt(1 - beta) * (1 - bar_before) / (1 - bar)
    mean = on_x_0 * denoised.x_0 + on_x_t * x_t
    if t == 1 and denoised.score is None:
        return mean

    low, high = math.log(schedule.posterior_variance(t)), math.log(beta)
    std: Tensor | float = math.exp(0.5 * low)
    if denoised.var_mix is not None:
        std = (0.5 * (denoised.var_mix * (high - low) + low)).exp()
    if denoised.score is not None:
        mean = mean + std**2 * denoised.score
    return mean if t == 1 else mean + std * noise
