"""Many photos: pairing, resuming, batches, failures recorded."""

from .manifest import Manifest, Record
from .pairing import Item, paired
from .settings import Folders, RunConfig, Stage

__all__ = ["Folders", "Item", "Manifest", "Record", "RunConfig", "Stage", "paired", "run"]


def __getattr__(name: str):  # `run` needs torch, settings do not
    if name == "run":
        from .running import run

        return run
    raise AttributeError(name)
