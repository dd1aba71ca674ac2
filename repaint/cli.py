"""The command line: `repaint restore`, `run`, `inpaint`, `masks`, `detect`, `web`, `weights`, `train`, `doctor`,
`schema`.

Nothing heavy is imported before it is needed: help and config errors answer at once.
"""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from .answers import GOES_ON, LARGEST_SEED, NOTHING_STARTED, SOME_FAILED, Hole, SetOption, answers, say
from .cli_detect import detect_command
from .cli_restore import restore_command
from .cli_run import run_and_show
from .cli_train import train_app
from .cli_web import web_command
from .errors import ConfigError

app = typer.Typer(
    help="Restore photos: find damage, fill it with a diffusion prior, restore faces, enlarge, correct colours.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
weights_app = typer.Typer(help="Weights: what there is, what is on disk, fetching it.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")
app.add_typer(train_app, name="train")


app.command("restore")(restore_command)


@app.command("run")
@answers(GOES_ON)
def run_command(
    file: Annotated[Path, typer.Argument(help="A config: ours, or of the published RePaint code.")],
    set_: SetOption = None,
) -> None:
    """Restore every photo a config names; started again, it goes on where it stopped."""
    run_config(file, set_ or [])


def run_config(file: Path, overrides: list[str]) -> None:
    """Run a config file and show how it goes.

    Raises:
        RepaintError: if nothing can start, or it has to stop.
        typer.Exit: 1 if some photos failed.
    """
    from .config import Document
    from .jobs import RunConfig
    from .upstream import imported, in_old_words, is_published

    document = Document.read(file).override(overrides)
    if not is_published(document.data):
        return run_and_show(document.check(RunConfig))
    found = imported(document)
    if found.ignored:
        say(f"{file}: a config of the published RePaint code; ignored: {', '.join(found.ignored)}")
    try:
        run_and_show(found.config)
    except ConfigError as e:
        raise in_old_words(document, e) from None


@app.command("inpaint")
@answers()
def inpaint_command(
    photo: Annotated[Path, typer.Argument(help="PNG, JPEG, TIFF or WebP.")],
    mask: Annotated[Path, typer.Option(help="Of the same size; black marks what to fill.")],
    out: Annotated[str, typer.Option(help="The result; its ending says the format. In a folder: NAME.png.")],
    preset: Annotated[
        str | None, typer.Option(help="fast, balanced, quality or paper: how much work.", show_default="balanced")
    ] = None,
    prior: Annotated[
        str | None, typer.Option(help="A name of `repaint weights list`, or a path.", show_default="base-128")
    ] = None,
    t_T: Annotated[
        int | None,
        typer.Option("--t-T", help="Steps from pure noise to image, instead of a preset: 100 if others are."),
    ] = None,
    jump_length: Annotated[int | None, typer.Option(help="How far one jump climbs back up, likewise: 10.")] = None,
    jump_n_sample: Annotated[
        int | None, typer.Option(help="How often each anchor is passed, likewise: 2; 1 = no resampling.")
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(help="Of the steps, likewise: quadratic = ever finer towards the image; even = as published."),
    ] = None,
    variance: Annotated[
        str | None,
        typer.Option(help="Of a step, likewise: posterior; with --spacing even learned, as published."),
    ] = None,
    conditioning: Annotated[
        int | None,
        typer.Option(
            help="Passes back in each step, likewise: 0; with 1, 25 steps without jumps, if nothing else is said."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Another seed, another fill.")] = 0,
    hole: Annotated[Hole, typer.Option(help="What marks the hole in the mask.")] = Hole.black,
    grow_px: Annotated[int, typer.Option(help="Enlarge the hole by this much.")] = 0,
    feather_px: Annotated[int, typer.Option(help="Blend over this much of what --grow-px added.")] = 0,
    label: Annotated[str | None, typer.Option(help="Class for class-conditional priors, or 'random'.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of JPEG and WebP.")] = 95,
    max_megapixels: Annotated[float, typer.Option(min=0.001, help="Larger photos are refused.")] = 80.0,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other key of the inpaint stage, e.g. thin=1."),
    ] = None,
) -> None:
    """Fill the holes of one photo; every other pixel stays as it is.

    Thin holes are filled at once by a mender, unless a prior, a walk of your own or the preset paper is asked for.
    """

    from .config import Document, Settings, dotted_key, dumped, explained
    from .restoring import MEND_PX, PRIOR
    from .stages.inpaint import Inpaint
    from .stages.progress import Device, Precision

    class Options(Settings):
        """The options whose values the parser does not check."""

        device: Device
        precision: Precision

    usual: dict[str, Any] = {"t_T": 100, "jump_length": 10, "jump_n_sample": 2, "spacing": "quadratic"}
    if conditioning:
        usual |= {"t_T": 25, "jump_n_sample": 1}
    usual["variance"] = "learned" if spacing == "even" else "posterior"
    walk = {"t_T": t_T, "jump_length": jump_length, "jump_n_sample": jump_n_sample}
    walk |= {"spacing": spacing, "variance": variance, "conditioning": conditioning}
    walk = {key: value for key, value in walk.items() if value is not None}
    if preset is not None and walk:
        option = next(iter(walk)).replace("_", "-")
        raise ConfigError(f"--preset: says how to walk, and so does --{option}; leave one of them out")
    mended = {"mender": "mender", "mend_px": MEND_PX} if not walk and prior is None and preset != "paper" else {}
    said = {"device": device, "precision": precision}
    stage: dict[str, Any] = {
        "prior": prior or PRIOR,
        "sampler": {"repaint": {**usual, **walk}} if walk else preset or "balanced",
        **mended,
        "grow_px": grow_px,
        "feather_px": feather_px,
        "label": int(label) if label and label.isdecimal() else label,
    }
    document = Document(dumped(stage), "options").override(set_ or [])

    def where(loc: Sequence[str | int]) -> str:
        place = document.where(loc)
        if place.startswith("--"):
            return f"{place}: {dotted_key(loc)}"
        return "--preset" if loc[-1] == "sampler" else f"--{loc[-1]}".replace("_", "-")

    if wrong := [*explained(Options, said), *explained(Inpaint, document.data)]:
        raise ConfigError("\n".join(f"{where(loc)}: {words}" for loc, words in wrong))
    options = Options.model_validate(said)

    from .single import inpaint_file, result_path
    from .terminal import stage_bar

    result = result_path(out, photo)
    with stage_bar(photo.name) as tell:
        inpaint_file(
            photo,
            mask,
            result,
            Inpaint.model_validate(document.data),
            seed=seed,
            hole=hole.value,
            device=options.device,
            precision=options.precision,
            quality=quality,
            tell=tell,
            say=say,
            max_pixels=round(max_megapixels * 1e6),
        )
    say(f"wrote {result}")


@app.command("masks")
@answers()
def masks_command(
    kind: Annotated[
        str, typer.Argument(help="wide, narrow, super-resolution, lines, half, expand, strokes, scratches.")
    ],
    out: Annotated[Path, typer.Option(help="The folder to write to.")],
    size: Annotated[int | None, typer.Option(min=16, help="px of the square masks.")] = None,
    width: Annotated[int | None, typer.Option(min=16)] = None,
    height: Annotated[int | None, typer.Option(min=16)] = None,
    like: Annotated[
        Path | None, typer.Option(help="A folder of photos: a mask for each, of its size and name.")
    ] = None,
    count: Annotated[int, typer.Option(min=1)] = 1,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED)] = 0,
) -> None:
    """Make masks: PNG, white = keep, black = fill."""
    from .mask_files import write_masks

    if like is not None and (size or width or height or count != 1):
        raise ConfigError("--like: sizes and count come from the photos; leave out --size, --width, --height, --count")
    if size is not None and (width or height):
        raise ConfigError("--size: makes squares; leave out --width and --height")
    sides = (height or size or 256, width or size or 256)
    written = write_masks(kind, out, sides=sides, count=count, seed=seed, like=like)
    say(f"wrote {written} {kind} mask{'s' if written != 1 else ''} to {out}")


app.command("detect")(detect_command)
app.command("web")(web_command)


@weights_app.command("list")
@answers()
def weights_list(
    dir: Annotated[str, typer.Option(help="Where fetched weights are.")] = "data/pretrained",
) -> None:
    """Show name, size, licence, present or not."""
    from shutil import get_terminal_size
    from textwrap import indent, wrap

    from .weights import catalog, store

    width = get_terminal_size().columns if sys.stdout.isatty() else 100
    for kind, use in catalog.KINDS.items():
        print(f"{kind}: {use}\n")
        for entry in (entry for entry in catalog.CATALOG if entry.kind == kind):
            here = "embedded" if entry.embedded else "here" if store.is_present(entry, dir) else "not here"
            forbidden = "" if entry.commercial else "  not for commercial use"
            print(f"  {entry.name:<27} {entry.size:<13}  {here:<8}{forbidden}".rstrip())
            print(indent("\n".join(wrap(f"{entry.purpose}. Licence: {entry.licence}", width - 6)), "      "))
        print()


@weights_app.command("get")
@answers(GOES_ON)
def weights_get(
    names: Annotated[list[str], typer.Argument(help="Names of `repaint weights list`.")],
    dir: Annotated[str, typer.Option(help="Where to put them.")] = "data/pretrained",
) -> None:
    """Fetch weights; an interrupted fetch goes on where it stopped, and files whose hash is known are checked."""
    from .terminal import fetch_bar
    from .weights import catalog, store

    for entry in [catalog.find(name) for name in names]:
        with fetch_bar(entry.name) as tell:
            path = store.fetch(entry, dir, report=tell, say=say)
        say(f"{entry.name}: {path}")


@app.command("schema")
@answers()
def schema_command() -> None:
    """Print the JSON schema of configs, for editors."""
    import json

    from .jobs import RunConfig

    print(json.dumps(RunConfig.model_json_schema(), indent=2))


@app.command("doctor")
@answers()
def doctor_command(
    dir: Annotated[str, typer.Option(help="Where fetched weights are.")] = "data/pretrained",
) -> None:
    """Show versions, devices, weights that are here, and what each stage would use."""
    from rich.console import Console
    from rich.table import Table

    from .doctor import findings

    table = Table(box=None, pad_edge=False, show_header=False)
    topic, well = "", True
    for found in findings(dir):
        table.add_row(found.topic if found.topic != topic else "", found.name, found.words)
        topic, well = found.topic, well and found.well
    Console(width=None if sys.stdout.isatty() else 160).print(table, markup=False)
    if not well:
        raise typer.Exit(SOME_FAILED)


@app.callback(invoke_without_command=True)
def version_option(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as of

        print(of("repaint"))
        raise typer.Exit


def _usage(e: Any, name: str) -> str:
    """What is wrong with the words of a command line, and where to look."""
    words, context = " ".join(e.format_message().split()).rstrip("."), getattr(e, "ctx", None)
    if context is not None and "extra argument" in words and context.info_name in ("restore", "detect"):
        words += "; one photo, or a folder of photos, would be right"
    return f"{words}. See {context.command_path if context is not None else name} --help."


def main() -> None:
    parsed(app, "repaint")


def parsed(app: typer.Typer, name: str) -> None:
    """Call an app with the words it was started with; a wrong one is one line and exit code 2."""
    try:
        code = app(prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except OSError as e:
        if e.errno != errno.ENOSPC:
            raise
        say(f"cannot print: {e.strerror}")
        with contextlib.suppress(OSError):
            sys.stdout.close()  # or the interpreter would try once more, and complain
        code = NOTHING_STARTED
    except Exception as e:  # the parser's own, whose classes typer does not name
        if not hasattr(e, "format_message"):
            raise
        if type(e).__name__ == "NoArgsIsHelpError":
            e.show()  # pyright: ignore[reportAttributeAccessIssue]
        else:
            say(_usage(e, name))
        code = NOTHING_STARTED
    sys.exit(code if isinstance(code, int) else 0)
