"""The folder of a run's results, opened: empty, or with results of these very settings."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from .. import files
from ..config import Document, resolved
from ..errors import RepaintError, RunError
from .manifest import Manifest
from .settings import RunConfig

CONFIG_NAME = "config.yml"


def opened(config: RunConfig) -> Manifest:
    """The manifest of the output folder, which holds nothing but results of these settings.

    Raises:
        RunError: if it does, or cannot be written.
    """
    path = files.join(config.output, CONFIG_NAME)
    try:
        manifest = Manifest(config.output)
        if files.exists(path):
            _refuse_other_settings(config, path, manifest)
        files.write_bytes(path, resolved(config).encode())
        for folder in {config.output, *config.folders.model_dump(exclude_none=True).values()}:
            files.remove_parts(folder)
    except OSError as e:
        raise RunError(f"{config.output}: cannot be written: {e.strerror or e}") from None
    return manifest


def _refuse_other_settings(config: RunConfig, path: str, manifest: Manifest) -> None:
    try:
        there = Document(files.read_bytes(path).decode(), path).check(RunConfig)
    except (RepaintError, OSError, UnicodeDecodeError):
        raise RunError(f"{path}: is not of a run this version can go on with; choose another output") from None
    differing = list(_differences(there.what_makes_pictures(), config.what_makes_pictures(), ""))
    if differing and any(record.status == "done" for record in manifest.records.values()):
        more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
        raise RunError(
            f"{config.output}: holds results of other settings ({differing[0]}{more}); choose another output"
        )


def _differences(there: object, here: object, at: str) -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in dict.fromkeys([*there, *here]):
            yield from _differences(there.get(key), here.get(key), f"{at}.{key}".lstrip("."))
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for i, (a, b) in enumerate(zip(there, here, strict=True)):
            yield from _differences(a, b, f"{at}[{i}]")
    elif there != here:
        yield f"{at} is {yaml.safe_dump(there).split(chr(10))[0]} there, {yaml.safe_dump(here).split(chr(10))[0]} here"
