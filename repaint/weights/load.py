"""A name -> a verified file -> a network that is ready to use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ..archs import classifier, unet
from ..archs.blocks import in_precision
from ..archs.shapes import looks_like
from ..diffusion import NetworkPrior, Schedule, cosine_schedule, linear_schedule
from ..errors import WeightsError
from . import catalog, store
from .files import read_state, sha256_of_state

if TYPE_CHECKING:
    from .diffusers import DiffusersPrior

Precision = Literal["float32", "bfloat16", "float16"]

SCHEDULES = {"linear": linear_schedule, "cosine": cosine_schedule}
SHAPES_TELL = {  # published config key -> what the shapes say
    "num_channels": lambda c: c.channels,
    "num_res_blocks": lambda c: c.res_blocks,
    "use_scale_shift_norm": lambda c: c.scale_shift,
    "resblock_updown": lambda c: c.resblock_updown,
    "learn_sigma": lambda c: c.out_channels == 2 * c.in_channels,
    "class_cond": lambda c: c.classes > 0,
}


@dataclass(frozen=True, eq=False)
class LoadedPrior:
    """A prior and what is known of it.

    Attributes:
        prior: over all the steps it was trained with.
        size: px of the square it was trained for.
        multiple_of: sides it can be shown are multiples of this.
        classes: 0 = unconditional.
        sha256: of the weights.
        remarks: lines worth telling the user.
    """

    prior: NetworkPrior
    size: int
    multiple_of: int
    classes: int
    sha256: str
    remarks: tuple[str, ...] = field(default=())


def is_present(name: str, weights_dir: str) -> bool:
    """Whether a prior is on disk: a name in the catalogue, or a path."""
    path = Path(name)
    return store.is_present(catalog.find(name), weights_dir) if _in_catalogue(name) else path.exists()


def load_prior(
    name: str,
    *,
    weights_dir: str = store.DEFAULT_DIR,
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
    architecture: Mapping[str, Any] | None = None,
) -> LoadedPrior:
    """The prior of that name.

    Args:
        name: in the catalogue, or a path to a guided-diffusion checkpoint or a diffusers folder.
        architecture: what shapes cannot tell, under the published configs' names (image_size, num_head_channels,
            num_heads, use_new_attention_order, noise_schedule, diffusion_steps); wins over catalogue and metadata.

    Raises:
        WeightsError: if the weights are missing, damaged, refused, or of another architecture.
    """
    path, told = _resolve(name, weights_dir)
    if path.is_dir():
        from .diffusers import is_diffusers_folder, load_diffusers

        if is_diffusers_folder(path):
            loaded = _from_diffusers(load_diffusers(path), path, device, precision)
            remark = f"{path}: architecture: is not used; the folder's config.json says it"
            return replace(loaded, remarks=(*loaded.remarks, remark)) if architecture else loaded
    state, metadata = read_state(path)
    told = {**told, **_architecture_in(metadata, path), **(architecture or {})}
    config = _detected(unet.detect, state, told, path)
    size = told.get("image_size")
    if not size:
        raise WeightsError(
            f"{path}: its shapes do not tell the image size; say architecture: {{image_size: 256}} or the like"
        )
    network = _filled(unet.build, config, state, path)
    network = in_precision(network, getattr(torch, precision)).to(device, memory_format=torch.channels_last)
    prior = NetworkPrior(network, _schedule(told, path), fixed_var_mix=1.0)  # as published, where it is not learned
    remarks = tuple(
        f"{key}: {told[key]} was asked for, the weights say {says(config)}; the weights are right"
        for key, says in SHAPES_TELL.items()
        if architecture and key in architecture and told[key] != says(config)
    )
    multiple = 2 ** (len(config.level_channels) - 1)
    return LoadedPrior(prior, size, multiple, config.classes, sha256_of_state(path), remarks)


def load_classifier(
    name: str,
    *,
    weights_dir: str = store.DEFAULT_DIR,
    device: torch.device | str = "cpu",
    architecture: Mapping[str, Any] | None = None,
) -> tuple[classifier.Classifier, str]:
    """The classifier of that name, in float32, and the sha256 of its weights.

    Raises:
        WeightsError: as `load_prior`.
    """
    path, told = _resolve(name, weights_dir)
    state, metadata = read_state(path)
    told = {**told, **_architecture_in(metadata, path), **(architecture or {})}
    config = _detected(classifier.detect, state, told, path)
    network = _filled(classifier.build, config, state, path)
    return network.to(device, memory_format=torch.channels_last), sha256_of_state(path)


def _in_catalogue(name: str) -> bool:
    return any(entry.name == name for entry in catalog.CATALOG)


def _resolve(name: str, weights_dir: str) -> tuple[Path, dict[str, Any]]:
    """The file or folder a name stands for, and what the catalogue says of its architecture."""
    if not _in_catalogue(name):
        path = Path(name)
        if not path.exists() and path.suffix == "" and path.name == name:
            catalog.find(name)  # says which names there are
        if not path.exists():
            known = next((e.name for e in catalog.CATALOG if e.file == path.name), None)
            hint = f"; fetch it with: repaint weights get {known} (to {store.DEFAULT_DIR}/{path.name})" if known else ""
            raise WeightsError(f"{path}: no such weights file{hint}")
        by_file = next((e for e in catalog.CATALOG if e.file == path.name), None)
        return path, dict(by_file.hints) if by_file else {}
    entry = catalog.find(name)
    path = store.path_of(entry, weights_dir)
    if not path.exists():
        raise WeightsError(f"{name}: weights are not at {path}; fetch them with: repaint weights get {name}")
    return path, dict(entry.hints)


def _architecture_in(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(metadata.get("architecture", "{}")))
    except (json.JSONDecodeError, TypeError, ValueError):
        raise WeightsError(f"{path}: the architecture in its metadata is not JSON") from None


def _schedule(told: Mapping[str, Any], path: Path) -> Schedule:
    name = told.get("noise_schedule", "linear")
    if name not in SCHEDULES:
        raise WeightsError(f"{path}: noise_schedule {name!r} is unknown; known are {', '.join(SCHEDULES)}")
    try:
        return SCHEDULES[name](told.get("diffusion_steps", 1000))
    except ValueError as e:
        raise WeightsError(f"{path}: {name} schedule of {told['diffusion_steps']} diffusion_steps: {e}") from None


def _detected(detect: Any, state: dict[str, Tensor], told: Mapping[str, Any], path: Path) -> Any:
    """The configuration that the shapes of `state` describe."""
    try:
        return detect(state, told)
    except KeyError as e:
        reason = f"tensor {e} is missing"
    except IndexError:
        reason = "a tensor has fewer dimensions than it must"
    except ValueError as e:
        reason = str(e)
    raise WeightsError(f"{path}: {reason}; found {looks_like(state)}")


def _filled(build: Any, config: Any, state: dict[str, Tensor], path: Path) -> Any:
    """The network of `config` with the weights of `state`, every one used and none missing; float32."""
    try:
        with torch.device("meta"):
            network: nn.Module = build(config)
    except (ValueError, RuntimeError, ZeroDivisionError) as e:
        raise WeightsError(f"{path}: its shapes describe no network that can be: {e}") from None
    expected = {k: v.shape for k, v in network.state_dict().items()}
    missing, spare = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or spare:
        words = [
            f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
            for what, keys in (("missing", missing), ("unexpected", spare))
            if keys
        ]
        raise WeightsError(f"{path}: weights do not fit the network their shapes describe: {'; '.join(words)}")
    wrong = [k for k, shape in expected.items() if state[k].shape != shape]
    if wrong:
        k = wrong[0]
        raise WeightsError(
            f"{path}: {k} is {tuple(state[k].shape)}, must be {tuple(expected[k])}"
            f"{f' (and {len(wrong) - 1} more)' if len(wrong) > 1 else ''}"
        )
    network.load_state_dict(state, assign=True)
    return network.float().eval().requires_grad_(False)


def _from_diffusers(found: DiffusersPrior, path: Path, device: torch.device | str, precision: Precision) -> LoadedPrior:
    found.network.to(device, getattr(torch, precision)).eval().requires_grad_(False)
    return LoadedPrior(found.prior, found.size, found.multiple_of, found.classes, sha256_of_state(path), found.remarks)
