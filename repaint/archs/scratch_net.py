"""Our scratch detector: is this pixel of a grey photo damaged?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from . import hourglass
from .hourglass import Hourglass, hourglass_layout, is_whole, mirrored_to
from .shapes import State


@dataclass(frozen=True)
class ScratchNetConfig:
    """Hyper-parameters of a scratch detector.

    Attributes:
        channels: of the full-size level; a multiple of 8.
        multipliers: of `channels`, for each level, the full size first.
        blocks: residual blocks per level, on the way down and again on the way up.
        patch: side in px of the squares that are one place for the network, their pixels its channels: the finest
            level is 1 / patch of the photo's size, at 1 / patch ** 2 of the price; every pixel gets its own answer.
        hinted: also shown a hint: what it found in the photo at half the size.
    """

    channels: int = 24
    multipliers: tuple[int, ...] = (1, 2, 4, 6, 8)
    blocks: int = 1
    patch: int = 1
    hinted: bool = False


class ScratchNet(Hourglass):
    """Logits (B, 1, H, W) of damage in luma (B, 1, H, W) in [0, 1], of any size.

    One that takes hints may be shown (B, 2, H, W), luma and a hint: the probability of damage that it gave the photo
    at half the size, enlarged. Without one nothing is known, which is 0.5 everywhere.

    Norms look at all they are shown: show it tiles of about the size that it was trained on.
    """

    def __init__(self, config: ScratchNetConfig) -> None:
        super().__init__(
            (1 + config.hinted) * config.patch**2, config.patch**2, config.channels, config.multipliers, config.blocks
        )
        self.config = config
        self.multiple_of *= config.patch

    def forward(self, x: Tensor) -> Tensor:
        H, W = x.shape[-2:]
        if self.config.hinted and x.shape[1] == 1:
            x = torch.cat([x, torch.full_like(x, 0.5)], 1)
        whole = F.pixel_unshuffle(2 * mirrored_to(x, self.multiple_of) - 1, self.config.patch)
        return F.pixel_shuffle(super().forward(whole), self.config.patch)[..., :H, :W]


def detect(state: State) -> ScratchNetConfig:
    """The hyper-parameters of a scratch detector of ours, read from its shapes.

    Raises:
        ValueError: if the state dict is not of one; names what is missing.
    """
    channels, multipliers, blocks = hourglass_layout(state, "a scratch detector of ours")
    seen, said = state["stem.weight"].shape[1], state["last.2.weight"].shape[0]
    patch, hinted = math.isqrt(said), seen == 2 * said
    if patch**2 != said or seen not in (said, 2 * said):
        raise ValueError(
            f"not a scratch detector of ours: stem.weight sees {seen} channels and last.2.weight makes {said}; "
            "the latter must be a square of pixels, and the former as many, or twice as many with a hint"
        )
    if "middle.0.qkv.weight" in state:
        raise ValueError("not a scratch detector of ours: it has attention (middle.0.qkv.weight)")
    return ScratchNetConfig(channels, multipliers, blocks, patch, hinted)


def build(config: ScratchNetConfig) -> ScratchNet:
    return ScratchNet(config)


def hint(found: Tensor, like: Tensor) -> Tensor:
    """What was found (B, 1, h, w) in a smaller copy of what is to be looked at next, at the size of the latter."""
    return F.interpolate(found, like.shape[-2:], mode="bilinear")


def grown_into(network: ScratchNet, state: State) -> dict[str, Tensor]:
    """As `hourglass.grown_into`; a smaller detector may take no hints, too."""
    known = dict(state)
    if not is_whole(known, build(detect(state))):
        return known
    if network.config.hinted and (stem := known["stem.weight"]).shape[1] == known["last.2.weight"].shape[0]:
        known["stem.weight"] = torch.cat([stem, torch.zeros_like(stem)], 1)
    return hourglass.grown_into(network, known)
