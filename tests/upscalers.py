"""Upscalers small enough to run in every test, in files as they are published."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from repaint.archs import compact
from repaint.archs.compact import CompactConfig

from . import tiny


def compact_file(path: Path, scale: int, *, seed: int | None = None, bias: float = 0.0, channels: int = 3) -> Path:
    """A network of 3 convolutions: a new one, which repeats pixels, or a random one if `seed` is told; adds `bias`."""
    torch.manual_seed(seed or 0)
    network = compact.build(CompactConfig(8, 1, scale, channels))
    last = network.body[-1]
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    if seed is not None:
        nn.init.normal_(last.weight, std=0.02)
    nn.init.constant_(last.bias, bias)
    return saved(path, network.state_dict())


def rrdb_file(path: Path, scale: int, *, seed: int = 0) -> Path:
    """A random RRDBNet of one block with 8 features, laid out as Real-ESRGAN publishes it."""
    growth = 32  # spandrel takes it for granted
    convs = {"conv_first": (3 * (4 // scale) ** 2, 8), "conv_last": (8, 3)}
    convs |= dict.fromkeys(("conv_body", "conv_up1", "conv_up2", "conv_hr"), (8, 8))
    for i in range(5):
        made = growth if i < 4 else 8
        convs |= {f"body.0.rdb{k}.conv{i + 1}": (8 + i * growth, made) for k in (1, 2, 3)}
    state = {}
    for i, (name, (c_in, c_out)) in enumerate(convs.items()):
        state[f"{name}.weight"] = tiny.drawn(c_out, c_in, 3, 3, seed=seed + i) / (9 * c_in) ** 0.5
        state[f"{name}.bias"] = torch.full((c_out,), 0.5 if name == "conv_last" else 0.0)
    return saved(path, state)


def saved(path: Path, state: dict[str, Tensor]) -> Path:
    """Under the key that Real-ESRGAN uses, or as safetensors."""
    return tiny.saved(path, state if path.suffix == ".safetensors" else {"params": state}, {})  # pyright: ignore
