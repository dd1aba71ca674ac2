"""An old photo made good: damage found and filled, faces restored, enlarged, colours corrected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from .config import Settings
from .errors import ImageError, RunError
from .jobs.settings import Folders, RunConfig, Stage
from .stages.color import Color
from .stages.faces import Faces
from .stages.inpaint import Inpaint, Preset, Sampler
from .stages.pipeline import Pipeline, Step
from .stages.progress import Device, Precision
from .stages.scratches import Scratches
from .stages.upscale import Upscale

if TYPE_CHECKING:
    from .image import Photo


class Restore(Settings):
    """What is done to a photo, in this order; nothing else in it changes."""

    preset: Preset = Field(default="balanced", description="how much work the filling of damage may be")
    prior: str = Field(default="base-64", description="what fills: a name of `repaint weights list`, or a path")
    scratches: bool = Field(default=True, description="find damage and fill it")
    sensitivity: float = Field(default=0.5, ge=0, le=1, description="of finding damage: more finds more, and errs more")
    faces: bool = Field(default=True, description="restore faces")
    scale: float = Field(default=1.0, ge=1, le=16, description="how many times as wide and high; 1 = as it is")
    color: bool = Field(default=True, description="correct faded colours and casts")
    strength: float = Field(default=0.8, ge=0, le=1, description="of what is done to faces and colours")

    def stages(self, *, masked: bool = False) -> tuple[Stage, ...]:
        """The stages of a run.

        Args:
            masked: a mask of the damage is given, beside what is found.
        """
        found: list[Stage] = []
        if self.scratches:
            found.append(Stage(scratches=Scratches(sensitivity=self.sensitivity)))
        if self.scratches or masked:
            sampler = Sampler.model_validate(self.preset)
            found.append(Stage(inpaint=Inpaint(prior=self.prior, sampler=sampler)))
        if self.faces:
            found.append(Stage(faces=Faces(strength=self.strength)))
        if self.scale > 1:
            found.append(Stage(upscale=Upscale(scale=self.scale)))
        if self.color:
            found.append(Stage(color=Color(strength=self.strength)))
        return tuple(found)

    def pipeline(self, device: Device = "auto", precision: Precision = "float32", *, masked: bool = False) -> Pipeline:
        """The stages, their weights loaded.

        Raises:
            WeightsError, ConfigError: as the stages' `build`.
            RunError: if nothing is left to be done.
        """
        stages = self.stages(masked=masked)
        if not stages:
            raise RunError("nothing to do: scratches, faces and color are left out, scale is 1 and there is no mask")
        return Pipeline({stage.name: stage.settings.build(device, precision, batch_size=8) for stage in stages})


def restore(
    photo: Photo,
    settings: Restore | None = None,
    *,
    seed: int = 0,
    device: Device = "auto",
    precision: Precision = "float32",
    tell: Callable[[Step], None] = lambda step: None,
) -> Photo:
    """The photo, restored.

        new = restore(read_photo("old.jpg"), Restore(scale=2))

    Args:
        photo: what its `keep` marks is filled, beside the damage that is found.
        seed: another seed, another fill.
        tell: told how it goes.

    Raises:
        WeightsError, ConfigError, RunError: as `Restore.pipeline`.
    """
    pipeline = (settings or Restore()).pipeline(device, precision, masked=photo.keep is not None)
    step = None
    for step in pipeline([photo], [seed]):
        tell(step)
    assert step is not None
    return step.photos[0]


def restore_file(
    photo: Path,
    out: Path,
    settings: Restore,
    *,
    mask: Path | None,
    hole: Literal["black", "white"],
    save_stages: Path | None,
    seed: int,
    device: Device,
    precision: Precision,
    quality: int,
    tell: Callable[[Step], None],
    say: Callable[[str], None],
) -> None:
    """Restore one photo and write the result.

    Args:
        save_stages: a folder for what each stage made, numbered.
        tell: told how it goes.
        say: told what the user should know.

    Raises:
        ImageError: if photo or mask cannot be read or do not fit, or the result cannot be written.
        WeightsError, ConfigError, RunError: as `Restore.pipeline`; RunError if a network fails.
    """
    from .files import try_writing
    from .image import read_mask, read_photo, write_mask, write_photo

    if out.exists() and out.samefile(photo):
        raise ImageError(f"--out {out}: is the photo, which would be overwritten; choose another name")
    picture = read_photo(photo)
    if mask is not None:
        marks = read_mask(mask, hole=hole)
        (_, H, W), (_, h, w) = picture.rgb.shape, marks.keep.shape
        if (h, w) != (H, W):
            raise ImageError(f"{mask}: the mask is {w} x {h} px, the photo {W} x {H}; they must be of one size")
        for warning in marks.warnings:
            say(warning)
        picture = replace(picture, keep=marks.keep)
    pipeline = settings.pipeline(device, precision, masked=mask is not None)
    for remark in pipeline.remarks:
        say(remark)
    try:
        try_writing(out)
    except OSError as e:
        raise ImageError(f"cannot write {out}: {e.strerror or e}") from None
    step, told = None, 0
    try:
        for step in pipeline([picture], [seed]):
            tell(step)
            for note in step.notes[told:]:
                say(note)
            told = max(told, len(step.notes))
    except (RuntimeError, MemoryError) as e:
        reason = str(e).strip().partition("\n")[0] or type(e).__name__
        raise RunError(f"{photo}: cannot be restored: {reason}") from None
    assert step is not None
    for place, (name, photos) in enumerate(step.results.items(), 1):
        (made,) = photos
        if name == "scratches" and made.keep is not None:
            say(f"damage found on {100 * float((made.keep < 1).float().mean()):.2f} % of the photo")
        if save_stages is not None:
            save_stages.mkdir(parents=True, exist_ok=True)
            path = save_stages / f"{place}-{name}.png"
            if name == "scratches" and made.keep is not None:
                write_mask(path, made.keep)
            else:
                write_photo(path, made)
    write_photo(out, step.photos[0], quality=quality)


def as_run(
    folder: str,
    out: str,
    settings: Restore,
    *,
    masks: str | None,
    hole: Literal["black", "white"],
    save_stages: str | None,
    keep_format: bool,
    quality: int,
    seed: int,
    device: Device,
    precision: Precision,
) -> RunConfig:
    """The run that restores a folder of photos."""
    return RunConfig(
        images=folder,
        masks=masks,
        output=out,
        stages=settings.stages(masked=masks is not None),
        folders=Folders(stages=save_stages),
        hole=hole,
        seed=seed,
        format="same" if keep_format else "png",
        quality=quality,
        device=device,
        precision=precision,
    )
