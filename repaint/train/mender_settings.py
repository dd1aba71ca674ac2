"""What the training of a mender is."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from .settings import PatchNetwork, Training


class MenderNetwork(PatchNetwork):
    """The mender, in the words of `archs.mend_net.MendNetConfig`."""

    multipliers: tuple[int, ...] = Field(default=(1, 2, 4), strict=False, min_length=1)


class TrainMender(Training):
    """What fills thin holes in one call, trained on photographs of which thin parts are hidden."""

    size: int = Field(default=128, ge=32, description="px of the windows")
    network: MenderNetwork = MenderNetwork()
    stamps: str | None = Field(
        default=None, description="a folder of grey images of damage, white = damaged; if none, damage is drawn alone"
    )
    validation_stamps: str | None = Field(
        default=None, description="held-out stamps; if none, those of the training are looked at"
    )
    strength: float = Field(default=0.5, gt=0, le=1, description="of ageing and damage")
    aged_share: float = Field(default=0.5, ge=0, le=1, description="of windows aged as a whole before they are damaged")
    thickest_px: int = Field(default=12, ge=1, description="thicker parts of holes are shown, and count for nothing")
    spread_px: int = Field(default=4, ge=0, description="holes are enlarged by up to so much")
    regular_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="of windows in which lines or pixels are missing at equal distances; held-out windows have none",
    )
    soft: float = Field(
        default=0.02,
        gt=0,
        le=1,
        description="differences below it, of 0..1, count by their square, others as they are",
    )

    @field_validator("network")
    @classmethod
    def _fits(cls, network: MenderNetwork, info: ValidationInfo) -> MenderNetwork:
        return network.fitting(info.data["size"]) if "size" in info.data else network
