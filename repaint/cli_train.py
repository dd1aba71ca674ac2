"""The command line of training: `repaint train prior`, `scratches`, `finder`, `enhancer`, `mender`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from .answers import GOES_ON, SetTraining, answers, say

if TYPE_CHECKING:
    from .train.settings import Training

train_app = typer.Typer(help="Train weights for your own pictures.", no_args_is_help=True)
FileArgument = Annotated[Path, typer.Argument(help="A config of confs/train.")]


@train_app.command("prior")
@answers(GOES_ON)
def train_prior_command(file: FileArgument, set_: SetTraining = None) -> None:
    """Train a diffusion prior; started again, it goes on where it stopped."""
    from .train.prior_settings import TrainPrior

    config = _read(file, set_, TrainPrior)

    from .terminal import training_lines
    from .train.prior import train_prior

    _wrote(train_prior(config, training_lines()))


@train_app.command("scratches")
@answers(GOES_ON)
def train_scratches_command(file: FileArgument, set_: SetTraining = None) -> None:
    """Train a detector of scratches and other damage; started again, it goes on where it stopped."""
    from .train.scratches_settings import TrainScratches

    config = _read(file, set_, TrainScratches)

    from .terminal import training_lines
    from .train.scratches import train_scratches

    _wrote(train_scratches(config, training_lines()))


@train_app.command("enhancer")
@answers(GOES_ON)
def train_enhancer_command(file: FileArgument, set_: SetTraining = None) -> None:
    """Train a super-resolver, a cleaner or a face restorer; started again, it goes on where it stopped."""
    from .train.enhancer_settings import TrainEnhancer

    config = _read(file, set_, TrainEnhancer)

    from .terminal import training_lines
    from .train.enhancer import train_enhancer

    _wrote(train_enhancer(config, training_lines()))


@train_app.command("finder")
@answers(GOES_ON)
def train_finder_command(file: FileArgument, set_: SetTraining = None) -> None:
    """Train a finder of faces; started again, it goes on where it stopped."""
    from .train.finder_settings import TrainFinder

    config = _read(file, set_, TrainFinder)

    from .terminal import training_lines
    from .train.finder import train_finder

    _wrote(train_finder(config, training_lines()))


@train_app.command("mender")
@answers(GOES_ON)
def train_mender_command(file: FileArgument, set_: SetTraining = None) -> None:
    """Train what fills thin holes in one call; started again, it goes on where it stopped."""
    from .train.mender_settings import TrainMender

    config = _read(file, set_, TrainMender)

    from .terminal import training_lines
    from .train.mender import train_mender

    _wrote(train_mender(config, training_lines()))


def _wrote(path: str) -> None:
    """Said by one of the processes of a training, which end together."""
    from .train.processes import leave_together

    leave_together()
    if os.environ.get("RANK", "0") == "0":
        say(f"wrote {path}")


S = TypeVar("S", bound="Training")


def _read(file: Path, overrides: list[str] | None, kind: type[S]) -> S:
    from .config import Document

    return Document.read(file).override(overrides or []).check(kind)
