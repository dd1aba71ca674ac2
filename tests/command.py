"""The command line, called in this process, and folders for it to work on."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from repaint.cli import app

from . import tiny

REPAINT = "stages.0.inpaint.sampler.repaint"


class Said(NamedTuple):
    """What a command answered: exit code, standard output, and the lines of standard error."""

    code: int
    out: str
    lines: list[str]

    @property
    def error(self) -> str:
        """The one line of an error, after what was said before it of a published config."""
        (line,) = [line for line in self.lines if "a config of the published RePaint code" not in line]
        assert line.startswith("repaint: ")
        return line.removeprefix("repaint: ")


def called(*words: object) -> Said:
    """What `repaint WORDS` answers."""
    done = CliRunner().invoke(app, [str(word) for word in words], prog_name="repaint")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert "Traceback" not in done.stderr
    return Said(done.exit_code, done.stdout, done.stderr.splitlines())


def pixels(height: int = tiny.SIZE, width: int = tiny.SIZE, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def mask(height: int = tiny.SIZE, width: int = tiny.SIZE) -> np.ndarray:
    """White, with a black hole."""
    keep = np.full((height, width), 255, np.uint8)
    keep[height // 4 : height // 2, width // 4 : width // 2] = 0
    return keep


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def dataset(folder: Path, *, photos: int = 3) -> Path:
    """A config of ours over so many photos, their masks and a tiny prior, all in `folder`."""
    for name in ("photos", "masks"):
        (folder / name).mkdir()
    for i in range(photos):
        (folder / "photos" / f"{i}.png").write_bytes(png(pixels(seed=i)))
        (folder / "masks" / f"{i}.png").write_bytes(png(mask()))
    tiny.checkpoint(folder / "prior.safetensors")
    config = folder / "c.yml"
    config.write_text(f"""\
images: {folder}/photos
masks: {folder}/masks
output: {folder}/out
stages:
  - inpaint:
      prior: {folder}/prior.safetensors
      sampler: {{repaint: {{t_T: 4, jump_length: 2, jump_n_sample: 2}}}}
""")
    return config
