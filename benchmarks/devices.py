"""The same photo, mask and seed on a CPU and on a GPU: python benchmarks/devices.py --help

How far the fills are apart, in levels of 255, and how long each took. Noise is drawn on the CPU for both.
"""

from __future__ import annotations

import sys
import time
import typing
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from repaint import Inpaint, Photo, read_mask, read_photo, write_photo
from repaint.stages.device import chosen_device, device_name
from repaint.stages.inpaint import Preset
from repaint.stages.progress import Device, Precision

SAMPLES = Path(__file__).parents[1] / "data" / "datasets"


def main(
    photo: Annotated[Path, typer.Option()] = SAMPLES / "gts/face/astronaut.png",
    mask: Annotated[Path, typer.Option()] = SAMPLES / "gt_keep_masks/face/astronaut.png",
    prior: Annotated[str, typer.Option()] = "base-64",
    sampler: Annotated[Preset, typer.Option()] = "balanced",
    out: Annotated[Path | None, typer.Option(help="folder for the pictures")] = None,
) -> None:
    keep = read_mask(mask).keep
    damaged = replace(read_photo(photo), keep=keep)
    truth, seconds = filled(damaged, prior, sampler, "cpu", "float32")
    print(f"{prior}, {sampler}; {device_name(torch.device('cpu'))}: {seconds:.1f} s")
    shown = {"cpu": truth}
    for precision in typing.get_args(Precision):
        found, seconds = filled(damaged, prior, sampler, "cuda", precision)
        apart = ((found.rgb - truth.rgb).abs() * 255)[(~keep).expand_as(truth.rgb)]
        most, mean, two = apart.max(), apart.mean(), (apart > 1).float().mean()
        name = device_name(chosen_device("cuda"))
        print(
            f"{name}, {precision}: {seconds:.1f} s; {mean:.3f} levels apart in the hole, {most:.1f} at most, "
            f"{100 * two:.2f} % of it by more than one"
        )
        shown[precision] = found
    if out is not None:
        for name, picture in shown.items():
            write_photo(out / f"{name}.png", picture)


def filled(photo: Photo, prior: str, sampler: Preset, device: Device, precision: Precision) -> tuple[Photo, float]:
    """The fill and its seconds; the stage is built, and has run a call, before."""
    stage = Inpaint.model_validate({"prior": prior, "sampler": sampler}).build(device, precision)
    next(iter(stage([photo], [0])))
    began = time.perf_counter()
    *_, last = stage([photo], [0])
    return last.photos[0], time.perf_counter() - began


if __name__ == "__main__":
    typer.run(main)
