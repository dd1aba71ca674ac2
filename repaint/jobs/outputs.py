"""Where the results of a run are written, and what its report shows of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import torch
from torch import Tensor

from .. import files, report
from ..errors import RunError
from ..image import ENDINGS, Meta, Photo, encode_mask, encode_photo, luma
from ..report import Row
from ..tiling import resized
from .manifest import Record, names_done
from .opening import CONFIG_NAME
from .pairing import Item
from .settings import RunConfig

THUMBNAIL_PX = 384
SUFFIXES = {"png": ".png", "tiff": ".tiff", "jpeg": ".jpg", "webp": ".webp"}


class Outputs:
    """The files of a run's results."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.results = config.folders.results or config.output

    def path(self, item: Item, sample: int) -> str:
        return files.join(self.results, self._name(item, sample))

    def write(self, item: Item, sample: int, prepared: Photo, results: Mapping[str, Photo]) -> str:
        """Write the last result and what goes with it, itself last; its name relative to the folder of results.

        Args:
            results: of each stage by name, in their order.

        Raises:
            ImageError: if its format cannot hold it; then nothing is written.
            OSError: if it cannot be written.
        """
        *others, result = results.values()
        keep = torch.ones_like(prepared.rgb[:1]) if prepared.keep is None else prepared.keep.float()
        more, name = self.config.folders, self._name(item, sample)
        plain = replace(prepared, keep=None, alpha=None, meta=Meta("png", bits=prepared.meta.bits))
        shown = luma(result.rgb).expand(3, -1, -1) if result.meta.grey else result.rgb  # as it is saved
        found: dict[str, bytes] = {}
        # Those of the report first: they tell the next start that what else is there of this item is ours.
        for kind, rgb in (("input", prepared.rgb), ("mask", keep.expand(3, -1, -1)), (f"result-{sample}", shown)):
            found[files.join(self.config.output, _thumbnail_name(item, kind))] = _thumbnail(rgb)
        for folder, rgb in (
            (more.masked, prepared.rgb * keep),
            (more.originals, prepared.rgb),
            (more.masks, keep.expand(3, -1, -1)),
        ):
            if folder is not None:
                found[files.join(folder, f"{item.stem}.png")] = encode_photo(replace(plain, rgb=rgb), "png")
        if more.stages is not None:
            for place, (stage, photo) in enumerate(zip(results, others, strict=False), 1):
                path = self._stage_path(more.stages, place, stage, name)
                marked = photo.keep if stage == "scratches" else None
                found[path] = encode_photo(photo, "png") if marked is None else encode_mask(marked)
        format = ENDINGS["." + name.rpartition(".")[2].lower()]
        found[self.path(item, sample)] = encode_photo(result, format, quality=self.config.quality)
        for path, data in found.items():
            files.write_bytes(path, data)
        return name

    def refuse_among_sources(self, items: Sequence[Item]) -> None:
        """Nothing, if no result would overwrite an image, a mask or another result, or be read by the next start.

        Raises:
            RunError: otherwise.
        """
        more = self.config.folders.model_dump(exclude_none=True)
        written = {"output": self.config.output, **{f"folders.{key}": folder for key, folder in more.items()}}
        for key, place in (("images", self.config.images), ("masks", self.config.masks)):
            for what, folder in written.items():
                if place is not None and files.is_dir(place) and files.is_within(folder, place):
                    raise RunError(f"{what}: {folder} lies in {key} ({place}), among what is read; choose another")
        sources = {source for item in items for source in (item.image, item.mask)}
        writers: dict[str, Item] = {}
        for item in items:
            for result in self._written(item):
                if result in sources:
                    raise RunError(f"output: {result} is read by this run and would be overwritten; choose another")
                if (other := writers.setdefault(result, item)) is not item:
                    raise RunError(
                        f"folders: {result} would be written for {other.name} and for {item.name}; choose other folders"
                    )

    def refuse_files_of_others(self, items: Sequence[Item]) -> None:
        """Nothing, if no result would overwrite a file that is not of this run: of none the manifest or report knows.

        Raises:
            RunError: otherwise.
        """
        page = files.join(self.config.output, report.NAME)
        if files.exists(page) and not files.exists(files.join(self.config.output, CONFIG_NAME)):
            raise RunError(f"{page}: is there already, and of no run; choose another output")
        folders = {self.results, *self.config.folders.model_dump(exclude_none=True).values()}
        there = {
            files.join(folder, name)
            for folder in folders
            if files.is_dir(folder)
            for name in files.list_files(folder, tuple(ENDINGS))
        }
        shown = files.join(self.config.output, "report")
        ours = set(files.list_files(shown, (".jpg",))) if there and files.is_dir(shown) else set()
        done = names_done(self.config.output) if there else set()
        for item in items:
            if item.name in done or _thumbnail_name(item, "input").removeprefix("report/") in ours:
                continue
            for result in self._written(item):
                if result in there:
                    raise RunError(f"{result}: is there already, and of no run; choose another output")

    def are_there(self, item: Item, sample: int) -> bool:
        """Whether all that is written of a sample is, but for the report's pictures; what is empty is not there."""
        return all(files.has_content(path) for path in self._of_sample(item, sample))

    def _written(self, item: Item) -> Iterator[str]:
        """The pictures that are written of an item, but for the report's."""
        for sample in range(self.config.samples):
            yield from self._of_sample(item, sample)

    def _of_sample(self, item: Item, sample: int) -> Iterator[str]:
        more = self.config.folders
        yield self.path(item, sample)
        if more.stages is not None:
            for place, stage in enumerate(self.config.stages[:-1], 1):
                yield self._stage_path(more.stages, place, stage.name, self._name(item, sample))
        for folder in (more.masked, more.originals, more.masks):
            if folder is not None:
                yield files.join(folder, f"{item.stem}.png")

    def rows(self, records: Sequence[Record], items: Sequence[Item]) -> list[Row]:
        """What the report shows: a row for each photo."""
        by_name: dict[str, list[Record]] = {}
        for record in sorted(records, key=lambda r: r.sample):
            by_name.setdefault(record.name, []).append(record)
        return [self._row(item, by_name[item.name]) for item in items if item.name in by_name]

    def _row(self, item: Item, records: Sequence[Record]) -> Row:
        done = [r for r in records if r.status == "done"]
        return Row(
            name=item.name,
            status="done" if len(done) == len(records) else "failed",
            seconds=sum(r.seconds for r in done) if done else None,
            calls=sum(r.calls for r in done) if done else None,
            seed=records[0].seed if done else None,
            note="; ".join(dict.fromkeys(r.note for r in records if r.note)),
            input=_thumbnail_name(item, "input") if done else None,
            mask=_thumbnail_name(item, "mask") if done else None,
            results=tuple(_thumbnail_name(item, f"result-{r.sample}") for r in done),
            links=tuple(self._link(r) for r in done),
        )

    def _link(self, record: Record) -> str:
        return files.relative(files.join(self.results, record.output or ""), self.config.output)

    @staticmethod
    def _stage_path(folder: str, place: int, stage: str, name: str) -> str:
        return files.join(folder, f"{place}-{stage}", str(PurePosixPath(name).with_suffix(".png")))

    def _name(self, item: Item, sample: int) -> str:
        ending = "." + item.name.rpartition(".")[2]
        if self.config.format != "same":
            ending = SUFFIXES[self.config.format]
        elif ending.lower() not in ENDINGS:
            ending = ".png"  # GIF and BMP are read, never written
        suffix = f"-{sample + 1}" if self.config.samples > 1 else ""
        return f"{item.stem}{suffix}{ending}"


def _thumbnail_name(item: Item, kind: str) -> str:
    return f"report/{item.stem}-{kind}.jpg"


def _thumbnail(rgb: Tensor) -> bytes:
    H, W = rgb.shape[-2:]
    scale = min(1.0, THUMBNAIL_PX / max(H, W))
    small = resized(rgb[None].float(), max(1, round(H * scale)), max(1, round(W * scale)))[0].clamp(0, 1)
    return encode_photo(Photo(small, meta=Meta("jpeg")), "jpeg", quality=88)
