"""Photo restoration with diffusion priors.

    from dataclasses import replace
    from repaint import Inpaint, read_mask, read_photo, write_photo

    photo, mask = read_photo("old.png"), read_mask("mask.png")
    stage = Inpaint(prior="base-64").build()
    for progress in stage([replace(photo, keep=mask.keep)], [0]):
        print(progress.done, "of", progress.total)
    write_photo("new.png", progress.photos[0])

Names are imported when they are first used: `import repaint` alone loads neither torch nor numpy.
The mathematics is in `repaint.diffusion`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
    from .errors import ConfigError, ImageError, RepaintError, RunError, RunStopped, WeightsError
    from .image import Meta, Photo, read_mask, read_photo, write_mask, write_photo
    from .jobs import RunConfig
    from .jobs.running import Report, Status, run
    from .masks import make_mask
    from .restoring import Restore, restore
    from .stages.color import Color
    from .stages.faces import Faces
    from .stages.inpaint import Inpaint, Repaint, Sampler
    from .stages.scratches import Scratches
    from .stages.upscale import Upscale
    from .upstream import read_config
    from .weights.load import load_classifier, load_prior

_HOME = {
    "ConfigError": "errors",
    "ImageError": "errors",
    "RepaintError": "errors",
    "RunError": "errors",
    "RunStopped": "errors",
    "WeightsError": "errors",
    "Meta": "image",
    "Photo": "image",
    "read_mask": "image",
    "read_photo": "image",
    "write_mask": "image",
    "write_photo": "image",
    "RunConfig": "jobs",
    "Report": "jobs.running",
    "Status": "jobs.running",
    "run": "jobs.running",
    "make_mask": "masks",
    "Restore": "restoring",
    "restore": "restoring",
    "Color": "stages.color",
    "Faces": "stages.faces",
    "Scratches": "stages.scratches",
    "Upscale": "stages.upscale",
    "Inpaint": "stages.inpaint",
    "Repaint": "stages.inpaint",
    "Sampler": "stages.inpaint",
    "read_config": "upstream",
    "load_classifier": "weights.load",
    "load_prior": "weights.load",
}

__all__ = [
    "Color",
    "ConfigError",
    "Faces",
    "ImageError",
    "Inpaint",
    "Meta",
    "Photo",
    "Repaint",
    "RepaintError",
    "Report",
    "Restore",
    "RunConfig",
    "RunError",
    "RunStopped",
    "Sampler",
    "Scratches",
    "Status",
    "Upscale",
    "WeightsError",
    "load_classifier",
    "load_prior",
    "make_mask",
    "read_config",
    "read_mask",
    "read_photo",
    "restore",
    "run",
    "write_mask",
    "write_photo",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("repaint")
    if name not in _HOME:
        raise AttributeError(f"module 'repaint' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
