"""What a training writes beside its weights: what it was shown, its figures, its curves."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from torch import Tensor

from .. import files
from ..errors import RunError
from .data import Pictures
from .settings import Training

STEPS_BETWEEN_POINTS = 10


def write_manifest(config: Training, pictures: Pictures, skipped: dict[str, str]) -> None:
    """`data.json`: every image file the training draws from, and those that could not be read.

    Raises:
        RunError: if it cannot be written.
    """
    sources = [
        {**source.model_dump(mode="json"), "images": len(names), "names": names}
        for source, names in zip(pictures.sources, pictures.names, strict=True)
    ]
    said = {"seed": config.seed, "sources": sources, "skipped": dict(sorted(skipped.items()))}
    _write(config.output, "data.json", json.dumps(said, indent=1))


def write_metrics(output: str, history: Sequence[dict[str, float]]) -> None:
    """`metrics.csv`: a line for each look at the held-out images.

    Raises:
        RunError: if it cannot be written.
    """
    text = io.StringIO()
    table = csv.DictWriter(text, list(history[-1]), lineterminator="\n", extrasaction="ignore")
    table.writeheader()
    table.writerows(history)
    _write(output, "metrics.csv", text.getvalue())


class Board:
    """Curves and pictures for TensorBoard.

    Raises:
        RunError: if TensorBoard is not installed.
    """

    def __init__(self, config: Training, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise RunError("tensorboard: true needs TensorBoard; pip install '.[train]', or leave it out") from None
        self._writer = SummaryWriter(files.join(config.output, "tensorboard"), purge_step=step + 1)

    def step(self, step: int, figures: dict[str, float]) -> None:
        if step % STEPS_BETWEEN_POINTS == 0:
            for name, value in figures.items():
                self._writer.add_scalar(f"training/{name}", value, step)

    def look(self, step: int, measured: dict[str, float], picture: Tensor) -> None:
        for name, value in measured.items():
            self._writer.add_scalar(f"held-out/{name}", value, step)
        self._writer.add_image("samples", picture, step)
        self._writer.flush()


def _write(output: str, name: str, text: str) -> None:
    path = files.join(output, name)
    try:
        files.write_bytes(path, text.encode())
    except OSError as e:
        raise RunError(f"{path}: cannot be written: {e.strerror or e}") from None
