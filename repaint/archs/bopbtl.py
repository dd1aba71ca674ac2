"""The scratch detector of Bringing Old Photos Back to Life (Wan et al. 2020), under its published names."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .hourglass import mirrored_to
from .shapes import State


@dataclass(frozen=True)
class BopbtlConfig:
    """Hyper-parameters of the detector; by default the published ones.

    Attributes:
        channels: at full size; each of the `depth` levels below has twice as many as the one above.
    """

    channels: int = 64
    depth: int = 4


class Blur(nn.Module):
    """`x` at half size: the binomial filter 1 2 1, mirrored at the edges, at every second pixel (Zhang 2019)."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("filt", torch.outer(taps, taps).repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.filt, stride=2, groups=len(self.filt))


class UpBlock(nn.Module):
    """A level of the way up: `x` at twice the size beside what the way down left, `bridge`."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        twice = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.up = nn.Sequential(twice, nn.ReflectionPad2d(1), nn.Conv2d(c_in, c_out, 3))
        self.conv_block = ConvBlock(c_in, c_out)

    def forward(self, x: Tensor, bridge: Tensor) -> Tensor:
        return self.conv_block(torch.cat([self.up(x), bridge], dim=1))


class ConvBlock(nn.Module):
    """Two convolutions."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.block = nn.Sequential(*conv(c_in, c_out), *conv(c_out, c_out))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class Bopbtl(nn.Module):
    """Logits (B, 1, H, W) of damage in luma (B, 1, H, W) in [-1, 1], of any size.

    Names cannot tell two things, taken as published: bilinear enlargement has align_corners=False, and a level's own
    channels come before the bridge's.

    Published for photos shrunk to 256 px at their short side. Sides that are multiples of 2 ** depth are its own;
    others are mirrored up to them.
    """

    def __init__(self, config: BopbtlConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.channels * 2**level for level in range(config.depth + 1)]
        self.first = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(1, widths[0], 7), nn.LeakyReLU(0.2))
        self.down_sample = nn.ModuleList(nn.Sequential(*conv(w, w), Blur(w)) for w in widths[:-1])
        self.down_path = nn.ModuleList(ConvBlock(w, 2 * w) for w in widths[:-1])
        self.up_path = nn.ModuleList(UpBlock(2 * w, w) for w in reversed(widths[:-1]))
        self.last = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(widths[0], 1, 3))

    def forward(self, x: Tensor) -> Tensor:
        H, W = x.shape[-2:]
        multiple = 2**self.config.depth
        h = self.first(mirrored_to(x, multiple, least=2 * multiple))  # 1 px cannot be mirrored at the lowest level
        bridges = []
        for shrink, block in zip(self.down_sample, self.down_path, strict=True):
            bridges.append(h)
            h = block(shrink(h))
        for block in self.up_path:
            h = block(h, bridges.pop())
        return self.last(h)[..., :H, :W]


def conv(c_in: int, c_out: int) -> list[nn.Module]:
    return [nn.ReflectionPad2d(1), nn.Conv2d(c_in, c_out, 3), nn.BatchNorm2d(c_out), nn.LeakyReLU(0.2)]


def detect(state: State) -> BopbtlConfig:
    """The hyper-parameters of a checkpoint of the detector (what its file holds under `model_state`), from its shapes.

    Raises:
        ValueError: if the state dict is not of one; names what is missing.
    """
    needed = ("first.1.weight", "down_sample.0.4.filt", "down_path.0.block.5.weight", "up_path.0.up.2.weight")
    missing = [k for k in needed if k not in state]
    if missing:
        inside = "; look inside model_state" if "model_state" in state else ""
        raise ValueError(f"not the detector of Bringing-Old-Photos: no {', '.join(missing)}{inside}")
    channels, seen = state["first.1.weight"].shape[:2]
    if seen != 1:
        raise ValueError(f"not the detector of Bringing-Old-Photos: first.1.weight sees {seen} channels, must see 1")
    depth = sum(f"down_path.{i}.block.5.weight" in state for i in range(len(state)))
    return BopbtlConfig(channels, depth)


def build(config: BopbtlConfig) -> Bopbtl:
    return Bopbtl(config)
