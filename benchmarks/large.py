"""What a large, scratched photo costs: python benchmarks/large.py

A 12-megapixel photo with scratches over 1 % of it, filled by each preset, with and without the mender, each in a
process of its own. Windows = places where the prior is called, beside a number that no choice of windows can go
below: hole pixels so far apart that no window sees two of them with an eighth of its side around. Peak memory is what
filling takes beyond the loaded weights. The whole image = the same sampler with a window everywhere: its calls are
counted, its seconds are those calls times the seconds a call took here. Beside OpenCV's fills.

    python benchmarks/large.py --presets fast,balanced,quality --megapixels 12
    python benchmarks/large.py --presets quality,paper --minutes 5    ended then; the rest is reckoned from its calls
    python benchmarks/large.py --restore                   all of `repaint restore`, stage by stage
    python benchmarks/large.py --half --out DIR            a 1024-px photo of which half is a hole, to look at
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import typer
from skimage import data
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.fills import CLASSICAL
from repaint.image import Photo, write_photo
from repaint.restoring import Restore
from repaint.stages.inpaint import Inpaint
from repaint.stages.native import canvases, overlap_of
from repaint.stages.progress import Device
from repaint.tiling import corners, resized

SHARE = 0.01
WIDTHS_PX = (2, 7)


def main(
    presets: Annotated[str, typer.Option(help="of the inpaint stage")] = "fast,balanced",
    prior: Annotated[str, typer.Option(help="a name of `repaint weights list`, or a path")] = "base-64",
    mender: str = "mender",
    megapixels: Annotated[float, typer.Option(min=0.1)] = 12,
    half: Annotated[bool, typer.Option("--half", help="instead: half of a 1024-px photo")] = False,
    all_stages: Annotated[
        bool, typer.Option("--restore", help="instead: find the scratches, too, and all stages")
    ] = False,
    minutes: Annotated[
        float, typer.Option(min=0.1, help="a fill that takes longer is ended, its seconds reckoned from its calls")
    ] = math.inf,
    out: Annotated[Path | None, typer.Option(help="where the filled photos go")] = None,
    device: Device = "cpu",
    one: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    photo = halved() if half else scratched(megapixels)
    if one is not None and all_stages:
        print("RESULT " + json.dumps(restored(photo, one, device, out)))
        return
    if one is not None:
        print("RESULT " + json.dumps(filled(photo, json.loads(one), device, out, 60 * minutes)))
        return
    assert photo.keep is not None
    _, H, W = photo.rgb.shape
    share = 100 * (~photo.keep).float().mean().item()
    print(f"{W} x {H} px, {share:.2f} % to fill; torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    if all_stages:
        for preset in presets.split(","):
            row = _alone(preset)
            seconds = ", ".join(f"{name} {took:.1f}" for name, took in row["seconds"].items())
            print(f"{preset}: {sum(row['seconds'].values()):.1f} s ({seconds}), {row['mib']:.0f} MiB", flush=True)
        return
    print("| | windows | no fewer than | calls | seconds | peak memory (MiB) | whole image: calls, hours |")
    print("|---|---|---|---|---|---|---|")
    for preset in presets.split(","):
        for name in (mender, None):
            settings = {"prior": prior, "sampler": preset, "mender": name, "mend_px": 16}
            row = _alone(json.dumps(settings))
            calls, per_call = row["whole_calls"], row["seconds"] / max(1, row["calls"])
            whole = f"{calls}, {calls * per_call / 3600:.1f}" if calls else ""
            print(
                f"| {preset}{'' if name is None else ', mender'} | {row['windows']} | {row['least']} | {row['calls']} "
                f"| {row['seconds']:.1f}{row['remark']} | {row['mib']:.0f} | {whole} |",
                flush=True,
            )
    picture, keep = (photo.rgb * 255).byte().permute(1, 2, 0).numpy(), photo.keep[0].numpy()
    for name in ("Telea", "Navier-Stokes"):
        began = time.perf_counter()
        CLASSICAL[name](picture, keep)
        print(f"| {name} | | | | {time.perf_counter() - began:.1f} | | |", flush=True)


def _alone(one: str) -> dict[str, Any]:
    """What a process of its own measures."""
    words = [sys.executable, *sys.argv, "--one", one]
    told = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(told.rpartition("RESULT ")[2])


def restored(photo: Photo, preset: str, device: Device, out: Path | None) -> dict[str, Any]:
    """Seconds of each stage of `repaint restore`, and MiB, where the scratches are white and no mask is given."""
    assert photo.keep is not None
    photo = Photo(torch.where(photo.keep, photo.rgb, 0.97))
    pipeline = Restore.model_validate({"preset": preset}).pipeline(device)
    *_, _ = pipeline([Photo(photo.rgb[:, :200, :200].contiguous())], [0])  # warm
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, began, step = dict.fromkeys(pipeline.stages, 0.0), time.perf_counter(), None
    for step in pipeline([photo], [0]):
        now = time.perf_counter()
        seconds[step.stage] += now - began
        began = now
    mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert step is not None
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_photo(out / f"restored-{preset}.png", step.photos[0])
    return {"seconds": seconds, "mib": mib}


def filled(
    photo: Photo, settings: dict[str, Any], device: Device, out: Path | None, limit_s: float
) -> dict[str, float | str]:
    inpaint = Inpaint.model_validate(settings)
    stage = inpaint.build(device)
    *_, _ = stage([scratched(0.1)], [0])  # warm
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    last, seconds, share = None, 0.0, 1.0
    for last in stage([photo], [0]):
        seconds = time.perf_counter() - began
        if seconds > limit_s:
            share = last.done / last.total
            break
    assert last is not None
    mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert photo.keep is not None
    if out is not None and share == 1:
        out.mkdir(parents=True, exist_ok=True)
        write_photo(out / f"{settings['sampler']}-{settings['mender'] or 'sampler'}.png", last.photos[0])
    left = photo.keep if inpaint.mender is None else photo.keep | mended(photo.keep, inpaint.mend_px)
    size = stage.size
    windows = least = 0
    for top, left_px, bottom, right in canvases(left, size):
        hole = ~left[:, top:bottom, left_px:right]
        windows += len(corners(hole, size, overlap_of(size)))
        least += apart(hole, size, overlap_of(size) // 2)
    per_window = last.total / windows if windows else 0
    whole = len(corners(torch.ones_like(photo.keep), size, overlap_of(size)))
    return {
        "windows": windows,
        "least": least,
        "calls": last.total,
        "seconds": seconds / share,
        "remark": "" if share == 1 else f" (reckoned: {last.calls[0]} calls in {seconds:.0f})",
        "mib": mib,
        "whole_calls": round(whole * per_window),
    }


def mended(keep: Tensor, mend_px: int) -> Tensor:
    from repaint.holes import thicker_than
    from repaint.stages.mending import enlarged

    return ~keep & ~thicker_than(keep, mend_px * enlarged(keep), corners=False)


def apart(hole: Tensor, size: int, margin: int) -> int:
    """How many pixels of a hole (1, H, W) can be found of which no window sees two at least `margin` px inside."""
    left = hole[0].clone()
    for _ in range(2):  # at the photo's edge a window sees all there is: as if its margin were folded in
        left[margin] |= left[:margin].any(0)
        left[-margin - 1] |= left[-margin:].any(0)
        left = left[margin:-margin].T.contiguous()
    inner, found = size - 2 * margin, 0
    for y in left.any(1).nonzero()[:, 0].tolist():
        while left[y].any():
            x = int(left[y].byte().argmax())
            found += 1
            left[max(0, y - inner + 1) : y + inner, max(0, x - inner + 1) : x + inner] = False
    return found


def scratched(megapixels: float) -> Photo:
    """A photo of 4 : 3 with straight scratches over 1 % of it."""
    height = round(math.sqrt(megapixels * 1e6 * 3 / 4))
    width = round(height * 4 / 3)
    rng, mask = np.random.default_rng(0), np.zeros((height, width), np.uint8)
    while mask.mean() < SHARE:
        (x, y), angle = rng.uniform(0, (width, height)), rng.uniform(0, math.tau)
        reach = rng.uniform(0.05, 0.5) * height
        end = (round(x + reach * math.cos(angle)), round(y + reach * math.sin(angle)))
        cv2.line(mask, (round(x), round(y)), end, 1, int(rng.integers(*WIDTHS_PX)))
    return Photo(_coffee(height, width), keep=torch.from_numpy(mask == 0)[None])


def halved() -> Photo:
    keep = torch.ones(1, 1024, 1024, dtype=torch.bool)
    keep[:, :, 512:] = False
    return Photo(_coffee(1024, 1024), keep=keep)


def _coffee(height: int, width: int) -> Tensor:
    coffee = torch.from_numpy(data.coffee().copy()).permute(2, 0, 1)[None].float() / 255
    return resized(coffee, height, width)[0].clamp(0, 1)


if __name__ == "__main__":
    typer.run(main)
