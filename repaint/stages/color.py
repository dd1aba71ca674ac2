"""The colour stage: fading and casts corrected, local contrast raised; tones of old processes are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ..config import Settings
from .progress import Device, Precision, Progress

if TYPE_CHECKING:
    from torch import Tensor

    from ..image import Photo


class Color(Settings):
    """Correct fading and casts, by one smooth curve per channel for the whole photo."""

    strength: float = Field(default=0.8, ge=0, le=1, description="share of the correction that is made; 0 = none")
    local_contrast: float = Field(
        default=0.0, ge=0, le=1, description="more contrast within each neighbourhood; 0 = none"
    )
    tone: Literal["auto", "color", "mono"] = Field(
        default="auto",
        description="mono: black and white, or toned as sepia, which is kept; color: a cast is a fault; auto: by looks",
    )

    def build(self, device: Device = "auto", precision: Precision = "float32", *, batch_size: int = 8) -> ColorStage:
        """The stage. It always computes on the CPU, in float32, one photo after the other; nothing is to be loaded."""
        return ColorStage(self)


@dataclass(frozen=True, eq=False)
class ColorStage:
    """Photos in, better photos out; of all that belongs to a photo, only `rgb` changes. Seeds do not matter."""

    settings: Color
    remarks: tuple[str, ...] = ()
    weights: dict[str, str] = field(default_factory=dict)

    def __call__(self, photos: Sequence[Photo], seeds: Sequence[int]) -> Iterator[Progress]:
        """Yields after every photo, and at the beginning."""
        results = list(photos)
        yield Progress(0, 0, (0,) * len(photos), partial(list, tuple(results)))
        for at, photo in enumerate(photos):
            results[at] = self._corrected(photo)
            yield Progress(0, 0, (0,) * len(photos), partial(list, tuple(results)))

    def _corrected(self, photo: Photo) -> Photo:
        from ..colour import corrected, with_local_contrast

        keep = _to_look_at(photo)
        rgb = corrected(photo.rgb, keep, strength=self.settings.strength, tone=self.settings.tone)
        rgb = with_local_contrast(rgb, keep, strength=self.settings.local_contrast)
        return dataclasses.replace(photo, rgb=rgb)


def _to_look_at(photo: Photo) -> Tensor | None:
    """(1, H, W), True where a pixel tells how the photo looks: neither damaged nor fully transparent."""
    if photo.alpha is None:
        return photo.keep
    shown = photo.alpha > 0
    return shown if photo.keep is None else shown & (photo.keep >= 1)
