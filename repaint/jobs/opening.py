"""The folder of a run's results, opened: empty, or with results of these very settings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import yaml

from .. import files
from ..config import Document, resolved
from ..errors import ImageError, RepaintError, RunError
from .manifest import Manifest, fingerprint
from .pairing import Item
from .reading import hashes, read
from .settings import RunConfig

CONFIG_NAME = "config.yml"


def opened(config: RunConfig, items: Sequence[Item]) -> Manifest:
    """The manifest of the output folder, which holds nothing but results of these settings and photos.

    Raises:
        RunError: if it does, or cannot be written.
    """
    path = files.join(config.output, CONFIG_NAME)
    try:
        manifest = Manifest(config.output)
        if files.exists(path):
            _refuse_others(config, path, manifest, items)
        files.write_bytes(path, resolved(config).encode())
        for folder in {config.output, *config.folders.model_dump(exclude_none=True).values()}:
            files.remove_parts(folder)
    except OSError as e:
        raise RunError(f"{config.output}: cannot be written: {e.strerror or e}") from None
    return manifest


def _refuse_others(config: RunConfig, path: str, manifest: Manifest, items: Sequence[Item]) -> None:
    try:
        there = Document(files.read_bytes(path).decode(), path).check(RunConfig)
    except (RepaintError, OSError, UnicodeDecodeError):
        raise RunError(f"{path}: is not of a run this version can go on with; choose another output") from None
    if all(record.status != "done" for record in manifest.records.values()):
        return
    there = there.model_copy(update={"device": config.device})
    stages = [", ".join(stage.name for stage in c.stages) for c in (there, config)]
    differing = list(_differences(there.what_makes_pictures(), config.what_makes_pictures(), ""))
    if stages[0] != stages[1]:
        differing = [f"stages are {stages[0]} there, {stages[1]} here"]
    if not differing and (moved := list(_differences(_places(there), _places(config), ""))):
        differing = [] if _are_its_photos(config, manifest, items) else moved
    if differing:
        more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
        raise RunError(
            f"{config.output}: holds results of other settings ({differing[0]}{more}); choose another output"
        )


def _are_its_photos(config: RunConfig, manifest: Manifest, items: Sequence[Item]) -> bool:
    """Whether a photo that has a result is the one it was made of; so the folder of photos may have another name."""
    for item in items:
        record = manifest.records.get((item.name, 0))
        if record is not None and record.status == "done":
            try:
                content = hashes(*read(item))
            except ImageError:
                continue
            seed = item.seed(config, 0)
            return record.fingerprint == fingerprint(content, config.what_makes_pictures(), record.weights, seed)
    return False


def _places(config: RunConfig) -> dict[str, str | None]:
    places = {"images": config.images, "masks": config.masks}
    return {k: v if v is None or files.is_remote(v) else os.path.realpath(v) for k, v in places.items()}


def _differences(there: object, here: object, at: str) -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in dict.fromkeys([*there, *here]):
            yield from _differences(there.get(key), here.get(key), f"{at}.{key}".lstrip("."))
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for i, (a, b) in enumerate(zip(there, here, strict=True)):
            yield from _differences(a, b, f"{at}[{i}]")
    elif there != here:
        yield f"{at} is {yaml.safe_dump(there).split(chr(10))[0]} there, {yaml.safe_dump(here).split(chr(10))[0]} here"
