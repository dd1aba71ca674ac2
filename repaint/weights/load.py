"""Priors and classifiers: a name -> a verified file -> a network that is ready to use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from ..archs import classifier, unet
from ..archs.blocks import in_precision
from ..diffusion import NetworkPrior, Schedule, cosine_schedule, linear_schedule
from ..errors import WeightsError
from .files import read_state, sha256_of_state
from .networks import detected, doubts, entry_of, file_of, filled
from .networks import is_present as is_present
from .store import DEFAULT_DIR

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
        classes: 0 = unconditional.
        sha256: of the weights.
        remarks: lines worth telling the user.
        multiple_of: sides it can be shown are multiples of this.
    """

    prior: NetworkPrior
    size: int
    classes: int
    sha256: str
    remarks: tuple[str, ...] = field(default=())
    multiple_of: int = 1


def load_prior(
    name: str,
    *,
    weights_dir: str = DEFAULT_DIR,
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
    path = file_of(name, weights_dir)
    if path.is_dir():
        from .diffusers import is_diffusers_folder, load_diffusers

        if is_diffusers_folder(path):
            loaded = _from_diffusers(load_diffusers(path), path, device, precision)
            remark = f"{path}: architecture: is not used; the folder's config.json says it"
            return replace(loaded, remarks=(*loaded.remarks, remark)) if architecture else loaded
    state, metadata = read_state(path)
    told = {**_told_by_catalogue(name), **_architecture_in(metadata, path), **(architecture or {})}
    config = detected(lambda state: unet.detect(state, told), state, path)
    _check_colours(path, config.in_channels)
    size = told.get("image_size")
    if not size:
        raise WeightsError(
            f"{path}: its shapes do not tell the image size; say architecture: {{image_size: 256}} or the like"
        )
    network = filled(partial(unet.build, config), state, path)
    network = in_precision(network, getattr(torch, precision)).to(device).to(memory_format=torch.channels_last)
    prior = NetworkPrior(network, _schedule(told, path), fixed_var_mix=1.0)  # as published, where it is not learned
    remarks = tuple(
        f"{key}: {told[key]} was asked for, the weights say {says(config)}; the weights are right"
        for key, says in SHAPES_TELL.items()
        if architecture and key in architecture and told[key] != says(config)
    )
    if config.attention and not told.keys() & {"num_head_channels", "num_heads"}:
        guessed = "64 channels an attention head are guessed, which nothing says"
        remarks = (*remarks, f"{path}: {guessed}; say architecture: {{num_head_channels: 64}} or the like")
    multiple = 2 ** (len(config.level_channels) - 1)
    if size % multiple:
        raise WeightsError(f"{path}: image_size: found {size}; must be a multiple of {multiple}")
    sha256 = sha256_of_state(path)
    return LoadedPrior(prior, size, config.classes, sha256, (*remarks, *doubts(name, path, sha256)), multiple)


def load_classifier(
    name: str,
    *,
    weights_dir: str = DEFAULT_DIR,
    device: torch.device | str = "cpu",
    architecture: Mapping[str, Any] | None = None,
) -> tuple[classifier.Classifier, str]:
    """The classifier of that name, in float32, and the sha256 of its weights.

    Raises:
        WeightsError: as `load_prior`.
    """
    path = file_of(name, weights_dir)
    state, metadata = read_state(path)
    told = {**_told_by_catalogue(name), **_architecture_in(metadata, path), **(architecture or {})}
    config = detected(lambda state: classifier.detect(state, told), state, path)
    network = filled(partial(classifier.build, config), state, path)
    return network.to(device).to(memory_format=torch.channels_last), sha256_of_state(path)


def _check_colours(path: Path, channels: int) -> None:
    """A prior of what is no picture, as latents, or one that is shown more than a noisy picture, is none of ours."""
    if channels != 3:
        raise WeightsError(f"{path}: its network is shown {channels} channels; a prior of pictures is shown 3")


def _told_by_catalogue(name: str) -> dict[str, Any]:
    entry = entry_of(name)
    return dict(entry.hints) if entry else {}


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


def _from_diffusers(found: DiffusersPrior, path: Path, device: torch.device | str, precision: Precision) -> LoadedPrior:
    found.network.to(device, getattr(torch, precision)).eval().requires_grad_(False)
    return LoadedPrior(found.prior, found.size, found.classes, sha256_of_state(path), found.remarks, found.multiple_of)
