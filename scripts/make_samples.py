"""Make the samples in data/datasets from scikit-image's own pictures: python scripts/make_samples.py

Square photos of 256 px with masks; and whole pictures, aged.

Needs scikit-image. The sources and licences are in data/datasets/SOURCES.md.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from repaint.degrade import EFFECTS
from repaint.image import Photo, write_mask, write_photo
from repaint.masks import make_mask

ROOT = Path(__file__).parents[1] / "data" / "datasets"
SIZE = 256
SAMPLES = {  # name: picture, (left, top, side) of the square cut from it, (kind of mask, seed) of what damages it
    "astronaut": (data.astronaut, (135, 17, 179), [("scratches", 10), ("scratches", 3), ("scratches", 6)]),
    "cameraman": (data.camera, (140, 40, 256), [("scratches", 10)]),
    "cat": (data.chelsea, (95, 15, 256), [("strokes", 11), ("scratches", 2)]),
}
OLD = {  # name: picture, seed, what happens to it and how much, in this order
    "astronaut": (
        data.astronaut,
        5,
        [("fading", 0.45), ("toning", 1), ("grain", 0.2), ("folds", 0.6), ("scratches", 0.55), ("dust", 0.5)],
    ),
    "cat": (
        data.chelsea,
        3,
        [("yellowing", 0.55), ("fading", 0.3), ("scratches", 0.7), ("hairs", 0.5), ("dust", 0.4)],
    ),
    "coffee": (
        data.coffee,
        2,
        [("colour", 0.5), ("fading", 0.5), ("blur", 0.1), ("tears", 0.35), ("scratches", 0.5), ("dust", 0.5)],
    ),
}
JPEG_QUALITY = 92


def main() -> None:
    masked()
    old()


def masked() -> None:
    for name, (picture, (left, top, side), damage) in SAMPLES.items():
        pixels: np.ndarray = picture()
        photo = Image.fromarray(pixels).crop((left, top, left + side, top + side))
        file = ROOT / "gts" / "face" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        photo.resize((SIZE, SIZE), Image.Resampling.LANCZOS).save(file)
        marks = [make_mask(kind, SIZE, SIZE, torch.Generator().manual_seed(seed)) for kind, seed in damage]
        keep = torch.stack(marks).all(0)
        write_mask(ROOT / "gt_keep_masks" / "face" / f"{name}.png", keep)


def old() -> None:
    for name, (picture, seed, effects) in OLD.items():
        generator = torch.Generator().manual_seed(seed)
        image = torch.from_numpy(picture().copy()).permute(2, 0, 1).float() / 255
        for effect, strength in effects:
            aged = EFFECTS[effect](image, strength, generator)
            image = aged if isinstance(aged, torch.Tensor) else aged.image
        file = ROOT / "old" / f"{name}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_photo(file, Photo(image), quality=JPEG_QUALITY)


if __name__ == "__main__":
    main()
