"""Networks that enlarge or clean photos, whoever published them and whichever package runs them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError, WeightsError
from ..weights.enhancers import kind_of, load_unet, load_upscaler
from ..weights.files import read_state, sha256_of_state
from ..weights.networks import doubts, file_of
from ..weights.spandrel import load_spandrel
from .progress import Precision
from .upscale import GENERAL, GENERAL_WDN, Upscale

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, eq=False)
class Enhancer:
    """A network that enlarges or cleans photos, ready for use.

    Attributes:
        network: maps (1, 3, h, w) float32 in [0, 1], of any size and on any device, to (1, 3, h * scale, w * scale)
            float32, which may leave [0, 1] a little.
        scale: 1 = cleans.
        weights: sha256 by name.
        remarks: lines worth telling the user.
    """

    name: str
    network: Callable[[Tensor], Tensor]
    scale: int
    weights: dict[str, str]
    remarks: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Engine:
    """A network as one of the backends runs it.

    Attributes:
        network: maps (1, 3, h, w) in [0, 1] to (1, 3, h * scale, w * scale), on its device.
        module: what holds its weights.
        multiple_of: sides it can be shown are multiples of this.
        least_px: the shortest sides it can be shown; such a multiple.
        precisions: that it can compute in.
    """

    network: Callable[[Tensor], Tensor]
    module: nn.Module
    scale: int
    sha256: str
    remarks: tuple[str, ...]
    multiple_of: int = 1
    least_px: int = 1
    precisions: tuple[Precision, ...] = PRECISIONS


def load_enhancer(name: str, settings: Upscale, device: torch.device, precision: Precision) -> Enhancer:
    """The network of that name, a name in the catalogue or a path, run as the settings say.

    Raises:
        WeightsError: if weights are missing, damaged or of a network that does not enhance photos.
        ConfigError: if what runs it is not installed.
    """
    engine = _engine(name, settings, device)
    weights, remarks = {name: engine.sha256}, list(engine.remarks)
    if settings.denoise is not None and settings.denoise < 1:
        other_name = str(Path(name).with_name(Path(name).name.replace(GENERAL, GENERAL_WDN)))
        other = _engine(other_name, settings, device)
        mix(engine.module, other.module, settings.denoise, other_name)
        weights[other_name] = other.sha256
        remarks += other.remarks
    if precision not in engine.precisions:
        remarks.append(f"precision: {name} does not compute in {precision}: using float32")
        precision = "float32"
    network = partial(_answer, engine, device, getattr(torch, precision))
    return Enhancer(name, network, engine.scale, weights, tuple(remarks))


def mix(network: nn.Module, other: nn.Module, share: float, name: str) -> None:
    """Give `network` a `share` of its weights and the rest of the `other`'s (Wang et al. 2019).

    Raises:
        WeightsError: if the other, of that name, is another network.
    """
    a, b = network.state_dict(), other.state_dict()
    if {k: v.shape for k, v in a.items()} != {k: v.shape for k, v in b.items()}:
        raise WeightsError(f"{name}: is of other shapes than the network it is to be mixed with")
    network.load_state_dict({k: share * v + (1 - share) * b[k] for k, v in a.items()})


def _engine(name: str, settings: Upscale, device: torch.device) -> Engine:
    if settings.backend == "realesrgan":
        return _by_realesrgan(name, settings.weights_dir, device)
    kind = kind_of(name, weights_dir=settings.weights_dir) if settings.backend == "auto" else None
    if kind == "unet":
        return _by_timm(name, settings.weights_dir, device)
    if kind is None:
        return _by_spandrel(name, settings.weights_dir, device)
    loaded = load_upscaler(name, weights_dir=settings.weights_dir, device=device)
    network, config = loaded.network, loaded.network.config
    _check_colours(name, config.channels, config.channels)
    return Engine(network, network, config.scale, loaded.sha256, loaded.remarks)


def _by_timm(name: str, weights_dir: str, device: torch.device) -> Engine:
    try:
        loaded = load_unet(name, weights_dir=weights_dir, device=device)
    except ImportError as e:
        raise ConfigError(f"{name}: its network {e}") from None
    network = loaded.network
    return Engine(network, network, 1, loaded.sha256, loaded.remarks, network.multiple_of, least_px=network.multiple_of)


def _by_spandrel(name: str, weights_dir: str, device: torch.device) -> Engine:
    try:
        loaded = load_spandrel(name, ("SR", "Restoration"), weights_dir=weights_dir, device=device)
    except ImportError as e:
        raise ConfigError(f"{name}: its network takes spandrel ({e}): pip install spandrel") from None
    found, remarks = loaded.network, list(loaded.remarks)
    _check_colours(name, found.input_channels, found.output_channels)
    if found.tiling.name != "SUPPORTED":
        remarks.append(f"{name}: {found.architecture.name} looks far around; a larger tile_px may serve it better")
    can = {"float32": True, "bfloat16": found.supports_bfloat16, "float16": found.supports_half}
    needs = found.size_requirements
    return Engine(
        found,  # pyright: ignore[reportArgumentType]  # one that takes no mask, by its purpose
        found.model,
        found.scale,
        loaded.sha256,
        tuple(remarks),
        needs.multiple_of,
        max(needs.minimum, 1),
        tuple(p for p in PRECISIONS if can[p]),
    )


def _by_realesrgan(name: str, weights_dir: str, device: torch.device) -> Engine:
    from .realesrgan import RealEsrgan

    path = file_of(name, weights_dir)
    upsampler, sha256 = RealEsrgan(read_state(path)[0], path, device), sha256_of_state(path)
    return Engine(
        upsampler,
        upsampler.module,
        upsampler.scale,
        sha256,
        doubts(name, path, sha256),
        upsampler.multiple_of,
        upsampler.least_px,
    )


def _check_colours(name: str, seen: int, made: int) -> None:
    if (seen, made) != (3, 3):
        raise WeightsError(f"{name}: makes {made} channels of {seen}; must make RGB of RGB")


@torch.no_grad()
def _answer(engine: Engine, device: torch.device, dtype: torch.dtype, x: Tensor) -> Tensor:
    """The network's answer to `x`, whose last row and column are repeated up to a size that it takes."""
    h, w = x.shape[-2:]
    down, right = (max(engine.least_px, -(-n // engine.multiple_of) * engine.multiple_of) - n for n in (h, w))
    x = F.pad(x.to(device), (0, right, 0, down), mode="replicate")
    with nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype):
        out = engine.network(x)
    return out[..., : h * engine.scale, : w * engine.scale].float()
