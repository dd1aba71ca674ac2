"""An old photo made good: damage found and filled, faces restored, enlarged, colours corrected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from .config import Settings
from .errors import ConfigError, RunError
from .files import is_named
from .jobs.settings import Folders, RunConfig, Stage
from .stages.color import Color
from .stages.faces import Faces
from .stages.inpaint import Inpaint, Preset, Sampler
from .stages.pipeline import Pipeline, Step
from .stages.progress import Device, Precision
from .stages.scratches import Scratches
from .stages.upscale import Upscale

if TYPE_CHECKING:
    from torch import Tensor

    from .image import Photo

PRIOR = "base-128"  # what fills
MEND_PX = 16  # what a small prior invents in holes of this size is no better than what they most likely were


class Restore(Settings):
    """What is done to a photo, in this order; nothing else in it changes."""

    preset: Preset = Field(default="balanced", description="how much work the filling of damage may be")
    prior: str = Field(default=PRIOR, description="what fills: a name of `repaint weights list`, or a path")
    scratches: bool = Field(default=True, description="find damage and fill it")
    sensitivity: float = Field(default=0.5, ge=0, le=1, description="of finding damage: more finds more, and errs more")
    faces: bool = Field(default=True, description="restore faces")
    scale: float = Field(default=1.0, ge=1, le=16, description="how many times as wide and high; 1 = as it is")
    denoise: bool = Field(default=False, description="clean grain, noise and JPEG blocks; enlarging does so anyway")
    color: bool = Field(default=True, description="correct faded colours and casts")
    strength: float = Field(default=0.8, ge=0, le=1, description="of what is done to faces, noise and colours")
    mender: str | None = Field(
        default="mender",
        description="what fills thin damage at once: a name of `repaint weights list`, or a path; none: the prior "
        "fills it all, as it does with preset paper",
    )

    def stages(self, *, masked: bool = False) -> tuple[Stage, ...]:
        """The stages of a run.

        Args:
            masked: a mask of the damage is given, beside what is found.

        Raises:
            RunError: if nothing is left to be done.
        """
        found: list[Stage] = []
        if self.scratches:
            found.append(Stage(scratches=Scratches(sensitivity=self.sensitivity)))
        if self.scratches or masked:
            sampler = Sampler.model_validate(self.preset)
            mender = None if self.preset == "paper" else self.mender
            found.append(Stage(inpaint=Inpaint(prior=self.prior, sampler=sampler, mender=mender, mend_px=MEND_PX)))
        if self.faces:
            found.append(Stage(faces=Faces(strength=self.strength)))
        if self.scale > 1:
            found.append(Stage(upscale=Upscale(scale=self.scale)))
        elif self.denoise:
            found.append(Stage(upscale=Upscale(scale=1, strength=self.strength)))
        if self.color:
            found.append(Stage(color=Color(strength=self.strength)))
        if not found:
            raise RunError(
                "nothing to do: scratches, faces, denoise and color are left out, scale is 1 and there is no mask"
            )
        return tuple(found)

    def pipeline(self, device: Device = "auto", precision: Precision = "float32", *, masked: bool = False) -> Pipeline:
        """The stages, their weights loaded.

        Raises:
            WeightsError, ConfigError: as the stages' `build`.
            RunError: as `stages`.
        """
        stages = self.stages(masked=masked)
        return Pipeline({stage.name: stage.settings.build(device, precision, batch_size=8) for stage in stages})


def restore(
    photo: Photo | str | Path,
    settings: Restore | None = None,
    *,
    seed: int = 0,
    device: Device = "auto",
    precision: Precision = "float32",
    tell: Callable[[Step], None] = lambda step: None,
) -> Photo:
    """The photo, restored.

        new = restore("old.jpg", Restore(scale=2))

    Args:
        photo: or its file. What its `keep` marks is filled, beside the damage that is found.
        seed: another seed, another fill.
        tell: told how it goes.

    What is remarkable about the weights, their licences among it, is in `Restore.pipeline(...).remarks`.

    Raises:
        WeightsError, ConfigError, RunError: as `Restore.pipeline`; RunError if a network fails.
        ImageError: if a file cannot be read as a photo.
    """
    from .image import Photo, read_photo
    from .single import network_failures

    if not isinstance(photo, Photo):
        photo = read_photo(photo)
    pipeline = (settings or Restore()).pipeline(device, precision, masked=photo.keep is not None)
    step = None
    with network_failures("the photo cannot be restored"):
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
    max_pixels: int,
) -> None:
    """Restore one photo and write the result.

    Args:
        save_stages: a folder for what each stage made, numbered; written as soon as it is made.
        tell: told how it goes.
        say: told what the user should know.

    Raises:
        ImageError: if photo or mask cannot be read or do not fit, or the result cannot be written.
        WeightsError, ConfigError, RunError: as `Restore.pipeline`; RunError if a network fails.
    """
    from .image import write_photo
    from .single import check_writable, network_failures, opened, refuse_to_overwrite

    picture = opened(photo, mask, out, hole=hole, say=say, max_pixels=max_pixels, scale=settings.scale)
    pipeline = settings.pipeline(device, precision, masked=mask is not None)
    for remark in pipeline.remarks:
        say(remark)
    check_writable(out)
    files = {name: f"{place}-{name}.png" for place, name in enumerate(pipeline.stages, 1)}
    if save_stages is not None:
        check_writable(save_stages / "1-.png")
        for file in files.values():
            refuse_to_overwrite(save_stages / file, "--save-stages", photo, mask)
    step, told, written = None, 0, 0
    with network_failures(f"{photo}: cannot be restored"):
        for step in pipeline([picture], [seed]):
            tell(step)
            for note in step.notes[told:]:
                say(note)
            told = max(told, len(step.notes))
            for name, (made,) in list(step.results.items())[written:]:
                if name == "scratches" and made.keep is not None:
                    say(_found(picture, made.keep))
                if save_stages is not None:
                    _write_stage(save_stages / files[name], name, made)
                written += 1
    assert step is not None
    write_photo(out, step.photos[0], quality=quality)


def _found(photo: Photo, keep: Tensor) -> str:
    """What was found beside the mask that was given."""
    from .single import found_share, of_damage

    share = found_share(photo, keep)
    if photo.keep is None:
        return of_damage(share)
    if not share:
        return f"{of_damage(share)} beside the mask"
    return f"{of_damage(share)}, beside the mask; --no-scratches fills the mask alone"


def _write_stage(path: Path, stage: str, made: Photo) -> None:
    from .image import write_mask, write_photo

    if stage == "scratches" and made.keep is not None:
        write_mask(path, made.keep)
    else:
        write_photo(path, made)


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
    processes: int | Literal["auto"],
    precision: Precision,
    max_megapixels: float,
) -> RunConfig:
    """The run that restores a folder of photos.

    Raises:
        ConfigError: if `out` is the name of a picture.
        RunError: as `Restore.stages`.
    """
    from .image import ENDINGS

    if is_named(out, ENDINGS):
        raise ConfigError(f"--out {out}: is the name of a picture; a folder for the results would be right")
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
        processes=processes,
        precision=precision,
        max_megapixels=max_megapixels,
    )
