"""What all loaders share: a name -> a file, and a file's tensors -> the network that their shapes describe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import nn

from ..archs.shapes import State, looks_like
from ..errors import WeightsError
from . import catalog, store
from .entry import Entry
from .files import read_state, sha256_of_state

Config = TypeVar("Config")
Module = TypeVar("Module", bound=nn.Module)
Network = TypeVar("Network")


@dataclass(frozen=True, eq=False)
class LoadedNetwork(Generic[Network]):
    """A network and what is known of it.

    Attributes:
        network: to be used, not to be trained.
        sha256: of the weights.
        metadata: what the file says of itself.
        remarks: lines worth telling the user.
    """

    network: Network
    sha256: str
    metadata: Mapping[str, str]
    remarks: tuple[str, ...] = field(default=())


def loaded(
    name: str, detect: Callable[[State], Config], build: Callable[[Config], Module], weights_dir: str
) -> LoadedNetwork[Module]:
    """The network of a name in the catalogue or a path: of the architecture that `detect` knows, float32, on the CPU.

    Raises:
        WeightsError: if the weights are missing, damaged, refused, or of another architecture.
    """
    path = file_of(name, weights_dir)
    state, metadata = read_state(path)
    network = filled(partial(build, detected(detect, state, path)), state, path)
    sha256 = sha256_of_state(path)
    return LoadedNetwork(network, sha256, metadata, doubts(name, path, sha256))


def entry_of(name: str) -> Entry | None:
    """The catalogue's entry of that name or, for a path, of that file name."""
    named = next((entry for entry in catalog.CATALOG if entry.name == name), None)
    return named or next((entry for entry in catalog.CATALOG if entry.file == Path(name).name), None)


def is_present(name: str, weights_dir: str) -> bool:
    """Whether weights are on disk: a name in the catalogue, or a path."""
    entry = entry_of(name)
    return store.is_present(entry, weights_dir) if entry and entry.name == name else Path(name).exists()


def file_of(name: str, weights_dir: str) -> Path:
    """The file or folder that a name stands for: a name in the catalogue, or a path.

    Raises:
        WeightsError: if it is not there; says how to get it.
    """
    entry = entry_of(name)
    if entry and entry.name == name:
        path = store.path_of(entry, weights_dir)
        if not path.exists():
            raise WeightsError(f"{name}: weights are not at {path}; fetch them with: repaint weights get {name}")
        return path
    path = Path(name)
    if not path.exists() and path.suffix == "" and path.name == name:
        catalog.find(name)  # says which names there are
    if not path.exists():
        known = f"repaint weights get {entry.name} (to {store.DEFAULT_DIR}/{path.name})" if entry else ""
        raise WeightsError(f"{path}: no such weights file{f'; fetch it with: {known}' if known else ''}")
    return path


def detected(detect: Callable[[State], Config], state: State, path: Path) -> Config:
    """The configuration that the shapes of `state` describe.

    Raises:
        WeightsError: if they are of another network; says which.
    """
    try:
        return detect(state)
    except KeyError as e:
        reason = f"tensor {e} is missing"
    except IndexError:
        reason = "a tensor has fewer dimensions than it must"
    except ValueError as e:
        reason = str(e)
    raise WeightsError(f"{path}: {reason}; found {looks_like(state)}")


def filled(build: Callable[[], Module], state: State, path: Path) -> Module:
    """The network that is built, with the weights of `state`, every one used and none missing; float32.

    Raises:
        WeightsError: if there can be no such network, or its tensors are not those of `state`.
    """
    try:
        with torch.device("meta"):
            network = build()
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
    network.load_state_dict(dict(state), assign=True)
    return network.float().eval().requires_grad_(False)


def doubts(name: str, path: Path, sha256: str) -> tuple[str, ...]:
    """A remark if the catalogue knows another file under that name."""
    entry = entry_of(name)
    if entry is None or entry.sha256 in (None, sha256):
        return ()
    return (f"{path}: its sha256 is {sha256}, that of {entry.name} is {entry.sha256}; saved again, or another file?",)
