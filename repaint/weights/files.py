"""Tensors out of weight files, without ever running what is inside them."""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import WeightsError

WRAPPERS = ("state_dict", "model_state_dict", "model_state", "ema", "params_ema", "params", "model")
OF_A_MODEL = ("*.safetensors", "*.bin", "config.json", "scheduler_config.json", "model_index.json")


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a .safetensors, .pt, .pth, .ckpt or .bin file, on the CPU, and its metadata.

    Raises:
        WeightsError: if the file is missing, cut short, no weights at all, or would run code when unpickled.
    """
    if path.is_dir():
        raise WeightsError(f"{path}: is a folder without a diffusers model (no config.json or unet/config.json)")
    if not path.exists():
        raise WeightsError(f"{path}: no such weights file")
    if path.stat().st_size == 0:
        raise WeightsError(f"{path}: is empty; fetch it again")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    state = _unwrapped(_read_pickle(path))
    if not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path}: holds no state dict of tensors")
    return {k.removeprefix("module."): v for k, v in state.items()}, {}


def sha256_of_state(path: Path) -> str:
    """The hash of a weights file, or of a folder's weights and configs with their names: what a result was made with.

    Notes beside them, and what is hidden, as `.git`, are no part of it.
    """
    if not path.is_dir():
        return _digest(path).hex()
    found = {f for pattern in OF_A_MODEL for f in path.rglob(pattern) if f.is_file()}
    names = sorted(f.relative_to(path).as_posix() for f in found)
    shown = [name for name in names if not name.startswith(".") and "/." not in name]
    return hashlib.sha256(b"".join(name.encode() + b"\0" + _digest(path / name) for name in shown)).hexdigest()


def _digest(path: Path) -> bytes:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").digest()


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as f:
            # Copied, since kernels sum in another order where tensors are not aligned, as in a file they need not be.
            return {k: f.get_tensor(k).clone() for k in f.keys()}, f.metadata() or {}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as e:
        raise WeightsError(f"{path}: is cut short or no safetensors file ({e}); fetch it again") from None


def _read_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
    except pickle.UnpicklingError as e:
        if found := re.search(r"(?:GLOBAL|global) (\S+)", str(e)):
            name = found.group(1).strip("`'\"")
            raise WeightsError(
                f"{path}: refused: unpickling it would run {name}; ask for a file of tensors alone, or .safetensors"
            ) from None
        raise WeightsError(f"{path}: is cut short or no PyTorch file; fetch it again") from None
    except Exception as e:  # damaged bytes make torch raise many kinds
        reason = str(e).splitlines()[0].split(". ")[0] if str(e) else type(e).__name__
        raise WeightsError(f"{path}: is cut short or no PyTorch file ({reason}); fetch it again") from None


def _unwrapped(found: Any) -> Mapping[str, Any]:
    """The state dict inside what trainers wrap around it."""
    while isinstance(found, Mapping):
        inner = next((found[k] for k in WRAPPERS if isinstance(found.get(k), Mapping)), None)
        if inner is None:
            return found
        found = inner
    return {}
