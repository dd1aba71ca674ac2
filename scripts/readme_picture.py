"""Make the README's pictures: python scripts/readme_picture.py

face.png of what `make run` wrote; old.jpg of what `repaint restore data/datasets/old --out log/old` wrote.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from repaint.image import Photo, read_mask, read_photo, write_photo
from repaint.tiling import resized

ROOT = Path(__file__).parents[1]
NAMES = ("astronaut", "cameraman", "cat")
GAP_PX = 4
TALL_PX = 300


def main() -> None:
    rows = []
    for name in NAMES:
        photo = read_photo(ROOT / "data/datasets/gts/face" / f"{name}.png").rgb
        keep = read_mask(ROOT / "data/datasets/gt_keep_masks/face" / f"{name}.png").keep
        rows.append([photo * keep, read_photo(ROOT / "log/face" / f"{name}.png").rgb])
    pairs = [beside(row, dim=2) for row in rows]
    write_photo(ROOT / "docs/pictures/face.png", Photo(beside(pairs, dim=2, gap_px=4 * GAP_PX)))
    before, after = (
        [tall(read_photo(file).rgb) for file in sorted((ROOT / folder).glob(f"*.{ending}"))]
        for folder, ending in (("data/datasets/old", "jpg"), ("log/old", "png"))
    )
    rows = [beside(row, dim=2) for row in (before, after)]
    write_photo(ROOT / "docs/pictures/old.jpg", Photo(beside(rows, dim=1)), quality=85)


def tall(image: Tensor) -> Tensor:
    """The image, `TALL_PX` high."""
    return resized(image[None], TALL_PX, round(image.shape[2] * TALL_PX / image.shape[1]))[0].clamp(0, 1)


def beside(images: list[Tensor], dim: int, gap_px: int = GAP_PX) -> Tensor:
    """The images in a row (dim 2) or a column (dim 1), white between them."""
    shape = list(images[0].shape)
    shape[dim] = gap_px
    gap = torch.ones(shape)
    return torch.cat([part for image in images for part in (image, gap)][:-1], dim)


if __name__ == "__main__":
    main()
