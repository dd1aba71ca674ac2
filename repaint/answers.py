"""How commands answer: one line an error, an exit code, and options that several of them have."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

from .errors import RepaintError, RunStopped

SOME_FAILED, NOTHING_STARTED, INTERRUPTED = 1, 2, 130
LARGEST_SEED = 2**63 - 1
GOES_ON = "; what is done is kept, the same command goes on from there"


class Hole(StrEnum):
    """What marks the hole in mask files."""

    black = "black"
    white = "white"


P = ParamSpec("P")
R = TypeVar("R")


def answers(when_stopped: str = "") -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A command, with errors said in one line each and turned into exit codes.

    Args:
        when_stopped: what Ctrl-C is answered with, after 'stopped'.
    """

    def with_answers(command: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(command)
        def answering(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return command(*args, **kwargs)
            except RepaintError as e:
                for line in str(e).splitlines():
                    say(line)
                raise typer.Exit(SOME_FAILED if isinstance(e, RunStopped) else NOTHING_STARTED) from None
            except OSError as e:
                if not isinstance(e.filename, (str, Path)):
                    raise
                say(f"{e.filename}: {e.strerror}")
                raise typer.Exit(NOTHING_STARTED) from None
            except KeyboardInterrupt:
                say(f"stopped{when_stopped}")
                raise typer.Exit(INTERRUPTED) from None

        return answering

    return with_answers


def say(line: str) -> None:
    print(f"repaint: {line}", file=sys.stderr, flush=True)


def _set_option(example: str) -> Any:
    return typer.Option("--set", metavar="KEY=VALUE", help=f"Override a key, e.g. {example}.")


SetOption = Annotated[list[str] | None, _set_option("stages.0.inpaint.sampler.repaint.t_T=100")]
SetTraining = Annotated[list[str] | None, _set_option("steps=1000, or data.0.folder=my_photos")]
