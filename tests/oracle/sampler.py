"""The published sampler for one image, in the plain array style: timestep *indices* from 0, tables in float64.

Index t is a noise level: 0 is the least noisy, T - 1 the most, -1 the clean image.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Array = np.ndarray


def betas(noise_schedule: str, steps: int) -> Array:
    """(steps,) betas of the full chain."""
    if noise_schedule == "linear":
        scale = 1000 / steps
        return np.linspace(scale * 1e-4, scale * 0.02, steps, dtype=np.float64)
    if noise_schedule == "cosine":

        def alpha_bar(time: float) -> float:
            return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

        return np.array([min(1 - alpha_bar((i + 1) / steps) / alpha_bar(i / steps), 0.999) for i in range(steps)])
    raise ValueError(f"unknown noise_schedule {noise_schedule!r}")


def space_timesteps(steps: int, respacing: str) -> list[int]:
    """The original indices that are kept, rising: '' all, 'N', 'ddimN', or 'a,b,c' for equal sections of the chain."""
    if not respacing:
        return list(range(steps))
    if respacing.startswith("ddim"):
        wanted = int(respacing.removeprefix("ddim"))
        for stride in range(1, steps):
            kept = list(range(0, steps, stride))
            if len(kept) == wanted:
                return kept
        raise ValueError(f"no integer stride takes {wanted} of {steps} steps")
    counts = [int(count) for count in respacing.split(",")]
    kept, start = [], 0
    for section, count in enumerate(counts):
        size = steps // len(counts) + (section < steps % len(counts))
        if count > size:
            raise ValueError(f"cannot take {count} steps from a section of {size}")
        stride = (size - 1) / (count - 1) if count > 1 else 1
        position = 0.0
        for _ in range(count):
            kept.append(start + round(position))
            position += stride  # summed, so that rounding errors fall as in the published code
        start += size
    return kept


def respaced_betas(full: Array, kept: list[int]) -> Array:
    """(len(kept),) betas of the chain that visits only the indices `kept` of the full one."""
    alpha_bar = np.cumprod(1 - full)[kept]
    return 1 - alpha_bar / np.append(1.0, alpha_bar[:-1])


def jump_schedule(
    t_T: int,
    n_sample: int = 1,
    jump_length: int = 1,
    jump_n_sample: int = 1,
    jump2_length: int = 1,
    jump2_n_sample: int = 1,
    jump3_length: int = 1,
    jump3_n_sample: int = 1,
    start_resampling: float = 1e8,
) -> list[int]:
    """The indices visited, from t_T - 1 to -1. Neighbours are one move: down by the network, up by noise."""

    def full_counts(length: int, passes: int) -> dict[int, int]:
        return dict.fromkeys(range(0, t_T - length, length), passes - 1)

    left = {
        1: full_counts(jump_length, jump_n_sample),
        2: full_counts(jump2_length, jump2_n_sample),
        3: full_counts(jump3_length, jump3_n_sample),
    }
    length = {1: jump_length, 2: jump2_length, 3: jump3_length}
    n_passes = {1: jump_n_sample, 2: jump2_n_sample, 3: jump3_n_sample}

    t = t_T - 1
    visited = [t]
    while True:
        if t + 1 < t_T - 1 and t <= start_resampling:
            visited += [t + 1, t] * (n_sample - 1)
        for loop in (3, 2, 1):
            if left[loop].get(t, 0) > 0 and t <= start_resampling - length[loop]:
                left[loop][t] -= 1
                visited += range(t + 1, t + length[loop] + 1)
                t += length[loop]
                for inner in range(loop + 1, 4):
                    left[inner] = full_counts(length[inner], n_passes[inner])
        t -= 1
        visited.append(t)
        if t < 0:
            return visited


class Tables:
    """What the steps of one respaced chain need, in float64, by index."""

    def __init__(self, beta: Array) -> None:
        alpha_bar = np.cumprod(1 - beta)
        alpha_bar_prev = np.append(1.0, alpha_bar[:-1])
        posterior_variance = beta * (1 - alpha_bar_prev) / (1 - alpha_bar)
        clipped = np.append(posterior_variance[1], posterior_variance[1:])
        self.sqrt_beta = np.sqrt(beta)
        self.sqrt_alpha = np.sqrt(1 - beta)
        self.sqrt_alpha_bar = np.sqrt(alpha_bar)
        self.sqrt_one_minus_alpha_bar = np.sqrt(1 - alpha_bar)
        self.x_0_from_x_t = np.sqrt(1 / alpha_bar)
        self.x_0_from_eps = np.sqrt(1 / alpha_bar - 1)
        self.mean_from_x_0 = beta * np.sqrt(alpha_bar_prev) / (1 - alpha_bar)
        self.mean_from_x_t = (1 - alpha_bar_prev) * np.sqrt(1 - beta) / (1 - alpha_bar)
        self.log_beta = np.log(beta)
        self.log_variance_clipped = np.log(clipped)
        self.log_variance_large = np.log(np.append(posterior_variance[1], beta[1:]))


def at(table: Array, t: int) -> Tensor:
    return torch.tensor(table[t], dtype=torch.float32)


def class_gradient(classifier: Callable[..., Tensor], x_t: Tensor, network_t: Tensor, y: Tensor) -> Tensor:
    """Gradient of log p(y | x_t) with respect to x_t."""
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        log_p = functional.log_softmax(classifier(x, network_t), dim=-1)[0, y[0]]
        return torch.autograd.grad(log_p, x)[0]


def draws(shape: torch.Size, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(shape, generator=generator)


@torch.no_grad()
def inpaint(
    model: Callable[..., Tensor],
    gt: Tensor,
    mask: Tensor,
    *,
    conf: Mapping[str, Any],
    seed: int,
    classifier: Callable[..., Tensor] | None = None,
    y: int | None = None,
) -> Tensor:
    """One image (1, 3, H, W) as the published code leaves it: about [-1, 1], known pixels not put back.

    Args:
        model: (x_t, t) -> eps and v, or (x_t, t, y) where `class_cond`; t is the original index, int64 (1,).
        gt: (1, 3, H, W) in [-1, 1].
        mask: 1 = keep, 0 = fill, anything between is mixed; of a shape that broadcasts to `gt`.
        conf: the published config's keys; absent ones have the value of the published files.
        seed: of this image, that is seed + i.
        classifier: (x_t, t) -> logits; used only where `classifier_scale` > 0.
    """
    for key in ("use_ddim", "predict_xstart", "rescale_timesteps", "inpa_inj_sched_prev_cumnoise"):
        if conf.get(key):
            raise ValueError(f"{key}: the published code has no such sampler")
    steps = conf.get("diffusion_steps", 1000)
    kept = space_timesteps(steps, str(conf.get("timestep_respacing", "250")))
    tables = Tables(respaced_betas(betas(conf.get("noise_schedule", "linear"), steps), kept))
    jumps = conf.get("schedule_jump_params", {"t_T": 250, "n_sample": 1, "jump_length": 10, "jump_n_sample": 10})
    if jumps["t_T"] > len(kept):
        raise ValueError(f"t_T {jumps['t_T']} is longer than the respaced chain of {len(kept)}")

    guidance_scale = conf.get("classifier_scale", 0.0) if classifier is not None else 0.0
    class_cond = conf.get("class_cond", False)
    if y is None and (class_cond or guidance_scale > 0):
        raise ValueError("class_cond and classifier guidance need y")
    label = None if y is None else torch.tensor([y])

    noise = draws(gt.shape, seed)
    x = next(noise)
    first = True
    for t, t_next in pairwise(jump_schedule(**jumps)):
        if t_next > t:
            x = at(tables.sqrt_alpha, t_next) * x + at(tables.sqrt_beta, t_next) * next(noise)
            continue

        posterior_noise = next(noise)
        if not first and conf.get("inpa_inj_sched_prev", True):
            known = at(tables.sqrt_alpha_bar, t) * gt + at(tables.sqrt_one_minus_alpha_bar, t) * next(noise)
            x = mask * known + (1 - mask) * x
        first = False

        network_t = torch.tensor([kept[t]])
        out = model(x, network_t, label) if class_cond else model(x, network_t)
        if conf.get("learn_sigma", True):
            eps, v = out.chunk(2, dim=1)
            frac = (v + 1) / 2
            log_variance = frac * at(tables.log_beta, t) + (1 - frac) * at(tables.log_variance_clipped, t)
        else:
            eps, log_variance = out, at(tables.log_variance_large, t)

        x_0 = at(tables.x_0_from_x_t, t) * x - at(tables.x_0_from_eps, t) * eps
        if conf.get("clip_denoised", True):
            x_0 = x_0.clamp(-1, 1)
        mean = at(tables.mean_from_x_0, t) * x_0 + at(tables.mean_from_x_t, t) * x
        if classifier is not None and label is not None and guidance_scale > 0:
            gradient = guidance_scale * class_gradient(classifier, x, network_t, label)
            mean = mean + log_variance.exp() * gradient
        x = mean if t == 0 else mean + (0.5 * log_variance).exp() * posterior_noise
    return x


def to_uint8(x: Tensor) -> Array:
    """(H, W, 3) uint8 of `x` (1, 3, H, W) in [-1, 1], cut off towards 0 as in the published code, not rounded."""
    return ((x + 1) * 127.5).clamp(0, 255).to(torch.uint8)[0].permute(1, 2, 0).contiguous().numpy()
