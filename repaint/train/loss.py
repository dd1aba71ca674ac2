"""The hybrid loss of a prior that learns its variance (Nichol & Dhariwal 2021, section 3.1: L_simple + lambda L_vlb).

Unlike there, the first state is a KL to the posterior too, not a likelihood of levels; the guess of x_0 is kept in
[-1, 1], as samplers keep it; and weights over noise levels are divided by their mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..diffusion import Schedule
from .prior_settings import Weighting

VLB_SHARE = 0.001  # lambda of the paper


class HybridLoss(nn.Module):
    """What a network that answers (eps, variance mix) is told of x_0 with noise on it.

    Args:
        weighting: of the simple loss over noise levels, up to a factor. p2: (1 + SNR)^-1 (Choi et al. 2022,
            k = gamma = 1); min-snr: min(SNR, 5) / SNR (Hang et al. 2023); debiased: SNR^-1/2 (Yu et al. 2024), which
            looks most at the noisiest states, where colours are decided.
    """

    def __init__(self, schedule: Schedule, weighting: Weighting) -> None:
        super().__init__()
        states = range(1, schedule.T + 1)
        bar = schedule.alpha_bar[1:]
        before, beta = schedule.alpha_bar[:-1], 1 - bar / schedule.alpha_bar[:-1]
        low = torch.tensor([schedule.posterior_variance(t) for t in states], dtype=torch.float64).log()
        snr = bar / (1 - bar)
        weight = {
            "simple": torch.ones_like(snr),
            "p2": 1 / (1 + snr),
            "min-snr": snr.clamp(max=5) / snr,
            "debiased": snr.rsqrt(),
        }[weighting]
        tables = {
            "signal": bar.sqrt(),
            "noise": (1 - bar).sqrt(),
            "low": low,
            "high": beta.log(),
            "on_x_0": before.sqrt() * beta / (1 - bar),
            "weight": weight / weight.mean(),
        }
        self.T = schedule.T
        for name, table in tables.items():
            self.register_buffer(f"_{name}", table.float(), persistent=False)
        self._tables = tuple(tables)

    def forward(
        self,
        network: Callable[..., Tensor],
        x_0: Tensor,
        index: Tensor,
        eps: Tensor,
        labels: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The loss and its simple part, (B,) each.

        Args:
            x_0: (B, C, H, W) in [-1, 1].
            index: (B,) 0-based noise levels, as the network is told them.
            eps: the noise, like `x_0`.
            labels: (B,) classes, for networks that are told them.
        """
        at = {name: self.get_buffer(f"_{name}")[index][:, None, None, None] for name in self._tables}
        x_t = at["signal"] * x_0 + at["noise"] * eps
        answer = network(x_t, index) if labels is None else network(x_t, index, labels)
        guess, mix = answer.float().chunk(2, dim=1)
        simple = (guess - eps).square().mean((1, 2, 3))
        x_0_guess = ((x_t - at["noise"] * guess.detach()) / at["signal"]).clamp(-1, 1)
        gap = at["on_x_0"] * (x_0 - x_0_guess)
        share = (mix + 1) / 2
        log_var = share * at["high"] + (1 - share) * at["low"]
        kl = 0.5 * (log_var - at["low"] + (at["low"] - log_var).exp() - 1 + gap.square() * (-log_var).exp())
        vlb = kl.mean((1, 2, 3)) / math.log(2)
        return self.get_buffer("_weight")[index] * simple + VLB_SHARE * self.T * vlb, simple
