"""Make docs/pictures/face.png from what `make run` wrote: python scripts/readme_picture.py"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from repaint.image import Photo, read_mask, read_photo, write_photo

ROOT = Path(__file__).parents[1]
NAMES = ("astronaut", "cameraman", "cat")
GAP_PX = 4


def main() -> None:
    rows = []
    for name in NAMES:
        photo = read_photo(ROOT / "data/datasets/gts/face" / f"{name}.png").rgb
        keep = read_mask(ROOT / "data/datasets/gt_keep_masks/face" / f"{name}.png").keep
        rows.append([photo * keep, read_photo(ROOT / "log/face" / f"{name}.png").rgb])
    pairs = [beside(row, dim=2) for row in rows]
    write_photo(ROOT / "docs/pictures/face.png", Photo(beside(pairs, dim=2, gap_px=4 * GAP_PX)))


def beside(images: list[Tensor], dim: int, gap_px: int = GAP_PX) -> Tensor:
    """The images in a row (dim 2) or a column (dim 1), white between them."""
    shape = list(images[0].shape)
    shape[dim] = gap_px
    gap = torch.ones(shape)
    return torch.cat([part for image in images for part in (image, gap)][:-1], dim)


if __name__ == "__main__":
    main()
