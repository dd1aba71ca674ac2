"""Stamps of damage, from a folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import files
from ..errors import RunError
from .data import ENDINGS, NO_IMAGE, pixels_of

LONGEST_PX = 256  # as large as a stamp is kept


class Stamps(Sequence[Tensor]):
    """Opacities (1, h, w) float32 in [0, 1], kept as bytes."""

    def __init__(self, kept: Sequence[Tensor]) -> None:
        self._kept = list(kept)

    def __len__(self) -> int:
        return len(self._kept)

    @overload
    def __getitem__(self, i: int) -> Tensor: ...
    @overload
    def __getitem__(self, i: slice) -> Stamps: ...
    def __getitem__(self, i: int | slice) -> Tensor | Stamps:
        return Stamps(self._kept[i]) if isinstance(i, slice) else self._kept[i].float() / 255


def read_stamps(folder: str) -> Stamps:
    """The images of a folder and its subfolders, in grey: white = damaged.

    Raises:
        RunError: if there is none, or one cannot be read.
    """
    names = files.list_files(folder, ENDINGS) if files.is_dir(folder) else []
    if not names:
        raise RunError(f"stamps: {folder} holds no images ({', '.join(ENDINGS)}); leave it out to draw damage alone")
    return Stamps([_read(files.join(folder, name)) for name in names])


def _read(path: str) -> Tensor:
    try:
        stamp = Image.fromarray(pixels_of(path)).convert("L")
    except NO_IMAGE as e:
        raise RunError(f"stamps: {path}: cannot be read as an image: {e}") from e
    stamp.thumbnail((LONGEST_PX, LONGEST_PX), Image.Resampling.BOX)
    return torch.from_numpy(np.array(stamp))[None]
