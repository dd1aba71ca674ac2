"""Masks, made and written."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import torch

from .errors import ConfigError, ImageError
from .files import is_within, list_files
from .image import READABLE, encode_mask, read_photo, write_mask
from .masks import make_mask


def write_masks(
    kind: str, out: Path, *, sides: tuple[int, int], count: int, seed: int, like: Path | None = None
) -> int:
    """Write `count` masks of `sides` (height, width), named 000.png on; or one for each photo of the folder `like`.

    The i-th mask is drawn from the seed `seed` + i.

    Raises:
        ConfigError: if the kind is unknown, `out` lies among the photos, which masks could overwrite, or another file
            of that name is there.
        ImageError: if a photo cannot be read or a mask cannot be written.
    """
    wanted: list[tuple[str, tuple[int, int]]] = [(f"{i:03}.png", sides) for i in range(count)]
    if like is not None:
        if is_within(out, like):
            raise ConfigError(f"--out {out}: lies in {like}, among the photos; choose another folder")
        if not like.is_dir():
            raise ImageError(f"{like}: is not a folder")
        names = list_files(like, READABLE)
        if not names:
            raise ImageError(f"{like}: holds no photos")
        sizes = [read_photo(like / name).rgb.shape for name in names]
        wanted = [(f"{PurePosixPath(n).with_suffix('')}.png", (s[1], s[2])) for n, s in zip(names, sizes, strict=True)]
    for i, (name, (height, width)) in enumerate(wanted):
        try:
            keep = make_mask(kind, height, width, torch.Generator().manual_seed(seed + i))
        except ValueError as e:
            raise ConfigError(str(e)) from None
        if (out / name).is_file() and (out / name).read_bytes() != encode_mask(keep):
            raise ConfigError(f"--out {out}: {name} is there, and another; choose another folder")
        write_mask(out / name, keep)
    return len(wanted)
