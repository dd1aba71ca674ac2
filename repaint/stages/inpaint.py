"""The inpaint stage: a diffusion prior fills the holes of photos, and nothing else in them changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ..config import Settings, WrongKey
from .progress import Device, Precision, Progress

if TYPE_CHECKING:
    from ..image import Photo
    from ..weights.load import LoadedPrior


class Repaint(Settings):
    """RePaint (Lugmayr et al. 2022), with the paper's names."""

    t_T: int = Field(
        default=250, ge=2, le=1000, description="steps from pure noise to image; respaces the prior's schedule"
    )
    jump_length: int = Field(default=10, ge=1, description="how far one jump climbs back up; below t_T")
    jump_n_sample: int = Field(default=10, ge=1, description="how often each anchor is passed; 1 = no resampling")
    n_sample: int = Field(default=1, ge=1, description="how often each single state is passed")
    jump2_length: int = Field(default=1, ge=1, description="of jumps within the jumps; below t_T")
    jump2_n_sample: int = Field(default=1, ge=1, description="of jumps within the jumps; 1 = none")
    jump3_length: int = Field(default=1, ge=1, description="of jumps within those; below t_T")
    jump3_n_sample: int = Field(default=1, ge=1, description="of jumps within those; 1 = none")
    start_resampling: int = Field(default=10**8, ge=0, description="no resampling above this step")
    variance: Literal["learned", "posterior"] = Field(
        default="learned",
        description="of a step: as the prior has learned it, or the posterior's, which short chains need",
    )
    spacing: Literal["even", "quadratic"] = Field(
        default="even",
        description="of the states: as published, or ever closer to one another towards the image, where it is decided "
        "how well a fill meets what is known; short chains need that, too",
    )
    conditioning: int = Field(
        default=0,
        ge=0,
        description="passes back through the network in each step, one where there is more noise than image, by which "
        "its guess is conditioned on the known pixels (Boys et al. 2023): fills agree with their surroundings without "
        "jumps; 0 = as published",
    )
    timestep_respacing: int | str | None = Field(
        default=None,
        description="states of the schedule, if not t_T; a chain of t_T then starts below pure noise (old configs)",
    )

    @model_validator(mode="after")
    def _jumps_below_t_T(self) -> Repaint:
        for jump in ("jump", "jump2", "jump3"):
            length = getattr(self, f"{jump}_length")
            if getattr(self, f"{jump}_n_sample") > 1 and length >= self.t_T:
                raise WrongKey(f"{jump}_length", f"found {length}; must be below t_T, which is {self.t_T}")
        return self

    @field_validator("timestep_respacing")
    @classmethod
    def _of_even_states(cls, states: int | str | None, info: ValidationInfo) -> int | str | None:
        if states is not None and info.data.get("spacing") == "quadratic":
            raise ValueError(f"found {states!r}; spacing: quadratic takes t_T states, leave timestep_respacing out")
        return states

    def states(self) -> int | str:
        """How the prior's schedule is respaced."""
        if self.spacing == "quadratic":
            return f"quad{self.t_T}"
        return self.t_T if self.timestep_respacing is None else self.timestep_respacing

    def begin(self, share: float) -> int:
        """The state at a share of the prior's own steps, at least 1."""
        if self.spacing == "quadratic":
            return round(1 + (self.t_T - 1) * share**0.5)
        return min(self.t_T, max(1, round(share * self.t_T)))

    def times(self, begin: int) -> list[int]:
        """The states to visit from state `begin` down to the image."""
        from ..diffusion import time_travel

        def below(length: int) -> int:
            return max(1, min(length, begin - 1))

        return time_travel(
            begin,
            below(self.jump_length),
            self.jump_n_sample if begin > 1 else 1,
            n_sample=self.n_sample,
            jump2_length=below(self.jump2_length),
            jump2_n_sample=self.jump2_n_sample if begin > 1 else 1,
            jump3_length=below(self.jump3_length),
            jump3_n_sample=self.jump3_n_sample if begin > 1 else 1,
            start_resampling=self.start_resampling,
        )


Preset = Literal["fast", "balanced", "quality", "paper"]
REFINE, THIN = {"even": 0.2, "quadratic": 0.05}, {"even": 0.3, "quadratic": 0.1}  # where later passes begin, by spacing
REFINE_CONDITIONED = 0.15

_SHORT: dict[str, Any] = {"jump_length": 1, "jump_n_sample": 1, "variance": "posterior", "spacing": "quadratic"}

PRESETS: dict[str, Repaint] = {  # t_T network calls a window, and in each a pass or two back
    "fast": Repaint(t_T=12, conditioning=1, **_SHORT),
    "balanced": Repaint(t_T=25, conditioning=1, **_SHORT),
    "quality": Repaint(t_T=25, conditioning=2, **_SHORT),
    "paper": Repaint(t_T=250, jump_length=10, jump_n_sample=10),  # 2410, as published
}
"""Schedules by name; the figures of `benchmarks/prior.py` on held-out pictures chose them: base-64's card."""


class Sampler(Settings):
    """One of the samplers, by name; or the name of a preset: `sampler: balanced`."""

    repaint: Repaint = Repaint()

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, said: Any) -> Any:
        if not isinstance(said, str):
            return said
        if said not in PRESETS:
            raise ValueError(f"found {said!r}; a preset is one of {', '.join(PRESETS)}")
        return {"repaint": PRESETS[said]}


class Architecture(Settings):
    """What the shapes of a checkpoint cannot tell, under the published configs' names; only for own checkpoints."""

    image_size: int | None = Field(default=None, ge=8)
    num_head_channels: int | None = None
    num_heads: int | None = None
    num_heads_upsample: int | None = None
    use_new_attention_order: bool | None = None
    noise_schedule: Literal["linear", "cosine"] | None = None
    diffusion_steps: int | None = Field(default=None, ge=1)
    num_res_blocks: int | None = Field(default=None, ge=1)
    num_channels: int | None = None
    use_scale_shift_norm: bool | None = None
    resblock_updown: bool | None = None
    learn_sigma: bool | None = None
    class_cond: bool | None = None

    def told(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True)


class Classifier(Settings):
    """Guidance towards a class by a classifier of noisy images (Dhariwal & Nichol 2021)."""

    weights: str
    scale: float = Field(default=1.0, gt=0, description="1 is Bayes' rule; more is bolder and less diverse")
    architecture: Architecture = Architecture()


class Inpaint(Settings):
    """Fill the holes of photos with a diffusion prior."""

    prior: str = Field(
        default="base-64", description="a name of `repaint weights list`, or a path to a checkpoint or diffusers folder"
    )
    fallback: str | None = Field(
        default=None, description="the prior to use, with a warning, while `prior` is not on disk"
    )
    weights_dir: str = Field(default="data/pretrained", description="where fetched weights are")
    architecture: Architecture = Architecture()
    sampler: Sampler = Sampler()
    label: int | Literal["random"] | None = Field(
        default=None, description="the class, for priors or classifiers that know classes"
    )
    classifier: Classifier | None = None
    fit: Literal["native", "crop"] = Field(
        default="native",
        description="native: any size, nothing resized; crop: the paper's way, the middle square at the prior's size",
    )
    soft_masks: bool = Field(
        default=False,
        description="with fit: crop, keep the grey levels that resizing gives masks, as the published code does",
    )
    clip: bool = Field(default=True, description="keep each guess of the clean image within the range of images")
    grow_px: int = Field(default=0, ge=0, description="enlarge holes by this much before filling")
    feather_px: int = Field(default=0, ge=0, description="blend over this much of the ring that grow_px added")
    refine: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="native: share of the prior's steps from which finer levels continue; 0.2 if none is said, with "
        "quadratic spacing 0.05, with conditioning 0.15",
    )
    thin: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="native: share of the prior's steps from which thin holes are filled, 1 = pure noise; 0.3 if none "
        "is said, with quadratic spacing 0.1",
    )

    mender: str | None = Field(
        default=None,
        description="native: what fills holes of at most mend_px before the sampler begins, in one call: a name of "
        "`repaint weights list`, or a path; none: the sampler fills them all",
    )
    mend_px: int = Field(
        default=10,
        ge=1,
        description="native: how thick a hole may be for the mender; twice that in photos whose side (the root of the "
        "area) is 2048 px, and so on",
    )

    @field_validator("feather_px")
    @classmethod
    def _within_grown(cls, feather_px: int, info: ValidationInfo) -> int:
        if feather_px > info.data.get("grow_px", feather_px):
            raise ValueError(
                f"found {feather_px}; must be at most grow_px ({info.data['grow_px']}): only known pixels are blended"
            )
        return feather_px

    @model_validator(mode="after")
    def _soft_only_cropped(self) -> Inpaint:
        if self.soft_masks and self.fit != "crop":
            raise ValueError("soft_masks: true needs fit: crop")
        return self

    @model_validator(mode="after")
    def _steered_by_one(self) -> Inpaint:
        if self.classifier is not None and (steps := self.sampler.repaint.conditioning):
            words = f"found one beside conditioning: {steps}; one of the two would be right (the preset paper has none)"
            raise WrongKey("classifier", words)
        return self

    def chosen_prior(self) -> tuple[str, tuple[str, ...]]:
        """The prior to use, `fallback` while `prior` is not on disk, and what to tell the user of it."""
        from ..weights.load import is_present

        if self.fallback is None or is_present(self.prior, self.weights_dir):
            return self.prior, ()
        how = f"; for {self.prior}: repaint weights get {self.prior} --dir {self.weights_dir}"
        return self.fallback, (f"prior {self.prior} is not in {self.weights_dir}: using {self.fallback}{how}",)

    def build(
        self,
        device: Device = "auto",
        precision: Precision = "float32",
        *,
        batch_size: int = 8,
        own_prior: LoadedPrior | None = None,
    ) -> InpaintStage:
        """The stage, its weights loaded.

        Args:
            batch_size: images or windows shown to the network at once.
            own_prior: used instead of `prior`, with any network that says of x_t what a `NetworkPrior` asks; on the
                device already.

        Raises:
            WeightsError: if weights are missing, damaged or of another kind.
            ConfigError: if the settings do not suit the prior.
        """
        from .filling import built

        return built(self, device, precision, batch_size, own_prior)


@dataclass(frozen=True, eq=False)
class InpaintStage:
    """Photos and their seeds in, better photos out.

    Attributes:
        prepared: a photo as `run` will see it: cut to size, its holes grown.
        weights: sha256 by name of prior and classifier.
        remarks: lines worth telling the user.
        size: px of the prior's window.
    """

    run: Callable[[Sequence[Photo], Sequence[int]], Iterator[Progress]]
    prepared: Callable[[Photo], Photo]
    weights: dict[str, str]
    remarks: tuple[str, ...]
    size: int
    device: str

    def __call__(self, photos: Sequence[Photo], seeds: Sequence[int]) -> Iterator[Progress]:
        return self.run(photos, seeds)
