"""How fast the trainer is, beside a plain loop over the same network and the same windows.

    python benchmarks/training.py --data FOLDER --steps 60

Both run by turns in processes of their own, warmed up; the plain loop has no accelerate, no checkpoints, no choice:
draw, noise, predict, step, average. Images a second, and the most memory each process held.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from torch.utils.data import DataLoader

from repaint.train.data import Pictures, together
from repaint.train.loss import HybridLoss
from repaint.train.prior import Window, architecture, train_prior
from repaint.train.prior_settings import TrainPrior
from repaint.weights.load import SCHEDULES

WARM_UP = 5


def config_of(args: argparse.Namespace, output: str) -> TrainPrior:
    return TrainPrior.model_validate(
        {
            "output": output,
            "data": [{"folder": args.data, "scales": [1, 0.5]}],
            "network": {
                "channels": args.channels,
                "multipliers": [1, 2, 2, 4],
                "res_blocks": 1,
                "attention_at": [8],
                "resblock_updown": False,
            },
            "steps": args.steps + WARM_UP,
            "validate_every": 10**9,
            "batch_size": args.batch,
            "workers": 1,
            "precision": args.precision,
            "device": args.device,
            "compile": args.compile,
        }
    )


def ours(args: argparse.Namespace) -> float:
    """Seconds for the steps after the warm-up."""
    marks = []
    with tempfile.TemporaryDirectory() as output:
        train_prior(config_of(args, output), lambda status: marks.append((status.step, time.perf_counter())))
    return marks[args.steps + WARM_UP - 1][1] - marks[WARM_UP - 1][1]


def plain(args: argparse.Namespace) -> float:
    config = config_of(args, "unused")
    device = torch.device("cuda" if args.device == "auto" and torch.cuda.is_available() else "cpu")
    from repaint.archs.unet import build

    network = build(architecture(config)).to(device)
    average = copy.deepcopy(network)
    if args.compile:
        network.compile(dynamic=False)
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate)
    loss_of = HybridLoss(SCHEDULES["linear"](), "simple").to(device)
    make = Window(config.size, flip=True, grey_share=config.grey_share)
    pictures = Pictures(config.data, make, seed=0, count=config.steps * args.batch)
    batches = iter(DataLoader(pictures, batch_size=args.batch, num_workers=1, collate_fn=together))
    dtype, began = getattr(torch, args.precision), 0.0
    for step in range(config.steps):
        if step == WARM_UP:
            began = time.perf_counter()
        (x_0,), _ = next(batches)
        x_0 = x_0.to(device)
        index = torch.randint(loss_of.T, (len(x_0),), device=device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = loss_of(network, x_0, index, torch.randn_like(x_0))[0].mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
        optimiser.step()
        with torch.no_grad():
            for a, b in zip(average.parameters(), network.parameters(), strict=True):
                a.mul_(config.ema).add_(b, alpha=1 - config.ema)
        loss.item()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of photos")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--device", default="auto", choices=("auto", "cpu"))
    parser.add_argument("--compile", action="store_true", help="both networks")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--one", choices=("ours", "plain"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        seconds = {"ours": ours, "plain": plain}[args.one](args)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"RESULT {args.steps * args.batch / seconds} {peak}")
        return
    rates: dict[str, list[float]] = {"plain": [], "ours": []}
    peaks: dict[str, float] = {}
    for _, kind in itertools.product(range(args.turns), rates):
        words = [sys.executable, *sys.argv, "--one", kind]
        said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        rate, peak = map(float, said.rpartition("RESULT ")[2].split())
        rates[kind].append(rate)
        peaks[kind] = max(peak, peaks.get(kind, 0))
        print(f"{kind}: {rate:.1f} images/s, {peak:.0f} MiB", flush=True)
    a, b = (statistics.median(rates[kind]) for kind in ("ours", "plain"))
    print(f"\nours / plain: {a / b:.2f} ({a:.1f} / {b:.1f} images/s); peak memory {peaks['ours'] / peaks['plain']:.2f}")


if __name__ == "__main__":
    main()
