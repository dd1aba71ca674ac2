"""Super-resolvers and face restorers of ours: a name -> a verified file -> a network that is ready to use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch

from ..archs import compact, face_net, timm_unet
from ..archs.compact import Compact
from ..archs.face_net import FaceNet
from ..archs.timm_unet import TimmUNet
from ..errors import WeightsError
from .files import read_state, sha256_of_state
from .networks import LoadedNetwork, doubts, file_of, filled, loaded
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


def load_unet(
    name: str, *, weights_dir: str = DEFAULT_DIR, device: torch.device | str = "cpu"
) -> LoadedNetwork[TimmUNet]:
    """The U-Net over an encoder of timm's of that name, as `repaint train enhancer` exports it.

    Raises:
        ImportError: if timm is not installed.
        WeightsError: as `load_upscaler`; also if the file does not say which encoder it has.
    """
    path = file_of(name, weights_dir)
    state, metadata = read_state(path)
    try:
        config = timm_unet.detect(metadata)
    except ValueError as e:
        raise WeightsError(f"{path}: {e}") from None
    network = filled(partial(timm_unet.build, config), state, path)
    network.to(device).to(memory_format=torch.channels_last)
    sha256 = sha256_of_state(path)
    return LoadedNetwork(network, sha256, metadata, doubts(name, path, sha256))


Ours = Literal["compact", "face", "unet"]


def kind_of(name: str, *, weights_dir: str = DEFAULT_DIR) -> Ours | None:
    """Which of these loaders is for the weights of that name; None if only `load_spandrel` may know them.

    Raises:
        WeightsError: if the weights are missing, damaged or refused.
    """
    state, metadata = read_state(file_of(name, weights_dir))
    looks: dict[Ours, tuple[Callable[..., object], object]] = {
        "compact": (compact.detect, state),
        "face": (face_net.detect, state),
        "unet": (timm_unet.detect, metadata),
    }
    return next((kind for kind, (detect, said) in looks.items() if _fits(detect, said)), None)


def _fits(detect: Callable[..., object], said: object) -> bool:
    try:
        detect(said)
    except (KeyError, IndexError, ValueError):
        return False
    return True
