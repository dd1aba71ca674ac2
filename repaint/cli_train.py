"""The command line of training: `repaint train prior`, `scratches`, `enhancer`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from .answers import GOES_ON, SetOption, answers, say

if TYPE_CHECKING:
    from .train.settings import Training

train_app = typer.Typer(help="Train weights for your own pictures.", no_args_is_help=True)
FileArgument = Annotated[Path, typer.Argument(help="A config of confs/train.")]


@train_app.command("prior")
@answers(GOES_ON)
def train_prior_command(file: FileArgument, set_: SetOption = None) -> None:
    """Train a diffusion prior; started again, it goes on where it stopped."""
    from .train.prior_settings import TrainPrior

    config = _read(file, set_, TrainPrior)

    from .terminal import training_lines
    from .train.prior import train_prior

    say(f"wrote {train_prior(config, training_lines())}")


S = TypeVar("S", bound="Training")


def _read(file: Path, overrides: list[str] | None, kind: type[S]) -> S:
    from .config import Document

    return Document.read(file).override(overrides or []).check(kind)
