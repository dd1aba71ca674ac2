"""What a prior sees at each noise level: python benchmarks/noise_levels.py FACES PHOTOS --prior base-64

One guess of the clean image from held-out pictures with noise on them: how far off it is (RMS; the range from black to
white is 2), how many values lie beyond black or white before they are clipped, and how far off its mean colour is.
`plain grey` is what a prior that sees nothing could say. Last: of noise alone, how far the mean of the predicted noise
follows the mean of the true one from image to image; 100 % is right.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Generator, Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.fills import as_tensor
from benchmarks.pictures import faces, windows
from repaint.diffusion import NetworkPrior
from repaint.weights.load import load_prior

LEVELS = (1000, 950, 900, 800, 600, 400, 200, 100, 30)


def main(
    face_folder: Annotated[Path, typer.Argument(help="held-out aligned faces")],
    photo_folder: Annotated[Path, typer.Argument(help="held-out photos")],
    prior: Annotated[str, typer.Option(help="a name of `repaint weights list`, or a path")] = "base-64",
    count: Annotated[int, typer.Option(min=2, help="faces, and as many windows")] = 32,
    seed: int = 0,
) -> None:
    loaded = load_prior(prior)
    size = loaded.size
    pictures = [*faces(face_folder, size, count), *windows(photo_folder, size, count, seed)]
    x_0 = 2 * as_tensor([picture.pixels for picture in pictures]) - 1
    print(f"{prior} ({loaded.sha256[:6]}), {len(x_0)} pictures of {size} px; plain grey is off by {rms(x_0):.3f}\n")
    print(
        "| t | error of the noise (MSE) | error of the clean image | beyond black or white | error of its mean colour |"
    )
    print("|---|---|---|---|---|")
    for t in LEVELS:
        noise = torch.randn(x_0.shape, generator=Generator().manual_seed(t))
        bar = loaded.prior.schedule.alpha_bar[t].float()
        x_t = bar.sqrt() * x_0 + (1 - bar).sqrt() * noise
        eps = predicted(loaded.prior, x_t, t)
        guess = (x_t - (1 - bar).sqrt() * eps) / bar.sqrt()
        beyond, clean = (guess.abs() > 1).float().mean(), guess.clamp(-1, 1)
        colour = rms(clean.mean((2, 3)) - x_0.mean((2, 3)))
        mse = (eps - noise).square().mean()
        print(f"| {t} | {mse:.5f} | {rms(clean - x_0):.3f} | {100 * beyond:.0f} % | {colour:.3f} |", flush=True)
    followed = ", ".join(f"{100 * share:.1f} %" for share in followed_by(loaded.prior, x_0.shape, seed))
    print(f"\nthe mean of noise alone at t = {LEVELS[0]} is followed by {followed} (red, green, blue)")


@torch.no_grad()
def predicted(prior: NetworkPrior, x_t: Tensor, t: int) -> Tensor:
    """eps (B, 3, H, W) of states at the noise level t in 1..1000."""
    return prior.network(x_t, torch.full((len(x_t),), t - 1)).float()[:, :3]


def followed_by(prior: NetworkPrior, shape: torch.Size, seed: int) -> list[float]:
    """The slope of the mean of predicted noise over that of the true noise, of each channel."""
    noise = torch.randn(shape, generator=Generator().manual_seed(seed))
    bar = prior.schedule.alpha_bar[LEVELS[0]].float()
    true, said = noise.mean((2, 3)), predicted(prior, (1 - bar).sqrt() * noise, LEVELS[0]).mean((2, 3))
    true, said = true - true.mean(0), said - said.mean(0)
    return ((true * said).sum(0) / true.square().sum(0)).tolist()


def rms(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()


if __name__ == "__main__":
    typer.run(main)
