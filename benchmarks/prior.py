"""A prior's fills beside classical ones, on held-out faces and photo windows: python benchmarks/prior.py --help

    python benchmarks/prior.py --prior base-64 --faces FACES --photos PHOTOS --out log/prior
    ... --t-T 20 --jump-n-sample 1 --var-mix 0 --spacing quadratic      a fast setting: 20 network calls
    ... --against other.safetensors         a second prior on the same pixels
    ... --mender mender                     thin holes filled at once, as by `repaint inpaint` and `repaint restore`
    ... --pictures                          sheets to look at, in --out
    ... --fill-only --compile --device-noise --batch 600      on a GPU; measured by a second run, all else the same
    ... --samples log/samples --train-faces FACES --train-photos PHOTOS      without conditioning; what it has by heart

Every picture has one fixed mask of each kind, and every method sees the same pixels; known pixels are put back exactly.
What is done is kept in --out: a stopped run goes on, a second setting joins the tables, --table-only prints them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.fills import CLASSICAL, FIGURES, Lpips, as_tensor, figures, lpips_at_hand, put_back
from benchmarks.memory import remembered
from benchmarks.pictures import Picture, faces, sheet, windows
from benchmarks.results import Key, Store, figure_table, win_table
from repaint.diffusion import (
    Conditioned,
    Denoiser,
    NetworkPrior,
    Noise,
    conditioned,
    network_calls,
    repaint,
    time_travel,
)
from repaint.errors import RepaintError, RunError
from repaint.masks import make_mask
from repaint.restoring import MEND_PX
from repaint.stages.device import chosen_device
from repaint.stages.mending import Mender
from repaint.stages.progress import Device, Precision
from repaint.weights.load import LoadedPrior, load_prior
from repaint.weights.menders import load_mender

MASKS = "wide,narrow,super-resolution,lines,half,expand"
SHEET_ROWS = 8
MEASURED_AT_ONCE = 32
SAMPLE_STEPS = 250
HOLE = (255, 0, 255)  # its colour on a sheet


@dataclass(frozen=True)
class Case:
    """A picture of a set ('faces wide'), what of it is known, and the seed of its noise."""

    set: str
    picture: Picture
    keep: np.ndarray
    seed: int


@dataclass(frozen=True)
class Method:
    """A way to fill the pictures of up to `batch` cases at once; what it makes of known pixels is not used."""

    name: str
    fill: Callable[[Sequence[Case]], list[np.ndarray]]
    batch: int = 1


app = typer.Typer(add_completion=False)


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="folder of results")],
    prior: Annotated[str | None, typer.Option(help="a name of `repaint weights list`, or a path")] = None,
    against: Annotated[str | None, typer.Option(help="a second prior on the same pixels")] = None,
    faces: Annotated[Path | None, typer.Option(help="folder of held-out aligned faces")] = None,
    photos: Annotated[Path | None, typer.Option(help="folder of held-out photos")] = None,
    masks: Annotated[str, typer.Option(help="kinds of `repaint masks`")] = MASKS,
    count: Annotated[int, typer.Option(min=1, help="faces, and as many windows")] = 100,
    size: Annotated[int | None, typer.Option(help="px; the prior's own without it")] = None,
    t_T: Annotated[int, typer.Option("--t-T", min=1)] = 250,
    jump_length: Annotated[int, typer.Option(min=1)] = 10,
    jump_n_sample: Annotated[int, typer.Option(min=1)] = 10,
    var_mix: Annotated[
        float | None, typer.Option(min=0, max=1, help="0 = posterior variance ... 1 = beta; the learned one without it")
    ] = None,
    spacing: Annotated[Literal["even", "quadratic"], typer.Option(help="of the states")] = "even",
    conditioning: Annotated[int, typer.Option(min=0, help="passes back in each step; 0 = RePaint as published")] = 0,
    mean_of: Annotated[int, typer.Option(min=1, help="a fill is the mean of so many samples")] = 1,
    mender: Annotated[
        str | None, typer.Option(help="fills what is at most --mend-px thick; the prior, the rest")
    ] = None,
    mend_px: Annotated[float, typer.Option(min=1)] = MEND_PX,
    seed: int = 0,
    device: Device = "auto",
    precision: Precision = "float32",
    batch: Annotated[int, typer.Option(min=1, help="pictures shown to the network at once")] = 8,
    lpips_weights: Annotated[Path | None, typer.Option(help="torchvision's AlexNet; else torch hub's cache")] = None,
    device_noise: Annotated[
        bool, typer.Option("--device-noise", help="one stream of noise, drawn on the device")
    ] = False,
    compile: Annotated[bool, typer.Option("--compile", help="the networks")] = False,
    fill_only: Annotated[
        bool, typer.Option("--fill-only", help="by the priors; what there is, is measured later")
    ] = False,
    pictures: Annotated[bool, typer.Option("--pictures", help="also draw sheets")] = False,
    table_only: Annotated[bool, typer.Option("--table-only", help="print what --out holds")] = False,
    samples: Annotated[Path | None, typer.Option(help="folder for samples without conditioning, instead")] = None,
    sample_count: Annotated[int, typer.Option(min=1)] = 64,
    train_faces: Annotated[Path | None, typer.Option(help="what the prior was trained on")] = None,
    train_photos: Annotated[Path | None, typer.Option(help="what the prior was trained on")] = None,
    train_windows: Annotated[int, typer.Option(min=1, help="random windows of those")] = 20_000,
) -> None:
    if table_only:
        for folder in sorted(out.glob("*px-seed*")):
            print_tables(folder.name, Store(folder))
        return
    if prior is None or faces is None or photos is None:
        raise RunError("--prior, --faces and --photos are needed (all but --out are not with --table-only)")
    where = chosen_device(device)
    loaded = {name: load_prior(name, device=where, precision=precision) for name in (prior, against) if name}
    size = common_size(loaded, size)
    held_out = held_out_pictures(faces, photos, size, count, seed)

    if samples is not None:
        if train_faces is None or train_photos is None:
            raise RunError("--samples needs --train-faces and --train-photos")
        drawn = unconditional(with_variance(loaded[prior].prior, var_mix), where, size, sample_count, seed, batch)
        print(remembered(drawn, held_out, (train_faces, train_photos), size, train_windows, seed, samples))
        return

    times = time_travel(t_T, jump_length, jump_n_sample)
    variance = "" if var_mix is None else f", var {var_mix:g}"
    spaced = "" if spacing == "even" else f", {spacing}"
    spaced += "" if conditioning == 0 else f", conditioning {conditioning}"
    averaged = "" if mean_of == 1 else f", mean of {mean_of}"
    setting = f"{t_T}/{jump_length}/{jump_n_sample}{variance}{spaced}{averaged}, {mean_of * network_calls(times)} calls"
    setting += ("" if precision == "float32" else f", {precision}") + (", device noise" if device_noise else "")
    of_mender = load_mender(mender, device=where) if mender else None
    if of_mender:
        setting = f"{setting}; {mender} ({of_mender.sha256[:6]}) to {mend_px:g} px"
    states = t_T if spacing == "even" else f"quad{t_T}"
    methods = [Method(name, by_itself(fill)) for name, fill in CLASSICAL.items()]
    for name, found in reversed(loaded.items()):
        walked = with_variance(found.prior.respaced(states), var_mix)
        fill = prior_fill(walked, where, times, conditioning, device_noise=device_noise)
        if compile and isinstance(found.prior.network, torch.nn.Module):
            found.prior.network.compile(dynamic=False)
        if mean_of > 1:
            fill = mean_fill(fill, mean_of)
        if of_mender:
            fill = mended(Mender(of_mender.network, mend_px, where), fill)
        methods.insert(0, Method(f"{Path(name).stem} ({found.sha256[:6]}) {setting}", fill, batch))

    store = Store(out / f"{size}px-seed{seed}")
    cases = list(all_cases(held_out, masks.split(","), size, seed))
    if fill_only:
        for method in methods[: len(loaded)]:
            fill_missing(store, method, cases)
        return
    lpips, remark = lpips_at_hand(lpips_weights)
    say(remark)
    for method in methods:
        fill_missing(store, method, cases)
        measure_missing(store, method, cases, lpips)
    if pictures:
        draw_sheets(store, methods, cases)
    print_tables(store.folder.name, store)


# ---- what is filled


def held_out_pictures(
    face_folder: Path, photo_folder: Path, size: int, count: int, seed: int
) -> dict[str, list[Picture]]:
    return {"faces": faces(face_folder, size, count), "photos": windows(photo_folder, size, count, seed)}


def all_cases(pictures: dict[str, list[Picture]], masks: Sequence[str], size: int, seed: int) -> Iterator[Case]:
    """Every picture with one mask of each kind, the same whatever else is asked for."""
    for kind, found in pictures.items():
        for mask in masks:
            for i, picture in enumerate(found):
                generator = torch.Generator().manual_seed((seed << 32) + i)
                keep = make_mask(mask, size, size, generator)[0].numpy()
                yield Case(f"{kind} {mask}", picture, keep, seed + i)


# ---- what fills


def common_size(loaded: Mapping[str, LoadedPrior], asked: int | None) -> int:
    """The size asked for, or that of the first prior.

    Raises:
        RunError: if a prior cannot work at it, or needs to be told a class.
    """
    size = asked or next(iter(loaded.values())).size
    for name, found in loaded.items():
        if size % found.multiple_of:
            raise RunError(f"--size {size}: {name} takes multiples of {found.multiple_of}")
        if found.classes:
            raise RunError(f"{name}: is a prior of {found.classes} classes; must be unconditional")
    return size


def with_variance(prior: NetworkPrior, var_mix: float | None) -> NetworkPrior:
    """The prior, with this variance in place of the learned one."""
    if var_mix is None:
        return prior
    network = prior.network
    return replace(prior, network=lambda x, *told: network(x, *told)[:, : x.shape[1]], fixed_var_mix=var_mix)


def prior_fill(
    prior: NetworkPrior, device: torch.device, times: list[int], conditioning: int = 0, *, device_noise: bool
) -> Callable[[Sequence[Case]], list[np.ndarray]]:
    """RePaint (Lugmayr et al. 2022), conditioned in each step or not; each picture has noise of its own, whatever the
    batch, if not `device_noise`."""

    def fill(cases: Sequence[Case]) -> list[np.ndarray]:
        known = as_tensor([case.picture.pixels for case in cases]).to(device) * 2 - 1
        keep = torch.from_numpy(np.stack([case.keep for case in cases]))[:, None].to(device)
        seeds = [case.seed for case in cases]
        denoiser: Denoiser = prior
        if conditioning:
            denoiser = Conditioned(conditioned(prior, conditioning), prior.schedule, known, keep)
        *_, last = repaint(denoiser, known, keep, times, DeviceNoise(seeds) if device_noise else Noise(seeds))
        return as_pixels(last.x_t)

    return fill


def mean_fill(
    fill: Callable[[Sequence[Case]], list[np.ndarray]], count: int
) -> Callable[[Sequence[Case]], list[np.ndarray]]:
    """The mean of so many fills, each of seeds of its own; the first has those of a single one."""

    def mean(cases: Sequence[Case]) -> list[np.ndarray]:
        fills = [fill([replace(case, seed=case.seed + 1000 * k) for case in cases]) for k in range(count)]
        return [np.rint(np.mean(of_one, 0)).astype(np.uint8) for of_one in zip(*fills, strict=True)]

    return mean


def mended(
    mender: Mender, fill: Callable[[Sequence[Case]], list[np.ndarray]]
) -> Callable[[Sequence[Case]], list[np.ndarray]]:
    """What is thin filled by the mender in one call, and what is left by `fill`, to which that is known."""

    def both(cases: Sequence[Case]) -> list[np.ndarray]:
        found: list[np.ndarray] = []
        for case in cases:
            rgb = (as_tensor([case.picture.pixels])[0] * torch.from_numpy(case.keep)).float()
            keep = torch.from_numpy(case.keep)[None]
            thin = mender.thin(keep)
            pixels = as_pixels(mender(rgb, keep, thin)[None] * 2 - 1)[0]
            known = (keep | thin)[0].numpy()
            if not known.all():
                picture = replace(case.picture, pixels=pixels)
                pixels = put_back(fill([replace(case, picture=picture, keep=known)])[0], pixels, known)
            found.append(pixels)
        return found

    return both


class DeviceNoise(Noise):
    """One stream for all of a batch, on its device: the CPU's streams cannot keep up with a small network there."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self._seeds = seeds
        self._stream: torch.Generator | None = None

    def like(self, x: torch.Tensor) -> torch.Tensor:
        if self._stream is None:
            self._stream = torch.Generator(x.device).manual_seed(self._seeds[0])
        return torch.randn(x.shape, generator=self._stream, device=x.device)


def unconditional(
    prior: NetworkPrior, device: torch.device, size: int, count: int, seed: int, batch: int
) -> list[np.ndarray]:
    """Samples of the prior alone: RePaint with nothing known and no jumps is ancestral sampling."""
    prior = prior.respaced(SAMPLE_STEPS)
    drawn: list[np.ndarray] = []
    for some in chunks(range(seed, seed + count), batch):
        nothing = torch.zeros(len(some), 3, size, size, device=device)
        *_, last = repaint(prior, nothing, nothing[:, :1], time_travel(SAMPLE_STEPS, jump_n_sample=1), Noise(some))
        drawn += as_pixels(last.x_t)
        say(f"samples: {len(drawn)} of {count}")
    return drawn


def as_pixels(x: torch.Tensor) -> list[np.ndarray]:
    """(H, W, 3) uint8 of each of (B, 3, H, W) in [-1, 1]."""
    levels = ((x + 1) * 127.5).round().clamp(0, 255).byte()
    return list(levels.permute(0, 2, 3, 1).cpu().numpy())


def by_itself(fill: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[Sequence[Case]], list[np.ndarray]]:
    """A fill of one picture as one of many; it is shown black in the hole."""
    return lambda cases: [
        fill(put_back(np.zeros_like(c.picture.pixels), c.picture.pixels, c.keep), c.keep) for c in cases
    ]


# ---- what is done


def fill_missing(store: Store, method: Method, cases: Sequence[Case]) -> None:
    missing = [case for case in cases if not store.has_fill(key_of(case, method))]
    began = time.perf_counter()
    for i, some in enumerate(chunks(missing, method.batch)):
        for case, filled in zip(some, method.fill(some), strict=True):
            store.keep_fill(key_of(case, method), put_back(filled, case.picture.pixels, case.keep))
        done = min(len(missing), (i + 1) * method.batch)
        if done == len(missing) or i % max(1, 64 // method.batch) == 0:
            say(f"{method.name}: {done} of {len(missing)}, {time.perf_counter() - began:.0f} s")


def measure_missing(store: Store, method: Method, cases: Sequence[Case], lpips: Lpips | None) -> None:
    wanted = FIGURES.keys() - (set() if lpips else {"lpips"})
    missing = [case for case in cases if not wanted <= store.figures.get(key_of(case, method), {}).keys()]
    for some in chunks(missing, MEASURED_AT_ONCE):
        keys = [key_of(case, method) for case in some]
        truth = [case.picture.pixels for case in some]
        found = figures(truth, [store.fill(key) for key in keys], [case.keep for case in some], lpips)
        store.keep_figures(dict(zip(keys, found, strict=True)))


def draw_sheets(store: Store, methods: Sequence[Method], cases: Sequence[Case]) -> None:
    """The first pictures of each set: as they are, masked, and by each method."""
    for name in dict.fromkeys(case.set for case in cases):
        shown = [case for case in cases if case.set == name][:SHEET_ROWS]
        rows = [
            [
                case.picture.pixels,
                np.where(case.keep[..., None], case.picture.pixels, np.array(HOLE, np.uint8)),
                *(store.fill(key_of(case, method)) for method in methods),
            ]
            for case in shown
        ]
        titles = ["truth", name, *(method.name for method in methods)]
        sheet(rows, titles).save(store.folder / f"{name.replace(' ', '-')}.png")


def print_tables(title: str, store: Store) -> None:
    sets = list(dict.fromkeys(key.set for key in store.figures))
    found = dict.fromkeys(key.method for key in store.figures)
    priors = [name for name in found if name not in CLASSICAL]
    classical = [name for name in CLASSICAL if name in found]
    measured = [figure for figure in FIGURES if any(figure in values for values in store.figures.values())]
    print(f"\n{title}: means ± half their 95 % bootstrap interval, the number of pictures in brackets\n")
    for figure in measured:
        print(figure_table(store, sets, [*priors, *classical], figure), end="\n\n")
    for ours in priors:
        print(win_table(store, sets, ours, classical, measured), end="\n\n")


def key_of(case: Case, method: Method) -> Key:
    return Key(case.set, method.name, case.picture.name)


def chunks(items: Sequence[Any], n: int) -> Iterator[Sequence[Any]]:
    return (items[i : i + n] for i in range(0, len(items), n))


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def run() -> None:
    try:
        app()
    except (RepaintError, ValueError) as e:
        say(f"{Path(__file__).name}: {e}")
        sys.exit(2)


if __name__ == "__main__":
    run()
