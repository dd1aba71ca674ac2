"""Our scratch detector: is this pixel of a grey photo damaged?"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .hourglass import Hourglass, hourglass_layout, mirrored_to
from .shapes import State


@dataclass(frozen=True)
class ScratchNetConfig:
    """Hyper-parameters of a scratch detector.

    Attributes:
        channels: of the full-size level; a multiple of 8.
        multipliers: of `channels`, for each level, the full size first.
        blocks: residual blocks per level, on the way down and again on the way up.
    """

    channels: int = 24
    multipliers: tuple[int, ...] = (1, 2, 4, 6, 8)
    blocks: int = 1


class ScratchNet(Hourglass):
    """Logits (B, 1, H, W) of damage in luma (B, 1, H, W) in [0, 1], of any size.

    Norms look at all they are shown: show it tiles of about the size that it was trained on.
    """

    def __init__(self, config: ScratchNetConfig) -> None:
        super().__init__(1, 1, config.channels, config.multipliers, config.blocks)
        self.config = config

    def forward(self, x: Tensor) -> Tensor:
        H, W = x.shape[-2:]
        return super().forward(2 * mirrored_to(x, self.multiple_of) - 1)[..., :H, :W]


def detect(state: State) -> ScratchNetConfig:
    """The hyper-parameters of a scratch detector of ours, read from its shapes.

    Raises:
        ValueError: if the state dict is not of one; names what is missing.
    """
    channels, multipliers, blocks = hourglass_layout(state, "a scratch detector of ours")
    seen = state["stem.weight"].shape[1]
    if seen != 1 or state["last.2.weight"].shape[0] != 1:
        raise ValueError(f"not a scratch detector of ours: stem.weight sees {seen} channels, must see luma alone")
    if "middle.0.qkv.weight" in state:
        raise ValueError("not a scratch detector of ours: it has attention (middle.0.qkv.weight)")
    return ScratchNetConfig(channels, multipliers, blocks)


def build(config: ScratchNetConfig) -> ScratchNet:
    return ScratchNet(config)
