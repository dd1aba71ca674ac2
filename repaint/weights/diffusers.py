"""Priors in diffusers folders (`UNet2DModel`, e.g. ddpm-celebahq-256), loaded through diffusers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..diffusion import NetworkPrior, Schedule, cosine_schedule, from_betas, linear_schedule
from ..errors import WeightsError

SCHEDULERS = (  # of the chain of DDPM: what they differ in is how they walk it
    "DDPMScheduler",
    "DDIMScheduler",
    "PNDMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "RePaintScheduler",
)
PREDICTS = {"epsilon": "eps", "sample": "x_0", "v_prediction": "v"}


@dataclass(frozen=True, eq=False)
class DiffusersPrior:
    prior: NetworkPrior
    network: nn.Module
    size: int
    multiple_of: int
    classes: int
    remarks: tuple[str, ...] = ()


def is_diffusers_folder(path: Path) -> bool:
    """Whether a folder holds a UNet2DModel, at its root or in `unet/`."""
    return _unet_folder(path) is not None


def load_diffusers(path: Path) -> DiffusersPrior:
    """The `UNet2DModel` of a folder, with the schedule of its `scheduler_config.json`.

    Raises:
        WeightsError: if diffusers cannot load it, or it predicts or schedules something unknown.
    """
    folder = _unet_folder(path)
    if folder is None:
        raise WeightsError(f"{path}: no config.json or unet/config.json of a UNet2DModel")
    try:
        from diffusers import UNet2DModel  # pyright: ignore[reportPrivateImportUsage]
    except ImportError as e:
        raise WeightsError(f"{path}: diffusers folders need the diffusers package ({e})") from None
    try:
        network: Any = UNet2DModel.from_pretrained(str(folder), local_files_only=True, low_cpu_mem_usage=False)
    except Exception as e:  # diffusers raises many kinds
        reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise WeightsError(f"{path}: diffusers cannot load it: {reason}") from None
    if (channels := network.config.in_channels) != 3:
        raise WeightsError(f"{path}: its network is shown {channels} channels; a prior of pictures is shown 3")
    if (path / "vqvae").exists() or (path / "vae").exists():
        raise WeightsError(f"{path}: is a prior of latents (it has a VAE); a prior of pictures would be right")
    scheduler, remarks = _scheduler_config(path)
    _check_scheduler(scheduler, path)
    predicts = PREDICTS.get(scheduler.get("prediction_type", "epsilon"))
    if predicts is None:
        raise WeightsError(
            f"{path}: prediction_type {scheduler['prediction_type']!r}; must be one of {', '.join(PREDICTS)}"
        )
    size = network.config.sample_size
    if isinstance(size, (tuple, list)):
        size = min(size)
    if not size:
        raise WeightsError(f"{path}: its config.json has no sample_size")

    def told(x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        x = x_t.to(network.dtype)
        return network(x, t.expand(len(x)), class_labels=labels).sample.to(x_t.dtype)

    prior = NetworkPrior(
        told,
        _schedule(scheduler, path),
        predicts=predicts,  # pyright: ignore[reportArgumentType]
        fixed_var_mix=1.0 if scheduler.get("variance_type") == "fixed_large" else 0.0,
        clip=scheduler.get("clip_sample", True),
    )
    classes = network.config.num_class_embeds or 0
    return DiffusersPrior(prior, network, size, 2 ** (len(network.config.block_out_channels) - 1), classes, remarks)


def _unet_folder(path: Path) -> Path | None:
    for folder in (path / "unet", path):
        config = folder / "config.json"
        try:
            if json.loads(config.read_text()).get("_class_name") == "UNet2DModel":
                return folder
        except (OSError, ValueError):
            continue
    return None


def _scheduler_config(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    for file in (path / "scheduler" / "scheduler_config.json", path / "scheduler_config.json"):
        if file.exists():
            try:
                return json.loads(file.read_text()), ()
            except ValueError:
                raise WeightsError(f"{file}: is not JSON") from None
    return {}, (f"{path}: no scheduler_config.json; taken to be DDPM's linear schedule of 1000 steps",)


def _check_scheduler(config: dict[str, Any], path: Path) -> None:
    """Refuse chains of another kind than DDPM's, to which the weights would say nothing that makes sense."""
    kind = config.get("_class_name", "DDPMScheduler")
    if kind not in SCHEDULERS:
        raise WeightsError(f"{path}: its scheduler is a {kind}; known are {', '.join(SCHEDULERS)}")
    if config.get("rescale_betas_zero_snr"):
        raise WeightsError(f"{path}: rescale_betas_zero_snr is set; a chain that ends in noise alone is not supported")


def _schedule(config: dict[str, Any], path: Path) -> Schedule:
    T, kind = config.get("num_train_timesteps", 1000), config.get("beta_schedule", "linear")
    low, high = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    if config.get("trained_betas") is not None:
        return from_betas(torch.tensor(config["trained_betas"], dtype=torch.float64))
    if kind == "linear":
        if (T, low, high) == (1000, 1e-4, 0.02):
            return linear_schedule()
        return from_betas(torch.linspace(low, high, T, dtype=torch.float64))
    if kind == "scaled_linear":
        return from_betas(torch.linspace(low**0.5, high**0.5, T, dtype=torch.float64).square())
    if kind == "squaredcos_cap_v2":
        return cosine_schedule(T)
    raise WeightsError(f"{path}: beta_schedule {kind!r}; known are linear, scaled_linear, squaredcos_cap_v2")
