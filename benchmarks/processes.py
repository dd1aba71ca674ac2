"""Processes that share a run beside one process: python benchmarks/processes.py

The sample photos, so many copies of them, each filled by the prior at its own size (`fit: crop`). All cores count in
both: one process has them all, several have their share. Starting takes a while, and is counted. The pictures are
compared (how many values differ, and by how many levels at most): with another number of threads kernels sum in
another order, and a pixel may round to the next level.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from repaint.jobs import RunConfig
from repaint.jobs.running import Report, run
from repaint.stages.device import chosen_device, device_name
from repaint.stages.progress import Device

SAMPLES = Path(__file__).parents[1] / "data" / "datasets"


def main(
    photos: Annotated[int, typer.Option(min=1, help="how many are filled")] = 24,
    processes: Annotated[str, typer.Option(help="how many processes, by turns")] = "1,2",
    batch_sizes: Annotated[str, typer.Option(help="photos in one network call, each with every count")] = "1",
    preset: Annotated[str, typer.Option(help="of the inpaint stage")] = "balanced",
    prior: Annotated[str, typer.Option(help="a name of `repaint weights list`, or a path")] = "base-64",
    turns: Annotated[int, typer.Option(min=1)] = 2,
    device: Device = "auto",
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        copied(Path(folder), photos)
        print(f"{photos} photos, {prior}, {preset}; torch {torch.__version__}, {device_name(chosen_device(device))}\n")
        print("| batch size | processes | seconds (turns) | photos a second | of the first | differ |")
        print("|---|---|---|---|---|---|", flush=True)
        for batch_size in map(int, batch_sizes.split(",")):
            counts = [int(count) for count in processes.split(",")]
            stage = {"inpaint": {"prior": prior, "sampler": preset, "fit": "crop"}}
            made: dict[int, list[Report]] = {count: [] for count in counts}
            for turn in range(turns):
                for count in counts:
                    config = RunConfig.model_validate(
                        {
                            "images": f"{folder}/images",
                            "masks": f"{folder}/masks",
                            "output": f"{folder}/out-{batch_size}-{count}-{turn}",
                            "stages": [stage],
                            "batch_size": batch_size,
                            "processes": count,
                            "device": device,
                        }
                    )
                    made[count].append(run(config))
            fastest = {count: min(report.seconds for report in reports) for count, reports in made.items()}
            first = pictures(made[counts[0]][0].output)
            for count, reports in made.items():
                seconds = ", ".join(f"{report.seconds:.1f}" for report in reports)
                ratio = fastest[counts[0]] / fastest[count]
                apart = np.abs(np.stack([pictures(report.output) for report in reports]) - first)
                rate = photos / fastest[count]
                differ = f"{(apart > 0).mean():.2%}, {apart.max()}"
                print(f"| {batch_size} | {count} | {seconds} | {rate:.2f} | {ratio:.2f} | {differ} |", flush=True)


def copied(folder: Path, count: int) -> None:
    """So many photos and masks in `folder`, copies of the samples by turns."""
    originals = sorted((SAMPLES / "gts" / "face").iterdir())
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for i in range(count):
        original = originals[i % len(originals)]
        shutil.copy(original, folder / "images" / f"{i:04}{original.suffix}")
        shutil.copy(SAMPLES / "gt_keep_masks" / "half" / f"{original.stem}.png", folder / "masks" / f"{i:04}.png")


def pictures(folder: str) -> np.ndarray:
    """(N, H, W, 3), of int16."""
    return np.stack([np.asarray(Image.open(file), np.int16) for file in sorted(Path(folder).glob("*.png"))])


if __name__ == "__main__":
    typer.run(main)
