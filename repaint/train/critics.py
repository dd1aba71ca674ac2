"""What judges a picture beside its distance to the truth: features of VGG19, and a critic that learns along."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ..archs.hourglass import Norm
from ..errors import RunError
from ..weights.files import read_state

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONVS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)  # their places in torchvision's `features`
POOLED_BEFORE = (5, 10, 19, 28)
LOOKED_AT = {2: 0.1, 7: 0.1, 16: 1.0, 25: 1.0, 34: 1.0}  # conv1_2 to conv5_4 and their weights, as in Real-ESRGAN


class VGGDistance(nn.Module):
    """How far two batches of pictures in [0, 1] are apart in features of VGG19, before their ReLU (Wang et al. 2018).

    Its weights never learn, and are in no checkpoint.

    Raises:
        RunError: if the file is missing, or is not torchvision's VGG19.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        state = _vgg_state(path)
        for place in CONVS:
            for kind in ("weight", "bias"):
                self.register_buffer(f"{kind}_{place}", state[f"features.{place}.{kind}"].float(), persistent=False)
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, x: Tensor, truth: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.features(truth)
        distances = [F.l1_loss(a.float(), b.float()) for a, b in zip(self.features(x), wanted, strict=True)]
        return torch.stack([w * d for w, d in zip(LOOKED_AT.values(), distances, strict=True)]).sum()

    def features(self, x: Tensor) -> list[Tensor]:
        h, found = (x - self.get_buffer("mean")) / self.get_buffer("std"), []
        for place in CONVS:
            h = F.relu(h) if place else h
            h = F.max_pool2d(h, 2) if place in POOLED_BEFORE else h
            h = F.conv2d(h, self.get_buffer(f"weight_{place}"), self.get_buffer(f"bias_{place}"), padding=1)
            if place in LOOKED_AT:
                found.append(h)
        return found


class PatchCritic(nn.Module):
    """How good each patch of pictures (B, 3, H, W) in [0, 1] looks: (B, 1, h, w), high = as the true ones.

    A PatchGAN (Isola et al. 2017): every answer sees 46 px, and no more.
    """

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        widths = (channels, 2 * channels, 4 * channels)
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for c_in, c_out, stride in zip(widths, (*widths[1:], widths[-1]), (2, 2, 1), strict=True):
            layers += [nn.Conv2d(c_in, c_out, 4, stride, padding=1), Norm(c_out), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(2 * x - 1)

    def to_please(self, made: Tensor) -> Tensor:
        """What a maker of pictures is to make small; the critic does not learn by it."""
        fixed = {name: p.detach() for name, p in self.named_parameters()}
        return -functional_call(self, fixed, (made,)).float().mean()

    def to_tell(self, made: Tensor, true: Tensor) -> Tensor:
        """What the critic itself is to make small (hinge loss); the maker does not learn by it."""
        return F.relu(1 + self(made.detach()).float()).mean() + F.relu(1 - self(true).float()).mean()


def _vgg_state(path: str) -> dict[str, Tensor]:
    hint = "must be torchvision's weights of VGG19, vgg19-dcbb9e9d.pth; leave out vgg and perceptual to train without"
    if not Path(path).exists():
        raise RunError(f"vgg: {path}: no such file; {hint}")
    state, _ = read_state(Path(path))
    for place in CONVS:
        for kind in ("weight", "bias"):
            if f"features.{place}.{kind}" not in state:
                raise RunError(f"vgg: {path}: has no features.{place}.{kind}; {hint}")
    return dict(state)
