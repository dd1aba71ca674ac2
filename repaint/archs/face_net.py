"""Our face restorer: an aligned face as it was before time, camera and codec had their way with it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from .blocks import attend, per_pixel, zeroed
from .hourglass import Hourglass, Norm, ResBlock, hourglass_layout
from .shapes import State

HEADS = 4


@dataclass(frozen=True)
class FaceNetConfig:
    """Hyper-parameters of a face restorer, named as in `ScratchNetConfig`."""

    channels: int = 32
    multipliers: tuple[int, ...] = (1, 2, 3, 4, 6)
    blocks: int = 2


class Attention(nn.Module):
    """Self-attention over all pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = Norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        tokens = self.norm(x).permute(0, 2, 3, 1).reshape(B, H * W, C)
        mixed = attend(per_pixel(self.qkv, tokens), HEADS, new_order=True)
        return x + per_pixel(self.out, mixed).reshape(B, H, W, C).permute(0, 3, 1, 2)


class FaceNet(Hourglass):
    """The restored face (B, 3, H, W) of an aligned one in [0, 1]; made for 128 px, takes multiples of `multiple_of`.

    What it says is added to its input, and clamped to [0, 1] outside training. A new network says 0.
    """

    def __init__(self, config: FaceNetConfig) -> None:
        super().__init__(3, 3, config.channels, config.multipliers, config.blocks)
        self.config = config
        lowest = config.channels * config.multipliers[-1]
        self.middle = nn.Sequential(Attention(lowest), ResBlock(lowest, lowest))
        zeroed(self.last[-1])

    def forward(self, x: Tensor) -> Tensor:
        H, W = x.shape[-2:]
        if H % self.multiple_of or W % self.multiple_of:
            raise ValueError(f"sides of a face must be multiples of {self.multiple_of} px, got {W} x {H}")
        restored = x + super().forward(2 * x - 1)
        return restored if self.training else restored.clamp(0, 1)


def detect(state: State) -> FaceNetConfig:
    """The hyper-parameters of a face restorer of ours, read from its shapes.

    Raises:
        ValueError: if the state dict is not of one; names what is missing.
    """
    channels, multipliers, blocks = hourglass_layout(state, "a face restorer of ours")
    if "middle.0.qkv.weight" not in state:
        raise ValueError("not a face restorer of ours: no attention (middle.0.qkv.weight)")
    seen = state["stem.weight"].shape[1]
    if seen != 3 or state["last.2.weight"].shape[0] != 3:
        raise ValueError(f"not a face restorer of ours: stem.weight sees {seen} channels, must see RGB")
    return FaceNetConfig(channels, multipliers, blocks)


def build(config: FaceNetConfig) -> FaceNet:
    return FaceNet(config)
