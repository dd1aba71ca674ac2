"""How well damage is found, by a network and by filters: python benchmarks/scratches.py PHOTOS STAMPS

Photos are aged, so that their damage is known to the pixel; the same seeds make the same pictures every time. Two
truths: all that was spoiled, faint marks and stains too, as `degrade.aged` has it; and what a detector is trained to
find: visible holes. The network is looked at with its own threshold, the filters with the best of many for these
very pictures, at their own size alone, where they err least. Marks of fewer than 4 px are left out, as the stage does;
they are enlarged only where it is said.

    python benchmarks/scratches.py PHOTOS STAMPS --calibrate           all thresholds of the network as well
    python benchmarks/scratches.py PHOTOS STAMPS --old FOLDER --out DIR   what is found in old photos, to look at
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.damage import Case, Met, aged_cases, cases_of, clean_cases, hole_cases, met, photos_in
from benchmarks.pictures import images_in
from repaint.degrade import DAMAGING
from repaint.detect_files import overlay
from repaint.image import Photo, read_photo
from repaint.stages.detecting import Finder, finder_of
from repaint.stages.progress import Device
from repaint.stages.scratches import Scratches
from repaint.train.marks import Marks
from repaint.train.stamps import read_stamps

ODDS = 20.0  # thresholds from 1 : 20 to 20 : 1, as the sensitivity has them
WRONG_AT_MOST = 0.003  # of clean photos


class Looked(NamedTuple):
    """Cases with the probabilities a finder gave them."""

    cases: list[Case]
    maps: list[Tensor]
    seconds_per_mp: float

    def met(self, finder: Finder, threshold: float) -> Met:
        at = dataclasses.replace(finder, threshold=threshold)
        total = Met()
        for case, found in zip(self.cases, self.maps, strict=True):
            total = total.plus(met(at.marked(found), case.truth))
        return total

    def best(self, finder: Finder) -> float:
        """The threshold of the best F1 (2 px)."""
        return max(thresholds(), key=lambda t: self.met(finder, t).f1)

    def marks(self) -> Marks:
        marks = Marks()
        for case, found in zip(self.cases, self.maps, strict=True):
            marks.add(found[None], case.truth[None])
        return marks


def main(
    photos: Annotated[Path, typer.Argument(help="a folder of photos without damage, best held out from training")],
    stamps: Annotated[str, typer.Argument(help="a folder of grey images of damage, white = damaged")],
    weights: Annotated[str, typer.Option(help="a name or a path; none: the filters alone")] = "scratches",
    count: Annotated[int, typer.Option(min=1, help="pictures of each sort")] = 30,
    size: Annotated[int, typer.Option(min=32, help="px of the pictures")] = 512,
    seed: int = 0,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="look at all thresholds of the network")] = False,
    old: Annotated[Path | None, typer.Option(help="a folder of old photos")] = None,
    out: Annotated[Path, typer.Option(help="where pictures of --old go")] = Path("out/scratches"),
    device: Device = "cpu",
) -> None:
    pictures, cut = photos_in(photos, size, count), read_stamps(stamps)
    aged, holes = list(aged_cases(pictures, cut, seed)), list(hole_cases(pictures, cut, seed))
    clean = list(clean_cases(pictures, seed))
    new = [Case(picture, torch.zeros_like(picture[:1])) for picture in pictures]
    options = {} if weights == "none" else {"network": finder(device, weights=weights)}
    print(f"{count} pictures of {size} px of each sort, seed {seed}; torch {torch.__version__}, {device}")
    columns = {}
    for name, found in {**options, "filters": finder(device, detector="filters", smallest_px=None)}.items():
        shown = {"all": aged, "holes": holes, "clean": clean, "new": new}
        sets = {sort: looked(found, cases) for sort, cases in shown.items()}
        threshold = found.threshold
        if name == "filters":
            threshold = sets["holes"].best(found)
        elif calibrate:
            print(calibrated(found, sets))
        columns[f"{name} at {threshold:.3f}"] = {
            **figures(found, sets, threshold),
            **{f"recall of {kind}": recall(found, cases_of(kind, pictures, seed), threshold) for kind in DAMAGING},
        }
        options[name] = dataclasses.replace(found, threshold=threshold)
    print(table(columns))
    if old is not None:
        out.mkdir(parents=True, exist_ok=True)
        for file in images_in(old):
            sheet(file, options.values()).save(out / f"{file.stem}.jpg", quality=90)
        print(f"{out}: the photo, then what was found by {', '.join(options)}")


def finder(device: Device, **settings: Any) -> Finder:
    return finder_of(Scratches.model_validate({**settings, "grow_px": 0}), device, "float32")


def looked(found: Finder, cases: Sequence[Case]) -> Looked:
    found.probability_of(Photo(cases[0].image))  # warm
    began = time.perf_counter()
    maps = [found.probability_of(Photo(case.image)) for case in cases]
    megapixels = sum(p.numel() for p in maps) / 1e6
    return Looked(list(cases), maps, (time.perf_counter() - began) / megapixels)


def thresholds(steps: int = 25, most: float = ODDS) -> list[float]:
    odds = np.geomspace(1 / most, most, steps)
    return (odds / (1 + odds)).tolist()


def figures(found: Finder, sets: dict[str, Looked], threshold: float) -> dict[str, float]:
    """What is printed of a finder, by what it says."""
    rows: dict[str, float] = {}
    for name in ("all", "holes"):
        marks, at = sets[name].marks(), sets[name].met(found, threshold)
        rows |= {
            f"{name}: average precision": marks.average_precision(),
            f"{name}: best F1 of any threshold, to the pixel": marks.best_f1()[0],
            f"{name}: F1 (2 px)": at.f1,
            f"{name}: precision (2 px)": at.precision,
            f"{name}: recall (2 px)": at.recall,
        }
    rows["share of clean photos marked (%): aged"] = 100 * wrong(found, sets["clean"], threshold)
    rows["share of clean photos marked (%): new"] = 100 * wrong(found, sets["new"], threshold)
    rows["as the stage enlarges them (%): aged"] = 100 * changed(found, sets["clean"], threshold)
    rows["as the stage enlarges them (%): new"] = 100 * changed(found, sets["new"], threshold)
    rows["seconds a megapixel"] = sets["all"].seconds_per_mp
    return rows


def wrong(found: Finder, clean: Looked, threshold: float) -> float:
    return clean.met(found, threshold).marked / sum(case.truth.numel() for case in clean.cases)


def changed(found: Finder, clean: Looked, threshold: float) -> float:
    """The share of clean photos that the stage has filled."""
    settings = found.settings.model_copy(update={"grow_px": None})
    stage = dataclasses.replace(found, threshold=threshold, settings=settings)
    marked = [
        stage.widened(stage.marked(p), Photo(case.image)) for case, p in zip(clean.cases, clean.maps, strict=True)
    ]
    return sum(hole.sum().item() for hole in marked) / sum(hole.numel() for hole in marked)


def recall(found: Finder, cases: Iterable[Case], threshold: float) -> float:
    return looked(found, list(cases)).met(found, threshold).recall


def calibrated(found: Finder, sets: dict[str, Looked]) -> str:
    """A table of thresholds, and the best one that marks little of clean photos."""
    rows, best = (
        [
            "| threshold | F1 (2 px), all | F1 (2 px), holes | aged clean marked (%) | new ones |",
            "|---|---|---|---|---|",
        ],
        (0.0, 1.0),
    )
    for t in thresholds(37, 100):
        f1_all, f1_holes = (sets[name].met(found, t).f1 for name in ("all", "holes"))
        marked, of_new = (wrong(found, sets[name], t) for name in ("clean", "new"))
        rows.append(f"| {t:.3f} | {f1_all:.3f} | {f1_holes:.3f} | {100 * marked:.2f} | {100 * of_new:.2f} |")
        if marked <= WRONG_AT_MOST:
            best = max(best, (f1_holes, t))
    return "\n".join([*rows, f"best with at most {100 * WRONG_AT_MOST:g} % of clean photos marked: {best[1]:.3f}"])


def table(columns: dict[str, dict[str, float]]) -> str:
    lines = [f"| | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for row in next(iter(columns.values())):
        lines.append(f"| {row} | {' | '.join(f'{column[row]:.3f}' for column in columns.values())} |")
    return "\n".join(lines)


def sheet(file: Path, finders: Iterable[Finder]) -> Image.Image:
    """The photo, and beside it what each finder found in it."""
    photo = read_photo(file)
    found = [overlay(photo, ~f.marked(f.probability_of(photo), photo.alpha)).rgb for f in finders]
    pixels = (torch.cat([photo.rgb, *found], 2) * 255).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(pixels)


if __name__ == "__main__":
    typer.run(main)
