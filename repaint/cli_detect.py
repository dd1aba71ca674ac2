"""The command line of detection: `repaint detect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .answers import SOME_FAILED, answers, say
from .errors import ConfigError


@answers("; masks that were written are whole")
def detect_command(
    photo: Annotated[Path, typer.Argument(help="A photo, or a folder of photos.")],
    out: Annotated[str, typer.Option(help="The folder to write to: NAME.png, NAME_overlay.jpg.")],
    sensitivity: Annotated[
        float, typer.Option(min=0, max=1, help="More finds more, and errs more; 0.5 = as the weights say.")
    ] = 0.5,
    detector: Annotated[str, typer.Option(help="network, or filters: without weights, and errs more.")] = "network",
    weights: Annotated[str, typer.Option(help="A name of `repaint weights list`, or a path.")] = "scratches",
    grow_px: Annotated[
        int | None, typer.Option(min=0, help="Enlarge what is found by this much, not as far as its rims reach.")
    ] = None,
    min_area: Annotated[int, typer.Option(min=1, help="Leave out what has fewer pixels.")] = 4,
    probability: Annotated[bool, typer.Option("--probability", help="Write NAME_probability.png, too.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    max_megapixels: Annotated[float, typer.Option(min=0.001, help="Larger photos fail.")] = 80.0,
) -> None:
    """Find the damage of photos: masks (white = keep, black = fill), and pictures to look at."""
    from .config import Settings, explained
    from .stages.progress import Device
    from .stages.scratches import Scratches

    class Options(Settings):
        """The options whose values the parser does not check."""

        device: Device
        scratches: Scratches

    said = {
        "device": device,
        "scratches": {
            "detector": detector,
            "weights": weights,
            "sensitivity": sensitivity,
            "grow_px": grow_px,
            "min_area_px": min_area,
            "save_probability": probability,
        },
    }
    if wrong := explained(Options, said):
        raise ConfigError("\n".join(f"--{loc[-1]}: {words}" for loc, words in wrong))
    options = Options.model_validate(said)
    if not out:
        raise ConfigError("--out: is empty; a folder for the masks would be right")
    folder = Path(out)

    from .detect_files import detect_files, photos_in
    from .image import unread_in
    from .single import check_writable, percent
    from .terminal import stage_bar

    photos_in(photo, folder, probability=probability)  # refuses before weights are loaded
    stage = options.scratches.build(options.device)
    for remark in stage.remarks:
        say(remark)
    check_writable(folder / "x.png")
    if photo.is_dir() and (unread := unread_in(photo)) is not None:
        say(unread)
    found = []
    limit = round(max_megapixels * 1e6)
    for detection in detect_files(photo, folder, stage, stage_bar, probability=probability, max_pixels=limit):
        found.append(detection)
        if detection.flaw is not None:
            say(detection.flaw)
            continue
        for note in detection.notes:
            say(f"{detection.name}: {note}")
        marked = f"{percent(detection.damaged)} marked" if detection.damaged else "no damage found"
        say(f"{detection.name}: {marked}")
    failed = sum(detection.flaw is not None for detection in found)
    masks = len(found) - failed
    say(f"wrote {masks} mask{'s' if masks != 1 else ''} to {out}{f', {failed} failed' if failed else ''}")
    if failed:
        raise typer.Exit(SOME_FAILED)
