"""RePaint: an unconditional prior fills holes by going down, and again and again back up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from .noise import Noise
from .process import Denoiser, p_step, q_sample, q_step
from .schedule import State


class Sample(NamedTuple):
    """Where the walk stands after a network call.

    Attributes:
        t: the state of `x_t`; 0 when done.
        x_t: (B, C, H, W), the image so far with the noise of its state.
        x_0: (B, C, H, W), what the prior took the clean image to be.
    """

    t: State
    x_t: Tensor
    x_0: Tensor


@torch.no_grad()
def repaint(
    denoiser: Denoiser,
    known: Tensor,
    keep: Tensor,
    times: Sequence[State],
    noise: Noise,
    *,
    start: Tensor | None = None,
) -> Iterator[Sample]:
    """Fill the holes of images by RePaint (Lugmayr et al. 2022, Algorithm 1); one `Sample` after each network call.

    Before every step down but the first the known pixels are put in with the noise of their state; the whole image
    takes that step, and each step up adds the noise of the state above: so fill and surroundings come to agree.
    The algorithm puts them in after a step, at t - 1; here that waits for the next step down: what steps up make of
    them in between is overwritten. After the last step nobody puts them in: the caller, who has them without noise,
    does.
    The draws follow the published code, number by number, as does the first step, which sees noise alone.

    Args:
        known: (B, C, H, W) in [-1, 1]; what stands in its holes is never looked at.
        keep: (B, 1, H, W), True = known; weights between 0 and 1 mix.
        times: the states to visit, from `time_travel`: neighbours one apart. For longer steps, respace the schedule.
        start: x_t at `times[0]`, to go on from an image with noise on it; pure noise without it.

    Raises:
        ValueError: if `times` leaves 0..T, or skips or repeats a state.
    """
    schedule = denoiser.schedule
    _check(times, schedule.T)
    keep = keep.to(known)
    known = torch.where(keep > 0, known, 0)  # or what is no number in a hole would spread
    fresh = start is None
    x_t = noise.like(known) if start is None else start
    for t, s in pairwise(times):
        if s > t:  # travel back up
            x_t = q_step(schedule, x_t, t, noise.like(x_t))
            continue
        step_noise = noise.like(x_t)
        if not fresh:
            x_t = keep * q_sample(schedule, known, t, noise.like(known)) + (1 - keep) * x_t
        fresh = False
        denoised = denoiser(x_t, t)
        x_t = p_step(schedule, x_t, t, denoised, step_noise)
        yield Sample(s, x_t, denoised.x_0)


def _check(times: Sequence[State], T: State) -> None:
    if outside := [t for t in times if not 0 <= t <= T]:
        raise ValueError(f"times must lie in 0..{T}, got {outside[0]}")
    if wrong := [(t, s) for t, s in pairwise(times) if abs(t - s) != 1]:
        raise ValueError(f"times must go one state up or down at a time, got {wrong[0][0]} and then {wrong[0][1]}")
