"""A prior that looks at what is known before it guesses the rest."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .prior import Network, NetworkPrior
from .process import Denoised
from .schedule import Schedule, State

CLEAR = 0.5  # alpha_bar from which on x_t is more image than noise
RIDGE = 0.1  # of 1 - alpha_bar, about the most that C can have: what is less, the derivative does not know

Answer = Callable[..., Tensor]
"""(x_t (B, C, H, W), t, known, keep[, labels (B,)]) -> (B, C, H, W) x_0, or (B, 2 C, H, W) with its var_mix."""


@dataclass(frozen=True, eq=False)
class Conditioned:
    """A `Denoiser` whose x_0 is the mean of the images that lie behind x_t and agree with the known pixels.

    Attributes:
        answer: from `conditioned`.
        known: (B, C, H, W) in [-1, 1]; what stands in its holes is never looked at.
        keep: (B, 1, H, W), 1 = known; weights between 0 and 1 count for less.
        labels: (B,) class of each image, or (1,) for all of them; for priors that know classes.
    """

    answer: Answer
    schedule: Schedule
    known: Tensor
    keep: Tensor
    labels: Tensor | None = None

    def of(self, known: Tensor, keep: Tensor) -> Conditioned:
        """The same of other pixels that are known: of a canvas of another size, or of windows."""
        return replace(self, known=known, keep=keep)

    def __call__(self, x_t: Tensor, t: State) -> Denoised:
        labels = () if self.labels is None else (self.labels.expand(len(x_t)),)
        return Denoised(*self.answer(x_t, t, self.known, self.keep, *labels).split(x_t.shape[1], dim=1))


def conditioned(prior: NetworkPrior, steps: int, *, noisy_steps: int = 1) -> Answer:
    """What a prior answers when it is told what is known (Boys et al. 2023, Tweedie moment projection).

    The images behind x_t are taken to be normal: their mean is the prior's x_0, and their covariance, by Tweedie's
    formula of the second moment, C = (1 - bar) / sqrt(bar) d x_0 / d x_t. So those that agree with the known pixels
    y = K x_0 have the mean

        x_0 + C K' (K C K' + r)^-1 (y - K x_0), with a small r.

    C is never written down: a product with it is one pass back through the network, and `steps` of conjugate gradients
    (Rozet et al. 2024) solve the equation as far as they get. Above as much noise as image one is enough: there the
    derivative is a covariance only nearly, and more of them follow what the network has not learned.

    Args:
        steps: passes back through the network for each one forward, where there is more image than noise; at least 1.
        noisy_steps: where there is more noise.

    Raises:
        ValueError: by what is returned, if the network's answer has no derivative.
    """
    unclipped = replace(prior, clip=False, network=_derivable(prior.network))  # what is clipped has no derivative

    def answer(x_t: Tensor, t: State, known: Tensor, keep: Tensor, *labels: Tensor) -> Tensor:
        bar = prior.schedule.bar(t)
        passes = steps if bar > CLEAR else noisy_steps
        told = replace(unclipped, labels=labels[0]) if labels else unclipped
        with torch.inference_mode(False), torch.enable_grad():
            x = x_t.detach().clone().requires_grad_()
            x_0, var_mix, _ = told(x, t)

            def covaried(v: Tensor) -> Tensor:
                (back,) = torch.autograd.grad(x_0, x, v, retain_graph=True)
                return (1 - bar) / math.sqrt(bar) * back

            K, alone = keep.to(x_0), x_0.detach()
            missed = K * torch.where(K > 0, known - alone, 0)  # or what is no number in a hole would spread
            x_0_seen = alone + solved(covaried, missed, K, passes, ridge=RIDGE * (1 - bar))
        if prior.clip:
            x_0_seen = x_0_seen.clamp(-1, 1)
        return x_0_seen if var_mix is None else torch.cat([x_0_seen, var_mix.detach()], dim=1)

    return answer


def solved(C: Callable[[Tensor], Tensor], missed: Tensor, keep: Tensor, steps: int, *, ridge: float) -> Tensor:
    """C K' (K C K' + `ridge`)^-1 `missed`, by conjugate gradients (Hestenes & Stiefel 1952); one image after the other.

    Args:
        C: maps (B, C, H, W) to the same, each image for itself: symmetric and positive, or nearly so.
        missed: (B, C, H, W), 0 where nothing is known.
        keep: (B, 1, H, W), K.
    """
    found = torch.zeros_like(missed)
    left, along = missed, missed
    size = _dot(left, left)
    for _ in range(steps):
        C_along = C(along)
        rise = keep * C_along + ridge * along
        steep = _dot(along, rise)
        is_sound = steep > 0.5 * ridge * _dot(along, along)  # no covariance has less; an image with no rest has none
        step = torch.where(is_sound, size / steep.where(is_sound, 1), 0)
        found = found + step * C_along
        left = left - step * rise
        size, before = _dot(left, left), size
        along = left + size / before.where(before > 0, 1) * along
    return found


def _derivable(network: Network) -> Network:
    def asked(x_t: Tensor, *told: Tensor) -> Tensor:
        said = network(x_t, *told)
        if not said.requires_grad:
            raise ValueError(
                "conditioning must know the derivative of the network, and its answer has none (no_grad, detach, or "
                "computed elsewhere); without it, conditioning: 0 is right"
            )
        return said

    return asked


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """(B, 1, 1, 1) of a and b (B, C, H, W)."""
    return (a * b).sum((1, 2, 3), keepdim=True)
