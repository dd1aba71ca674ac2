"""Our U-Net beside the same network written plainly, and what the sampler adds: python benchmarks/network.py

Plain = unfused attention, contiguous memory, float32: tests/oracle/networks.py. Both run in the same process, one call
each in turn, with the same weights and inputs; the ratio is the thing to read. Conditioned = ours, and once back, as in
each step of the presets. Peak memory is what a call takes beyond the weights; on a CPU, in a process of its own.

    python benchmarks/network.py                      the embedded prior's architecture, batch 1 and 8
    python benchmarks/network.py --arch paper-256     the 256-px networks of the paper, random weights (2.1 GB)
    python benchmarks/network.py --device cuda --precision bfloat16 --compile      there with CUDA graphs
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from repaint.archs import unet
from repaint.archs.blocks import in_precision
from repaint.diffusion import (
    NetworkPrior,
    Noise,
    conditioned,
    linear_schedule,
    network_calls,
    repaint,
    time_travel,
)
from tests.oracle import networks as plain_networks

ARCHS: dict[str, dict[str, Any]] = {
    "base-64": {
        "image_size": 64,
        "num_channels": 64,
        "channel_mult": "1,1,2,2",
        "num_res_blocks": 1,
        "attention_resolutions": "16,8",
        "num_head_channels": 32,
        "resblock_updown": False,
    },
    "base-128": {
        "image_size": 128,
        "num_channels": 64,
        "channel_mult": "1,1,2,3,3",
        "num_res_blocks": 1,
        "attention_resolutions": "16,8",
        "num_head_channels": 32,
        "resblock_updown": False,
    },
    "paper-256": {"image_size": 256},
}


def main(
    arch: Annotated[str, typer.Option(help=", ".join(ARCHS))] = "base-64",
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    precision: Annotated[str, typer.Option(help="of ours: float32, bfloat16 or float16")] = "float32",
    batches: Annotated[str, typer.Option(help="batch sizes")] = "1,8",
    repeats: Annotated[int, typer.Option(help="timed calls of each")] = 20,
    compile: Annotated[bool, typer.Option("--compile", help="ours compiled, too, for each batch size")] = False,
    memory_of: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    settings = ARCHS[arch]
    size = settings["image_size"]
    plain = plain_networks.randomised(plain_networks.unet(**settings), seed=0).eval().requires_grad_(False)
    ours = unet.build(unet.detect(plain.state_dict(), settings)).eval().requires_grad_(False)
    ours.load_state_dict(plain.state_dict())
    ours = in_precision(ours, getattr(torch, precision)).to(device).to(memory_format=torch.channels_last)
    plain = plain.to(device)
    networks: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"plain": plain, "ours": ours}
    networks["conditioned"] = half_known(ours)
    if memory_of is not None:
        print(peak_mib(networks[memory_of], size, int(batches), device))
        return

    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    millions = sum(p.numel() for p in ours.parameters()) / 1e6
    print(f"{arch}, {millions:.1f} M parameters, {size} px, {where}, torch {torch.__version__}")
    for batch in map(int, batches.split(",")):
        x = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
        t = torch.full((batch,), 500, device=device)
        calls = {name: lambda x=x, t=t, call=call: call(x, t) for name, call in networks.items()}
        if device == "cuda":
            memory = {name: peak_mib(network, size, batch, device) for name, network in networks.items()}
        else:
            memory = {name: own_process(name, arch, device, precision, batch) for name in calls}
        if compile:
            compiled = torch.compile(ours, mode="reduce-overhead", dynamic=False)
            calls["compiled"] = lambda x=x, t=t, call=compiled: call(x, t)
        seconds = in_turn(calls, repeats, device)
        difference = (plain(x, t) - ours(x, t)).abs().max().item()
        for name, s in seconds.items():
            peak = f", peak {memory[name]} MiB" if name in memory else ""
            print(f"batch {batch}: {name:11} {1 / s:8.2f} calls/s, {batch / s:8.2f} images/s{peak}")
        ratio = seconds["plain"] / seconds["ours"]
        print(f"batch {batch}: ours is {ratio:.2f} times as fast as plain; outputs differ by {difference:.1e}")
        times = seconds["conditioned"] / seconds["ours"]
        print(f"batch {batch}: a conditioned step takes {times:.2f} times as long as a call")
        if batch == 1:
            share = 100 * sampler_share(seconds["ours"], size, device)
            print(f"batch 1: the sampler adds {share:.1f} % to the time of its network calls (100/10/10)")


def half_known(network: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """What a prior of the network answers when it is told the left half of images, in one pass back."""
    answer = conditioned(NetworkPrior(network, linear_schedule()), 1)

    def call(x: Tensor, t: Tensor) -> Tensor:
        keep = torch.zeros_like(x[:, :1])
        keep[..., : x.shape[-1] // 2] = 1
        return answer(x, 500, torch.zeros_like(x), keep)

    return call


def in_turn(calls: dict[str, Callable[[], Tensor]], repeats: int, device: str) -> dict[str, float]:
    """The median seconds of each, called by turns after a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    with torch.no_grad():
        for i in range(repeats + 2):
            for name, call in calls.items():
                began = time.perf_counter()
                call()
                if device == "cuda":
                    torch.cuda.synchronize()
                if i >= 2:
                    times[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def sampler_share(call_seconds: float, size: int, device: str) -> float:
    """What RePaint's own work adds to a network call: a chain whose network answers at once, best of five."""
    answer = torch.randn(1, 6, size, size, device=device)
    prior = NetworkPrior(lambda x, t: answer, linear_schedule()).respaced(100)
    known = torch.rand(1, 3, size, size, device=device) * 2 - 1
    keep = torch.rand(1, 1, size, size, device=device) > 0.3
    times = time_travel(100, 10, 10)
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in repaint(prior, known, keep, times, Noise([0])):
            pass
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return best / network_calls(times) / call_seconds


def own_process(name: str, arch: str, device: str, precision: str, batch: int) -> int:
    """Peak MiB of a process that holds one network and calls it."""
    options = ["--arch", arch, "--device", device, "--precision", precision, "--batches", str(batch)]
    command = [sys.executable, __file__, *options, "--memory-of", name]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_mib(network: Callable[[Tensor, Tensor], Tensor], size: int, batch: int, device: str) -> int:
    """MiB that a call takes at its peak beyond the weights."""
    x, t = torch.randn(batch, 3, size, size, device=device), torch.full((batch,), 500, device=device)
    with torch.no_grad():
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            network(x, t)
            return (torch.cuda.max_memory_allocated() - before) >> 20
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak begins anew
        before = resident_kib("VmRSS")
        network(x, t)
        return (resident_kib("VmHWM") - before) >> 10


def resident_kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


if __name__ == "__main__":
    typer.run(main)
