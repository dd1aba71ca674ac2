"""The U-Net of guided-diffusion (Dhariwal & Nichol 2021): what is the noise in this image?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .blocks import (
    Attention,
    Block,
    Conv,
    Downsample,
    GroupNorm,
    Resample,
    ResBlock,
    Upsample,
    timestep_embedding,
    zeroed,
)
from .shapes import State, encoder_layout, is_guided_diffusion


@dataclass(frozen=True)
class UNetConfig:
    """Hyper-parameters of a U-Net.

    Attributes:
        channels: of the time embedding before it is widened, `num_channels` in published configs.
        level_channels: of each level, the full size first.
        attention: downsampling factors at which residual blocks are followed by attention.
        classes: 0 = unconditional.
        head_channels: per attention head; None = `heads` heads everywhere.
    """

    channels: int
    level_channels: tuple[int, ...]
    res_blocks: int
    attention: tuple[int, ...]
    in_channels: int = 3
    out_channels: int = 6
    classes: int = 0
    scale_shift: bool = True
    resblock_updown: bool = True
    head_channels: int | None = 64
    heads: int = 4
    heads_upsample: int | None = None
    new_attention_order: bool = False
    dropout: float = 0.0


class UNet(nn.Module):
    """eps, and with learned variance its mix, (B, 3 or 6, H, W), of x_t (B, 3, H, W).

    H and W must be multiples of 2 ** (levels - 1).
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = c = config
        c_emb, width, factor = 4 * c.channels, c.level_channels[0], 1
        self.time_embed = nn.Sequential(nn.Linear(c.channels, c_emb), nn.SiLU(), nn.Linear(c_emb, c_emb))
        if c.classes:
            self.label_emb = nn.Embedding(c.classes, c_emb)

        def res(c_in: int, c_out: int, resample: Resample = "") -> ResBlock:
            return ResBlock(c_in, c_emb, c_out, dropout=c.dropout, scale_shift=c.scale_shift, resample=resample)

        def attention(heads: int) -> list[Attention]:
            heads = width // c.head_channels if c.head_channels else heads
            return [Attention(width, heads, new_order=c.new_attention_order)]

        self.input_blocks = nn.ModuleList([Block(Conv(c.in_channels, width, 3, padding=1))])
        skips = [width]
        for level, level_width in enumerate(c.level_channels):
            for _ in range(c.res_blocks):
                first = res(width, level_width)
                width = level_width
                self.input_blocks.append(Block(first, *(attention(c.heads) if factor in c.attention else [])))
                skips.append(width)
            if level < len(c.level_channels) - 1:
                self.input_blocks.append(Block(res(width, width, "down") if c.resblock_updown else Downsample(width)))
                skips.append(width)
                factor *= 2

        self.middle_block = Block(res(width, width), *attention(c.heads), res(width, width))

        self.output_blocks = nn.ModuleList()
        for level, level_width in reversed(list(enumerate(c.level_channels))):
            for i in range(c.res_blocks + 1):
                layers: list[nn.Module] = [res(width + skips.pop(), level_width)]
                width = level_width
                if factor in c.attention:
                    layers += attention(c.heads_upsample or c.heads)
                if level and i == c.res_blocks:
                    layers.append(res(width, width, "up") if c.resblock_updown else Upsample(width))
                    factor //= 2
                self.output_blocks.append(Block(*layers))

        self.out = nn.Sequential(GroupNorm(width), nn.SiLU(), zeroed(nn.Conv2d(width, c.out_channels, 3, padding=1)))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Args: t: (B,) or (1,) original timesteps. y: (B,) classes, for networks that know them."""
        if (y is None) != (self.config.classes == 0):
            raise ValueError("this network must be told classes" if y is None else "this network knows no classes")
        emb = self.time_embed(timestep_embedding(t, self.config.channels))
        if y is not None:
            emb = emb + self.label_emb(y)
        h = x.to(next(self.input_blocks.parameters()).dtype, memory_format=torch.channels_last)
        skips = []
        for block in self.input_blocks:
            h = block(h, emb)
            skips.append(h)
        h = self.middle_block(h, emb)
        for block in self.output_blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), emb)
        return self.out(h).to(x.dtype, memory_format=torch.contiguous_format)


def detect(state: State, hints: Mapping[str, Any] = {}) -> UNetConfig:
    """The hyper-parameters of a checkpoint in the guided-diffusion layout, read from its shapes.

    Args:
        hints: what shapes cannot tell, under the published configs' names: num_head_channels, num_heads,
            num_heads_upsample, use_new_attention_order. -1 means unset.

    Raises:
        ValueError: if the state dict is not of such a U-Net; says what it looks like instead.
    """
    if not is_guided_diffusion(state) or "output_blocks.0.0.in_layers.0.weight" not in state:
        raise ValueError("not a guided-diffusion U-Net (no time_embed, input_blocks, output_blocks)")
    ups = [int(k.split(".")[1]) for k in state if _is_upsampling(k)]
    blocks = 1 + max(int(k.split(".")[1]) for k in state if k.startswith("output_blocks."))
    layout = encoder_layout(state, res_blocks=min(ups) if ups else blocks - 1)
    channels = state["time_embed.0.weight"].shape[1]
    config = UNetConfig(
        channels=channels,
        level_channels=layout.level_channels,
        res_blocks=layout.res_blocks,
        attention=layout.attention,
        in_channels=state["input_blocks.0.0.weight"].shape[1],
        out_channels=state["out.2.weight"].shape[0],
        classes=state["label_emb.weight"].shape[0] if "label_emb.weight" in state else 0,
        scale_shift=layout.scale_shift,
        resblock_updown=layout.resblock_updown,
    )
    return with_heads(config, hints)


def with_heads(config: UNetConfig, hints: Mapping[str, Any]) -> UNetConfig:
    """The configuration with its attention heads as the hints say; 64 channels a head without a hint."""

    def positive(name: str) -> int | None:
        value = hints.get(name)
        return value if isinstance(value, int) and value > 0 else None

    told = "num_heads" in hints or "num_head_channels" in hints
    head_channels = positive("num_head_channels") if told else 64
    heads = positive("num_heads") or 4
    _check_heads(config, head_channels, heads)
    return replace(
        config,
        head_channels=head_channels,
        heads=heads,
        heads_upsample=positive("num_heads_upsample"),
        new_attention_order=bool(hints.get("use_new_attention_order", False)),
    )


def _check_heads(config: UNetConfig, head_channels: int | None, heads: int) -> None:
    widths = {w for i, w in enumerate(config.level_channels) if 2**i in config.attention} | {config.level_channels[-1]}
    size = head_channels or heads
    if any(w % size for w in widths):
        name = "num_head_channels" if head_channels else "num_heads"
        raise ValueError(f"{name} {size} does not divide the {', '.join(map(str, sorted(widths)))} attention channels")


def build(config: UNetConfig) -> UNet:
    return UNet(config)


def _is_upsampling(key: str) -> bool:
    """Whether `key`, output_blocks.N.M.*, belongs to the layer that doubles the size."""
    parts = key.split(".")
    return parts[0] == "output_blocks" and parts[2] != "0" and parts[3] in ("in_layers", "conv")
