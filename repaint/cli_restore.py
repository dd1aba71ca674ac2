"""The command line of restoration: `repaint restore`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .answers import GOES_ON, INTERRUPTED, LARGEST_SEED, Hole, answers, say
from .errors import ConfigError, ImageError, RepaintError

if TYPE_CHECKING:
    from .jobs import RunConfig

# of the keys of run configs
OPTION_OF = {"images": "photo", "masks": "--mask", "output": "--out", "folders.stages": "--save-stages"}


@answers()
def restore_command(
    photo: Annotated[str, typer.Argument(help="A photo, or a folder of photos; gs:// and az:// are folders.")],
    out: Annotated[str, typer.Option(help="The result, or a folder for it; for a folder, the folder of results.")],
    preset: Annotated[
        str, typer.Option(help="How much work filling damage may be: fast, balanced, quality, paper.")
    ] = "balanced",
    scratches: Annotated[bool, typer.Option(help="Find damage and fill it.")] = True,
    faces: Annotated[bool, typer.Option(help="Restore faces.")] = True,
    denoise: Annotated[bool, typer.Option("--denoise", help="Clean grain, noise and JPEG blocks.")] = False,
    color: Annotated[bool, typer.Option(help="Correct faded colours and casts.")] = True,
    scale: Annotated[float, typer.Option(help="How many times as wide and high.")] = 1.0,
    sensitivity: Annotated[float, typer.Option(help="Of finding damage, 0..1: more finds more, and errs more.")] = 0.5,
    strength: Annotated[float, typer.Option(help="Of what is done to faces, noise and colours, 0..1.")] = 0.8,
    mask: Annotated[
        str | None,
        typer.Option(
            help="What to fill beside what is found; alone with --no-scratches. For a folder, a folder of masks."
        ),
    ] = None,
    hole: Annotated[Hole, typer.Option(help="What marks the hole in masks.")] = Hole.black,
    prior: Annotated[str, typer.Option(help="What fills: a name of `repaint weights list`, or a path.")] = "base-128",
    save_stages: Annotated[str | None, typer.Option(help="A folder for what each stage made.")] = None,
    keep_format: Annotated[
        bool, typer.Option("--keep-format", help="Folders: results in the photos' formats.")
    ] = False,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of JPEG and WebP.")] = 95,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Another seed, another fill.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    processes: Annotated[
        int | None, typer.Option(min=1, help="Folders: programs that share the photos.", show_default="one a GPU")
    ] = None,
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    max_megapixels: Annotated[float, typer.Option(min=0.001, help="Larger photos are refused.")] = 80.0,
) -> None:
    """Restore old photos: find damage and fill it, restore faces, enlarge, correct colours."""
    from .config import Settings, explained
    from .files import is_remote
    from .restoring import Restore, as_run, restore_file
    from .stages.progress import Device, Precision

    class Options(Settings):
        """The options whose values the parser does not check."""

        device: Device
        precision: Precision
        restore: Restore

    said: dict[str, Any] = {
        "device": device,
        "precision": precision,
        "restore": {
            "preset": preset,
            "prior": prior,
            "scratches": scratches,
            "faces": faces,
            "denoise": denoise,
            "color": color,
            "scale": scale,
            "sensitivity": sensitivity,
            "strength": strength,
        },
    }
    if wrong := explained(Options, said):
        raise ConfigError("\n".join(f"--{str(loc[-1]).replace('_', '-')}: {words}" for loc, words in wrong))
    options = Options.model_validate(said)
    common: dict[str, Any] = {
        "hole": hole.value,
        "quality": quality,
        "seed": seed,
        "device": options.device,
        "precision": options.precision,
    }
    if not photo:
        raise ImageError("no photo is named; a photo, or a folder of photos, would be right")
    if not out:
        raise ConfigError("--out: is empty; the result, or a folder for it, would be right")
    if is_remote(photo) or Path(photo).is_dir():
        more: dict[str, Any] = {"masks": mask, "save_stages": save_stages, "keep_format": keep_format}
        more["processes"] = processes or "auto"
        _run(as_run(photo, out, options.restore, max_megapixels=max_megapixels, **more, **common))
        return
    if processes is not None:
        raise ConfigError("--processes: is for folders; one photo is the work of one")
    if keep_format:
        raise ConfigError("--keep-format: is for folders; the ending of --out says the format of one photo")
    file = Path(photo)
    if not file.exists():
        raise ImageError(f"{photo}: no such file or folder")
    from .single import result_path
    from .terminal import restore_bar

    result = result_path(out, file)

    paths = {"mask": mask, "save_stages": save_stages}
    common |= {name: None if path is None else Path(path) for name, path in paths.items()}
    try:
        with restore_bar(file.name) as tell:
            pixels = round(max_megapixels * 1e6)
            restore_file(file, result, options.restore, tell=tell, say=say, max_pixels=pixels, **common)
    except KeyboardInterrupt:
        say(f"stopped; {result} was not written")
        raise typer.Exit(INTERRUPTED) from None
    say(f"wrote {result}")


@answers(GOES_ON)
def _run(config: RunConfig) -> None:
    """The run of a folder; what is wrong with its settings is said of the options they come from."""
    from .cli_run import run_and_show

    try:
        run_and_show(config)
    except RepaintError as e:
        key, colon, words = str(e).partition(": ")
        raise type(e)(f"{OPTION_OF.get(key, key)}{colon}{words}") from None
