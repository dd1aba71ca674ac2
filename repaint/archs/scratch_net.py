"""Our scratch detector: is this pixel of a grey photo damaged?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from .hourglass import Hourglass, hourglass_layout, mirrored_to
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
    """

    channels: int = 24
    multipliers: tuple[int, ...] = (1, 2, 4, 6, 8)
    blocks: int = 1
    patch: int = 1


class ScratchNet(Hourglass):
    """Logits (B, 1, H, W) of damage in luma (B, 1, H, W) in [0, 1], of any size.

    Norms look at all they are shown: show it tiles of about the size that it was trained on.
    """

    def __init__(self, config: ScratchNetConfig) -> None:
        super().__init__(config.patch**2, config.patch**2, config.channels, config.multipliers, config.blocks)
        self.config = config
        self.multiple_of *= config.patch

    def forward(self, x: Tensor) -> Tensor:
        H, W = x.shape[-2:]
        whole = F.pixel_unshuffle(2 * mirrored_to(x, self.multiple_of) - 1, self.config.patch)
        return F.pixel_shuffle(super().forward(whole), self.config.patch)[..., :H, :W]


def detect(state: State) -> ScratchNetConfig:
    """The hyper-parameters of a scratch detector of ours, read from its shapes.

    Raises:
        ValueError: if the state dict is not of one; names what is missing.
    """
    channels, multipliers, blocks = hourglass_layout(state, "a scratch detector of ours")
    seen, said = state["stem.weight"].shape[1], state["last.2.weight"].shape[0]
    patch = math.isqrt(seen)
    if patch**2 != seen or said != seen:
        raise ValueError(
            f"not a scratch detector of ours: stem.weight sees {seen} channels and last.2.weight makes {said}; "
            "both must be those of luma alone, in squares of pixels"
        )
    if "middle.0.qkv.weight" in state:
        raise ValueError("not a scratch detector of ours: it has attention (middle.0.qkv.weight)")
    return ScratchNetConfig(channels, multipliers, blocks, patch)


def build(config: ScratchNetConfig) -> ScratchNet:
    return ScratchNet(config)
