"""The scratches stage: damage is found and marked, and no pixel is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ..config import Settings
from .progress import Device, Precision, Progress

if TYPE_CHECKING:
    from torch import Tensor

    from ..faces import Dear
    from ..image import Photo

BOLDNESS = 20.0  # the odds asked for are multiplied by this at sensitivity 0, and divided by it at 1


class Scratches(Settings):
    """Find the damage of photos: what they have to be filled at.

    A detector is shown tiles of a photo at its own size and of ever smaller copies, for the same damage is thin in a
    small scan and thick in a large one. Ours is shown the smallest first, and what it found there as a hint with the
    next. That of Bringing-Old-Photos learned on 256-px crops of photos of some 500 px at their own scale, and takes no
    hints; its own program shrinks every photo to 256 px, where thin scratches vanish.
    """

    detector: Literal["network", "filters"] = Field(
        default="network",
        description="network: one that has learned; filters: top-hats and ridges, which need no weights and err more",
    )
    weights: str = Field(
        default="scratches",
        description="of the network: a name of `repaint weights list`, or a path to a detector of ours or to the one "
        "of Bringing-Old-Photos",
    )
    weights_dir: str = Field(default="data/pretrained", description="where fetched weights are")
    sensitivity: float = Field(
        default=0.5, ge=0, le=1, strict=False, description="more finds more, and errs more; 0.5 = as the weights say"
    )
    grow_px: int | None = Field(
        default=None,
        ge=0,
        description="enlarge what is found by this much; null: flakes to their edges, and everything as "
        "far as rims reach in this photo, at least 1",
    )
    min_area_px: int = Field(default=4, ge=1, description="leave out what has fewer pixels, before it is enlarged")
    thickest: float | None = Field(
        default=None,
        gt=0,
        description="leave out marks that are, for the most part, thicker than this share of the photo's side (the "
        "root of its area) and 16 px, as 0.04: for detectors that take shirts and skies for torn paper",
    )
    smallest_px: int | None = Field(
        default=128,
        ge=16,
        description="look at copies of half the size, too, and at halves of these, down to this side (the root of the "
        "area); null: at a photo's own size alone",
    )
    combine: Literal["neighbours", "max", "mean"] = Field(
        default="neighbours",
        description="of the sizes. max: the surest counts alone; mean: all must agree, and neither hairlines nor wide "
        "tears are seen at all sizes; neighbours: the surest mean of two sizes, one half the other; the finest that "
        "see a mark outline it; of a network that takes hints, the largest counts most",
    )
    second_look: bool = Field(
        default=True,
        description="a network looks upside down as well, where it sees anything, and the mean of both counts: fewer "
        "false alarms, up to twice the time",
    )
    protect_faces: bool = Field(
        default=True,
        description="drop what lies within the eyes and mouths of faces, and what is thick in a face: they look like "
        "damage; what runs through eyes and mouths is marked narrowly",
    )
    save_probability: bool = Field(
        default=False,
        description="keep the maps of probabilities in memory; `repaint detect --probability` writes them",
    )

    def threshold(self, shipped: float) -> float:
        """The probability from which on a pixel is damage: its odds are those of `shipped` * 20^(1 - 2 sensitivity).

        Falls smoothly with the sensitivity. `shipped` is what the weights say (`threshold` in their metadata, 0.5 if
        they say nothing), and is met at 0.5; for 0.5 the threshold goes from 0.952 at sensitivity 0 to 0.048 at 1.

        Args:
            shipped: above 0 and below 1.
        """
        odds = shipped / (1 - shipped) * BOLDNESS ** (1 - 2 * self.sensitivity)
        return odds / (1 + odds)

    def build(
        self, device: Device = "auto", precision: Precision = "float32", *, batch_size: int = 8
    ) -> ScratchesStage:
        """The stage, its weights loaded.

        Args:
            batch_size: not used: a tile of a photo is work enough for one call.

        Raises:
            WeightsError: if weights are missing, damaged or of another kind.
            ConfigError: if the device is not there.
        """
        from .detecting import built

        return built(self, device, precision)


@dataclass(frozen=True, eq=False)
class Detected(Progress):
    """Where the stage stands.

    Attributes:
        probabilities: (1, H, W) float32 of each photo that is done; empty if they are not to be kept.
    """

    probabilities: tuple[Tensor, ...] = ()


@dataclass(frozen=True, eq=False)
class ScratchesStage:
    """Photos in; the same photos out, `keep` False where damage was found or had been marked before.

    Nothing is marked where a photo is fully transparent.
    """

    run: Callable[[Sequence[Photo], Sequence[Sequence[Dear]]], Iterator[Detected]]
    remarks: tuple[str, ...]
    weights: dict[str, str]
    dear: Callable[[Photo], Sequence[Dear]] = lambda photo: ()

    def __call__(
        self, photos: Sequence[Photo], seeds: Sequence[int] = (), *, protect: Sequence[Sequence[Dear]] | None = None
    ) -> Iterator[Detected]:
        """Find the damage of photos of any sizes; nothing is random in it.

        Args:
            protect: boxes (top, left, bottom, right in px) for each photo, around what looks like damage and is dear:
                marks that lie in them by half or more are dropped; where a fifth number says up to how many px marks
                count all the same, those that are thicker. A scratch that only runs through is longer, and stays. If
                None, the stage looks for faces itself, where its settings say so.
        """
        return self.run(photos, [self.dear(photo) for photo in photos] if protect is None else protect)
