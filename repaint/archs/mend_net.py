"""Our mender: what was most likely below a thin hole, in one call."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from . import hourglass
from .blocks import zeroed
from .hourglass import Hourglass, hourglass_layout, is_whole, mirrored_to
from .shapes import State

SEEN, SAID = 4, 3  # channels: RGB and what is known; RGB


@dataclass(frozen=True)
class MendNetConfig:
    """Hyper-parameters of a mender, named as in `ScratchNetConfig`."""

    channels: int = 32
    multipliers: tuple[int, ...] = (1, 2, 4)
    blocks: int = 1
    patch: int = 2


class MendNet(Hourglass):
    """The image (B, 3, H, W) with its holes filled, of (B, 4, H, W): the image in [0, 1], and 1 where it is known.

    Shown the image with its holes filled smoothly (`holes.smoothly_filled`), it says what is to be added there; known
    pixels come out as they are. Clamped to [0, 1] outside training. A new network says 0.
    """

    def __init__(self, config: MendNetConfig) -> None:
        area = config.patch**2
        super().__init__(SEEN * area, SAID * area, config.channels, config.multipliers, config.blocks)
        self.config = config
        self.multiple_of *= config.patch
        zeroed(self.last[-1])

    def forward(self, x: Tensor) -> Tensor:
        H, W = x.shape[-2:]
        whole = F.pixel_unshuffle(2 * mirrored_to(x, self.multiple_of) - 1, self.config.patch)
        said = F.pixel_shuffle(super().forward(whole), self.config.patch)[..., :H, :W]
        image, keep = x[:, :3], x[:, 3:]
        filled = image + (1 - keep) * said
        return filled if self.training else filled.clamp(0, 1)


def detect(state: State) -> MendNetConfig:
    """The hyper-parameters of a mender of ours, read from its shapes.

    Raises:
        ValueError: if the state dict is not of one; names what is missing.
    """
    channels, multipliers, blocks = hourglass_layout(state, "a mender of ours")
    seen, said = state["stem.weight"].shape[1], state["last.2.weight"].shape[0]
    patch = math.isqrt(seen // SEEN)
    if (seen, said) != (SEEN * patch**2, SAID * patch**2) or "middle.0.qkv.weight" in state:
        raise ValueError(
            f"not a mender of ours: stem.weight sees {seen} channels and last.2.weight makes {said}; "
            "must be 4 and 3 for each pixel of a square"
        )
    return MendNetConfig(channels, multipliers, blocks, patch)


def build(config: MendNetConfig) -> MendNet:
    return MendNet(config)


def grown_into(network: MendNet, state: State) -> dict[str, Tensor]:
    """As `hourglass.grown_into`."""
    return hourglass.grown_into(network, state) if is_whole(state, build(detect(state))) else dict(state)
