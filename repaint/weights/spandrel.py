"""Upscalers and face restorers of others, loaded through spandrel, which tells them apart by their shapes."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from ..archs.shapes import State, looks_like
from ..errors import WeightsError
from .files import read_state, sha256_of_state
from .networks import LoadedNetwork, doubts, file_of
from .store import DEFAULT_DIR

if TYPE_CHECKING:
    from spandrel import ArchRegistry, ModelDescriptor

Purpose = Literal["SR", "Restoration", "FaceSR", "Inpainting"]


def load_spandrel(
    name: str,
    purpose: Purpose | tuple[Purpose, ...],
    *,
    weights_dir: str = DEFAULT_DIR,
    device: torch.device | str = "cpu",
    extra: bool = False,
) -> LoadedNetwork[ModelDescriptor]:
    """The network of that name, in spandrel's descriptor, which knows its scale, its sizes and its channels.

    For faces call the descriptor's `.model`: the descriptors of GFPGAN and CodeFormer do not normalise.

    Args:
        name: in the catalogue, or a path.
        purpose: what it must be for; several: one of them. Super-resolvers of scale 1 are for 'Restoration'.
        extra: also take the architectures of spandrel_extra_arches (CodeFormer, MAT, ...), whose licences forbid
            commercial use or limit it otherwise.

    Raises:
        WeightsError: if the weights are missing, damaged, refused, of an architecture that spandrel does not know, or
            for another purpose; if `extra` is not installed.
    """
    path = file_of(name, weights_dir)
    state, metadata = read_state(path)  # not by spandrel, whose list of what may run is longer
    descriptor = _described(state, path, purpose, extra=extra).to(device)
    sha256 = sha256_of_state(path)
    return LoadedNetwork(descriptor, sha256, metadata, doubts(name, path, sha256))


def _described(
    state: State, path: Path, purpose: Purpose | tuple[Purpose, ...], *, extra: bool = False
) -> ModelDescriptor:
    """The network of `state`, read from `path`, in float32; arguments and errors as in `load_spandrel`."""
    from spandrel import ModelLoader, UnsupportedModelError

    try:
        try:
            descriptor = ModelLoader().load_from_state_dict(dict(state))
        except UnsupportedModelError:
            if not extra:
                raise
            descriptor = ModelLoader(registry=_with_extra()).load_from_state_dict(dict(state))
    except UnsupportedModelError:
        raise WeightsError(f"{path}: spandrel knows no such architecture; found {looks_like(state)}") from None
    except WeightsError:
        raise
    except Exception as e:  # its loaders take the keys and shapes they need for granted
        reason = textwrap.shorten(f"{type(e).__name__}: {e}", 200)
        raise WeightsError(f"{path}: spandrel cannot load it: {reason}") from None
    purposes = (purpose,) if isinstance(purpose, str) else purpose
    if descriptor.purpose not in purposes:
        raise WeightsError(
            f"{path}: is {descriptor.architecture.name}, for {descriptor.purpose}; must be for {' or '.join(purposes)}"
        )
    descriptor.model.float().eval().requires_grad_(False)
    return descriptor


def _with_extra() -> ArchRegistry:
    """All architectures, the extra ones too, in a table of our own, so that nothing else sees them."""
    from spandrel import MAIN_REGISTRY

    try:
        from spandrel_extra_arches import EXTRA_REGISTRY  # pyright: ignore[reportMissingImports]
    except ImportError as e:
        raise WeightsError(f"CodeFormer and its like need an extra ({e}): pip install '.[codeformer]'") from None
    registry = MAIN_REGISTRY.copy()
    registry.add(*EXTRA_REGISTRY, ignore_duplicates=True)
    return registry
