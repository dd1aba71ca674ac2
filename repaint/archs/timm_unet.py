"""A U-Net whose way down is any encoder of timm's, by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import zeroed
from .hourglass import Norm, ResBlock

MEAN, STD = 0.449, 0.226  # of ImageNet's pixels, all channels together: what timm's weights were made for
WIDEST = 8  # times the channels at full size


@dataclass(frozen=True)
class TimmUNetConfig:
    """Hyper-parameters of a U-Net over an encoder of timm's.

    Attributes:
        encoder: any of `timm.list_models()` that answers `features_only`.
        channels: of the way up at full size, twice as many on each level below, up to `WIDEST` times; multiple of 8.
    """

    encoder: str
    channels: int = 32


class TimmUNet(nn.Module):
    """A better picture (B, 3, H, W) of one in [0, 1]; H and W multiples of `multiple_of`.

    What it says is added to its input, and clamped to [0, 1] outside training. A new network says 0.
    """

    def __init__(self, config: TimmUNetConfig, *, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        self.encoder = _encoder(config.encoder, pretrained)
        reductions: list[int] = self.encoder.feature_info.reduction()
        self.multiple_of = reductions[-1]
        widths = [config.channels * min(WIDEST, r) for r in (1, *reductions)]
        seen = (config.channels, *self.encoder.feature_info.channels())
        self.stem = nn.Conv2d(3, config.channels, 3, padding=1)  # what is one pixel thin, encoders do not keep
        self.across = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(seen, widths, strict=True))
        self.narrow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(ResBlock(a, a) for a in widths[:-1])
        last = nn.Conv2d(widths[0], 3, 3, padding=1)
        self.last = nn.Sequential(Norm(widths[0]), nn.SiLU(), zeroed(last))

    def forward(self, x: Tensor) -> Tensor:
        H, W = x.shape[-2:]
        if H % self.multiple_of or W % self.multiple_of:
            raise ValueError(f"sides must be multiples of {self.multiple_of} px, got {W} x {H}")
        levels = [self.stem(2 * x - 1), *self.encoder((x - MEAN) / STD)]
        seen = [across(level) for across, level in zip(self.across, levels, strict=True)]
        h = seen.pop()
        for narrow, level in zip(reversed(self.narrow), reversed(self.up), strict=True):
            skip = seen.pop()
            h = level(skip + F.interpolate(narrow(h), skip.shape[-2:], mode="bilinear"))
        better = x + self.last(h).to(x.dtype)
        return better if self.training else better.clamp(0, 1)


def detect(metadata: Mapping[str, str]) -> TimmUNetConfig:
    """The hyper-parameters of exported weights, by what the file says of itself: shapes do not name an encoder.

    Raises:
        ValueError: if it says nothing of such a network.
    """
    try:
        said = json.loads(metadata.get("architecture", "{}"))
        if said["name"] == "timm_unet":
            return TimmUNetConfig(said["encoder"], said["channels"])
    except (KeyError, TypeError, json.JSONDecodeError):
        pass
    raise ValueError("not a U-Net over an encoder of timm's: its metadata do not say which")


def build(config: TimmUNetConfig, *, pretrained: bool = False) -> TimmUNet:
    """A new network.

    Raises:
        ImportError: if timm is not installed.
        ValueError: if it has no such encoder.
    """
    return TimmUNet(config, pretrained=pretrained)


def _encoder(name: str, pretrained: bool) -> Any:
    try:
        import timm
    except ImportError:
        raise ImportError("needs timm; pip install '.[train]'") from None
    if not timm.is_model(name):
        raise ValueError(f"encoder: timm has no {name}; `timm.list_models()` names those it has")
    try:
        return timm.create_model(name, pretrained=pretrained, features_only=True)
    except (RuntimeError, NotImplementedError, AssertionError, AttributeError) as e:
        raise ValueError(
            f"encoder: {name} cannot say what it sees on its way ({str(e).partition(chr(10))[0]})"
        ) from None
