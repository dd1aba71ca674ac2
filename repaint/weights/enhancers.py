"""Super-resolvers and face restorers of ours: a name -> a verified file -> a network that is ready to use."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..archs import compact, face_net
from ..archs.compact import Compact
from ..archs.face_net import FaceNet
from ..archs.shapes import State
from .files import read_state
from .networks import LoadedNetwork, file_of, loaded
from .store import DEFAULT_DIR


def load_upscaler(
    name: str, *, weights_dir: str = DEFAULT_DIR, device: torch.device | str = "cpu"
) -> LoadedNetwork[Compact]:
    """The compact super-resolver of that name, ours or published as SRVGGNetCompact; `load_spandrel` loads others.

    Args:
        name: in the catalogue, or a path.

    Raises:
        WeightsError: if the weights are missing, damaged, refused, or of another architecture.
    """
    found = loaded(name, compact.detect, compact.build, weights_dir)
    found.network.to(device).to(memory_format=torch.channels_last)
    return found


def load_face_restorer(
    name: str, *, weights_dir: str = DEFAULT_DIR, device: torch.device | str = "cpu"
) -> LoadedNetwork[FaceNet]:
    """The face restorer of ours of that name; `load_spandrel` loads others.

    Raises:
        WeightsError: as `load_upscaler`.
    """
    found = loaded(name, face_net.detect, face_net.build, weights_dir)
    found.network.to(device).to(memory_format=torch.channels_last)
    return found


def is_ours(name: str, *, weights_dir: str = DEFAULT_DIR) -> bool:
    """Whether one of these loaders, and not `load_spandrel` alone, is for the weights of that name.

    Raises:
        WeightsError: if the weights are missing, damaged or refused.
    """
    state, _ = read_state(file_of(name, weights_dir))
    return _fits(compact.detect, state) or _fits(face_net.detect, state)


def _fits(detect: Callable[[State], object], state: State) -> bool:
    try:
        detect(state)
    except (KeyError, IndexError, ValueError):
        return False
    return True
