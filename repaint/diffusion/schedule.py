"""Noise schedules: how much of the clean image is left at each state."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

State = int
"""Where on the way from image to noise: 0 = clean image, `schedule.T` = pure noise."""

SMALLEST_VARIANCE = 1e-20  # of a chain of one step, whose posterior variance is 0


@dataclass(frozen=True, eq=False)
class Schedule:
    """The forward process q(x_t | x_0) = N(sqrt(alpha_bar_t) x_0, 1 - alpha_bar_t).

    Attributes:
        alpha_bar: (T + 1,) float64, falling from `alpha_bar[0] == 1`, above 0.
        network_t: (T + 1,) what the network is told at each state; entry 0 is never used.
    """

    alpha_bar: Tensor
    network_t: tuple[int, ...]

    def __post_init__(self) -> None:
        bar = self.alpha_bar
        shaped = bar.ndim == 1 and len(bar) > 1 and bar.dtype == torch.float64
        if not shaped or bar[0] != 1 or not (bar.diff() < 0).all() or bar[-1] <= 0:
            raise ValueError(
                "alpha_bar must be (T + 1,) float64, fall strictly from alpha_bar[0] == 1 and stay above 0"
            )
        if len(self.network_t) != len(bar):
            raise ValueError(f"network_t must have {len(bar)} entries, one a state, got {len(self.network_t)}")

    @property
    def T(self) -> State:
        return len(self.alpha_bar) - 1

    def bar(self, t: State) -> float:
        """alpha_bar at state `t`, in 0..T."""
        if not 0 <= t <= self.T:
            raise ValueError(f"a state must lie in 0..{self.T}, got {t}")
        return self.alpha_bar[t].item()

    def beta(self, t: State) -> float:
        """The variance of q(x_t | x_{t-1}), for t in 1..T."""
        if not 1 <= t <= self.T:
            raise ValueError(f"a step leads to a state in 1..{self.T}, got {t}")
        return 1 - self.bar(t) / self.bar(t - 1)

    def posterior_variance(self, t: State) -> float:
        """The variance of q(x_{t-1} | x_t, x_0), for t in 1..T; at t = 1, where it is 0, that of t = 2 (Nichol &
        Dhariwal 2021)."""
        if not 1 <= t <= self.T:
            raise ValueError(f"a step leaves from a state in 1..{self.T}, got {t}")
        if self.T == 1:
            return SMALLEST_VARIANCE
        t = max(t, 2)
        return self.beta(t) * (1 - self.bar(t - 1)) / (1 - self.bar(t))

    def respaced(self, steps: int | str) -> Schedule:
        """The same process seen at fewer states; the network is still told the states it was trained with.

        Args:
            steps: how many states, or guided-diffusion's notation: '250', 'ddim50', or '10,20,30' for as many
                from each of equal sections; or 'quad25': ever closer to one another towards the image (Song et al.
                2021, appendix D.3).

        Raises:
            ValueError: if the chain has fewer states than asked for, `steps` is of no such form, or no whole stride
                takes as many as 'ddim50' asks.
        """
        kept = [0, *(t + 1 for t in spaced(self.T, steps))]
        return Schedule(self.alpha_bar[kept], tuple(self.network_t[t] for t in kept))


def linear_schedule(T: int = 1000) -> Schedule:
    """beta from 1e-4 to 0.02 over 1000 steps, scaled by 1000 / T for others (Ho et al. 2020).

    Raises:
        ValueError: if T is 2..20: its last steps would have variances of 1 and more.
    """
    scale = 1000 / T
    return from_betas(torch.linspace(scale * 1e-4, scale * 0.02, T, dtype=torch.float64))


def cosine_schedule(T: int = 1000) -> Schedule:
    """alpha_bar follows a squared cosine, s = 0.008, beta at most 0.999 (Nichol & Dhariwal 2021, eq. 17)."""
    angle = (torch.arange(T + 1, dtype=torch.float64) / T + 0.008) / 1.008 * math.pi / 2
    bar = angle.cos().square()
    return from_betas((1 - bar[1:] / bar[:-1]).clamp(max=0.999))


def from_betas(beta: Tensor) -> Schedule:
    """The schedule of the chain whose steps have the variances `beta` (T,).

    Raises:
        ValueError: if one does not lie between 0 and 1.
    """
    if not ((beta > 0) & (beta < 1)).all():
        low, high = beta.min().item(), beta.max().item()
        raise ValueError(f"beta must lie between 0 and 1 at each of {len(beta)} steps, found {low:g}..{high:g}")
    bar = torch.cat([beta.new_ones(1, dtype=torch.float64), (1 - beta.double()).cumprod(0)])
    return Schedule(bar, (0, *range(len(beta))))


def spaced(T: int, steps: int | str) -> list[int]:
    """Which of 0..T-1 a chain of `steps` keeps, as guided-diffusion spaces them: strides summed, then rounded."""
    text = str(steps)
    if text.startswith("ddim"):
        wanted = _count(text[4:], text)
        for stride in range(1, T):
            if len(range(0, T, stride)) == wanted:
                return list(range(0, T, stride))
        raise ValueError(f"no whole stride takes {wanted} of {T} states, as {text!r} asks")
    if text.startswith("quad"):
        return _quadratic(T, _count(text[4:], text))
    counts = [_count(part, text) for part in text.split(",")]
    kept, start = [], 0
    for i, count in enumerate(counts):
        size = T // len(counts) + (i < T % len(counts))
        if count > size:
            raise ValueError(f"cannot take {count} of {size} states")
        stride = (size - 1) / (count - 1) if count > 1 else 1
        at = 0.0
        for _ in range(count):
            kept.append(start + round(at))
            at += stride
        start += size
    return kept


def _quadratic(T: int, count: int) -> list[int]:
    """The squares of evenly spaced numbers, from 0 to T - 1; no state twice."""
    if count > T:
        raise ValueError(f"cannot take {count} of {T} states")
    kept = [0]
    for i in range(1, count):
        kept.append(max(kept[-1] + 1, round((i / (count - 1)) ** 2 * (T - 1))))
    return kept


def _count(part: str, text: str) -> int:
    if not part.strip().isdigit() or int(part) < 1:
        raise ValueError(f"steps must look like 250, 'ddim50', '10,20,30' or 'quad25', got {text!r}")
    return int(part)
