"""Ways to compute the group norms of a prior's network, side by side: python benchmarks/norms.py --device cuda

On a GPU convolutions want an image's channels side by side in memory; torch's own norm wants them one after the other,
and in half precision the network's norms are to count in float32. How much of a call goes into copies between these is
seen by doing it otherwise: the same weights and images, one process, by turns.

    copies      to float32, normed, and back (what the network does on a CPU)
    kernel      given to torch's kernel as it is, which counts in float32 by itself (what it does on a GPU)
    sums        sums of each channel and of its squares in float32, then one multiplication and addition

    python benchmarks/norms.py --device cuda --precision float16 --batch 64 --compile
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.network import in_turn
from repaint.archs.blocks import GroupNorm
from repaint.stages.progress import Precision
from repaint.weights.load import load_prior

MEMORY = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}


def copies(norm: GroupNorm, x: Tensor) -> Tensor:
    return F.group_norm(x.float(), norm.num_groups, norm.weight, norm.bias, norm.eps).to(x.dtype)


def kernel(norm: GroupNorm, x: Tensor) -> Tensor:
    return F.group_norm(x, norm.num_groups, norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps)


def sums(norm: GroupNorm, x: Tensor) -> Tensor:
    pixels = x.flatten(2)
    total = pixels.sum(2, dtype=torch.float32)
    squares = torch.linalg.vector_norm(pixels, dim=2, dtype=torch.float32).square()
    mean, mean_square = (
        s.unflatten(1, (norm.num_groups, -1)).mean(2) / pixels.shape[2] for s in (total, squares)
    )  # (B, groups)
    scale = (mean_square - mean.square()).clamp(min=0).add(norm.eps).rsqrt()
    each = norm.num_channels // norm.num_groups
    weight = norm.weight * scale.repeat_interleave(each, 1)
    bias = norm.bias - mean.repeat_interleave(each, 1) * weight
    return torch.addcmul(bias.to(x.dtype)[..., None, None], x, weight.to(x.dtype)[..., None, None])


WAYS: dict[str, Callable[[GroupNorm, Tensor], Tensor]] = {"copies": copies, "kernel": kernel, "sums": sums}


def main(
    prior: Annotated[str, typer.Option(help="a name of `repaint weights list`, or a path")] = "base-128",
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    precision: Precision = "float16",
    batch: int = 64,
    repeats: Annotated[int, typer.Option(help="timed calls of each")] = 10,
    compile: Annotated[bool, typer.Option("--compile", help="the network, too")] = False,
) -> None:
    exact = load_prior(prior, device=device)
    x = torch.randn(batch, 3, exact.size, exact.size, generator=torch.Generator().manual_seed(0)).to(device)
    t = torch.tensor([500], device=device)
    called: dict[str, Callable[[], Tensor]] = {}
    with torch.no_grad():
        expected: Tensor = exact.prior.network(x, t)
        for way, norm in WAYS.items():
            for memory, format in MEMORY.items():
                network: Any = load_prior(prior, device=device, precision=precision).prior.network
                network.to(memory_format=format)
                set_norms(network, norm)
                if compile:
                    network.compile(dynamic=False)
                called[f"{way}, {memory}"] = lambda network=network: network(x, t)
        seconds = in_turn(called, repeats, device)
        where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
        print(f"{prior}, batches of {batch}, {precision}{', compiled' * compile}, {where}, torch {torch.__version__}\n")
        print("| norm, memory | images/s | off from float32, at most |\n|---|---|---|")
        for name, call in called.items():
            print(f"| {name} | {batch / seconds[name]:.1f} | {(call() - expected).abs().max().item():.4f} |")


def set_norms(network: nn.Module, norm: Callable[[GroupNorm, Tensor], Tensor]) -> None:
    for module in network.modules():
        if isinstance(module, GroupNorm):
            module.forward = partial(norm, module)  # pyright: ignore[reportAttributeAccessIssue]


if __name__ == "__main__":
    typer.run(main)
