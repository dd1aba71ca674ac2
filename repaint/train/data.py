"""Pictures to learn from: what the i-th shows is a function of the seed and i alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.utils.data import Dataset, default_collate

from .. import files
from ..errors import ImageError, RunError
from ..image import decode_photo
from .settings import Source

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
LUMA = (0.299, 0.587, 0.114)
SEPIA = (0.06, 0.01, -0.07)  # added to grey in [-1, 1], at most
ATTEMPTS = 20  # images tried before a window is given up
NO_IMAGE = (OSError, ValueError)


@dataclass(frozen=True, eq=False)
class Picture:
    """An image of a source, decoded.

    Attributes:
        pixels: (H, W, 3) uint8.
        name: its path in the source's folder.
    """

    pixels: np.ndarray
    name: str
    source: Source


def pixels_of(path: str) -> np.ndarray:
    """(H, W, 3) uint8 of an image file, upright, as all of the package reads it.

    Raises:
        OSError, ValueError: if it cannot be read as an image; without its name.
    """
    try:
        rgb = decode_photo(files.read_bytes(path), path).rgb
    except ImageError as e:
        raise ValueError(str(e).removeprefix(f"{path}: ").removesuffix(" (max_megapixels)")) from None
    return (rgb * 255).round().byte().permute(1, 2, 0).contiguous().numpy()


Make = Callable[[Picture, Generator], tuple[Tensor, ...]]
"""What a training is shown of a picture, at random by the generator; picklable, for it goes to worker processes."""

Item = tuple[tuple[Tensor, ...], dict[str, str]]
"""What is shown, and the files that could not be read on the way to it, with the reasons."""


@dataclass
class Cache:
    """Decoded images, the least recently used forgotten first."""

    limit_bytes: int
    kept: OrderedDict[str, np.ndarray] = field(default_factory=OrderedDict)
    size_bytes: int = 0

    def get(self, path: str) -> np.ndarray:
        """(H, W, 3) uint8.

        Raises:
            OSError: or another of `NO_IMAGE`, if the file cannot be read as an image.
        """
        if path in self.kept:
            self.kept.move_to_end(path)
            return self.kept[path]
        pixels = pixels_of(path)
        self.kept[path], self.size_bytes = pixels, self.size_bytes + pixels.nbytes
        while self.size_bytes > self.limit_bytes and len(self.kept) > 1:
            self.size_bytes -= self.kept.popitem(last=False)[1].nbytes
        return pixels


class Pictures(Dataset[Item]):
    """Random pictures of some folders; item i is the same in every process, run and restart.

    Attributes:
        names: of the images in each source's folder, sorted.

    Raises:
        RunError: if a folder has no images.
    """

    def __init__(self, sources: Sequence[Source], make: Make, *, seed: int, count: int, cache_mb: int = 1024) -> None:
        self.sources, self.make, self.seed, self.count = list(sources), make, seed, count
        self.names = [_listed(source) for source in sources]
        self.weights = torch.tensor([source.weight for source in sources])
        self.cache = Cache(cache_mb << 20)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Item:
        g = Generator().manual_seed((self.seed << 40) ^ i)
        skipped: dict[str, str] = {}
        path = ""
        for _ in range(ATTEMPTS):
            at = int(torch.multinomial(self.weights, 1, generator=g))
            source, name = self.sources[at], self.names[at][below(len(self.names[at]), g)]
            path = files.join(source.folder, name)
            try:
                pixels = self.cache.get(path)
            except NO_IMAGE as e:
                skipped[path] = (str(e).splitlines() or [type(e).__name__])[0]
                continue
            return self.make(Picture(pixels, name, source), g), skipped
        raise RunError(f"data: {ATTEMPTS} images in a row cannot be read; the last: {path}: {skipped[path]}")


def together(items: Sequence[Item]) -> Item:
    """A batch of items."""
    shown, skipped = zip(*items, strict=True)
    return tuple(default_collate(list(shown))), {path: why for one in skipped for path, why in one.items()}


def cut(picture: Picture, size: int, g: Generator) -> Tensor:
    """(3, size, size) in [-1, 1]: all of an image, its short side cut to; or a place of it at one of the scales."""
    H, W = picture.pixels.shape[:2]
    side = min(H, W)
    if picture.source.scales is not None:
        scale = picture.source.scales[below(len(picture.source.scales), g)]
        side = min(side, round(size / scale))
    top, left = below(H - side + 1, g), below(W - side + 1, g)
    window = Image.fromarray(picture.pixels[top : top + side, left : left + side])
    window = window.resize((size, size), Image.Resampling.LANCZOS if side < size else Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(window).copy()).permute(2, 0, 1).float() / 127.5 - 1


def varied(x: Tensor, g: Generator, *, flip: bool, grey_share: float) -> Tensor:
    """`x` (3, H, W) in [-1, 1]; half of them mirrored, and a share shown in grey or sepia."""
    mirrored, grey, sepia = torch.rand(3, generator=g).tolist()
    if flip and mirrored < 0.5:
        x = x.flip(2)
    if grey < grey_share:
        x = (x * x.new_tensor(LUMA)[:, None, None]).sum(0, keepdim=True).expand(3, -1, -1)
        if sepia < 0.5:
            x = x + 2 * sepia * x.new_tensor(SEPIA)[:, None, None]
    return x.clamp(-1, 1).contiguous()


def below(high: int, g: Generator) -> int:
    return int(torch.randint(high, (1,), generator=g))


def _listed(source: Source) -> list[str]:
    if not files.is_dir(source.folder):
        raise RunError(f"data: {source.folder} is not a folder")
    names = files.list_files(source.folder, ENDINGS)
    if not names:
        raise RunError(f"data: {source.folder} holds no images ({', '.join(ENDINGS)})")
    return names
