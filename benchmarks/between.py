"""Weights between two trainings of one network: python benchmarks/between.py OLD NEW --share 0.6 --out FILE

What was trained further on other pictures is better at these and may be worse at the old ones; a network between the
two keeps most of both (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"). The embedded detector went
through such a mean on its way.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from repaint.train.checkpoint import export
from repaint.weights.files import read_state
from repaint.weights.networks import file_of
from repaint.weights.store import DEFAULT_DIR


def main(
    old: Annotated[str, typer.Argument(help="a name of `repaint weights list`, or a path")],
    new: Annotated[str, typer.Argument(help="of the same network")],
    out: Annotated[Path, typer.Option(help="what it says of itself is what NEW says")],
    share: Annotated[float, typer.Option(min=0, max=1, help="of NEW")] = 0.5,
) -> None:
    (before, _), (after, said) = (read_state(file_of(name, DEFAULT_DIR)) for name in (old, new))
    shapes = [{key: tuple(value.shape) for key, value in state.items()} for state in (before, after)]
    if shapes[0] != shapes[1]:
        raise typer.BadParameter("OLD and NEW are of different networks")
    export(str(out), {key: before[key].float().lerp(after[key].float(), share) for key in after}, dict(said))


if __name__ == "__main__":
    typer.run(main)
