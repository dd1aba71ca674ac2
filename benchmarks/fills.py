"""What fills are measured against and by: classical fills of the same pixels, and figures of each picture.

Pictures are (H, W, 3) uint8, masks `keep` (H, W) bool, True = known. Whatever filled them, known pixels are exact.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import piq
import torch
from skimage.metrics import structural_similarity
from skimage.restoration import inpaint_biharmonic
from torch import Tensor, nn

from repaint.errors import WeightsError
from repaint.weights.files import read_state

RADIUS_PX = 3  # of OpenCV's fills, as its tutorial has it
ROUNDING = 1 / 12  # the variance of rounding to levels: no fill is told apart from the truth below it
HUB_FILE = "alexnet-owt-7be5be79.pth"
RESAMPLES = 2000


def put_back(filled: np.ndarray, truth: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """The filled picture with the known pixels of `truth`."""
    return np.where(keep[..., None], truth, filled)


# ---- classical fills


def _opencv(method: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def fill(picture: np.ndarray, keep: np.ndarray) -> np.ndarray:
        return cv2.inpaint(picture, (~keep).astype(np.uint8), RADIUS_PX, method)

    return fill


def _biharmonic(picture: np.ndarray, keep: np.ndarray) -> np.ndarray:
    return (inpaint_biharmonic(picture, ~keep, channel_axis=-1) * 255).round().clip(0, 255).astype(np.uint8)


CLASSICAL: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "Telea": _opencv(cv2.INPAINT_TELEA),
    "Navier-Stokes": _opencv(cv2.INPAINT_NS),
    "biharmonic": _biharmonic,
}
"""(picture, keep) -> picture. What stands in the hole is never looked at."""


# ---- figures


class Figure(NamedTuple):
    """How a figure is read and written.

    Attributes:
        sign: +1 if higher is better, -1 if lower is.
    """

    title: str
    sign: int
    digits: int


# GMSD and MDSI, which suit small pictures too, are not here: they prefer any texture, noise even, to a smooth fill.
FIGURES = {
    "psnr": Figure("PSNR in the hole (dB)", 1, 1),
    "ssim": Figure("SSIM", 1, 3),
    "lpips": Figure("LPIPS (AlexNet)", -1, 3),
    "haarpsi": Figure("HaarPSI", 1, 3),
    "fsim": Figure("FSIM", 1, 3),
}


def figures(
    truth: Sequence[np.ndarray], filled: Sequence[np.ndarray], keep: Sequence[np.ndarray], lpips: Lpips | None = None
) -> list[dict[str, float]]:
    """The figures of each picture, all of one size; LPIPS if its network is given.

    SSIM is that of `train.enhancer.ssim`: over squares of 7 px whose pixels count alike, with the sample covariance.
    """
    x, y = as_tensor(filled), as_tensor(truth)
    with torch.no_grad():
        found = {
            "psnr": [psnr_in_hole(*three) for three in zip(truth, filled, keep, strict=True)],
            "ssim": [structural_similarity(a, b, channel_axis=-1) for a, b in zip(truth, filled, strict=True)],
            "haarpsi": piq.haarpsi(x, y, reduction="none").tolist(),
            "fsim": piq.fsim(x, y, reduction="none").tolist(),
        }
        if lpips is not None:
            found["lpips"] = lpips(x, y).tolist()
    return [dict(zip(found, map(float, row), strict=True)) for row in zip(*found.values(), strict=True)]


def psnr_in_hole(truth: np.ndarray, filled: np.ndarray, keep: np.ndarray) -> float:
    """dB over the pixels that were not known; at most 58.9, that of rounding alone."""
    error = truth[~keep].astype(float) - filled[~keep]
    return 10 * math.log10(255**2 / max(float((error**2).mean()), ROUNDING))


def as_tensor(pictures: Sequence[np.ndarray]) -> Tensor:
    """(B, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


class Lpips(nn.Module):
    """LPIPS (Zhang et al. 2018, version 0.1, AlexNet): how far apart two pictures look; 0 = the same.

    It was fitted to people's choices between patches of 64 x 64 px, and is used on pictures as they are.

    Args:
        weights: of torchvision's AlexNet, as it distributes them; its `features` suffice.

    Raises:
        WeightsError: if the file is of another network.
    """

    SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of colours in [-1, 1]
    TAPS = (1, 4, 7, 9, 11)  # the activations compared: after each ReLU

    def __init__(self, weights: str | Path) -> None:
        from torchvision.models import alexnet

        super().__init__()
        state, _ = read_state(Path(weights))
        with torch.device("meta"):
            self.features = alexnet(weights=None).features
        expected = {f"features.{name}" for name in self.features.state_dict()}
        if missing := sorted(expected - state.keys()):
            raise WeightsError(f"{weights}: {missing[0]} is missing; must be the weights of torchvision's AlexNet")
        weights_of_features = {name.removeprefix("features."): state[name].float() for name in expected}
        self.features.load_state_dict(weights_of_features, assign=True)
        self.linear = [weight.flatten()[:, None, None] for weight in _linear_weights()]
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(B,) distances of pictures (B, 3, H, W) in [0, 1]."""
        distance = x.new_zeros(len(x))
        layers = zip(self._activations(x), self._activations(y), self.linear, strict=True)
        for a, b, weight in layers:
            distance = distance + (weight * (a - b) ** 2).sum(1).mean((1, 2))
        return distance

    def _activations(self, x: Tensor) -> list[Tensor]:
        """Of each tapped layer, with unit length along the channels."""
        shift, scale = (x.new_tensor(numbers)[:, None, None] for numbers in (self.SHIFT, self.SCALE))
        x = (2 * x - 1 - shift) / scale
        found = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.TAPS:
                found.append(x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt())
        return found


def _linear_weights() -> list[Tensor]:
    """LPIPS's own weights of the five layers, which torchmetrics carries."""
    found = importlib.util.find_spec("torchmetrics")
    if found is None or found.origin is None:
        raise WeightsError("LPIPS needs the weights that torchmetrics carries; pip install torchmetrics")
    file = Path(found.origin).parent / "functional" / "image" / "lpips_models" / "alex.pth"
    return list(torch.load(file, map_location="cpu", weights_only=True).values())


def lpips_at_hand(weights: Path | None) -> tuple[Lpips | None, str]:
    """LPIPS, of the file given or of torch hub's cache, and what is to be said of it."""
    path = weights or Path(torch.hub.get_dir()) / "checkpoints" / HUB_FILE
    if weights is None and not path.exists():
        return None, f"without LPIPS: {path} is not there; --lpips-weights takes torchvision's {HUB_FILE}"
    return Lpips(path), f"LPIPS with {path.name}"


# ---- figures of many pictures


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean and the ends of its 95 % bootstrap interval."""
    x = np.asarray(values)
    drawn = np.random.default_rng(0).integers(len(x), size=(RESAMPLES, len(x)))
    low, high = np.percentile(x[drawn].mean(1), [2.5, 97.5])
    return float(x.mean()), float(low), float(high)


def win_rate(ours: Sequence[float], theirs: Sequence[float], sign: int) -> float:
    """The share of pictures on which ours is better; a tie is half a win."""
    ahead = sign * (np.asarray(ours) - np.asarray(theirs))
    return float(((ahead > 0) + 0.5 * (ahead == 0)).mean())
