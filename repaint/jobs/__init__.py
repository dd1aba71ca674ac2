"""Many photos: pairing, resuming, batches, failures recorded.

`run` is in `jobs.running`: it needs torch, what is here does not.
"""

from .manifest import Manifest, Record
from .pairing import Item, paired
from .settings import Folders, RunConfig, Stage

__all__ = ["Folders", "Item", "Manifest", "Record", "RunConfig", "Stage", "paired"]
