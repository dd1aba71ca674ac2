"""Make the sample photos and masks in data/datasets from scikit-image's own pictures: python scripts/make_samples.py

Needs scikit-image. The sources and licences are in data/datasets/SOURCES.md.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from repaint.image import write_mask
from repaint.masks import make_mask

ROOT = Path(__file__).parents[1] / "data" / "datasets"
SIZE = 256
SAMPLES = {  # name: picture, (left, top, side) of the square cut from it, (kind of mask, seed) of what damages it
    "astronaut": (data.astronaut, (135, 17, 179), [("scratches", 10), ("scratches", 3), ("scratches", 6)]),
    "cameraman": (data.camera, (140, 40, 256), [("scratches", 10)]),
    "cat": (data.chelsea, (95, 15, 256), [("strokes", 11), ("scratches", 2)]),
}


def main() -> None:
    for name, (picture, (left, top, side), damage) in SAMPLES.items():
        pixels: np.ndarray = picture()
        photo = Image.fromarray(pixels).crop((left, top, left + side, top + side))
        file = ROOT / "gts" / "face" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        photo.resize((SIZE, SIZE), Image.Resampling.LANCZOS).save(file)
        marks = [make_mask(kind, SIZE, SIZE, torch.Generator().manual_seed(seed)) for kind, seed in damage]
        keep = torch.stack(marks).all(0)
        write_mask(ROOT / "gt_keep_masks" / "face" / f"{name}.png", keep)


if __name__ == "__main__":
    main()
