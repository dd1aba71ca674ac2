"""What is here: versions, devices, weights, and what each stage of `repaint restore` would use."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from .errors import RepaintError
from .jobs.settings import Stage, StageSettings
from .restoring import Restore
from .stages.progress import Device
from .stages.realesrgan import INSTALL as INSTALL_REALESRGAN
from .weights import catalog, store

NEEDED = ("torch", "torchvision", "numpy", "pillow", "pyvips", "opencv-python", "scikit-image", "safetensors")
NEEDED += ("accelerate", "diffusers", "facexlib", "spandrel")
INSTALL_TRAIN = "pip install '.[train]'"
EXTRAS = {  # how each is installed
    "realesrgan": INSTALL_REALESRGAN,
    "spandrel_extra_arches": "pip install '.[codeformer]'",
    "tensorboard": INSTALL_TRAIN,
    "timm": INSTALL_TRAIN,
    "gradio": "pip install '.[web]'",
}


class Finding(NamedTuple):
    """One line of the answer.

    Attributes:
        well: False if something does not work that should.
    """

    topic: str
    name: str
    words: str
    well: bool = True


def findings(weights_dir: str = store.DEFAULT_DIR, device: Device = "auto") -> Iterator[Finding]:
    """Everything worth knowing when something does not work, one after the other; stages are really built.

    They are those of `repaint restore` as it is; and upscale with its defaults, which it leaves out.
    """
    yield Finding("versions", "repaint", f"{version('repaint')}, Python {platform.python_version()}")
    for name in NEEDED:
        yield _package(name)
    for name, install in EXTRAS.items():
        yield _package(name, install)
    yield from _devices()
    for entry in catalog.CATALOG:
        if store.is_present(entry, weights_dir):
            yield Finding("weights", entry.name, "embedded" if entry.embedded else f"in {weights_dir}")
    missing = sum(not store.is_present(entry, weights_dir) for entry in catalog.CATALOG)
    yield Finding("weights", "others", f"{missing} more can be fetched: repaint weights list")
    used = {stage.name: stage.settings for stage in Restore().stages()}
    for name in Stage.model_fields:
        yield _stage(name, used.get(name) or Stage.model_validate({name: {}}).settings, weights_dir, device)


def _package(name: str, install: str | None = None) -> Finding:
    try:
        return Finding("versions", name, version(name))
    except PackageNotFoundError:
        if install is None:
            return Finding("versions", name, f"is missing: pip install {name}", well=False)
        return Finding("versions", name, f"not installed; optional: {install}")


def _devices() -> Iterator[Finding]:
    import torch

    yield Finding("devices", "cpu", f"{platform.machine()}, {torch.get_num_threads()} threads")
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        gib = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        yield Finding("devices", f"cuda:{i}", f"{torch.cuda.get_device_name(i)}, {gib}")
    if torch.backends.mps.is_available():
        yield Finding("devices", "mps", "Apple's GPU")


def _stage(name: str, settings: StageSettings, weights_dir: str, device: Device) -> Finding:
    if "weights_dir" in type(settings).model_fields:
        settings = settings.model_copy(update={"weights_dir": weights_dir})
    try:
        stage = settings.build(device)
    except RepaintError as e:
        return Finding("stages", name, str(e), well=False)
    used = ", ".join(f"{weights} (sha256 {sha256[:12]})" for weights, sha256 in stage.weights.items())
    return Finding("stages", name, "; ".join([used or "no weights", *stage.remarks]))
