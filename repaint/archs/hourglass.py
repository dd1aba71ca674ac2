"""A U-Net without time and what it is made of; the body of our scratch detector, mender and face restorer."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .shapes import State


class Norm(nn.GroupNorm):
    """Groups of 8 channels, computed in float32; the same for an image alone and in a batch."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels // 8, channels)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.float()).to(input.dtype)


class ResBlock(nn.Module):
    """A residual block of two 3x3 convolutions."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *[Norm(c_in), nn.SiLU(), nn.Conv2d(c_in, c_out, 3, padding=1)],
            *[Norm(c_out), nn.SiLU(), nn.Conv2d(c_out, c_out, 3, padding=1)],
        )
        self.skip = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.branch(x)


class Hourglass(nn.Module):
    """A U-Net without time: (B, c_out, H, W) of (B, c_in, H, W), H and W multiples of `multiple_of`.

    Levels are added, not stacked, on the way up: the full-size one holds what is one pixel thin, at half the price.

    Args:
        channels: of the full-size level; a multiple of 8.
        multipliers: of `channels`, for each level, the full size first.
        blocks: residual blocks per level, on the way down and again on the way up.
    """

    def __init__(self, c_in: int, c_out: int, channels: int, multipliers: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        if channels % 8 or blocks < 1 or min((channels, *multipliers)) < 1 or not multipliers:
            raise ValueError(
                f"an hourglass has a multiple of 8 channels, levels, and blocks in each; "
                f"got {channels} x {multipliers}, {blocks} blocks"
            )
        self.multiple_of = 2 ** (len(multipliers) - 1)
        widths = [channels * m for m in multipliers]

        def level(c_in: int, c_out: int) -> nn.Sequential:
            return nn.Sequential(ResBlock(c_in, c_out), *(ResBlock(c_out, c_out) for _ in range(blocks - 1)))

        self.stem = nn.Conv2d(c_in, channels, 3, padding=1)
        self.down = nn.ModuleList(level(a, b) for a, b in pairwise([channels, *widths]))
        self.middle = nn.Sequential()  # for what comes between the ways down and up
        self.narrow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(level(a, a) for a in widths[:-1])
        self.last = nn.Sequential(Norm(widths[0]), nn.SiLU(), nn.Conv2d(widths[0], c_out, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x.to(self.stem.weight.dtype)).contiguous(memory_format=torch.channels_last)
        h = self.down[0](h)
        skips = []
        for level in self.down[1:]:
            skips.append(h)
            h = level(halved(h))
        h = self.middle(h)
        for narrow, level in zip(reversed(self.narrow), reversed(self.up), strict=True):
            h = level(skips.pop() + F.interpolate(narrow(h), scale_factor=2, mode="bilinear"))
        return self.last(h).to(x.dtype, memory_format=torch.contiguous_format)


def halved(x: Tensor) -> Tensor:
    """`x` at half size, binomially blurred (1 3 3 1) first: three boxes, nothing shifted (Zhang 2019)."""
    return F.avg_pool2d(F.avg_pool2d(F.avg_pool2d(x, 2, 1, padding=1, count_include_pad=False), 2, 1), 2)


def is_whole(state: State, network: nn.Module) -> bool:
    """Whether the state dict has all that `network` has, by name, and nothing else."""
    return state.keys() == network.state_dict().keys()


def grown_into(network: Hourglass, state: State) -> dict[str, Tensor]:
    """The weights of a smaller one for `network`, which then answers the same, and can learn more.

    Smaller is one of fewer blocks in a level, or fewer levels: what it has not, a residual branch or the way up from a
    further level, ends in zeros. Weights of any other network are left for the loader to refuse.
    """
    known = dict(state)
    for key, value in network.state_dict().items():
        ends = key.startswith("narrow.") or ".branch.5." in key
        known.setdefault(key, torch.zeros_like(value) if ends else value)
    return known


def mirrored_to(x: Tensor, multiple: int, *, least: int = 1) -> Tensor:
    """`x`, mirrored at its lower and right edges as often as it takes until its sides are multiples.

    Args:
        least: px of the shortest side allowed.
    """
    H, W = (-(-max(n, least) // multiple) * multiple for n in x.shape[-2:])
    if x.shape[-2:] == (H, W):
        return x
    return x[..., _mirrored(x.shape[-2], H, x.device)[:, None], _mirrored(x.shape[-1], W, x.device)]


def _mirrored(n: int, to: int, device: torch.device) -> Tensor:
    """`to` indices below `n`: 0, 1, ..., n - 1, n - 1, ..., 1, 0, 0, 1, ..."""
    i = torch.arange(to, device=device) % (2 * n)
    return torch.minimum(i, 2 * n - 1 - i)


def hourglass_layout(state: State, what: str) -> tuple[int, tuple[int, ...], int]:
    """Channels, multipliers and blocks of an `Hourglass`, read from its shapes.

    Args:
        what: the network looked for, for the error message.

    Raises:
        ValueError: if the state dict is of something else; names what is missing.
    """
    convs = {k: v.shape for k, v in state.items() if k.endswith(".weight") and v.ndim == 4}
    missing = [k for k in ("stem.weight", "down.0.0.branch.2.weight", "last.2.weight") if k not in convs]
    if missing:
        raise ValueError(f"not {what}: no convolution {', '.join(missing)}")
    channels = convs["stem.weight"][0]
    widths = [convs[k][0] for k in (f"down.{i}.0.branch.2.weight" for i in range(len(state))) if k in convs]
    if any(w % channels for w in widths):
        raise ValueError(f"not {what}: levels of {widths} channels are not multiples of {channels}")
    blocks = sum(f"down.0.{i}.branch.2.weight" in convs for i in range(len(state)))
    return channels, tuple(w // channels for w in widths), blocks
