"""The building blocks of guided-diffusion networks (Dhariwal & Nichol 2021), under their published names."""

from __future__ import annotations

import math
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Resample = Literal["", "down", "up"]
M = TypeVar("M", bound=nn.Module)


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    """(B, dim) cosines and sines of the times `t` (B,), at `dim // 2` rates from 1 down to nearly 1 / 10000."""
    half = dim // 2
    rates = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t[:, None].float() * rates
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, dim % 2))


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer with all parameters 0, so that its branch says nothing when training begins."""
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer


def resampled(x: Tensor, how: Resample) -> Tensor:
    """`x` (B, C, H, W) at half size by averaging, at twice the size by repeating, or as it is."""
    if how == "down":
        return F.avg_pool2d(x, 2)
    return F.interpolate(x, scale_factor=2, mode="nearest") if how == "up" else x


class GroupNorm(nn.GroupNorm):
    """32 groups, computed in float32 whatever the precision of the network."""

    def __init__(self, channels: int) -> None:
        super().__init__(32, channels)

    def forward(self, input: Tensor) -> Tensor:
        if input.is_cuda and not torch.is_grad_enabled():  # that kernel counts in float32 by itself, without copies
            weight, bias = self.weight.to(input.dtype), self.bias.to(input.dtype)
            return F.group_norm(input, self.num_groups, weight, bias, self.eps)
        return super().forward(input.float()).to(input.dtype)


class ResBlock(nn.Module):
    """A residual block told the time by `emb`; may halve or double the size on its way."""

    def __init__(
        self, c_in: int, c_emb: int, c_out: int, *, dropout: float, scale_shift: bool, resample: Resample = ""
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.resample: Resample = resample
        self.in_layers = nn.Sequential(GroupNorm(c_in), nn.SiLU(), nn.Conv2d(c_in, c_out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(c_emb, 2 * c_out if scale_shift else c_out))
        self.out_layers = nn.Sequential(
            GroupNorm(c_out), nn.SiLU(), nn.Dropout(dropout), zeroed(nn.Conv2d(c_out, c_out, 3, padding=1))
        )
        self.skip_connection = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.in_layers[2](resampled(self.in_layers[:2](x), self.resample))
        x = self.skip_connection(resampled(x, self.resample))
        told = self.emb_layers(emb).to(h.dtype)[..., None, None]
        if not self.scale_shift:
            return x + self.out_layers(h + told)
        scale, shift = told.chunk(2, dim=1)
        h = torch.addcmul(shift, self.out_layers[0](h), 1 + scale)
        return x + self.out_layers[1:](h)


class Attention(nn.Module):
    """Self-attention over all pixels.

    Args:
        new_order: q, k and v are split before the heads ('new attention order'), not after.
    """

    def __init__(self, channels: int, heads: int, *, new_order: bool) -> None:
        super().__init__()
        self.heads, self.new_order = heads, new_order
        self.norm = GroupNorm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        B, C, H, W = x.shape
        tokens = self.norm(x).permute(0, 2, 3, 1).reshape(B, H * W, C)  # free in channels-last memory
        mixed = attend(per_pixel(self.qkv, tokens), self.heads, new_order=self.new_order)
        return x + per_pixel(self.proj_out, mixed).reshape(B, H, W, C).permute(0, 3, 1, 2)


def per_pixel(conv: nn.Module, tokens: Tensor) -> Tensor:
    """A 1-d convolution of width 1, applied to `tokens` (B, N, C)."""
    return F.linear(tokens, conv.weight[:, :, 0], conv.bias)  # pyright: ignore[reportArgumentType, reportIndexIssue]


def attend(qkv: Tensor, heads: int, *, new_order: bool) -> Tensor:
    """(B, N, C) of `qkv` (B, N, 3 C): each token a mean of all tokens' values, weighted by likeness."""
    B, N, width = qkv.shape
    shape = (B, N, 3, heads, -1) if new_order else (B, N, heads, 3, -1)
    split = qkv.reshape(shape).transpose(2, 3) if new_order else qkv.reshape(shape)
    q, k, v = split.permute(3, 0, 2, 1, 4)  # (B, heads, N, channels a head) each
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, width // 3)


class Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.conv(resampled(x, "up"))


class Conv(nn.Conv2d):
    """A convolution that may stand where layers are told the time."""

    def forward(self, input: Tensor, emb: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().forward(input)


class Block(nn.Sequential):
    """Layers one after the other, each told the time."""

    def forward(self, input: Tensor, emb: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        for layer in self:
            input = layer(input, emb)
        return input


def in_precision(network: M, dtype: torch.dtype) -> M:
    """The network with its convolutions and attention in `dtype`, norms and embeddings in float32."""
    for module in network.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d)):
            module.to(dtype)
    return network
