"""Our face finder: is there a face of about this size around here, and where are its five landmarks?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .shapes import State

STRIDE = 8
SMALLEST_PX, LARGEST_PX = (
    22.0,
    64.0,
)  # sides of the aligned squares of the faces it is to see; others it is to pass over
UNIT_PX = 32.0  # of what it says of landmarks
EVEN_PX = (40, 120)  # over which brightness and contrast are evened out; the network is shown both
FLAT = 0.04  # contrast below which nothing is made of it
FIRST_GUESS = 0.01  # what a new finder thinks of every place


@dataclass(frozen=True)
class FaceFinderConfig:
    """Hyper-parameters of a face finder.

    Attributes:
        widths: channels at strides 2, 4, 8 and 16.
        blocks: residual blocks at stride 16; at stride 8 there is one.
    """

    widths: tuple[int, int, int, int] = (16, 32, 64, 112)
    blocks: int = 3


class Block(nn.Module):
    """A residual block of two 3x3 convolutions without norms; a new one changes nothing."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))


class FaceFinder(nn.Module):
    """(B, 11, H / 8, W / 8) of luma (B, 1, H, W) in [0, 1], sides multiples of 16.

    Of each cell of 8 px: the logit of a face that has its middle there, and x, y of its five landmarks from the
    middle of the cell, in units of 32 px; in the order of `faces.Face`. Brightness and contrast of the photo do not
    matter, they are evened out first. There are no norms: a face is the same wherever it stands, and alone or in a
    batch.
    """

    multiple_of = 2 * STRIDE

    def __init__(self, config: FaceFinderConfig) -> None:
        super().__init__()
        self.config = config
        half, quarter, eighth, sixteenth = config.widths
        self.stem = nn.Conv2d(len(EVEN_PX), half, 5, stride=2, padding=2)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(config.widths))
        self.fine = nn.Conv2d(quarter, quarter, 3, padding=1)
        self.near = Block(eighth)
        self.far = nn.Sequential(*(Block(sixteenth) for _ in range(config.blocks)))
        self.narrow = nn.Conv2d(sixteenth, eighth, 1)
        self.head = nn.Conv2d(eighth, eighth, 3, padding=1)
        self.last = nn.Conv2d(eighth, 11, 1)
        self._begin()

    @torch.no_grad()
    def _begin(self) -> None:
        """Without norms, torch's own start would fade layer by layer."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType]
        for block in (self.near, *self.far):
            nn.init.zeros_(block.second.weight)  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
        self.last.weight.mul_(0.1)
        self.last.bias[0] = math.log(FIRST_GUESS / (1 - FIRST_GUESS))  # pyright: ignore[reportOptionalSubscript]

    def forward(self, x: Tensor) -> Tensor:
        H, W = x.shape[-2:]
        if H % self.multiple_of or W % self.multiple_of:
            raise ValueError(f"sides must be multiples of {self.multiple_of} px, got {W} x {H}")
        h = F.relu(self.stem(evened(x).to(self.stem.weight.dtype)))
        h = F.relu(self.down[0](h))
        h = F.relu(self.fine(h))
        near = self.near(self.down[1](h))
        far = self.far(self.down[2](F.relu(near)))
        h = near + F.interpolate(self.narrow(F.relu(far)), scale_factor=2, mode="nearest")
        return self.last(F.relu(self.head(F.relu(h)))).to(x.dtype)


def evened(x: Tensor) -> Tensor:
    """Luma (B, 1, H, W) less its mean around, by its standard deviation there; (B, 2, H, W), about -3 to 3."""
    coarse = torch.cat([F.avg_pool2d(x, STRIDE), F.avg_pool2d(x * x, STRIDE)], 1)
    seen = []
    for px in EVEN_PX:
        cells = px // STRIDE
        around = F.avg_pool2d(coarse, cells, 1, padding=cells // 2, count_include_pad=False)
        mean, square = F.interpolate(around, x.shape[-2:], mode="bilinear").chunk(2, 1)
        seen.append((x - mean) / ((square - mean * mean).clamp(min=0).sqrt() + FLAT))
    return torch.cat(seen, 1)


def detect(state: State) -> FaceFinderConfig:
    """The hyper-parameters of a face finder of ours, read from its shapes.

    Raises:
        ValueError: if the state dict is not of one; names what is missing.
    """
    names = ("stem.weight", "down.0.weight", "down.1.weight", "down.2.weight", "last.weight")
    missing = [k for k in names if k not in state or state[k].ndim != 4]
    if missing:
        raise ValueError(f"not a face finder of ours: no convolution {', '.join(missing)}")
    seen, said = state["stem.weight"].shape[1], state["last.weight"].shape[0]
    if (seen, said) != (len(EVEN_PX), 11):
        raise ValueError(f"not a face finder of ours: sees {seen} channels and says {said}, must be 2 and 11")
    half, quarter, eighth, sixteenth = (state[k].shape[0] for k in names[:4])
    blocks = sum(f"far.{i}.first.weight" in state for i in range(len(state)))
    return FaceFinderConfig((half, quarter, eighth, sixteenth), blocks)


def build(config: FaceFinderConfig) -> FaceFinder:
    return FaceFinder(config)
