"""The classifier of noisy images that guides a prior (Dhariwal & Nichol 2021, section 4): the U-Net's encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
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
    attend,
    per_pixel,
    timestep_embedding,
)
from .shapes import State, encoder_layout, is_guided_diffusion


@dataclass(frozen=True)
class ClassifierConfig:
    """Hyper-parameters of a classifier, named as in `UNetConfig`.

    Attributes:
        pool_side: px of the feature map that the attention pool was made for.
    """

    channels: int
    level_channels: tuple[int, ...]
    res_blocks: int
    attention: tuple[int, ...]
    pool_side: int
    classes: int = 1000
    in_channels: int = 3
    scale_shift: bool = True
    resblock_updown: bool = True
    head_channels: int = 64
    new_attention_order: bool = False


class AttentionPool(nn.Module):
    """One vector for a feature map: its mean attends to all of it (the image pool of CLIP)."""

    def __init__(self, side: int, channels: int, head_channels: int, out: int) -> None:
        super().__init__()
        self.heads = channels // head_channels
        self.positional_embedding = nn.Parameter(torch.randn(channels, side**2 + 1) / channels**0.5)
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1) + self.positional_embedding.T.to(x.dtype)
        mixed = attend(per_pixel(self.qkv_proj, tokens), self.heads, new_order=True)
        return per_pixel(self.c_proj, mixed[:, :1])[:, 0]


class Classifier(nn.Module):
    """Logits (B, classes) of x_t (B, 3, H, W)."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = c = config
        c_emb, width, factor = 4 * c.channels, c.level_channels[0], 1
        self.time_embed = nn.Sequential(nn.Linear(c.channels, c_emb), nn.SiLU(), nn.Linear(c_emb, c_emb))

        def res(c_in: int, c_out: int, resample: Resample = "") -> ResBlock:
            return ResBlock(c_in, c_emb, c_out, dropout=0.0, scale_shift=c.scale_shift, resample=resample)

        def attention() -> Attention:
            return Attention(width, width // c.head_channels, new_order=c.new_attention_order)

        self.input_blocks = nn.ModuleList([Block(Conv(c.in_channels, width, 3, padding=1))])
        for level, level_width in enumerate(c.level_channels):
            for _ in range(c.res_blocks):
                first = res(width, level_width)
                width = level_width
                self.input_blocks.append(Block(first, *([attention()] if factor in c.attention else [])))
            if level < len(c.level_channels) - 1:
                self.input_blocks.append(Block(res(width, width, "down") if c.resblock_updown else Downsample(width)))
                factor *= 2
        self.middle_block = Block(res(width, width), attention(), res(width, width))
        self.out = nn.Sequential(
            GroupNorm(width), nn.SiLU(), AttentionPool(c.pool_side, width, c.head_channels, c.classes)
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Args: t: (B,) or (1,) original timesteps."""
        emb = self.time_embed(timestep_embedding(t, self.config.channels))
        h = x.to(next(self.input_blocks.parameters()).dtype, memory_format=torch.channels_last)
        for block in self.input_blocks:
            h = block(h, emb)
        return self.out(self.middle_block(h, emb))


def detect(state: State, hints: Mapping[str, Any] = {}) -> ClassifierConfig:
    """The hyper-parameters of a classifier checkpoint, read from its shapes.

    Args:
        hints: what shapes cannot tell: `num_res_blocks` (needed only where the shapes allow several),
            num_head_channels (64), use_new_attention_order.

    Raises:
        ValueError: if the state dict is not of such a classifier, or has another pool than attention.
    """
    if not is_guided_diffusion(state) or "output_blocks.0.0.in_layers.0.weight" in state:
        raise ValueError("not a guided-diffusion classifier (input_blocks without output_blocks)")
    if "out.2.positional_embedding" not in state:
        raise ValueError(
            "a guided-diffusion classifier without attention pool; only classifier_pool: attention is supported"
        )
    layouts = []
    for res_blocks in range(1, 9):
        try:
            layouts.append(encoder_layout(state, res_blocks))
        except (ValueError, KeyError):
            continue
    wanted = hints.get("num_res_blocks")
    fitting = [layout for layout in layouts if wanted in (None, layout.res_blocks)]
    if len(fitting) != 1:
        depths = ", ".join(str(layout.res_blocks) for layout in layouts) or "none"
        raise ValueError(
            f"residual blocks per level cannot be told from the shapes (possible: {depths}); say num_res_blocks"
        )
    layout = fitting[0]
    return ClassifierConfig(
        channels=state["time_embed.0.weight"].shape[1],
        level_channels=layout.level_channels,
        res_blocks=layout.res_blocks,
        attention=layout.attention,
        pool_side=math.isqrt(state["out.2.positional_embedding"].shape[1] - 1),
        classes=state["out.2.c_proj.weight"].shape[0],
        in_channels=state["input_blocks.0.0.weight"].shape[1],
        scale_shift=layout.scale_shift,
        resblock_updown=layout.resblock_updown,
        head_channels=hints.get("num_head_channels") or 64,
        new_attention_order=bool(hints.get("use_new_attention_order", False)),
    )


def build(config: ClassifierConfig) -> Classifier:
    return Classifier(config)
