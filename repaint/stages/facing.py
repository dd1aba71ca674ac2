"""What the faces stage does with tensors; kept apart so that settings and errors need no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ..colour import is_toned
from ..diffusion import Noise
from ..errors import ConfigError, WeightsError
from ..faces import Face, added, aligned, blurred, oval, softened
from ..image import Photo, luma
from ..tiling import resized
from ..weights.face_parts import PARSER_PX, RETINA_MOST_PX, load_face_finder, load_face_parser, load_retinaface
from ..weights.networks import file_of
from .device import device_name, prepared
from .face_restorers import Restorer, licence_remarks, load_restorer
from .faces import Faces, FacesStage, Restored
from .filling import STREAM
from .finding import MOST_PX, found
from .frugal import SmallerCopy, while_memory_suffices
from .progress import Device, Note, Precision

EMBEDDED_FINDER = "face-finder"
RETINAFACES = ("detection_Resnet50", "detection_mobilenet0.25")
PARSERS = ("parsing_bisenet", "parsing_parsenet")
SHADING = 1 / 16  # sigma, in sides of the aligned square, from which on a change is one of shading or colour

Mask = Callable[[Tensor], Tensor]
"""Where a restored face (1, 3, s, s) in [0, 1] counts: (1, m, m) in [0, 1], on any device."""


@dataclass(frozen=True, eq=False)
class Finder:
    """What finds faces.

    Attributes:
        find: the faces of a photo (3, H, W) in [0, 1], on the CPU, the surest first; None if there is no finder.
        told: what the user should know and has not been told yet.
    """

    find: Callable[[Tensor], list[Face]] | None
    weights: dict[str, str]
    remarks: tuple[str, ...]
    told: Callable[[], list[str]] = list


def built(settings: Faces, device: Device, precision: Precision) -> FacesStage:
    """The stage of these settings, its weights loaded; see `Faces.build`."""
    at, precision, remarks = prepared(device, precision)
    finder = finder_of(settings, at)
    if finder.find is None:
        return FacesStage(_left_alone, lambda photo: [], {}, finder.remarks, device_name(at))
    restorer = load_restorer(settings, at, precision)
    mask, mask_weights, mask_remarks = mask_of(settings, restorer.size, at)
    facer = Facer(settings, finder.find, restorer, mask, at, finder.told)
    return FacesStage(
        facer.run,
        facer.found,
        {**finder.weights, **restorer.weights, **mask_weights},
        (*remarks, *finder.remarks, *restorer.remarks, *mask_remarks),
        device_name(at),
    )


def finder_of(settings: Faces, device: torch.device) -> Finder:
    """What finds faces by the settings; raises as `Faces.build`."""
    dir, auto = settings.weights_dir, settings.finder == "auto"
    name, remarks = (None, ()) if settings.finder == "embedded" else by_facexlib("finder", RETINAFACES, settings)
    if name is not None:
        retina = load_retinaface(name, weights_dir=dir, device=device)
        find = frugal_finder(name, lambda image, most_px, scale: retina.network(image), RETINA_MOST_PX)
        return Finder(find, {name: retina.sha256}, (f"faces are found by {name}", *retina.remarks), find.told)
    if auto and not _is_there(EMBEDDED_FINDER, dir):
        remedy = remarks or (f"no finder is there; repaint weights get {RETINAFACES[0]} --dir {dir}",)
        return Finder(None, {}, (f"faces are left as they are: {remedy[0]}",))
    ours = load_face_finder(EMBEDDED_FINDER, weights_dir=dir, device=device)

    def look(image: Tensor, most_px: int, scale: float) -> list[Face]:
        return found(ours.network, image.to(device), most_px, smallest_px=settings.min_px * scale)

    find = frugal_finder(EMBEDDED_FINDER, look, MOST_PX)
    said = (f"faces are found by {EMBEDDED_FINDER}",) if auto else ()
    return Finder(find, {EMBEDDED_FINDER: ours.sha256}, (*said, *remarks, *ours.remarks), find.told)


def frugal_finder(name: str, find: Callable[[Tensor, int, float], list[Face]], most_px: int) -> SmallerCopy:
    """What finds faces by `find`, and goes on with smaller copies of photos when memory does not suffice.

    Args:
        find: the faces of an image (3, h, w) on the CPU, of which it looks at so many pixels at most, and which is so
            many times as wide and high as the photo.
        most_px: what it looks at as long as memory suffices.
    """

    def look(image: Tensor, limit: int) -> list[Face]:
        H, W = image.shape[1:]
        scale = math.sqrt(limit / (H * W))
        if limit == most_px or scale >= 1:
            return find(image, limit, 1.0)
        h, w = (max(1, round(side * scale)) for side in (H, W))
        back = torch.tensor([W / w, H / h])
        faces = find(resized(image[None], h, w)[0], limit, scale)
        return [replace(face, landmarks=face.landmarks * back) for face in faces]

    return SmallerCopy(name, look, most_px)


def mask_of(settings: Faces, size: int, device: torch.device) -> tuple[Mask, dict[str, str], tuple[str, ...]]:
    """What says which part of a restored face of `size` px counts; sha256 by name; and remarks."""
    name, remarks = (None, ()) if settings.mask == "oval" else by_facexlib("mask", PARSERS, settings)
    if name is None:
        whole = oval(size)
        return lambda face: whole, {}, remarks
    parser = load_face_parser(name, weights_dir=settings.weights_dir, device=device)

    def parsed(face: Tensor) -> Tensor:
        return softened(parser.network(resized(face, PARSER_PX, PARSER_PX).clamp(0, 1)))

    said = (f"parts of faces are told apart by {name}", *parser.remarks, *licence_remarks(name))
    return parsed, {name: parser.sha256}, said


def by_facexlib(
    key: Literal["finder", "mask"], names: Sequence[str], settings: Faces
) -> tuple[str | None, tuple[str, ...]]:
    """Which network of facexlib serves: the first that is on disk. With `auto` None, and why, if none can.

    Raises:
        ConfigError: if the settings ask for one, and facexlib is not installed.
    """
    auto = getattr(settings, key) == "auto"
    name = next((name for name in names if _is_there(name, settings.weights_dir)), None)
    if auto and name is None:
        return None, ()
    name = name or names[0]  # to load it says how to get it
    try:
        import facexlib  # noqa: F401
    except ImportError as e:
        lacking = f"{name} takes facexlib ({e}): pip install facexlib"
        if auto:
            return None, (lacking,)
        raise ConfigError(f"{key}: {lacking}") from None
    return name, ()


def _is_there(name: str, weights_dir: str) -> bool:
    try:
        file_of(name, weights_dir)
    except WeightsError:
        return False
    return True


def _left_alone(photos: Sequence[Photo], seeds: Sequence[int]) -> Iterator[Restored]:
    yield Restored(0, 0, (0,) * len(photos), partial(list, tuple(photos)), (), ((),) * len(photos))


@dataclass(frozen=True, eq=False)
class Facer:
    """Restores the faces of photos by the settings."""

    settings: Faces
    find: Callable[[Tensor], list[Face]]
    restorer: Restorer
    mask: Mask
    device: torch.device
    told: Callable[[], list[str]] = list

    def run(self, photos: Sequence[Photo], seeds: Sequence[int]) -> Iterator[Restored]:
        """Restore the faces of `photos`; yields after every network call, and at the beginning.

        A face for which memory does not suffice is left as it is, with a note.
        """
        if self.settings.strength == 0:
            yield from _left_alone(photos, seeds)
            return
        results, notes = list(photos), []
        faces: list[tuple[Face, ...]] = [()] * len(photos)
        calls, left = [0] * len(photos), [1] * len(photos)

        def progress() -> Restored:
            now = partial(list, tuple(results))
            return Restored(sum(calls), sum(calls) + sum(left), tuple(calls), now, tuple(notes), tuple(faces))

        yield progress()
        for i, (photo, seed) in enumerate(zip(photos, seeds, strict=True)):
            chosen = self.chosen(photo)
            notes += self.told()
            faces[i], calls[i], left[i] = tuple(chosen), 1, len(chosen) * self.restorer.calls
            if not chosen:
                notes.append(Note(f"no face of {self.settings.min_px} px or more was found", i))
            yield progress()
            change = partial(_toned, alike=bool(chosen) and is_toned(photo.rgb))
            for nth, face in enumerate(chosen):
                noise = Noise([(seed + nth * STREAM) % 2**63])
                before = results[i].rgb
                for rgb in while_memory_suffices(self._with_face(before, face, noise, change)):
                    calls[i], left[i] = calls[i] + 1, left[i] - 1
                    if rgb is not None:
                        results[i] = replace(photo, rgb=rgb)
                    yield progress()
                others = (len(chosen) - nth - 1) * self.restorer.calls
                if left[i] > others:
                    left[i] = others
                    notes.append(Note(f"out of memory: a face of {face.px:.0f} px is left as it is", i))
                    yield progress()

    def found(self, photo: Photo) -> list[Face]:
        """The faces of a photo that are not too small, the surest first."""
        faces = self.find(photo.rgb)
        return [face for face in faces if face.px >= self.settings.min_px]

    def chosen(self, photo: Photo) -> list[Face]:
        """The faces that are restored, the largest first."""
        most = 1 if self.settings.which == "largest" else self.settings.max_faces
        return sorted(self.found(photo), key=lambda face: -face.px)[:most]

    def _with_face(
        self, rgb: Tensor, face: Face, noise: Noise, toned: Callable[[Tensor], Tensor]
    ) -> Iterator[Tensor | None]:
        """None after each network call but the last, and then the photo with the face restored.

        Restored is the face as the network knows it, large or small in the photo; what is put back is the difference
        that this makes. So a large face keeps what is finer than the network sees, and a small one gets all there is.
        """
        before = aligned(rgb, face, self.restorer.size).clamp(0, 1)
        guesses = self.restorer.restored(before[None].to(self.device), noise)
        for _ in range(self.restorer.calls - 1):
            next(guesses)
            yield None
        after = next(guesses).clamp(0, 1)
        mask = self.mask(after).cpu()
        change = after[0].float().cpu() - before
        if self.settings.keep_colors:
            change = without_shading(change, resized(mask[None], *change.shape[1:])[0].clamp(0, 1))
        yield added(rgb, self.settings.strength * toned(change), mask, face).clamp(0, 1)


def without_shading(change: Tensor, mask: Tensor) -> Tensor:
    """The change (3, s, s) of a face less what is smooth of it, as far as it counts (1, s, s)."""
    sigma = SHADING * change.shape[-1]
    return change - blurred(change * mask, sigma) / blurred(mask, sigma).clamp(min=1e-3)


def _toned(change: Tensor, *, alike: bool) -> Tensor:
    """The change (3, s, s), the same of all channels if they are to be changed alike."""
    return luma(change).expand(3, -1, -1) if alike else change
