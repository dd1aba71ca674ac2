"""What the training of a face finder is."""

from __future__ import annotations

from pydantic import Field

from ..config import Settings
from .settings import Training


class FinderSettings(Settings):
    """The finder, in the words of `archs.face_finder.FaceFinderConfig`."""

    widths: tuple[int, int, int, int] = Field(
        default=(16, 32, 64, 112), strict=False, description="channels at strides 2, 4, 8 and 16"
    )
    blocks: int = Field(default=3, ge=1, description="residual blocks at stride 16")


class TrainFinder(Training):
    """A finder of faces, trained on aligned faces that are pasted into photographs; these must show no other faces."""

    faces: str = Field(description="a folder of aligned faces: eyes and mouth where FFHQ has them")
    validation_faces: str | None = Field(
        default=None, description="held-out faces; if none, those of the training are looked at"
    )
    size: int = Field(default=160, ge=64, multiple_of=16, description="px of the windows that faces are pasted into")
    network: FinderSettings = FinderSettings()
    most: int = Field(default=6, ge=1, le=8, description="faces in a window")
    strength: float = Field(default=0.3, gt=0, le=1, description="of ageing")
    landmarks: float = Field(default=10.0, gt=0, description="weight of the landmarks beside the focal loss")
