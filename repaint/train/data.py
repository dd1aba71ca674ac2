"""Windows of images for training: the i-th window is a function of the seed and i alone."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from .. import files
from ..errors import RunError
from .settings import Source

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
LUMA = (0.299, 0.587, 0.114)
SEPIA = (0.06, 0.01, -0.07)  # added to grey in [-1, 1], at most
ATTEMPTS = 20  # images tried before a window is given up


@dataclass
class Cache:
    """Decoded images, the least recently used forgotten first."""

    limit_bytes: int
    kept: OrderedDict[str, np.ndarray] = field(default_factory=OrderedDict)
    size_bytes: int = 0

    def get(self, path: str) -> np.ndarray:
        """(H, W, 3) uint8.

        Raises:
            OSError: if the file cannot be read as an image.
        """
        if path in self.kept:
            self.kept.move_to_end(path)
            return self.kept[path]
        pixels = np.asarray(Image.open(io.BytesIO(files.read_bytes(path))).convert("RGB"))
        self.kept[path], self.size_bytes = pixels, self.size_bytes + pixels.nbytes
        while self.size_bytes > self.limit_bytes and len(self.kept) > 1:
            self.size_bytes -= self.kept.popitem(last=False)[1].nbytes
        return pixels


class Windows(Dataset[Tensor]):
    """(3, size, size) windows in [-1, 1]; window i is the same in every process, run and restart.

    Args:
        augment: flips, grey and sepia; without it window i is still drawn at random by the seed.

    Raises:
        RunError: if a folder has no images.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        size: int,
        seed: int,
        *,
        count: int,
        flip: bool = False,
        grey_share: float = 0.0,
        cache_mb: int = 1024,
    ) -> None:
        self.size, self.seed, self.count, self.flip, self.grey_share = size, seed, count, flip, grey_share
        self.sources = list(sources)
        self.names = [self._listed(source) for source in sources]
        self.weights = torch.tensor([source.weight for source in sources])
        self.cache = Cache(cache_mb << 20)
        self.unreadable: dict[str, str] = {}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Tensor:
        g = torch.Generator().manual_seed((self.seed << 40) ^ i)
        name = ""
        for _ in range(ATTEMPTS):
            source = int(torch.multinomial(self.weights, 1, generator=g))
            name = self.names[source][_below(len(self.names[source]), g)]
            try:
                pixels = self.cache.get(files.join(self.sources[source].folder, name))
            except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as e:
                self.unreadable[name] = str(e)
                continue
            return self._augmented(self._cut(pixels, self.sources[source], g), g)
        raise RunError(f"{self.sources[0].folder}: {ATTEMPTS} images in a row cannot be read; the last: {name}")

    def unreadable_files(self) -> dict[str, str]:
        """Names of all files that are not images, and why; reads every file."""
        for source, names in zip(self.sources, self.names, strict=True):
            for name in names:
                try:
                    Image.open(io.BytesIO(files.read_bytes(files.join(source.folder, name)))).verify()
                except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
                    self.unreadable[name] = str(e)
        return self.unreadable

    def _listed(self, source: Source) -> list[str]:
        if not files.is_dir(source.folder):
            raise RunError(f"data: {source.folder} is not a folder")
        names = files.list_files(source.folder, ENDINGS)
        if not names:
            raise RunError(f"data: {source.folder} holds no images ({', '.join(ENDINGS)})")
        return names

    def _cut(self, pixels: np.ndarray, source: Source, g: torch.Generator) -> Tensor:
        """A window of the image: all of it, its short side cut to; or a place of it at one of the scales."""
        H, W = pixels.shape[:2]
        side = min(H, W)
        if source.scales is not None:
            scale = source.scales[_below(len(source.scales), g)]
            side = min(side, round(self.size / scale))
        top, left = _below(H - side + 1, g), _below(W - side + 1, g)
        window = Image.fromarray(pixels[top : top + side, left : left + side])
        window = window.resize(
            (self.size, self.size), Image.Resampling.LANCZOS if side < self.size else Image.Resampling.BOX
        )
        return torch.from_numpy(np.asarray(window).copy()).permute(2, 0, 1).float() / 127.5 - 1

    def _augmented(self, x: Tensor, g: torch.Generator) -> Tensor:
        flip, grey, sepia = torch.rand(3, generator=g).tolist()
        if self.flip and flip < 0.5:
            x = x.flip(2)
        if grey < self.grey_share:
            x = (x * x.new_tensor(LUMA)[:, None, None]).sum(0, keepdim=True).expand(3, -1, -1)
            if sepia < 0.5:
                x = x + 2 * sepia * x.new_tensor(SEPIA)[:, None, None]
        return x.clamp(-1, 1).contiguous()


def _below(high: int, g: torch.Generator) -> int:
    return int(torch.randint(high, (1,), generator=g))
