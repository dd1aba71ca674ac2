"""Which mask belongs to which image, said before any work starts."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from .. import files
from ..errors import RunError
from .settings import RunConfig


@dataclass(frozen=True)
class Item:
    """An image and its mask.

    Attributes:
        name: of the image, relative to its folder, with '/' between parts.
        position: in the sorted list of all images, 0-based.
    """

    name: str
    image: str
    mask: str | None
    position: int

    @property
    def stem(self) -> str:
        return str(PurePosixPath(self.name).with_suffix(""))

    def seed(self, config: RunConfig, sample: int) -> int:
        """The seed of a sample of this image, in 0..2**63-1: it does not depend on which other images there are."""
        if config.seeds == "position" and sample == 0:
            return config.seed + self.position
        text = f"{config.seed}/{self.stem}/{sample}"
        return int.from_bytes(hashlib.sha256(text.encode(errors="surrogateescape")).digest()[:8]) >> 1


def paired(config: RunConfig) -> tuple[list[Item], list[str]]:
    """The images of a run with their masks, and remarks about what is left over.

    Raises:
        RunError: if a folder is missing or empty, an image has no mask and no stage finds damage, or two images would
            share a result.
    """
    from ..image import unread_in  # brings torch

    images = _listed(config.images, "images")
    masks = _listed(config.masks, "masks") if config.masks is not None else []
    images, of_masks = _without_masks(images, config)
    if config.masks is None:
        partners: Sequence[str | None] = [None] * len(images)
        remarks: list[str] = []
    elif not files.is_dir(config.masks):
        partners, remarks = [masks[0]] * len(images), []
    elif config.pair == "order":
        if len(images) != len(masks):
            raise RunError(
                f"pair: order needs as many masks as images: {config.images} has {len(images)}, "
                f"{config.masks} has {len(masks)}"
            )
        partners, remarks = masks, []
    else:
        partners, remarks = _by_stem(images, masks, config)
    root_i, root_m = _root(config.images), _root(config.masks)
    items = [
        Item(name, files.join(root_i, name), None if mask is None else files.join(root_m, mask), position)
        for position, (name, mask) in enumerate(zip(images, partners, strict=True))
    ]
    _refuse_shared_results(items)
    if files.is_dir(config.images) and (unread := unread_in(config.images)) is not None:
        remarks = [*remarks, unread]
    if of_masks:
        what = f"{files.in_short(of_masks)} of {config.images}"
        remarks = [*remarks, f"{what}: not taken for {_an_image(of_masks)}, but for what masks: says"]
    chosen = items[config.offset :][: config.limit]
    if not chosen:
        raise RunError(f"offset: {config.offset} leaves none of the {len(items)} images of {config.images}")
    return chosen, remarks


def _without_masks(images: list[str], config: RunConfig) -> tuple[list[str], list[str]]:
    """The images; and what of them is a mask, as masks may lie in the folder of images."""
    if config.masks is None or not files.is_dir(config.images):
        return images, []
    if files.is_within(config.masks, config.images) and files.is_within(config.images, config.masks):
        raise RunError(
            f"masks: {config.masks} is the folder of images, too; masks need a folder or a file of their own"
        )
    place = files.relative(config.masks.rstrip("/"), config.images)
    of_masks = [name for name in images if name == place or name.startswith(f"{place}/")]
    if len(of_masks) == len(images):
        raise RunError(f"images: {config.images} holds no images, only what masks: says ({config.masks})")
    there = set(of_masks)
    return [name for name in images if name not in there], of_masks


def _by_stem(images: Sequence[str], masks: Sequence[str], config: RunConfig) -> tuple[list[str | None], list[str]]:
    found: dict[str, str] = {}
    for mask in masks:
        stem = _stem(mask)
        if stem in found:
            raise RunError(f"{config.masks}: {found[stem]} and {mask} are both masks of {stem}; keep one")
        found[stem] = mask
    alone = [name for name in images if _stem(name) not in found]
    remarks = []
    if alone:
        words = f"{files.in_short(alone)} of {config.images} {_have(alone)} no mask of the same name in {config.masks}"
        names = [stage.name for stage in config.stages]
        finds = "scratches" in names[: names.index("inpaint") if "inpaint" in names else None]
        if not finds or len(alone) == len(images):
            raise RunError(words)
        remarks.append(f"{words}: there the damage that is found is filled, and no more")
    stems = {_stem(name) for name in images}
    of_detect = {f"{stem}{more}" for stem in stems for more in ("_overlay", "_probability")}  # beside its masks
    spare = [mask for mask in masks if _stem(mask) not in stems and _stem(mask) not in of_detect]
    if spare:
        remarks.append(f"{files.in_short(spare)} of {config.masks} {_have(spare)} no image and {_are(spare)} not used")
    return [found.get(_stem(name)) for name in images], remarks


def _listed(place: str | None, key: str) -> list[str]:
    from ..image import READABLE, unread_in  # brings torch

    assert place is not None
    try:
        if files.is_dir(place):
            names = files.list_files(place, READABLE)
            if not names:
                unread = unread_in(place)
                more = "" if unread is None else f"; {unread}"
                raise RunError(f"{key}: {place} holds no images ({', '.join(READABLE)}){more}")
            return names
        if files.exists(place):
            return [PurePosixPath(place).name]
    except OSError as e:
        raise RunError(f"{key}: {e.filename or place} cannot be listed: {e.strerror or e}") from None
    raise RunError(f"{key}: {place} does not exist")


def _root(place: str | None) -> str:
    if place is None or files.is_dir(place):
        return place or ""
    head, _, tail = place.rpartition("/")
    return head or ("/" if place.startswith("/") else ".") if tail else place


def _refuse_shared_results(items: Sequence[Item]) -> None:
    seen: dict[str, str] = {}
    for item in items:
        if item.stem in seen:
            raise RunError(f"{seen[item.stem]} and {item.name} would both write {item.stem}; rename one")
        seen[item.stem] = item.name


def _stem(name: str) -> str:
    """What a name must have in common with its partner's; an accent is one, as Windows writes it or as a Mac does."""
    return unicodedata.normalize("NFC", str(PurePosixPath(name).with_suffix("")))


def _have(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _an_image(names: Sequence[str]) -> str:
    return "an image" if len(names) == 1 else "images"


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
