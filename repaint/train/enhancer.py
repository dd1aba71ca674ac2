"""An enhancer: spoil good pictures, and ask for them back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..archs import compact, face_net, timm_unet
from ..archs.shapes import State
from ..errors import RunError
from .critics import PatchCritic, VGGDistance
from .data import Pictures
from .enhancer_settings import TrainEnhancer
from .loop import Shown, Watch, begin_from, train
from .pairs import Pair
from .settings import Source

ROUNDING = 1 / (12 * 255**2)  # the error of rounding to levels: no picture is told apart from the truth below it
SHOWN = 6  # pictures in a row


def train_enhancer(config: TrainEnhancer, watch: Watch = lambda status: None) -> str:
    """Train an enhancer as `loop.train` says; the path of the exported weights."""
    return train(config, EnhancerTask(config), watch)


class EnhancerObjective(nn.Module):
    """Charbonnier loss of a batch (Lai et al. 2017); with weights, that of VGG's features and that of a critic added.

    The critic learns beside the network, each by its own loss alone.
    """

    def __init__(self, network: nn.Module, config: TrainEnhancer) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.vgg = VGGDistance(config.vgg) if config.vgg is not None else None
        self.critic = PatchCritic() if config.gan else None

    def forward(self, poor: Tensor, good: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        made = self.network(poor).float()
        loss = charbonnier(made, good, self.config.soft)
        figures = {"loss": loss}
        if self.vgg is not None:
            figures["perceptual"] = self.vgg(made, good)
            loss = loss + self.config.perceptual * figures["perceptual"]
        if self.critic is not None:
            figures["pleased"], figures["critic"] = self.critic.to_please(made), self.critic.to_tell(made, good)
            loss = loss + self.config.gan * figures["pleased"] + figures["critic"]
        return loss, {name: figure.detach() for name, figure in figures.items()}


def charbonnier(x: Tensor, y: Tensor, soft: float) -> Tensor:
    """The mean of sqrt(d^2 + soft^2) - soft: about |d|, but smooth at 0."""
    return ((x - y).square() + soft**2).sqrt().mean() - soft


class EnhancerTask:
    """An enhancer, for `loop.train`."""

    def __init__(self, config: TrainEnhancer) -> None:
        self.config = config
        self.name = "face" if config.face else f"upscale-x{config.scale}" if config.scale > 1 else "clean"

    def objective(self) -> EnhancerObjective:
        network, detect = built(self.config)
        if self.config.start_from is not None:
            begin_from(self.config.start_from, network, detect)
        return EnhancerObjective(network, self.config)

    def data(self, sources: Sequence[Source], *, seed: int, count: int, training: bool) -> Pictures:
        c = self.config
        changes = {"flip": c.flip, "grey_share": c.grey_share} if training else {}
        make = Pair(c.size, c.scale, c.strength, c.clean_share, c.drift, **changes)
        return Pictures(sources, make, seed=seed, count=count, cache_mb=c.cache_mb)

    @torch.no_grad()
    def measured(self, network: nn.Module, shown: Sequence[Shown]) -> dict[str, float]:
        """L1; PSNR in dB of all pixels, and how much it gained over the poor pictures, enlarged plainly; mean SSIM."""
        rows = []
        for poor, good in shown:
            made, plain = network(poor).float().clamp(0, 1), enlarged(poor, self.config.scale)
            l1, before, after = ((made - good).abs(), (plain - good).square(), (made - good).square())
            rows.append(torch.stack([x.mean((1, 2, 3)) for x in (l1, before, after)] + [ssim(made, good)]))
        l1, before, after, alike = torch.cat(rows, 1).mean(1).tolist()
        return {"l1": l1, "psnr": decibels(after), "gained_db": decibels(after) - decibels(before), "ssim": alike}

    @torch.no_grad()
    def picture(self, network: nn.Module, shown: Sequence[Shown]) -> Tensor:
        """Rows of the poor pictures, enlarged plainly, of what was made of them, and of the truth."""
        poor, good = (x[:SHOWN] for x in shown[0])
        rows = (enlarged(poor, self.config.scale), network(poor).float(), good)
        return torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1).clamp(0, 1).float().cpu()

    def says(self, measured: Mapping[str, float]) -> dict[str, str]:
        c = self.config
        settings = (c.compact or c.face or c.unet).model_dump(exclude={"pretrained"})  # pyright: ignore[reportOptionalMemberAccess]
        name = {"compact": "compact", "face": "face_net", "unet": "timm_unet"}[c.architecture]
        losses = {"charbonnier": 1.0, "perceptual": c.perceptual, "gan": c.gan}
        return {
            "architecture": json.dumps({"name": name, "scale": c.scale, **settings}),
            "size": str(c.size),
            "losses": json.dumps({name: weight for name, weight in losses.items() if weight}),
        }


def built(config: TrainEnhancer) -> tuple[nn.Module, Callable[[State], object] | None]:
    """A new network, and what reads its configuration from a checkpoint, where shapes tell it."""
    if config.compact is not None:
        return compact.build(compact.CompactConfig(**config.compact.model_dump(), scale=config.scale)), compact.detect
    if config.face is not None:
        return face_net.build(face_net.FaceNetConfig(**config.face.model_dump())), face_net.detect
    assert config.unet is not None
    said = timm_unet.TimmUNetConfig(config.unet.encoder, config.unet.channels)
    try:
        network = timm_unet.build(said, pretrained=config.unet.pretrained)
    except (ImportError, ValueError) as e:
        raise RunError(f"unet: {e}") from None
    if config.size % network.multiple_of:
        raise RunError(f"size: {config.size}; {said.encoder} takes multiples of {network.multiple_of}")
    return network, None


def enlarged(poor: Tensor, scale: int) -> Tensor:
    """`poor` (B, 3, h, w) by bicubic interpolation as in OpenCV, in [0, 1]; Pillow's is softer, and farther off."""
    if scale == 1:
        return poor
    return F.interpolate(poor.float(), scale_factor=scale, mode="bicubic").clamp(0, 1)


def decibels(squared_error: float) -> float:
    """PSNR of pictures in [0, 1], at most that of rounding to levels."""
    return -10 * math.log10(max(squared_error, ROUNDING))


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """(B,) of pictures in [0, 1], the mean over channels: Wang et al. 2004, but for the window.

    As scikit-image has it if nothing is asked for: over squares of 7 px whose pixels count alike, with the sample
    covariance (n - 1), none reaching beyond the picture; there, the windows are Gaussians with a sigma of 1.5 px.
    """
    from skimage.metrics import structural_similarity

    pairs = zip(x.cpu().numpy(), y.cpu().numpy(), strict=True)
    found = [structural_similarity(a, b, channel_axis=0, data_range=1.0) for a, b in pairs]
    return x.new_tensor(found)
