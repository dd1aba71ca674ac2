"""The faces stage: faces are found, restored upright, and what changes in them is put back into the photo."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from ..config import Settings
from .inpaint import Architecture
from .progress import Device, Precision, Progress

if TYPE_CHECKING:
    from ..faces import Face
    from ..image import Photo


class FacePrior(Settings):
    """A diffusion prior as restorer of faces: noise hides what time did to a face, and is taken away again.

    SDEdit (Meng et al. 2022); at each step the low frequencies are those of the face as it was (Choi et al. 2021).
    """

    weights: str = Field(
        default="base-128",
        description="a name of `repaint weights list`, or a path to a checkpoint or diffusers folder",
    )
    architecture: Architecture = Architecture()
    t_T: int = Field(default=50, ge=1, le=1000, description="steps from pure noise to image")
    noise: float = Field(
        default=0.1, gt=0, le=1, description="share of t_T that is walked: more hides more, and invents more"
    )


class Faces(Settings):
    """Restore the faces of photos; nothing else in them changes.

    Of a face that is larger in the photo than the restorer's own size, what is finer than the restorer can see stays
    as it is in the photo: it changes, and is never blurred.
    """

    finder: Literal["auto", "embedded", "retinaface"] = Field(
        default="auto",
        description="embedded: the one of this package; retinaface: facexlib's, whose weights must be fetched "
        "(detection_Resnet50 or detection_mobilenet0.25); auto: retinaface if it is there, else embedded",
    )
    restorer: str = Field(
        default="auto",
        description="auto: the embedded face-128; prior: the diffusion prior of `prior`; or a name of `repaint weights "
        "list` or a path: RestoreFormer, GFPGANv1.4, codeformer, face restorers of ours",
    )
    prior: FacePrior = FacePrior()
    noncommercial: bool = Field(
        default=False, description="true: you use no result commercially, which is the licence of CodeFormer"
    )
    fidelity: float = Field(
        default=0.5, ge=0, le=1, strict=False, description="of CodeFormer: 0 = beautiful, 1 = like the photo"
    )
    strength: float = Field(
        default=0.8, ge=0, le=1, strict=False, description="share of the change that is made; 0 = none"
    )
    min_px: int = Field(
        default=48, ge=8, description="smaller faces are left alone: side of the square that holds a head with its hair"
    )
    which: Literal["all", "largest"] = "all"
    max_faces: int | None = Field(default=None, ge=1, description="no more than so many, the largest ones")
    keep_colors: bool = Field(
        default=True, description="shading and colours over much of the face stay those of the photo"
    )
    mask: Literal["auto", "parsing", "oval"] = Field(
        default="auto",
        description="what of a face is changed. parsing: skin, features and hair as facexlib's parser sees them, whose "
        "weights must be fetched (parsing_bisenet or parsing_parsenet); oval: an oval; auto: parsing if it is there",
    )
    weights_dir: str = Field(default="data/pretrained", description="where fetched weights are")

    @model_validator(mode="after")
    def _may_be_used(self) -> Faces:
        if "codeformer" in self.restorer.lower() and not self.noncommercial:
            raise ValueError(
                f"restorer: found {self.restorer}, whose licence forbids commercial use; if yours is not commercial, "
                "say noncommercial: true"
            )
        return self

    def build(self, device: Device = "auto", precision: Precision = "float32", *, batch_size: int = 8) -> FacesStage:
        """The stage, its weights loaded.

        Without any finder, `finder: auto` makes a stage that leaves photos as they are, and says so in its remarks.

        Args:
            batch_size: not used: a face is work enough for one call.

        Raises:
            WeightsError: if weights are missing, damaged or of another kind.
            ConfigError: if what the settings ask for is not installed, or does not suit the restorer.
        """
        from .facing import built

        return built(self, device, precision)


@dataclass(frozen=True, eq=False)
class Restored(Progress):
    """Where the stage stands.

    Attributes:
        faces: those of each photo that are restored, as far as they have been looked for; the largest first.
    """

    faces: tuple[tuple[Face, ...], ...] = ()


@dataclass(frozen=True, eq=False)
class FacesStage:
    """Photos in, the same photos with better faces out; of all that belongs to a photo, only `rgb` changes.

    Grey stays grey, toned stays toned, and a photo without faces stays what it is, bit for bit. To look for the faces
    of a photo counts as one network call. Seeds matter to diffusion priors alone.

    Attributes:
        find: the faces of a photo that are not too small, whether or not they would be chosen, the surest first; for
            `faces.dear_boxes`, which tells the scratches stage what to protect.
        weights: sha256 by name.
        remarks: lines worth telling the user.
    """

    run: Callable[[Sequence[Photo], Sequence[int]], Iterator[Restored]]
    find: Callable[[Photo], list[Face]]
    weights: dict[str, str]
    remarks: tuple[str, ...]
    device: str

    def __call__(self, photos: Sequence[Photo], seeds: Sequence[int]) -> Iterator[Restored]:
        return self.run(photos, seeds)
