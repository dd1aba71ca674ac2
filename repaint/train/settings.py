"""What every training is: data, how long, where to."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator

from ..config import Settings


class Source(Settings):
    """A folder of images, and which windows of them are shown."""

    folder: str = Field(description="local or anything blobfile opens; subfolders too")
    weight: float = Field(default=1.0, gt=0, description="its share of all windows, against the other folders'")
    scales: tuple[float, ...] | None = Field(
        default=None,
        strict=False,
        description="sizes photos are shrunk to before cutting; leave out to show whole images",
    )

    @field_validator("scales")
    @classmethod
    def _shrinking(cls, scales: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if scales is not None and (not scales or not all(0 < s <= 1 for s in scales)):
            raise ValueError(f"found {list(scales)}; each must lie in 0..1, as 1, 0.5, 0.25")
        return scales


class PatchNetwork(Settings):
    """A U-Net that sees squares of pixels, in the words of `archs.scratch_net.ScratchNetConfig`."""

    channels: int = Field(default=32, ge=8, multiple_of=8, description="of the finest level")
    multipliers: tuple[int, ...] = Field(default=(1, 2, 4, 4), strict=False, min_length=1)
    blocks: int = Field(default=1, ge=1)
    patch: int = Field(default=2, ge=1, description="px of the squares whose pixels are channels of the finest level")

    def fitting(self, size: int) -> Self:
        """This network, for windows of `size` px.

        Raises:
            ValueError: if it cannot see such windows.
        """
        multiple = self.patch * 2 ** (len(self.multipliers) - 1)
        if size % multiple:
            raise ValueError(
                f"has {len(self.multipliers)} levels, so size must be a multiple of {multiple}; it is {size}"
            )
        return self


class Training(Settings):
    """What all trainings have in common."""

    output: str = Field(description="the folder for checkpoints, samples and the exported weights")
    data: tuple[Source, ...] = Field(strict=False, min_length=1)
    validation: tuple[Source, ...] = Field(
        default=(), strict=False, description="held-out images; if none, the training folders are looked at"
    )
    start_from: str | None = Field(
        default=None, description="weights to begin with instead of chance: a name of `repaint weights list`, or a path"
    )
    steps: int = Field(default=100_000, ge=1)
    max_minutes: float | None = Field(default=None, gt=0, description="stop after this long; started again, it goes on")
    batch_size: int = Field(default=32, ge=1, description="windows in one forward pass of each process")
    accumulate: int = Field(default=1, ge=1, description="forward passes in one step")
    learning_rate: float = Field(default=2e-4, gt=0)
    warm_up: int = Field(default=200, ge=0, description="steps in which the learning rate rises")
    decay_from: float = Field(
        default=0.5, ge=0, le=1, description="share of the steps after which it falls, to 0 at the end"
    )
    weight_decay: float = Field(default=0.01, ge=0)
    clip_norm: float = Field(default=1.0, gt=0, description="of the gradient")
    ema: float = Field(default=0.9995, ge=0, lt=1, description="decay of the average of the weights that is exported")
    flip: bool = True
    grey_share: float = Field(default=0.15, ge=0, le=1, description="of windows shown in grey, half of those in sepia")
    validate_every: int = Field(default=500, ge=1, description="steps between looks at held-out images")
    workers: int = Field(default=2, ge=0, description="processes that cut windows")
    cache_mb: int = Field(default=1024, ge=0, description="decoded images kept in memory, for each worker")
    tensorboard: bool = Field(default=False, description="write curves and pictures to output/tensorboard")
    device: Literal["auto", "cpu"] = "auto"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: bool = Field(
        default=False, description="the network, for faster steps; takes a minute or more first, and a C++ compiler"
    )
    seed: int = Field(default=0, ge=0, lt=2**23 - 1)
    licence: str = Field(default="not stated", description="written into the exported weights")
