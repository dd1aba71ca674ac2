"""The guided-diffusion networks (Dhariwal & Nichol 2021), written plainly: float32, contiguous, nothing fused.

Parameter names are those of the published checkpoints; `unet` and `classifier` take the published config's keys.
"""

import copy
import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from .attention import attention_legacy, attention_new

Network = TypeVar("Network", bound=nn.Module)

NUM_CLASSES = 1000
CHANNEL_MULT = {512: "0.5,1,1,2,2,4,4", 256: "1,1,2,2,4,4", 128: "1,1,2,3,4", 64: "1,2,3,4"}


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    """(B, dim): cosines, then sines, of `t` (B,) at geometrically falling frequencies from 1 to 1/10000."""
    half = dim // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t.float()[:, None] * frequencies[None, :]
    embedding = torch.cat([angles.cos(), angles.sin()], dim=1)
    return functional.pad(embedding, (0, dim % 2))


class Attention(nn.Module):
    def __init__(self, channels: int, num_heads: int, new_order: bool) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"{channels} channels do not divide into {num_heads} heads")
        self.num_heads = num_heads
        self.new_order = new_order
        self.norm = nn.GroupNorm(32, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        B, C, H, W = x.shape
        flat = x.reshape(B, C, H * W)
        attend = attention_new if self.new_order else attention_legacy
        out = self.proj_out(attend(self.qkv(self.norm(flat)), self.num_heads))
        return (flat + out).reshape(B, C, H, W)


class AttentionPool(nn.Module):
    """One vector per image: what the mean of all positions attends to. Always in the new order."""

    def __init__(self, side: int, channels: int, num_heads: int, out_channels: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.positional_embedding = nn.Parameter(torch.zeros(channels, side * side + 1))
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        tokens = torch.cat([flat.mean(dim=2, keepdim=True), flat], dim=2) + self.positional_embedding
        return self.c_proj(attention_new(self.qkv_proj(tokens), self.num_heads))[:, :, 0]


def half_size(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 2)


def double_size(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")


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
        return self.conv(double_size(x))


class ResBlock(nn.Module):
    """A residual block; `resize` ("", "down" or "up") acts between the first activation and the first convolution."""

    def __init__(
        self, channels: int, out_channels: int, emb_channels: int, scale_shift: bool, dropout: float, resize: str = ""
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.resize = resize
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, out_channels * (2 if scale_shift else 1)))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, out_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        same = channels == out_channels
        self.skip_connection = nn.Identity() if same else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.in_layers[1](self.in_layers[0](x))
        if self.resize == "down":
            h, x = half_size(h), half_size(x)
        if self.resize == "up":
            h, x = double_size(h), double_size(x)
        h = self.in_layers[2](h)
        told = self.emb_layers(emb)[:, :, None, None]
        norm, activation, dropout, conv = self.out_layers
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            h = norm(h) * (1 + scale) + shift
        else:
            h = norm(h + told)
        return self.skip_connection(x) + conv(dropout(activation(h)))


def through(layers: nn.Module, h: Tensor, emb: Tensor) -> Tensor:
    for layer in layers.children():
        h = layer(h) if isinstance(layer, nn.Conv2d) else layer(h, emb)
    return h


class Encoder(nn.Module):
    """The half that both networks share: `time_embed`, `input_blocks`, `middle_block`."""

    def __init__(
        self,
        *,
        width: int,
        mult: list[float],
        depth: int,
        attention_ds: set[int],
        num_heads: int,
        num_head_channels: int,
        scale_shift: bool,
        resblock_updown: bool,
        new_order: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.width = width
        emb_channels = 4 * width

        def block(channels: int, out_channels: int, resize: str = "") -> ResBlock:
            return ResBlock(channels, out_channels, emb_channels, scale_shift, dropout, resize)

        def attend(channels: int) -> Attention:
            heads = num_heads if num_head_channels == -1 else channels // num_head_channels
            return Attention(channels, heads, new_order)

        self.time_embed = nn.Sequential(
            nn.Linear(width, emb_channels), nn.SiLU(), nn.Linear(emb_channels, emb_channels)
        )
        ch = int(mult[0] * width)
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(3, ch, 3, padding=1)])])
        self.skip_channels = [ch]
        ds = 1
        for level, m in enumerate(mult):
            out = int(m * width)
            for _ in range(depth):
                layers: list[nn.Module] = [block(ch, out)]
                if ds in attention_ds:
                    layers.append(attend(out))
                self.input_blocks.append(nn.ModuleList(layers))
                self.skip_channels.append(out)
                ch = out
            if level < len(mult) - 1:
                self.input_blocks.append(nn.ModuleList([block(ch, ch, "down") if resblock_updown else Downsample(ch)]))
                self.skip_channels.append(ch)
                ds *= 2
        self.middle_block = nn.ModuleList([block(ch, ch), attend(ch), block(ch, ch)])

    def encode(self, x: Tensor, emb: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What the middle block gives, and what every input block gave."""
        h, skips = x, []
        for layers in self.input_blocks:
            h = through(layers, h, emb)
            skips.append(h)
        return through(self.middle_block, h, emb), skips


class UNet(Encoder):
    def __init__(
        self,
        *,
        width: int,
        mult: list[float],
        depth: int,
        attention_ds: set[int],
        num_heads: int,
        num_head_channels: int,
        num_heads_upsample: int,
        scale_shift: bool,
        resblock_updown: bool,
        new_order: bool,
        dropout: float,
        out_channels: int,
        num_classes: int | None,
    ) -> None:
        super().__init__(
            width=width,
            mult=mult,
            depth=depth,
            attention_ds=attention_ds,
            num_heads=num_heads,
            num_head_channels=num_head_channels,
            scale_shift=scale_shift,
            resblock_updown=resblock_updown,
            new_order=new_order,
            dropout=dropout,
        )
        heads_up = num_heads if num_heads_upsample == -1 else num_heads_upsample
        if num_classes is not None:
            self.label_emb = nn.Embedding(num_classes, 4 * width)
        self.num_classes = num_classes
        self.output_blocks = nn.ModuleList()
        skips = list(self.skip_channels)
        ch = skips[-1]
        ds = 2 ** (len(mult) - 1)
        for level in reversed(range(len(mult))):
            out = int(mult[level] * width)
            for i in range(depth + 1):
                layers: list[nn.Module] = [ResBlock(ch + skips.pop(), out, 4 * width, scale_shift, dropout)]
                if ds in attention_ds:
                    heads = heads_up if num_head_channels == -1 else out // num_head_channels
                    layers.append(Attention(out, heads, new_order))
                if level > 0 and i == depth:
                    up = ResBlock(out, out, 4 * width, scale_shift, dropout, "up") if resblock_updown else Upsample(out)
                    layers.append(up)
                self.output_blocks.append(nn.ModuleList(layers))
                ch = out
            ds //= 2
        self.out = nn.Sequential(nn.GroupNorm(32, ch), nn.SiLU(), nn.Conv2d(ch, out_channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """(B, 3 or 6, H, W): eps, and with learned variance v, of `x` (B, 3, H, W) at network timesteps `t` (B,)."""
        if (y is None) != (self.num_classes is None):
            raise ValueError("a class must be given if and only if the network is class-conditional")
        emb = self.time_embed(timestep_embedding(t, self.width))
        if y is not None:
            emb = emb + self.label_emb(y)
        h, skips = self.encode(x, emb)
        for layers in self.output_blocks:
            h = through(layers, torch.cat([h, skips.pop()], dim=1), emb)
        return self.out(h)


class Classifier(Encoder):
    def __init__(
        self,
        *,
        side: int,
        width: int,
        mult: list[float],
        depth: int,
        attention_ds: set[int],
        num_head_channels: int,
        scale_shift: bool,
        resblock_updown: bool,
        num_classes: int,
    ) -> None:
        super().__init__(
            width=width,
            mult=mult,
            depth=depth,
            attention_ds=attention_ds,
            num_heads=1,
            num_head_channels=num_head_channels,
            scale_shift=scale_shift,
            resblock_updown=resblock_updown,
            new_order=False,
            dropout=0.0,
        )
        ch = self.skip_channels[-1]
        pool = AttentionPool(side, ch, ch // num_head_channels, num_classes)
        self.out = nn.Sequential(nn.GroupNorm(32, ch), nn.SiLU(), pool)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """(B, num_classes) logits of `x` (B, 3, H, W) at network timesteps `t` (B,)."""
        h, _ = self.encode(x, self.time_embed(timestep_embedding(t, self.width)))
        return self.out(h)


def multipliers(image_size: int, channel_mult: str) -> list[float]:
    text = channel_mult or CHANNEL_MULT[image_size]
    return [float(m) for m in text.split(",")]


def rates(image_size: int, resolutions: str) -> set[int]:
    """The downsampling factors at which attention takes place, from the sides of the feature maps."""
    return {image_size // int(side) for side in resolutions.split(",")}


def unet(
    *,
    image_size: int = 256,
    num_channels: int = 256,
    num_res_blocks: int = 2,
    channel_mult: str = "",
    attention_resolutions: str = "32,16,8",
    num_heads: int = 4,
    num_head_channels: int = 64,
    num_heads_upsample: int = -1,
    use_scale_shift_norm: bool = True,
    resblock_updown: bool = True,
    use_new_attention_order: bool = False,
    learn_sigma: bool = True,
    class_cond: bool = False,
    dropout: float = 0.0,
    num_classes: int = NUM_CLASSES,
) -> UNet:
    """The denoising network of a published config, whose values are the defaults; parameters are not loaded."""
    return UNet(
        width=num_channels,
        mult=multipliers(image_size, channel_mult),
        depth=num_res_blocks,
        attention_ds=rates(image_size, attention_resolutions),
        num_heads=num_heads,
        num_head_channels=num_head_channels,
        num_heads_upsample=num_heads_upsample,
        scale_shift=use_scale_shift_norm,
        resblock_updown=resblock_updown,
        new_order=use_new_attention_order,
        dropout=dropout,
        out_channels=6 if learn_sigma else 3,
        num_classes=num_classes if class_cond else None,
    ).eval()


def classifier(
    *,
    image_size: int = 256,
    classifier_width: int = 128,
    classifier_depth: int = 2,
    classifier_attention_resolutions: str = "32,16,8",
    classifier_use_scale_shift_norm: bool = True,
    classifier_resblock_updown: bool = True,
    classifier_pool: str = "attention",
    channel_mult: str = "",
    num_head_channels: int = 64,
    num_classes: int = NUM_CLASSES,
) -> Classifier:
    """The noisy-image classifier of a published config. The last three are fixed in the published code."""
    if classifier_pool != "attention":
        raise ValueError(f"only attention pooling is written here, got {classifier_pool!r}")
    mult = multipliers(image_size, channel_mult)
    return Classifier(
        side=image_size // 2 ** (len(mult) - 1),
        width=classifier_width,
        mult=mult,
        depth=classifier_depth,
        attention_ds=rates(image_size, classifier_attention_resolutions),
        num_head_channels=num_head_channels,
        scale_shift=classifier_use_scale_shift_norm,
        resblock_updown=classifier_resblock_updown,
        num_classes=num_classes,
    ).eval()


def randomised(module: Network, seed: int) -> Network:
    """A copy of `module` with every parameter random, also those that training starts from zero.

    Outputs are of order 1. With 32 channels each GroupNorm group is one channel and removes what was added before it
    (biases, and without scale-shift the timestep): take at least 64 to have every parameter matter.
    """
    filled = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(seed)
    for name, p in filled.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if name.endswith(("label_emb.weight", "positional_embedding")):
            value = noise
        elif p.ndim > 1:
            value = 1.5 * noise / math.sqrt(math.prod(p.shape[1:]))
        elif name.endswith("weight"):
            value = 1 + 0.2 * noise
        else:
            value = 0.2 * noise
        p.data.copy_(value)
    return filled
