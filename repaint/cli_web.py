"""The command line of the web page: `repaint web`."""

from __future__ import annotations

from typing import Annotated

import typer

from .answers import answers, say
from .errors import ConfigError


@answers()
def web_command(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where the page is: http://127.0.0.1:PORT.")] = 7860,
    host: Annotated[
        str, typer.Option(help="127.0.0.1: this machine alone; 0.0.0.0: all that can reach it.")
    ] = "127.0.0.1",
    open: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    max_megapixels: Annotated[float, typer.Option(min=0.001, help="Larger photos are refused.")] = 80.0,
) -> None:
    """Serve the web page: drop a photo, see its damage, restore it. Photos stay on this machine."""
    from .config import Settings, explained
    from .stages.progress import Device, Precision

    class Options(Settings):
        """The options whose values the parser does not check."""

        device: Device
        precision: Precision

    said = {"device": device, "precision": precision}
    if wrong := explained(Options, said):
        raise ConfigError("\n".join(f"--{loc[-1]}: {words}" for loc, words in wrong))
    options = Options.model_validate(said)

    from .web.serving import serve

    serve(
        host=host,
        port=port,
        device=options.device,
        precision=options.precision,
        max_pixels=round(max_megapixels * 1e6),
        in_browser=open,
        say=say,
    )
