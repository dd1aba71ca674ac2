"""What the training of a scratch detector is."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from .settings import PatchNetwork, Training

LEAST_PX = 8
LEAST_AGED_PX = 32


class ScratchNetwork(PatchNetwork):
    """The network of a scratch detector."""

    hinted: bool = Field(default=True, description="also shown what it found in the window at half the size")


class TrainScratches(Training):
    """A detector of damage in photographs, trained on new ones that were aged."""

    size: int = Field(default=256, ge=LEAST_AGED_PX, description="px of the windows that are aged")
    network: ScratchNetwork = ScratchNetwork()
    stamps: str | None = Field(
        default=None, description="a folder of grey images of damage, white = damaged; if none, damage is drawn alone"
    )
    validation_stamps: str | None = Field(
        default=None, description="held-out stamps; if none, those of the training are looked at"
    )
    strength: float = Field(default=0.5, gt=0, le=1, description="of ageing and damage")
    clean_share: float = Field(default=0.2, ge=0, lt=1, description="of windows without damage")
    new_share: float = Field(
        default=0.1, ge=0, lt=1, description="of windows that are not faded, blurred or grainy, damaged or not"
    )
    lookalikes: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="share of aged windows with wires, hair, bars, edges, branches or writing drawn in",
    )
    enlarged: float = Field(
        default=0.2, ge=0, le=1, description="share of windows aged at half their size: thick damage, as in large scans"
    )
    mosaic: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of windows that are four of half the size, for damage and things of other sizes",
    )
    negative_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of windows damaged as a negative, then printed: light damage, as most is drawn and all "
        "stamps are, becomes dark",
    )
    sizes: int = Field(
        default=3,
        ge=1,
        description="sizes a window is shown at, each half the next, if the network takes hints; of each step, these "
        "or fewer",
    )
    gamma: float = Field(default=2.0, ge=0, description="of the focal loss: how little the sure pixels count")
    alpha: float = Field(default=0.5, gt=0, lt=1, description="of the focal loss: how much damage counts")
    dice: float = Field(default=1.0, ge=0, description="weight of the Dice loss beside the focal one")
    wrong_at_most: float = Field(
        default=0.0025,
        gt=0,
        lt=1,
        description="share of the pixels of clean held-out windows that may be marked at the threshold",
    )

    @field_validator("sizes")
    @classmethod
    def _seen(cls, sizes: int, info: ValidationInfo) -> int:
        size = info.data.get("size", LEAST_PX << sizes)
        if size >> (sizes - 1) < LEAST_PX:
            raise ValueError(f"found {sizes}; the smallest of so many sizes of {size} px has less than {LEAST_PX} px")
        return sizes

    @field_validator("mosaic")
    @classmethod
    def _divides(cls, mosaic: float, info: ValidationInfo) -> float:
        size = info.data.get("size", 2 * LEAST_AGED_PX)
        if mosaic and (size % 2 or size < 2 * LEAST_AGED_PX):
            raise ValueError(f"found {mosaic:g}; windows of {size} px cannot be made of four of {size / 2:g} px")
        return mosaic

    @field_validator("network")
    @classmethod
    def _fits(cls, network: ScratchNetwork, info: ValidationInfo) -> ScratchNetwork:
        return network.fitting(info.data["size"]) if "size" in info.data else network
