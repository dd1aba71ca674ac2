"""What a run is: images, masks, stages, and where results go."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from .. import files
from ..config import Settings
from ..stages.color import Color
from ..stages.faces import Faces
from ..stages.inpaint import Inpaint
from ..stages.progress import Device, Precision
from ..stages.scratches import Scratches
from ..stages.upscale import Upscale

SPEED_ONLY = ("limit", "offset", "batch_size", "device", "processes", "workers", "max_megapixels")
"""Keys of a run that change no picture, but for the last bits where kernels sum in another order."""
PLACES = ("images", "masks", "pair", "output")
"""Keys that say where a run's files are: what is in them counts, for each photo by itself."""


class Stage(Settings):
    """One stage, by name: `- inpaint: {...}`; `- inpaint` alone for its defaults."""

    scratches: Scratches | None = None
    inpaint: Inpaint | None = None
    faces: Faces | None = None
    upscale: Upscale | None = None
    color: Color | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, said: Any) -> Any:
        if isinstance(said, str):
            return {said: {}}
        return {name: {} if body is None else body for name, body in said.items()} if isinstance(said, dict) else said

    @model_validator(mode="after")
    def _one(self) -> Stage:
        if len(self.model_fields_set) != 1:
            found = ", ".join(sorted(self.model_fields_set)) or "none"
            raise ValueError(f"found {found}; a stage is one of {', '.join(type(self).model_fields)}")
        return self

    @model_serializer(mode="wrap")
    def _said(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {self.name: dump(self)[self.name]}

    @property
    def name(self) -> str:
        return next(iter(self.model_fields_set))

    @property
    def settings(self) -> StageSettings:
        return getattr(self, self.name)


StageSettings = Scratches | Inpaint | Faces | Upscale | Color


class Folders(Settings):
    """More folders to write, each a PNG a photo; `results` moves the results out of `output`."""

    results: str | None = None
    masked: str | None = Field(default=None, description="the photo with its hole black")
    originals: str | None = Field(default=None, description="the photo as it was prepared")
    masks: str | None = Field(default=None, description="the mask as it was prepared or found, 255 = keep")
    stages: str | None = Field(default=None, description="what each stage but the last made, in a folder for each")


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
    processes: int | Literal["auto"] = Field(
        default="auto",
        description="that share the photos, each on a GPU or some cores of its own; auto: one for each GPU, else one; "
        "a number is needed for parts of one GPU (MIG)",
    )
    precision: Precision = "float32"
    format: Literal["png", "tiff", "jpeg", "webp", "same"] = Field(
        default="png", description="of the results; same: as each image"
    )
    quality: int = Field(default=95, ge=1, le=100, description="of JPEG and WebP results")
    max_megapixels: float = Field(default=80.0, gt=0, description="larger images are refused")
    workers: int = Field(default=2, ge=1, description="threads that read ahead")
    folders: Folders = Folders()

    @field_validator("batch_size", "processes")
    @classmethod
    def _positive(cls, count: int | str) -> int | str:
        if isinstance(count, int) and count < 1:
            raise ValueError(f"found {count}; must be at least 1, or auto")
        return count

    @field_validator("stages")
    @classmethod
    def _in_order(cls, stages: tuple[Stage, ...], info: ValidationInfo) -> tuple[Stage, ...]:
        names = [stage.name for stage in stages]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"found {', '.join(sorted(twice))} more than once; a run has each stage once at most")
        masked = info.data.get("masks", "") is not None
        if "inpaint" in names and not masked and "scratches" not in names[: names.index("inpaint")]:
            raise ValueError(
                "the inpaint stage needs masks; say masks: FOLDER or FILE, or put the scratches stage before it"
            )
        return stages

    @model_validator(mode="after")
    def _apart(self) -> RunConfig:
        """Each photo has one picture of the same name in each of these folders."""
        more = self.folders
        named = {"output" if more.results is None else "folders.results": more.results or self.output}
        named |= {f"folders.{k}": v for k in ("masked", "originals", "masks") if (v := getattr(more, k)) is not None}
        seen: dict[str, str] = {}
        for key, folder in named.items():
            place = files.join(folder).rstrip("/")
            if place in seen:
                raise ValueError(f"found one folder, {folder}, as {seen[place]} and {key}; each needs its own")
            seen[place] = key
        return self

    @property
    def inpaint(self) -> Inpaint | None:
        """The settings of the inpaint stage, if there is one."""
        return next((stage.inpaint for stage in self.stages if stage.inpaint is not None), None)

    def what_makes_pictures(self) -> dict[str, Any]:
        """The settings that a picture depends on, `precision` as it serves on the device.

        Raises:
            ConfigError: if the device is not there.
        """
        from ..stages.device import prepared

        said = self.model_dump(mode="json", exclude={*SPEED_ONLY, *PLACES})
        for stage in said["stages"]:
            for settings in stage.values():
                settings.pop("weights_dir", None)
        return {**said, "precision": prepared(self.device, self.precision)[1]}
