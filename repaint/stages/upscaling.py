"""What the upscale stage does with tensors; kept apart so that settings and errors need no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..colour import is_toned
from ..image import Photo, luma
from ..tiling import by_tiles, resized, starts
from .device import device_name, prepared
from .enhancers import load_enhancer
from .frugal import Frugal
from .progress import Device, Note, Precision, Progress
from .upscale import Upscale, UpscaleStage

COLOUR_CELL_PX = 32


def built(settings: Upscale, device: Device, precision: Precision) -> UpscaleStage:
    """The stage of these settings, its weights loaded."""
    at, precision, slow = prepared(device, precision)
    remarks = list(slow)
    loaded = [load_enhancer(name, settings, at, precision) for name in settings.candidates()]
    remarks += [remark for enhancer in loaded for remark in enhancer.remarks]
    networks = tuple(Frugal(e.name, e.network, e.scale, settings.tile_px, settings.overlap_px) for e in loaded)
    if settings.longest_px is None:
        remarks += _beyond(networks[-1], settings.factor(1, 1))
    return UpscaleStage(
        Upscaler(settings, networks).run,
        weights={name: sha256 for enhancer in loaded for name, sha256 in enhancer.weights.items()},
        remarks=tuple(remarks),
        device=device_name(at),
    )


def _beyond(network: Frugal, factor: float) -> list[str]:
    """What to say of a factor that the network does not reach."""
    if factor <= network.scale:
        return []
    return [f"{network.name} enlarges {network.scale} times and {factor:g} are wanted: the rest is bicubic"]


class Step(NamedTuple):
    """Where one photo stands.

    Attributes:
        calls: of the network so far.
        left: calls to come, as far as is known.
        photo: as it came, until all of it is done.
        notes: new since the step before.
    """

    calls: int
    left: int
    photo: Photo
    notes: list[str]


@dataclass(frozen=True, eq=False)
class Upscaler:
    """Enlarges photos by the settings.

    Attributes:
        networks: by rising scale; of those that enlarge enough the first is used, else the last.
    """

    settings: Upscale
    networks: tuple[Frugal, ...]

    def run(self, photos: Sequence[Photo], seeds: Sequence[int]) -> Iterator[Progress]:
        """Enlarge `photos`; yields after every tile and every photo, or once if there is none."""
        results, calls, notes = list(photos), [0] * len(photos), []
        left = [self._tiles(photo) for photo in photos]
        if not photos:
            yield Progress(0, 0, (), list, ())
        for i, photo in enumerate(photos):
            for step in self._steps(photo):
                calls[i], left[i], results[i] = step.calls, step.left, step.photo
                notes += [Note(note, i) for note in step.notes]
                done = sum(calls)
                yield Progress(done, done + sum(left), tuple(calls), partial(list, tuple(results)), tuple(notes))

    def _steps(self, photo: Photo) -> Iterator[Step]:
        s, factor = self.settings, self._factor(photo)
        if self._tiles(photo) == 0:
            length = max(photo.rgb.shape[1:])
            notes = (
                [] if length == s.longest_px else [f"is {length} px long, longest_px is {s.longest_px}: left as it is"]
            )
            yield Step(0, 0, photo, notes)
            return
        network = self._network(factor)
        before, notes = network.calls, _beyond(network, factor) if s.longest_px else []
        seen = photo.rgb if photo.alpha is None else spread(photo.rgb, photo.alpha > 0)
        tiles = None
        for tiles in by_tiles(network, seen[None], tile=s.tile_px, overlap=s.overlap_px, scale=network.scale):
            yield Step(network.calls - before, tiles.total - tiles.done, photo, notes + network.told())
            notes = []
        assert tiles is not None
        yield Step(network.calls - before, 0, enlarged(photo, seen, tiles.image[0], factor, s.strength), [])

    def _factor(self, photo: Photo) -> float:
        return self.settings.factor(*photo.rgb.shape[-2:])

    def _network(self, factor: float) -> Frugal:
        return next((n for n in self.networks if n.scale >= factor), self.networks[-1])

    def _tiles(self, photo: Photo) -> int:
        """Network calls that a photo takes where memory suffices; none where it is as long as it should be."""
        if self.settings.longest_px is not None and self._factor(photo) <= 1:
            return 0
        H, W = (len(starts(n, self.settings.tile_px, self.settings.overlap_px)) for n in photo.rgb.shape[-2:])
        return H * W


def enlarged(photo: Photo, seen: Tensor, answer: Tensor, factor: float, strength: float) -> Photo:
    """The photo `factor` times as wide and high, its colours from the network's answer, all else following.

    Args:
        seen: (3, H, W), what the network was shown.
        answer: (3, H * scale, W * scale), what it said.
        strength: share of the answer; the rest is `seen`, enlarged plainly.
    """
    H, W = photo.rgb.shape[-2:]
    size = int(H * factor + 0.5), int(W * factor + 0.5)
    rgb, toned = with_colours_of(seen, resized(answer[None], *size)[0]), is_toned(seen)
    if strength < 1 or toned:
        plain = resized(seen[None], *size)[0]
        rgb = torch.lerp(plain, rgb, strength)
        rgb = plain + luma(rgb - plain) if toned else rgb  # sepia stays sepia
    if photo.meta.grey or bool((seen == seen[:1]).all()):
        rgb = luma(rgb).repeat(3, 1, 1)
    alpha, keep, dpi = photo.alpha, photo.keep, photo.meta.dpi
    if alpha is not None:
        alpha = resized(alpha[None], *size)[0].clamp(0, 1)
    if keep is not None:
        keep = F.interpolate(keep[None].float(), size, mode="nearest-exact")[0].to(keep.dtype)
    if dpi is not None:
        dpi = dpi[0] * factor, dpi[1] * factor  # as large as it was, on paper
    return Photo(rgb.clamp_(0, 1), keep, alpha, replace(photo.meta, dpi=dpi))


def with_colours_of(x: Tensor, y: Tensor) -> Tensor:
    """`y` (3, h, w), its colours over cells of some px of `x` (3, H, W) made those of `x`, what is finer left as it is.

    Networks trained for looks alone drift: towards grey, or a little brighter.
    """
    H, W = x.shape[-2:]
    drift = x - resized(y[None], H, W)[0]
    cells = max(1, round(H / COLOUR_CELL_PX)), max(1, round(W / COLOUR_CELL_PX))
    back = resized(F.adaptive_avg_pool2d(drift[None], cells), *y.shape[-2:])[0]
    return back.add_(y)  # no third tensor of this size


def spread(rgb: Tensor, seen: Tensor) -> Tensor:
    """`rgb` (3, H, W) with the colours of pixels that are `seen` (1, H, W) also on those that are not.

    What is hidden is often black; a network, or any filter, would draw it into the edge of what is seen.
    """
    if seen.all() or not seen.any():
        return rgb
    share = F.avg_pool2d(seen[None].float(), 2, ceil_mode=True)[0]
    mean = F.avg_pool2d((rgb * seen)[None], 2, ceil_mode=True)[0] / share.clamp(min=0.01)
    coarse = spread(mean, share > 0)
    return torch.where(seen, rgb, F.interpolate(coarse[None], rgb.shape[-2:], mode="nearest")[0])
