"""Networks run by the realesrgan package, an optional extra that needs help to be imported today."""

from __future__ import annotations

import importlib
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ..archs import compact
from ..archs.shapes import looks_like
from ..errors import ConfigError, WeightsError

INSTALL = "pip install --no-build-isolation 'basicsr>=1.4.2' && pip install '.[realesrgan]'"
"""basicsr imports torch while it is built."""
GONE = "torchvision.transforms.functional_tensor"  # basicsr imports it; torchvision 0.17 removed it
SCALES = {3: 4, 12: 2, 48: 1}  # of an RRDBNet, by what its first layer sees: factors below 4 fold pixels into channels


class RealEsrgan:
    """`RealESRGANer` on tensors: its way without its 8 or 16 bits, and without its tiles, which hide failures.

    Args:
        state: of an RRDBNet or a compact network (SRVGGNetCompact), under their published names.
        path: where it was read, for messages.

    Attributes:
        module: what holds the weights.
        multiple_of, least_px: sides it can be shown, as spandrel has them: so both see the same, also at the borders.

    Raises:
        ConfigError: if realesrgan is not installed.
        WeightsError: if it has no such network.
    """

    def __init__(self, state: Mapping[str, Tensor], path: Path, device: torch.device) -> None:
        self.module, self.scale = _network(state, path)
        is_rrdb = "conv_first.weight" in state
        self.multiple_of = 4 if is_rrdb and self.scale < 4 else 1
        self.least_px = max(2, self.multiple_of) if is_rrdb else 1
        # RealESRGANer reads its network from a file, and of files of its own layout only.
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "params.pth")
            torch.save({"params": dict(state)}, file)
            try:
                self._way = _imported("realesrgan.utils").RealESRGANer(
                    4,  # whatever it is: for lower factors it would pad once more, and fail on sides of 1 px
                    str(file),
                    model=self.module,
                    tile=0,
                    pre_pad=0,
                    half=False,
                    device=device,
                )
            except RuntimeError as e:
                raise WeightsError(f"{path}: realesrgan cannot load it: {str(e).splitlines()[0]}") from None

    def __call__(self, x: Tensor) -> Tensor:
        """(1, 3, h * scale, w * scale) of (1, 3, h, w) in [0, 1]."""
        self._way.pre_process(x[0].permute(1, 2, 0).cpu().numpy())
        self._way.process()
        return self._way.post_process()


def _network(state: Mapping[str, Tensor], path: Path) -> tuple[nn.Module, int]:
    """An empty network of the published code for the weights of `state`, and its scale."""
    if "conv_first.weight" in state and "body.0.rdb1.conv1.weight" in state and "conv_up1.weight" in state:
        features, seen = state["conv_first.weight"].shape[:2]
        if seen not in SCALES:
            raise WeightsError(f"{path}: its first layer sees {seen} channels; must see 3, 12 or 48")
        blocks = 1 + max(int(k.split(".")[1]) for k in state if k.startswith("body."))
        growth = state["body.0.rdb1.conv1.weight"].shape[0]
        RRDBNet = _imported("basicsr.archs.rrdbnet_arch").RRDBNet
        return RRDBNet(3, 3, SCALES[seen], features, blocks, growth), SCALES[seen]
    try:
        config = compact.detect(state)
    except ValueError:
        raise WeightsError(
            f"{path}: realesrgan runs RRDBNet and SRVGGNetCompact, found {looks_like(state)}; say backend: spandrel"
        ) from None
    SRVGGNetCompact = _imported("realesrgan.archs.srvgg_arch").SRVGGNetCompact
    c = config.channels
    return SRVGGNetCompact(c, c, config.features, config.convs, config.scale, "prelu"), config.scale


def _imported(name: str) -> Any:
    """A module of realesrgan or of basicsr below it.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        with _torchvision_as_it_was(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # both import names that SciPy and torchvision are about to drop
            return importlib.import_module(name)
    except ImportError as e:
        raise ConfigError(
            f"backend: realesrgan is an extra that is not installed ({e}): {INSTALL}; or say backend: auto"
        ) from None


@contextmanager
def _torchvision_as_it_was() -> Iterator[None]:
    """Puts back a module that torchvision removed, with the one function of it that basicsr imports."""
    from torchvision.transforms import functional

    if GONE in sys.modules:
        yield
        return
    sys.modules[GONE] = module = ModuleType(GONE)
    module.rgb_to_grayscale = functional.rgb_to_grayscale  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        del sys.modules[GONE]
