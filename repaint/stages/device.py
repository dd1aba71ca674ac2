"""Where a stage computes."""

from __future__ import annotations

from typing import get_args

import torch

from ..errors import ConfigError, RunError
from .progress import Device, Precision


def chosen_device(device: Device) -> torch.device:
    """The device meant; auto = the first of CUDA, Apple's GPU, CPU that is there.

    Raises:
        ConfigError: if it is not there, or none of those.
    """
    if device not in get_args(Device):
        raise ConfigError(
            f"device: found {str(device)!r}; must be one of {', '.join(get_args(Device))} "
            "(which GPU, CUDA_VISIBLE_DEVICES says)"
        )
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, there in present.items() if there))
    if not present[device]:
        raise ConfigError(f"device: {device} is not available here; use auto or cpu")
    return torch.device(device)


def prepared(device: Device, precision: Precision) -> tuple[torch.device, Precision, tuple[str, ...]]:
    """The device meant, ready for work; the precision that serves there; and what to tell the user of it.

    Raises:
        ConfigError: if the device is not there, or the precision is none.
        RunError: if it is there and does not answer, as one that other programs have filled.
    """
    at = chosen_device(device)
    if precision not in get_args(Precision):
        raise ConfigError(f"precision: found {str(precision)!r}; must be one of {', '.join(get_args(Precision))}")
    if at.type != "cpu":
        try:
            torch.zeros(1, device=at)
        except RuntimeError as e:
            reason = str(e).strip().partition("\n")[0]
            raise RunError(f"device: {at.type} does not answer ({reason}); use device: cpu") from None
    if at.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32: pictures do not depend on the device
    if at.type == "cpu" and precision == "float16":
        return at, "float32", ("precision: float16 is slower than float32 on a CPU: using float32",)
    return at, precision, ()


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type
