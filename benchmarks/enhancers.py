"""Super-resolvers and face restorers beside what costs nothing: python benchmarks/enhancers.py FOLDER WEIGHTS...

    python benchmarks/enhancers.py PHOTOS upscale-x2 upscale-x4 --out log/enhancers      beside bicubic
    python benchmarks/enhancers.py FACES face-128 --out log/enhancers                    beside the poor face itself

Each clean picture of FOLDER is made poor in three ways, the same at every run: only shrunk (by Pillow's bicubic filter;
faces stay as they are), and by `repaint.train.pairs.poor_copy` at two strengths. Colour shift is what the network does
to the mean of a channel of what it is shown, in levels of 255. Prints a Markdown table, and writes a sheet to look at.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import piq
import torch
import typer
from PIL import Image
from torch import Generator, Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.fills import as_tensor, interval, win_rate
from benchmarks.pictures import images_in, sheet
from repaint.archs import compact, face_net, timm_unet
from repaint.errors import RepaintError, RunError
from repaint.stages.device import chosen_device
from repaint.stages.progress import Device, Precision
from repaint.train.enhancer import decibels, enlarged, ssim
from repaint.train.pairs import poor_copy
from repaint.weights.files import read_state
from repaint.weights.networks import file_of

STRENGTHS = {"none": 0.0, "mild": 0.25, "strong": 0.6}
FIGURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "PSNR (dB)": lambda x, y: torch.tensor([decibels(d.square().mean().item()) for d in x - y]),
    "SSIM": ssim,
    "HaarPSI": lambda x, y: piq.haarpsi(x, y, reduction="none"),
}
MULTIPLE = 32  # of the sides of pictures, so that every network can be shown them
SHEET_ROWS, SHEET_PX = 4, 128


@dataclass(frozen=True)
class Enhancer:
    """A network, and by how much it enlarges; None = it is for aligned faces."""

    name: str
    network: nn.Module
    scale: int | None


@dataclass
class Measured:
    """Figures of many pictures, of the network and of what it is to beat.

    Attributes:
        shifts: of each channel of each picture, in levels.
    """

    ours: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in FIGURES})
    plain: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in FIGURES})
    shifts: list[float] = field(default_factory=list)
    seconds: float = 0.0
    megapixels: float = 0.0


app = typer.Typer(add_completion=False)


@app.command()
def main(
    folder: Annotated[Path, typer.Argument(help="of clean pictures: photos, or aligned faces")],
    weights: Annotated[list[str], typer.Argument(help="names of `repaint weights list`, or paths")],
    out: Annotated[Path, typer.Option(help="folder of the sheets")],
    count: Annotated[int, typer.Option(min=1, help="pictures")] = 100,
    seed: int = 0,
    device: Device = "auto",
    precision: Precision = "float32",
) -> None:
    where = chosen_device(device)
    clean = [(file.stem, read(file)) for file in images_in(folder)[:count]]
    out.mkdir(parents=True, exist_ok=True)
    for name in weights:
        enhancer = loaded(name, where)
        print(f"\n{enhancer.name}: {len(clean)} pictures, {precision}, {torch.get_num_threads()} threads\n")
        print(f"| degraded | {' | '.join(FIGURES)} | colour shift, mean / worst | s per MP shown |")
        print("|" + " --- |" * (len(FIGURES) + 3))
        rows = []
        for kind in STRENGTHS:
            measured, shown = measure(enhancer, clean, kind, seed, where, precision)
            rows += shown
            print(line(kind, measured), flush=True)
        titles = ["as shown", "plain", enhancer.name, "truth"]
        sheet(rows, titles).save(out / f"{enhancer.name}.png")


def measure(
    enhancer: Enhancer,
    clean: Sequence[tuple[str, Tensor]],
    kind: str,
    seed: int,
    where: torch.device,
    precision: Precision,
) -> tuple[Measured, list[list[np.ndarray]]]:
    """Figures of all pictures, and rows of a sheet for the first of them."""
    measured, rows = Measured(), []
    for i, (_, truth) in enumerate(clean):
        poor = degraded(truth, enhancer.scale, kind, Generator().manual_seed((seed << 32) + i))[None]
        began = time.perf_counter()
        made = enhance(enhancer, poor.to(where), precision).cpu()
        measured.seconds += time.perf_counter() - began
        measured.megapixels += poor.shape[2] * poor.shape[3] / 1e6
        plain = enlarged(poor, enhancer.scale or 1)
        for name, figure in FIGURES.items():
            measured.ours[name] += figure(made, truth[None]).tolist()
            measured.plain[name] += figure(plain, truth[None]).tolist()
        measured.shifts += (255 * (made - plain).mean((0, 2, 3))).abs().tolist()
        if i < SHEET_ROWS:
            near = poor.repeat_interleave(enhancer.scale or 1, 2).repeat_interleave(enhancer.scale or 1, 3)
            rows.append([middle(x) for x in (near[0], plain[0], made[0], truth)])
    return measured, rows


def degraded(truth: Tensor, scale: int | None, kind: str, g: Generator) -> Tensor:
    """What a network is shown of a clean picture (3, H, W)."""
    strength = STRENGTHS[kind]
    if strength:
        return poor_copy(truth, g, scale=scale or 1, strength=strength)
    H, W = truth.shape[1:]
    size = (W // (scale or 1), H // (scale or 1))
    return as_tensor([np.asarray(Image.fromarray(levels(truth)).resize(size, Image.Resampling.BICUBIC))])[0]


@torch.no_grad()
def enhance(enhancer: Enhancer, poor: Tensor, precision: Precision) -> Tensor:
    """What the network makes of a picture (1, 3, h, w), in levels of 255."""
    with torch.autocast(poor.device.type, getattr(torch, precision), enabled=precision != "float32"):
        made = enhancer.network(poor)
    return (made.float().clamp(0, 1) * 255).round() / 255


def loaded(name: str, where: torch.device) -> Enhancer:
    """The network of that name.

    Raises:
        RunError: if it is no enhancer of ours.
    """
    path = file_of(name, "data/pretrained")
    state, metadata = read_state(path)
    network, scale = None, None
    for build in (
        lambda: compact.build(compact.detect(state)),
        lambda: face_net.build(face_net.detect(state)),
        lambda: timm_unet.build(timm_unet.detect(metadata)),
    ):
        try:
            network = build()
            break
        except ValueError:
            continue
    if network is None:
        raise RunError(f"{path}: is no enhancer of ours; must be compact, a face restorer, or a U-Net over timm's")
    if isinstance(network, compact.Compact):
        scale = network.config.scale
    network.load_state_dict(state)
    return Enhancer(Path(name).stem, network.float().eval().to(where, memory_format=torch.channels_last), scale)  # pyright: ignore[reportCallIssue]


def line(kind: str, m: Measured) -> str:
    """A row of the table: plain -> ours (gained ± half a 95 % interval, share of pictures that are better)."""
    cells = []
    for name in FIGURES:
        digits = 2 if "dB" in name else 4
        gains = [a - b for a, b in zip(m.ours[name], m.plain[name], strict=True)]
        gain, low, high = interval(gains)
        before, after = np.mean(m.plain[name]), np.mean(m.ours[name])
        wins = 100 * win_rate(m.ours[name], m.plain[name], 1)
        half = (high - low) / 2
        cells.append(
            f"{before:.{digits}f} -> {after:.{digits}f} ({gain:+.{digits}f} ± {half:.{digits}f}, {wins:.0f} %)"
        )
    shift = f"{np.mean(m.shifts):.2f} / {np.max(m.shifts):.2f}"
    return f"| {kind} | {' | '.join(cells)} | {shift} | {m.seconds / m.megapixels:.2f} |"


def read(file: Path) -> Tensor:
    """(3, H, W) in [0, 1], its right and lower edges cut so that sides are multiples of `MULTIPLE`.

    Raises:
        RunError: if it is too small.
    """
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB"))
    H, W = (side // MULTIPLE * MULTIPLE for side in pixels.shape[:2])
    if min(H, W) < SHEET_PX:
        raise RunError(f"{file}: is {pixels.shape[1]} x {pixels.shape[0]} px; must be at least {SHEET_PX}")
    return as_tensor([pixels[:H, :W]])[0]


def middle(x: Tensor) -> np.ndarray:
    """The middle (SHEET_PX, SHEET_PX, 3) uint8 of a picture (3, H, W)."""
    top, left = ((side - SHEET_PX) // 2 for side in x.shape[1:])
    return levels(x[:, top : top + SHEET_PX, left : left + SHEET_PX])


def levels(x: Tensor) -> np.ndarray:
    """(H, W, 3) uint8."""
    return (x.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()


def run() -> None:
    try:
        app()
    except (RepaintError, ValueError) as e:
        print(f"{Path(__file__).name}: {e}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    run()
