"""Networks that go on with smaller tiles, or fewer at once, when memory does not suffice."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..tiling import tiled

SMALLEST_TILE_PX = 32
SMALLEST_COPY_PX = 100_000
WORDS = ("out of memory", "not enough memory", "can't allocate memory")
WORDS += ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
OF_A_GPU = ("CUDA error:", "cuDNN error:")

Step = TypeVar("Step")


@dataclass(eq=False)
class Noting:
    """Something that keeps what the user should know until it is asked."""

    _notes: list[str] = field(default_factory=list, init=False)

    def told(self) -> list[str]:
        """What the user should know and has not been told yet."""
        notes, self._notes = self._notes, []
        return notes

    def _went_on(self, note: str) -> None:
        """Less is tried from now on, with all the memory there is."""
        self._notes.append(note)
        give_back_memory()


@dataclass(eq=False)
class Frugal(Noting):
    """A network that is shown tiles, smaller ones from when memory does not suffice.

    Attributes:
        network: maps (B, C, h, w) to (B, D, h * scale, w * scale).
        tile_px: side of what it is shown at once, at most.
        calls: of the network, so far.
    """

    name: str
    network: Callable[[Tensor], Tensor]
    scale: int
    tile_px: int
    overlap_px: int
    calls: int = 0

    def __call__(self, x: Tensor) -> Tensor:
        """The network's answer to `x`, blended from tiles where `x` is larger than one.

        Raises:
            MemoryError: if not even the smallest tiles fit.
        """
        while True:
            overlap = min(self.overlap_px, self.tile_px // 2)
            try:
                return tiled(self._counted, x, tile=self.tile_px, overlap=overlap, scale=self.scale)
            except (RuntimeError, MemoryError) as e:
                if not is_out_of_memory(e):
                    raise
            self._halve()  # not in the except clause, where the exception still holds the tensors of the failed call

    def _counted(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.network(x)

    def _halve(self) -> None:
        was = self.tile_px
        if was // 2 < SMALLEST_TILE_PX:
            raise MemoryError(f"out of memory: {self.name} does not fit even with tiles of {was} px")
        self.tile_px = was // 2
        self._went_on(f"out of memory with tiles of {was} px: {self.name} goes on with {self.tile_px} px")


@dataclass(eq=False)
class FewerAtOnce(Noting):
    """A network of batches that is shown smaller ones from when memory does not suffice.

    Attributes:
        network: called with (B, ...) images, and perhaps a time for all of them and more (B, ...): their labels, masks.
        most: images it is shown at once; 0 = as many as come.
    """

    name: str
    network: Callable[..., Tensor]
    most: int = 0

    def __call__(self, x: Tensor, t: Any = None, *labels: Tensor) -> Tensor:
        """The network's answer to `x`.

        Raises:
            MemoryError: if not even one image fits.
        """
        while True:
            most = self.most or len(x)
            try:
                of_all = () if t is None else (t,)
                parts = zip(*(each.split(most) for each in (x, *labels)), strict=True)
                said = [self.network(part, *of_all, *of) for part, *of in parts]
                return said[0] if len(said) == 1 else torch.cat(said)
            except (RuntimeError, MemoryError) as e:
                if not is_out_of_memory(e):
                    raise
            self._halve(min(most, len(x)))  # not in the except clause, as above

    def _halve(self, was: int) -> None:
        if was == 1:
            raise MemoryError(f"out of memory: {self.name} does not fit even with one window at once")
        self.most = was // 2
        self._went_on(f"out of memory with {was} windows at once: {self.name} goes on with {self.most}")


@dataclass(eq=False)
class SmallerCopy(Noting):
    """A look at a whole image that goes on with smaller copies when memory does not suffice.

    Attributes:
        look: what it answers to an image, shrunk to so many pixels where it has more.
        most_px: pixels looked at, at most.
    """

    name: str
    look: Callable[[Tensor, int], Any]
    most_px: int

    def __call__(self, image: Tensor) -> Any:
        """The answer to `image`.

        Raises:
            MemoryError: if not even a small copy fits.
        """
        while True:
            try:
                return self.look(image, self.most_px)
            except (RuntimeError, MemoryError) as e:
                if not is_out_of_memory(e):
                    raise
            self._halve()  # not in the except clause, as above

    def _halve(self) -> None:
        was = self.most_px
        if was // 2 < SMALLEST_COPY_PX:
            raise MemoryError(f"out of memory: {self.name} does not fit even with {was / 1e6:.1f} megapixels")
        self.most_px = was // 2
        self._went_on(
            f"out of memory with {was / 1e6:.1f} megapixels: {self.name} looks at {self.most_px / 1e6:.1f} of them"
        )


def while_memory_suffices(steps: Iterator[Step]) -> Iterator[Step]:
    """The steps, up to the first for which memory does not suffice."""
    try:
        yield from steps
        return
    except (RuntimeError, MemoryError) as e:
        if not is_out_of_memory(e):
            raise
    give_back_memory()  # not in the except clause, as above


def give_back_memory() -> None:
    """Frees what torch holds of a GPU's memory and does not use."""
    if torch.cuda.is_available():
        with contextlib.suppress(RuntimeError):  # of a GPU that no longer answers, as what it is asked next will say
            torch.cuda.empty_cache()


def is_out_of_memory(e: BaseException) -> bool:
    """Whether memory did not suffice; of torch on a CPU, and of some libraries on a GPU, only the words tell."""
    return isinstance(e, (MemoryError, torch.OutOfMemoryError)) or any(w in str(e) for w in WORDS)


def is_gpu_lost(e: BaseException) -> bool:
    """Whether the GPU answers nothing more to this process: after some errors every call raises, whatever it is for."""
    raised = isinstance(e, getattr(torch, "AcceleratorError", ())) or any(w in str(e) for w in OF_A_GPU)
    if not raised or is_out_of_memory(e):
        return False
    try:
        torch.cuda.synchronize()
    except Exception:
        return True
    return False
