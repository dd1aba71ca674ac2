"""The upscale stage: a network enlarges photos, or cleans them at their own size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ..config import Settings
from .progress import Device, Precision, Progress

if TYPE_CHECKING:
    from ..image import Photo

Backend = Literal["auto", "spandrel", "realesrgan"]

EMBEDDED = {2: "upscale-x2", 4: "upscale-x4"}  # by what they multiply each side with, rising
GENERAL, GENERAL_WDN = "realesr-general-x4v3", "realesr-general-wdn-x4v3"  # wdn: with (that is: keeps) noise


class Upscale(Settings):
    """Enlarge photos by a network; with scale: 1, take noise and JPEG blocks away at their own size.

    The network's answer is brought to the wanted size by an antialiased filter. So scale: 1 with a network of factor 2
    is enlarging, then shrinking; with one of factor 1 nothing is resized.
    """

    scale: float | None = Field(
        default=None, ge=1, le=16, description="how many times as wide and high, also 1 or 1.5; default 2"
    )
    longest_px: int | None = Field(
        default=None, ge=1, description="instead of scale: px of the longer side; longer photos are left as they are"
    )
    backend: Backend = Field(
        default="auto",
        description="what runs the network; auto: built in for compact networks (SRVGGNetCompact), else spandrel",
    )
    weights: str | None = Field(
        default=None,
        description="a name of `repaint weights list`, or a path; default: the embedded network of the fitting factor",
    )
    weights_dir: str = Field(default="data/pretrained", description="where fetched weights are")
    denoise: float | None = Field(
        default=None, ge=0, le=1, description=f"only with weights: {GENERAL}: 0 keeps noise and grain, 1 (default) none"
    )
    tile_px: int = Field(default=256, ge=32, description="side of the squares shown to the network; memory follows it")
    overlap_px: int = Field(
        default=32, ge=0, validate_default=True, description="shared by neighbouring squares, blended over its middle"
    )
    strength: float = Field(
        default=1.0, ge=0, le=1, description="share of the network's answer; the rest is the photo, enlarged plainly"
    )

    @field_validator("overlap_px")
    @classmethod
    def _within_tile(cls, overlap_px: int, info: ValidationInfo) -> int:
        tile_px = info.data.get("tile_px")
        if tile_px is not None and overlap_px > tile_px // 2:
            raise ValueError(f"found {overlap_px}; must be at most {tile_px // 2}, half of tile_px")
        return overlap_px

    @model_validator(mode="after")
    def _one_size(self) -> Upscale:
        if self.scale is not None and self.longest_px is not None:
            raise ValueError("found scale and longest_px; a size is said by one of them")
        return self

    @model_validator(mode="after")
    def _can_denoise(self) -> Upscale:
        if self.denoise is not None and GENERAL not in PurePath(self.weights or "").name:
            found = self.weights or "the embedded network"
            raise ValueError(f"denoise: found with {found}; must be with weights: {GENERAL} (others have strength)")
        return self

    def factor(self, height: int, width: int) -> float:
        """How many times as wide and high a photo of that size becomes; at least 1."""
        if self.longest_px is not None:
            return max(1.0, self.longest_px / max(height, width))
        return 2.0 if self.scale is None else self.scale

    def candidates(self) -> tuple[str, ...]:
        """Names or paths of the networks that photos may need, by rising factor."""
        if self.weights is not None:
            return (self.weights,)
        if self.longest_px is not None:
            return tuple(EMBEDDED.values())
        return (EMBEDDED[min((n for n in EMBEDDED if n >= self.factor(1, 1)), default=max(EMBEDDED))],)

    def build(self, device: Device = "auto", precision: Precision = "float32", *, batch_size: int = 8) -> UpscaleStage:
        """The stage, its weights loaded.

        Args:
            batch_size: is not used; squares go through the network one by one.

        Raises:
            WeightsError: if weights are missing, damaged or of a network that does not enhance photos.
            ConfigError: if a backend is not installed or cannot run the network.
        """
        from .upscaling import built

        return built(self, device, precision)


@dataclass(frozen=True, eq=False)
class UpscaleStage:
    """Photos in, larger or cleaner photos out; seeds change nothing.

    Alpha, mask and dpi follow the size: a photo printed at its dpi is as large as it was. Grey stays grey, 16 bits
    stay 16 bits, and colours averaged over some 32 px stay what they were, whatever the network does to them.

    Attributes:
        weights: sha256 by name.
        remarks: lines worth telling the user.
    """

    run: Callable[[Sequence[Photo], Sequence[int]], Iterator[Progress]]
    weights: dict[str, str]
    remarks: tuple[str, ...]
    device: str

    def __call__(self, photos: Sequence[Photo], seeds: Sequence[int]) -> Iterator[Progress]:
        return self.run(photos, seeds)
