"""Run a config, ours or of the published RePaint code: python test.py --conf_path confs/face.yml"""

from pathlib import Path
from typing import Annotated

import typer

from repaint.cli import GOES_ON, SetOption, answers, parsed, run_config


@answers(GOES_ON)
def main(
    conf_path: Annotated[
        Path, typer.Option("--conf_path", help="A config of confs/, or of the published RePaint code.")
    ],
    set_: SetOption = None,
) -> None:
    """Restore every photo a config names; started again, it goes on where it stopped."""
    run_config(conf_path, set_ or [])


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    parsed(app, "test.py")
