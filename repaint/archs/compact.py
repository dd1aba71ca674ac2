"""The compact super-resolver of Real-ESRGAN (Wang et al. 2021; SRVGGNetCompact), under its published names."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import zeroed
from .shapes import State


@dataclass(frozen=True)
class CompactConfig:
    """Hyper-parameters of a compact super-resolver.

    Attributes:
        features: channels inside, `num_feat` as published.
        convs: convolutions between the first and the last, `num_conv` as published.
        scale: the output's size by the input's, 1, 2 or 4 as published.
        channels: of the image.
    """

    features: int = 64
    convs: int = 16
    scale: int = 4
    channels: int = 3


class Compact(nn.Module):
    """(B, C, H * scale, W * scale) of an image (B, C, H, W) in [0, 1]; may leave [0, 1].

    All convolutions are at the input's size; what they say is added to the input with its pixels repeated.
    A new network says 0.
    """

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = c = config
        self.body = nn.ModuleList([nn.Conv2d(c.channels, c.features, 3, padding=1), nn.PReLU(c.features)])
        for _ in range(c.convs):
            self.body += [nn.Conv2d(c.features, c.features, 3, padding=1), nn.PReLU(c.features)]
        for layer in self.body:
            if isinstance(layer, nn.Conv2d):  # without norms, torch's own start would fade layer by layer
                nn.init.kaiming_normal_(layer.weight, a=0.25)  # 0.25: slope of a new PReLU
                nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
        self.body.append(zeroed(nn.Conv2d(c.features, c.channels * c.scale**2, 3, padding=1)))

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for layer in self.body:
            h = layer(h)
        scale = self.config.scale
        return F.pixel_shuffle(h, scale) + F.interpolate(x, scale_factor=scale, mode="nearest")


def detect(state: State) -> CompactConfig:
    """The hyper-parameters of a checkpoint in the SRVGGNetCompact layout, read from its shapes.

    Raises:
        ValueError: if the state dict is not of one; names what is missing.
    """
    missing = [k for k in ("body.0.weight", "body.1.weight", "body.2.weight") if k not in state]
    if missing:
        raise ValueError(f"not a compact super-resolver (SRVGGNetCompact): no {', '.join(missing)}")
    first, slopes = state["body.0.weight"].shape, state["body.1.weight"].shape
    if len(first) != 4 or len(slopes) != 1:
        raise ValueError("not a compact super-resolver (SRVGGNetCompact): body.0, body.1 are no convolution and PReLU")
    end = max(i for i in range(len(state)) if f"body.{i}.weight" in state)
    features, channels = first[:2]
    out = state[f"body.{end}.weight"].shape[0]
    scale = math.isqrt(out // channels)
    if end % 2 or channels * scale**2 != out:
        raise ValueError(
            f"not a compact super-resolver (SRVGGNetCompact): its last layer, body.{end}, makes {out} channels, "
            f"must be at an even place and make {channels} * scale ** 2"
        )
    return CompactConfig(features, convs=(end - 2) // 2, scale=scale, channels=channels)


def build(config: CompactConfig) -> Compact:
    return Compact(config)
