"""Whether a prior has pictures by heart: samples beside the training pictures they are nearest to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .pictures import Picture, face, images_in, many_windows, sheet

CHUNK = 512
CLOSEST = 5


class Nearest(NamedTuple):
    """The training picture nearest to a picture, perhaps mirrored.

    Attributes:
        distance: root mean square difference, in levels (0..255).
    """

    distance: float
    picture: Picture


def remembered(
    samples: Sequence[np.ndarray],
    held_out: Mapping[str, Sequence[Picture]],
    trained_on: Sequence[Path],
    size: int,
    train_windows: int,
    seed: int,
    folder: Path,
) -> str:
    """A table of distances to the nearest training picture: of samples, and of held-out pictures to compare with.

    Writes samples.png, and nearest.png: the samples that are closest, each beside its nearest training picture.

    Args:
        trained_on: the folders of faces and of photos.
    """
    everything = chain(all_faces(trained_on[0], size), many_windows(trained_on[1], size, train_windows, seed))
    asked = {"samples": list(samples), **{f"held-out {k}": [p.pixels for p in found] for k, found in held_out.items()}}
    found = iter(nearest([pixels for pictures in asked.values() for pixels in pictures], everything))
    by_set = {name: list(islice(found, len(pictures))) for name, pictures in asked.items()}

    folder.mkdir(parents=True, exist_ok=True)
    across = max(1, round(len(samples) ** 0.5))
    sheet([samples[i : i + across] for i in range(0, len(samples), across)]).save(folder / "samples.png")
    pairs = sorted(zip(samples, by_set["samples"], strict=True), key=lambda pair: pair[1].distance)[:CLOSEST]
    sheet([[sample, near.picture.pixels] for sample, near in pairs], enlarge=3).save(folder / "nearest.png")
    return _table(by_set)


def all_faces(folder: Path, size: int) -> Iterator[Picture]:
    return (face(file, size) for file in images_in(folder))


def nearest(asked: Sequence[np.ndarray], among: Iterator[Picture]) -> list[Nearest]:
    """For each picture the nearest of `among` and their mirror images, which are looked at in small portions."""
    x = _flat(asked)
    best = torch.full((len(x),), torch.inf)
    pictures: list[Picture | None] = [None] * len(x)
    while portion := list(islice(among, CHUNK)):
        both = [*portion, *(Picture(f"{p.name}, mirrored", p.pixels[:, ::-1]) for p in portion)]
        distance, index = torch.cdist(x, _flat([p.pixels for p in both])).min(1)
        for i in (distance < best).nonzero()[:, 0].tolist():
            best[i], pictures[i] = distance[i], both[int(index[i])]
    rms = (best / x.shape[1] ** 0.5).tolist()
    return [Nearest(d, picture) for d, picture in zip(rms, pictures, strict=True) if picture is not None]


def _flat(pictures: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).flatten(1).float()


def _table(by_set: Mapping[str, Sequence[Nearest]]) -> str:
    lines = [
        "| distance to the nearest training picture (RMS, levels) | pictures | median | 5 % | least |",
        "|---|---|---|---|---|",
    ]
    for name, found in by_set.items():
        distances = np.array([near.distance for near in found])
        numbers = (np.median(distances), np.percentile(distances, 5), distances.min())
        lines.append(f"| {name} | {len(found)} | {' | '.join(f'{n:.1f}' for n in numbers)} |")
    return "\n".join(lines)
