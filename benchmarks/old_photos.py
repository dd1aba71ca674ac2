"""How well damage in old photos is mended where the truth is known: python benchmarks/old_photos.py PHOTOS STAMPS

Photos are aged, then damaged; the same seeds make the same pictures every time. What is filled is compared with the
aged photo before it was damaged, over the damaged pixels alone. With their exact mask, and with the mask that the
scratches stage finds: there what was missed stays damaged, and counts. Beside OpenCV's and scikit-image's fills of the
same masks, and the photo left as it is.

    python benchmarks/old_photos.py PHOTOS STAMPS --presets fast,balanced --out DIR      and sheets to look at
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from skimage.metrics import structural_similarity
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.damage import Spoiled, photos_in, spoiled_photos
from benchmarks.fills import CLASSICAL, psnr_in_hole
from repaint.degrade import Damaged
from repaint.image import Photo
from repaint.stages.inpaint import Inpaint
from repaint.stages.progress import Device
from repaint.stages.scratches import Scratches
from repaint.tiling import resized
from repaint.train.stamps import read_stamps

Fill = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def main(
    photos: Annotated[Path, typer.Argument(help="a folder of photos without damage, best held out from training")],
    stamps: Annotated[str, typer.Argument(help="a folder of grey images of damage, white = damaged")],
    presets: Annotated[str, typer.Option(help="of the inpaint stage")] = "fast,balanced",
    prior: Annotated[str, typer.Option(help="a name of `repaint weights list`, or a path")] = "base-64",
    count: Annotated[int, typer.Option(min=1, help="photos")] = 12,
    size: Annotated[int, typer.Option(min=64, help="px of the photos")] = 384,
    enlarged: Annotated[int, typer.Option(min=1, help="so many times as large, damage and all, as a soft scan")] = 1,
    seed: int = 0,
    mender: Annotated[
        str, typer.Option(help="what fills thin holes first; none: the sampler fills them all")
    ] = "mender",
    mend_px: Annotated[int, typer.Option(min=1, help="how thick a hole may be for the mender")] = 16,
    sensitivity: Annotated[float, typer.Option(min=0, max=1, help="of the scratches stage")] = 0.5,
    masks: Annotated[str, typer.Option(help="exact, found or exact,found")] = "exact,found",
    out: Annotated[Path | None, typer.Option(help="where sheets go")] = None,
    device: Device = "cpu",
) -> None:
    made = spoiled_photos(photos_in(photos, size, count), read_stamps(stamps), seed)
    cases = [scan(case, enlarged) for case in made if case.damaged.damage.any()]
    fills: dict[str, Fill] = {"left as it is": lambda picture, keep, i: picture}
    thin = {"mender": None if mender == "none" else mender, "mend_px": mend_px}
    fills |= {
        f"repaint, {name}": ours({"prior": prior, "sampler": name, **thin}, device) for name in presets.split(",")
    }
    fills |= {name: lambda picture, keep, i, fill=fill: fill(picture, keep) for name, fill in CLASSICAL.items()}
    truths = [~case.damaged.damage[0].numpy() for case in cases]
    for title in masks.split(","):
        if title not in ("exact", "found"):
            raise typer.BadParameter(f"--masks: found {title!r}; must be exact, found or exact,found")
        keeps = truths if title == "exact" else found(cases, sensitivity, device)
        share = 100 * np.mean([1 - keep.mean() for keep in keeps])
        print(f"\n{title} masks, {share:.2f} % of {len(cases)} photos of {size * enlarged} px; damaged pixels alone\n")
        print("| | PSNR (dB) | SSIM | seconds a photo |\n|---|---|---|---|")
        sheets: list[list[np.ndarray]] = [[level(case.whole), level(case.damaged.image)] for case in cases]
        for name, fill in fills.items():
            scores, began = [], time.perf_counter()
            filled = [
                fill(level(c.damaged.image), keep, seed + i)
                for i, (c, keep) in enumerate(zip(cases, keeps, strict=True))
            ]
            seconds = (time.perf_counter() - began) / len(cases)
            for case, picture, truth, sheet in zip(cases, filled, truths, sheets, strict=True):
                scores.append(figures(level(case.whole), picture, truth))
                sheet.append(picture)
            psnr, ssim = np.mean(scores, 0)
            print(f"| {name} | {psnr:.2f} | {ssim:.3f} | {seconds:.1f} |", flush=True)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            for i, sheet in enumerate(sheets):
                Image.fromarray(np.concatenate(sheet, 1)).save(out / f"{title}-{i}.png")
    if out is not None:
        print(f"\n{out}: the photo before and after the damage, then {', '.join(fills)}")


def scan(case: Spoiled, times: int) -> Spoiled:
    """The photo so many times as large, its damage with it; what was a tenth damaged counts."""
    if times == 1:
        return case

    def large(x: Tensor) -> Tensor:
        return resized(x[None], times * x.shape[1], times * x.shape[2])[0].clamp(0, 1)

    damage = large(case.damaged.damage.float()) > 0.1
    return Spoiled(large(case.whole), Damaged(large(case.damaged.image), damage))


def ours(settings: dict[str, Any], device: Device) -> Fill:
    stage = Inpaint.model_validate(settings).build(device)

    def fill(picture: np.ndarray, keep: np.ndarray, seed: int) -> np.ndarray:
        *_, last = stage([Photo(pixels(picture), keep=torch.from_numpy(keep)[None])], [seed])
        return level(last.photos[0].rgb)

    return fill


def found(cases: Sequence[Spoiled], sensitivity: float, device: Device) -> list[np.ndarray]:
    """Masks (H, W) bool, True = known."""
    stage = Scratches(sensitivity=sensitivity).build(device)
    *_, last = stage([Photo(case.damaged.image) for case in cases])
    masks = [photo.keep for photo in last.photos]
    return [mask[0].numpy() >= 1 for mask in masks if mask is not None]


def figures(truth: np.ndarray, filled: np.ndarray, keep: np.ndarray) -> tuple[float, float]:
    """PSNR and SSIM over the pixels that were damaged."""
    ssim = np.asarray(structural_similarity(truth, filled, channel_axis=-1, full=True)[1])
    return psnr_in_hole(truth, filled, keep), float(ssim[~keep].mean())


def level(rgb: Tensor) -> np.ndarray:
    """(H, W, 3) uint8."""
    return (rgb * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def pixels(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255


if __name__ == "__main__":
    typer.run(main)
