"""What the training of a prior is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ..config import Settings
from .settings import Training

SMALLEST_PX = 32  # of `degrade`
Weighting = Literal["simple", "p2", "min-snr", "debiased"]


class NetworkSettings(Settings):
    """The U-Net, in the words of guided-diffusion."""

    channels: int = Field(default=64, ge=32, multiple_of=32, description="of the time embedding; see multipliers")
    multipliers: tuple[int, ...] = Field(
        default=(1, 2, 3, 4),
        strict=False,
        min_length=1,
        description="of channels, for each level, the finest first. That one should have 64 or more: norms have 32 "
        "groups, and the last one, of a single channel each, would hide an image's mean colour from the network",
    )
    res_blocks: int = Field(default=2, ge=1)
    attention_at: tuple[int, ...] = Field(
        default=(4, 8), strict=False, description="downsampling factors with attention"
    )
    head_channels: int = Field(default=32, ge=8)
    resblock_updown: bool = True
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_fit(self) -> NetworkSettings:
        attended = [m for level, m in enumerate(self.multipliers) if 2**level in self.attention_at]
        for width in {self.channels * m for m in (*attended, self.multipliers[-1])}:  # the last: of the middle
            if width % self.head_channels:
                found = f"head_channels: found {self.head_channels}"
                raise ValueError(f"{found}; must divide the {width} channels where there is attention")
        return self


class TrainPrior(Training):
    """A DDPM prior with learned variance (Nichol & Dhariwal 2021)."""

    size: int = Field(default=64, ge=8, description="px of the windows the prior learns")
    network: NetworkSettings = NetworkSettings()
    noise_schedule: Literal["linear", "cosine"] = "linear"
    weighting: Weighting = Field(default="simple", description="of the noise levels in the simple loss")
    faded_share: float = Field(
        default=0.0, ge=0, le=1, description="of windows shown faded, yellowed, tinted or of another contrast"
    )
    class_cond: bool = Field(
        default=False, description="learn classes; an image's is the first folder on its way, as in ImageNet's"
    )

    @field_validator("faded_share")
    @classmethod
    def _can_fade(cls, share: float, info: ValidationInfo) -> float:
        if share and info.data.get("size", SMALLEST_PX) < SMALLEST_PX:
            raise ValueError(f"found {share}; windows are faded from {SMALLEST_PX} px on, size is {info.data['size']}")
        return share

    @field_validator("network")
    @classmethod
    def _fits(cls, network: NetworkSettings, info: ValidationInfo) -> NetworkSettings:
        multiple = 2 ** (len(network.multipliers) - 1)
        size = info.data.get("size", multiple)
        if size % multiple:
            raise ValueError(
                f"has {len(network.multipliers)} levels, so size must be a multiple of {multiple}; it is {size}"
            )
        return network
