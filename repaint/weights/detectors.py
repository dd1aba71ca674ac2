"""Scratch detectors: a name -> a verified file -> a network that is ready to use, and its threshold."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..archs import bopbtl, scratch_net
from ..archs.blocks import in_precision
from ..archs.bopbtl import Bopbtl, BopbtlConfig
from ..archs.scratch_net import ScratchNet, ScratchNetConfig
from ..archs.shapes import State
from ..errors import WeightsError
from .load import Precision
from .networks import LoadedNetwork, loaded
from .store import DEFAULT_DIR

WEAK = 0.4  # of the odds of our threshold: what suffices where it touches damage; see benchmarks/scratches.py
SURE = 0.15  # of a mark of such pixels: the share that must reach the threshold
MANY = 1 / 1750  # of a photo: a mark with so many pixels that do needs no share
PUBLISHED_THRESHOLD = 0.4  # of Bringing-Old-Photos (Global/detection.py); its file does not say it


@dataclass(frozen=True, eq=False)
class LoadedDetector(LoadedNetwork[nn.Module]):
    """A detector of damage and what is known of it.

    Attributes:
        network: logits (B, 1, H, W) of damage in luma (B, 1, H, W) in [0, 1], of any size.
        threshold: the probability from which on a pixel is damage, as the weights say; 0.5 if they say nothing.
        weak: of the odds of `threshold`: what suffices where it touches damage.
        sure: of a mark of such pixels: the share that must reach the threshold, unless very many do.
        many: so many, as a share of the photo.
        hinted: it may also be shown a hint, (B, 2, H, W) in all; see `archs.scratch_net`.
    """

    threshold: float = 0.5
    weak: float = 1.0
    sure: float = 0.0
    many: float = 1.0
    hinted: bool = False


class Published(nn.Module):
    """The detector of Bringing-Old-Photos, shown what ours is shown."""

    def __init__(self, network: Bopbtl) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(2 * x - 1)


def load_detector(
    name: str,
    *,
    weights_dir: str = DEFAULT_DIR,
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
) -> LoadedDetector:
    """The scratch detector of that name: ours or that of Bringing Old Photos Back to Life, as its shapes say.

    Args:
        name: in the catalogue, or a path.
        precision: of ours; the other one computes in float32.

    Raises:
        WeightsError: if the weights are missing, damaged, refused, or of another architecture.
    """
    found = loaded(name, _detect, _build, weights_dir)
    remarks = found.remarks
    hinted = isinstance(found.network, ScratchNet) and found.network.config.hinted
    if isinstance(found.network, Bopbtl):
        network, threshold, marks = Published(found.network), PUBLISHED_THRESHOLD, (1.0, 0.0, 1.0)
        if precision != "float32":
            remarks = (*remarks, f"{name}: computes in float32, not in {precision}")
    else:
        network = in_precision(found.network, getattr(torch, precision))
        threshold, marks = LoadedDetector.threshold, (WEAK, SURE, MANY)
    network.to(device).to(memory_format=torch.channels_last)
    threshold = _threshold(found.metadata.get("threshold", str(threshold)), name)
    return LoadedDetector(network.eval(), found.sha256, found.metadata, remarks, threshold, *marks, hinted)


def _detect(state: State) -> ScratchNetConfig | BopbtlConfig:
    return bopbtl.detect(state) if "first.1.weight" in state else scratch_net.detect(state)


def _build(config: ScratchNetConfig | BopbtlConfig) -> ScratchNet | Bopbtl:
    return bopbtl.build(config) if isinstance(config, BopbtlConfig) else scratch_net.build(config)


def _threshold(words: str, name: str) -> float:
    try:
        if 0 < float(words) < 1:
            return float(words)
    except ValueError:
        pass
    raise WeightsError(f"{name}: the threshold in its metadata is {words!r}; must be a number between 0 and 1")
