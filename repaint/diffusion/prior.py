"""A network that predicts noise, seen as a `Denoiser`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .process import Denoised
from .schedule import Schedule, State

Network = Callable[..., Tensor]
"""(x_t (B, C, H, W), network_t (1,)[, labels (B,)]) -> (B, C, H, W), or (B, 2 C, H, W) with learned variance."""


@dataclass(frozen=True, eq=False)
class NetworkPrior:
    """What a network says of x_t: eps, perhaps a learned variance, for a class if it knows classes.

    Attributes:
        network: sees x_t and the schedule's `network_t`; told `labels` too unless they are None.
        labels: (B,) class of each image, or (1,) for all of them; for class-conditional networks.
        predicts: what the first C channels are: the noise, the clean image, or v (Salimans & Ho 2022).
        fixed_var_mix: where the variance stands when it is not learned: 0 = posterior variance, 1 = beta.
        use_learned_var: listen to the variance the network has learned, if it has; else `fixed_var_mix` stands.
        clip: keep x_0 within [-1, 1].
    """

    network: Network
    schedule: Schedule
    labels: Tensor | None = None
    predicts: Literal["eps", "x_0", "v"] = "eps"
    fixed_var_mix: float = 0.0
    clip: bool = True
    use_learned_var: bool = True

    def respaced(self, steps: int | str) -> NetworkPrior:
        return replace(self, schedule=self.schedule.respaced(steps))

    def __call__(self, x_t: Tensor, t: State) -> Denoised:
        told = torch.tensor([self.schedule.network_t[t]], device=x_t.device)
        answer = (
            self.network(x_t, told) if self.labels is None else self.network(x_t, told, self.labels.expand(len(x_t)))
        )
        guess, *rest = answer.split(x_t.shape[1], dim=1)
        x_0 = self._x_0(x_t, guess, self.schedule.bar(t))
        if rest and self.use_learned_var:
            return Denoised(x_0, var_mix=(rest[0] + 1) / 2)
        return Denoised(x_0, var_mix=torch.full_like(x_0, self.fixed_var_mix) if self.fixed_var_mix else None)

    def _x_0(self, x_t: Tensor, guess: Tensor, bar: float) -> Tensor:
        if self.predicts == "eps":
            guess = math.sqrt(1 / bar) * x_t - math.sqrt(1 / bar - 1) * guess
        elif self.predicts == "v":
            guess = math.sqrt(bar) * x_t - math.sqrt(1 - bar) * guess
        return guess.clamp(-1, 1) if self.clip else guess


@dataclass(frozen=True, eq=False)
class Guided:
    """A prior steered towards labels by a classifier of noisy images (Dhariwal & Nichol 2021, section 4).

    Attributes:
        classifier: (x_t, network_t (1,)) -> logits (B, classes).
        labels: (B,) the class each image is steered to, or (1,) for all of them.
        scale: how strongly; 1 is Bayes' rule.
    """

    prior: NetworkPrior
    classifier: Callable[[Tensor, Tensor], Tensor]
    labels: Tensor
    scale: float = 1.0

    @property
    def schedule(self) -> Schedule:
        return self.prior.schedule

    def __call__(self, x_t: Tensor, t: State) -> Denoised:
        return self.prior(x_t, t)._replace(score=self._score(x_t, t))

    def _score(self, x_t: Tensor, t: State) -> Tensor:
        told = torch.tensor([self.schedule.network_t[t]], device=x_t.device)
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            log_p = F.log_softmax(self.classifier(x, told).float(), dim=-1)
            chosen = log_p.gather(1, self.labels.expand(len(x))[:, None]).sum()
            return torch.autograd.grad(chosen, x)[0] * self.scale


def image_by_image(network: Network) -> Network:
    """The network shown one image of the batch after the other.

    Kernels sum in another order for each batch size; this way a picture's bits do not depend on its neighbours.
    On a CPU it costs a small network a fifth of its speed at batch 8, a large one nothing.
    """

    def each(x_t: Tensor, t: Any, *labels: Tensor) -> Tensor:
        one = [network(x_t[i : i + 1], t, *(y[i : i + 1] for y in labels)) for i in range(len(x_t))]
        return one[0] if len(one) == 1 else torch.cat(one)

    return each
