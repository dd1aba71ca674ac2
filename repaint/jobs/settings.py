"""What a run is: images, masks, stages, and where results go."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from ..config import Settings
from ..stages.inpaint import Inpaint
from ..stages.progress import Device, Precision

SPEED_ONLY = ("limit", "offset", "batch_size", "device", "workers", "max_megapixels")
"""Keys of a run that never change a picture."""


class Stage(Settings):
    """One stage, by name."""

    inpaint: Inpaint


class Folders(Settings):
    """More folders to write, each a PNG a photo; `results` moves the results out of `output`."""

    results: str | None = None
    masked: str | None = Field(default=None, description="the photo with its hole black")
    originals: str | None = Field(default=None, description="the photo as it was prepared")
    masks: str | None = Field(default=None, description="the mask as it was prepared, 255 = keep")


class RunConfig(Settings):
    """A run over a folder of photos."""

    images: str = Field(description="a folder or one file; local, gs://, az:// or an https:// address of Azure")
    masks: str | None = Field(default=None, description="a folder, or one file for all images")
    output: str = Field(description="the folder for results, manifest.jsonl, config.yml and report.html")
    stages: tuple[Stage, ...] = Field(strict=False, min_length=1)
    seed: int = Field(default=0, ge=0, lt=2**63)
    samples: int = Field(default=1, ge=1, description="results for each photo, of different seeds")
    limit: int | None = Field(default=None, ge=1, description="only the first so many images")
    offset: int = Field(default=0, ge=0, description="leave out the first so many images")
    pair: Literal["stem", "order"] = Field(
        default="stem", description="images and masks belong together by name or by sorted order"
    )
    hole: Literal["black", "white"] = Field(default="black", description="what marks the hole in mask files")
    seeds: Literal["name", "position"] = Field(
        default="name",
        description="an image's own seed comes from seed and its name, or is seed + its place in the sorted list",
    )
    batch_size: int | Literal["auto"] = Field(
        default="auto", description="photos in one network call; auto: 8 on a GPU, 1 on a CPU"
    )
    device: Device = "auto"
    precision: Precision = "float32"
    format: Literal["png", "tiff", "jpeg", "webp", "same"] = Field(
        default="png", description="of the results; same: as each image"
    )
    quality: int = Field(default=95, ge=1, le=100, description="of JPEG and WebP results")
    max_megapixels: float = Field(default=80.0, gt=0, description="larger images are refused")
    workers: int = Field(default=2, ge=1, description="threads that read ahead")
    folders: Folders = Folders()

    @field_validator("batch_size")
    @classmethod
    def _positive(cls, batch_size: int | str) -> int | str:
        if isinstance(batch_size, int) and batch_size < 1:
            raise ValueError(f"found {batch_size}; must be at least 1, or auto")
        return batch_size

    @field_validator("stages")
    @classmethod
    def _masks_for_inpaint(cls, stages: tuple[Stage, ...], info: ValidationInfo) -> tuple[Stage, ...]:
        if info.data.get("masks", "") is None:
            raise ValueError("the inpaint stage needs masks; say masks: FOLDER or FILE")
        if len(stages) > 1:
            raise ValueError(f"found {len(stages)} stages; a run has one so far")
        return stages

    def what_makes_pictures(self) -> dict[str, Any]:
        """The settings that a picture depends on."""
        said = self.model_dump(mode="json", exclude={*SPEED_ONLY, "output"})
        for stage in said["stages"]:
            for settings in stage.values():
                settings.pop("weights_dir")
        return said
