"""The processes of a training, one or many, as accelerate runs them."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from ..errors import RunError
from .settings import Training

MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def accelerator_of(config: Training) -> Accelerator:
    """The accelerator of these settings, whatever this process has trained before.

    Raises:
        RunError: if there can be none: one of many processes keeps its first device and precision, and not every device
            computes in every precision.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        AcceleratorState._reset_state(reset_partial_state=True)  # else it stays what it was first
    try:
        return Accelerator(cpu=config.device == "cpu", mixed_precision=MIXED[config.precision])
    except ValueError as e:
        raise RunError(f"device: {config.device}, precision: {config.precision}: {' '.join(str(e).split())}") from None


def leave_together() -> None:
    """The end of a program of many processes: one that left while another still speaks to it would bring that down."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
