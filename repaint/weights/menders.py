"""Menders: a name -> a verified file -> a network that is ready to use."""

from __future__ import annotations

import torch

from ..archs import mend_net
from ..archs.mend_net import MendNet
from .networks import LoadedNetwork, loaded
from .store import DEFAULT_DIR


def load_mender(
    name: str, *, weights_dir: str = DEFAULT_DIR, device: torch.device | str = "cpu"
) -> LoadedNetwork[MendNet]:
    """The mender of that name, float32.

    Args:
        name: in the catalogue, or a path.

    Raises:
        WeightsError: if the weights are missing, damaged, refused, or of another architecture.
    """
    found = loaded(name, mend_net.detect, mend_net.build, weights_dir)
    found.network.to(device).to(memory_format=torch.channels_last)
    return found
