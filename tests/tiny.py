"""Networks, priors, checkpoints and photos small enough to run in every test."""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from repaint.archs import classifier, unet
from repaint.diffusion import Denoised, Schedule, State
from repaint.image import Photo

from .oracle import networks

SIZE = 16
UNET = {  # the keys of published configs, as the oracle takes them
    "image_size": SIZE,
    "num_channels": 64,  # with 32, GroupNorm would hide mistakes: see oracle.networks.randomised
    "num_res_blocks": 1,
    "channel_mult": "1,2",
    "attention_resolutions": "8",
    "num_head_channels": 32,
}
CLASSIFIER = {
    "image_size": SIZE,
    "classifier_width": 64,
    "classifier_depth": 1,
    "classifier_attention_resolutions": "8",
    "channel_mult": "1,2",
    "num_head_channels": 32,
    "num_classes": 5,
}
CLASSES = {"class_cond": True, "num_classes": 5}
DIFFUSERS = {  # of a UNet2DModel
    "sample_size": SIZE,
    "block_out_channels": (32, 32),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 8,
}
HINTS = ("num_head_channels", "num_heads", "num_heads_upsample", "use_new_attention_order")  # shapes do not tell


def oracle_unet(seed: int = 0, **changed: Any) -> networks.UNet:
    return networks.randomised(networks.unet(**{**UNET, **changed}), seed)


def oracle_classifier(seed: int = 0, **changed: Any) -> networks.Classifier:
    return networks.randomised(networks.classifier(**{**CLASSIFIER, **changed}), seed)


def our_unet(theirs: networks.UNet, **changed: Any) -> unet.UNet:
    """Our network with the weights of the oracle's, its architecture detected."""
    state = theirs.state_dict()
    network = unet.build(unet.detect(state, hints(**changed)))
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def our_classifier(theirs: networks.Classifier, **told: Any) -> classifier.Classifier:
    state = theirs.state_dict()
    network = classifier.build(classifier.detect(state, {"num_head_channels": 32, **told}))
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def hints(**changed: Any) -> dict[str, Any]:
    told = {**UNET, **changed}
    return {name: told[name] for name in HINTS if name in told}


def checkpoint(path: Path, seed: int = 0, **changed: Any) -> Path:
    """A .safetensors or .pt file with the weights of `oracle_unet`; the former says its architecture."""
    network = networks.randomised(networks.unet(**{**UNET, **changed}), seed)
    return saved(path, network.state_dict(), {"image_size": SIZE, **hints(**changed)})


def saved(path: Path, state: dict[str, Tensor], architecture: dict[str, Any]) -> Path:
    if path.suffix == ".safetensors":
        save_file({k: v.contiguous() for k, v in state.items()}, path, {"architecture": json.dumps(architecture)})
    else:
        torch.save(state, path)
    return path


class Malicious:
    """Unpickled, it makes a file: proof that code has run."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


class Spy:
    """The perfect denoiser of images that are all grey (0); remembers the noise it was shown, and when.

    Attributes:
        seen: standard deviation of x_t, by state, in the order of the calls.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.seen: dict[State, list[float]] = defaultdict(list)

    def __call__(self, x_t: Tensor, t: State) -> Denoised:
        self.seen[t].append(x_t.std().item())
        return Denoised(torch.zeros_like(x_t))


class Gaussian:
    """The perfect denoiser of images whose columns are independent draws from N(mean, covariance).

    Args:
        mean: (H,).
        covariance: (H, H).
    """

    def __init__(self, schedule: Schedule, mean: Tensor, covariance: Tensor) -> None:
        self.schedule, self.mean, self.covariance = schedule, mean, covariance

    def __call__(self, x_t: Tensor, t: State) -> Denoised:
        """E[x_0 | x_t], by Bayes' rule."""
        bar = self.schedule.bar(t)
        gain = (
            math.sqrt(bar) * self.covariance @ (bar * self.covariance + (1 - bar) * torch.eye(len(self.mean))).inverse()
        )
        mean = self.mean[:, None]
        return Denoised(mean + gain @ (x_t - math.sqrt(bar) * mean))

    def given(self, known: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance of the unknown rows, given the `values` of the `known` (H,) bool."""
        c, u = self.covariance, ~known
        gain = c[u][:, known] @ c[known][:, known].inverse()
        return self.mean[u] + gain @ (values - self.mean[known]), c[u][:, u] - gain @ c[known][:, u]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """N(0, 1), the same every time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def levels(height: int, width: int, *, bits: int = 8, seed: int = 0) -> Tensor:
    """(3, H, W) random pixels that a file of so many bits holds exactly."""
    full = 2**bits - 1
    drawn = torch.randint(full + 1, (3, height, width), generator=torch.Generator().manual_seed(seed))
    return drawn.float() / full


def photo(height: int, width: int, *holes: tuple[int, int, int, int], bits: int = 8, seed: int = 0) -> Photo:
    """Random pixels with rectangular holes (top, left, bottom, right)."""
    keep = torch.ones(1, height, width, dtype=torch.bool)
    for top, left, bottom, right in holes:
        keep[:, top:bottom, left:right] = False
    return Photo(levels(height, width, bits=bits, seed=seed), keep)
