"""What the training of an enhancer is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ..config import Settings
from .settings import Training

SMALLEST_PX = 32  # of what a network is shown


class CompactSettings(Settings):
    """A compact super-resolver, in the words of `archs.compact.CompactConfig`."""

    features: int = Field(default=48, ge=1, description="channels inside")
    convs: int = Field(default=8, ge=0, description="convolutions between the first and the last")


class FaceSettings(Settings):
    """A face restorer, in the words of `archs.face_net.FaceNetConfig`."""

    channels: int = Field(default=32, ge=8, multiple_of=8, description="of the full-size level")
    multipliers: tuple[int, ...] = Field(default=(1, 2, 3, 4, 6), strict=False, min_length=1)
    blocks: int = Field(default=2, ge=1)


class UNetSettings(Settings):
    """A U-Net over an encoder of timm's."""

    encoder: str = Field(description="any of timm.list_models() that answers features_only")
    channels: int = Field(default=32, ge=8, multiple_of=8, description="of the way up, at full size")
    pretrained: bool = Field(default=False, description="begin with timm's weights of the encoder, which it fetches")


class TrainEnhancer(Training):
    """A network that makes good pictures of poor ones: one of compact, face and unet, at one scale."""

    compact: CompactSettings | None = None
    face: FaceSettings | None = None
    unet: UNetSettings | None = None
    scale: Literal[1, 2, 4] = Field(default=1, description="the output's size by the input's; 1 cleans")
    size: int = Field(default=96, ge=SMALLEST_PX, description="px of the clean windows")
    strength: float = Field(default=0.5, ge=0, le=1, description="of the degradation, at most; spread down to none")
    clean_share: float = Field(
        default=0.1, ge=0, le=1, description="of windows that are shrunk at most, so that good photos are not spoilt"
    )
    drift: float = Field(
        default=0.3, ge=0, le=1, description="of colours and contrast, the same before and after: they are to be kept"
    )
    soft: float = Field(
        default=0.001,
        gt=0,
        le=1,
        description="differences below it, of 0..1, count by their square, others as they are",
    )
    perceptual: float = Field(default=0.0, ge=0, description="weight of the loss in features of VGG19; needs vgg")
    vgg: str | None = Field(default=None, description="torchvision's weights of VGG19, as vgg19-dcbb9e9d.pth")
    gan: float = Field(default=0.0, ge=0, description="weight of a PatchGAN critic; start_from a network without one")

    @property
    def architecture(self) -> str:
        return next(name for name in ("compact", "face", "unet") if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _one_network(self) -> TrainEnhancer:
        found = [name for name in ("compact", "face", "unet") if getattr(self, name) is not None]
        if len(found) != 1:
            raise ValueError(f"found {' and '.join(found) or 'no network'}; must be one of compact, face, unet")
        if self.scale != 1 and self.compact is None:
            raise ValueError(f"found scale: {self.scale} with {found[0]}; only compact enlarges")
        return self

    @model_validator(mode="after")
    def _fits(self) -> TrainEnhancer:
        multiple = self.scale if self.face is None else 2 ** (len(self.face.multipliers) - 1)
        if self.size % multiple or self.size < SMALLEST_PX * self.scale:
            least = SMALLEST_PX * self.scale
            raise ValueError(f"found size: {self.size}; must be a multiple of {multiple}, and at least {least}")
        return self

    @model_validator(mode="after")
    def _has_features(self) -> TrainEnhancer:
        if bool(self.perceptual) != (self.vgg is not None):
            raise ValueError(
                f"found perceptual: {self.perceptual:g} {'without' if self.vgg is None else 'with'} vgg; "
                "the perceptual loss needs both: a weight, and torchvision's weights of VGG19"
            )
        return self
