"""Weights between two trainings of one network, and what their file says of itself:

    python benchmarks/between.py OLD NEW --share 0.6 --out FILE
    python benchmarks/between.py OLD NEW --share 1 --says threshold=0.62 --says licence=Apache-2.0 --out FILE

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

FIGURES = ("validation_", "training_")  # of NEW alone


def main(
    old: Annotated[str, typer.Argument(help="a name of `repaint weights list`, or a path")],
    new: Annotated[str, typer.Argument(help="of the same network")],
    out: Annotated[Path, typer.Option(help="says of itself what NEW says, but for figures if it is a mean")],
    says: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="also this, or instead")] = None,
    share: Annotated[float, typer.Option(min=0, max=1, help="of NEW")] = 0.5,
) -> None:
    (before, _), (after, said) = (read_state(file_of(name, DEFAULT_DIR)) for name in (old, new))
    shapes = [{key: tuple(value.shape) for key, value in state.items()} for state in (before, after)]
    if shapes[0] != shapes[1]:
        raise typer.BadParameter("OLD and NEW are of different networks")
    told = {key: words for key, words in said.items() if share == 1 or not key.startswith(FIGURES)}
    if share < 1:
        told["mean_of"] = f"{Path(old).name} and {Path(new).name}, {share:g} of the latter"
    told |= dict(words.split("=", 1) for words in says or [])
    export(str(out), {key: before[key].float().lerp(after[key].float(), share) for key in after}, told)


if __name__ == "__main__":
    typer.run(main)
