"""How the scratches stage finds damage: a probability for every pixel, tile after tile, and marks made of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ..archs.scratch_net import hint
from ..faces import Dear, dear_boxes
from ..filters import WEAK, connected, damage_score
from ..holes import grown, thicker_than
from ..image import Photo, luma
from ..tiling import by_tiles, resized, starts
from ..weights.detectors import load_detector
from .device import prepared
from .faces import Faces
from .facing import finder_of as face_finder_of
from .flakes import whole_flakes
from .frugal import Frugal
from .margins import without_dark_rims
from .progress import Device, Note, Precision
from .rims import rim_px
from .scratches import Detected, Scratches, ScratchesStage
from .together import Together, widest

TILE_PX, OVERLAP_PX = 512, 128  # about twice what detectors are trained on, and what they can see across
SLOPE, SLOPE_PX = 0.5, 8  # in eyes and mouths a mark ends where it is half as probable as near by
MANY_PX = 20  # so many strong pixels are not many, however small the photo
NEVER_THICK_PX = 16  # however small the photo
SUSPICIOUS = 0.25  # share of a photo that is marked, from which on the user should know


def built(settings: Scratches, device: Device, precision: Precision) -> ScratchesStage:
    """The stage of the settings; see `Scratches.build`."""
    finder = finder_of(settings, device, precision)
    stage = ScratchesStage(finder.run, finder.remarks, finder.weights)
    if not settings.protect_faces:
        return stage
    at = prepared(device, precision)[0]
    faces = face_finder_of(Faces(weights_dir=settings.weights_dir), at)
    if (find := faces.find) is None:
        return dataclasses.replace(stage, remarks=(*stage.remarks, "faces are not protected: no face finder"))
    both = dataclasses.replace(finder, told=lambda: [*finder.told(), *faces.told()])
    return dataclasses.replace(
        stage,
        run=both.run,
        weights={**stage.weights, **faces.weights},
        dear=lambda photo: dear_boxes(find(photo.rgb)),
    )


def finder_of(settings: Scratches, device: Device, precision: Precision) -> Finder:
    """What finds damage by the settings; raises as `Scratches.build`."""
    at, precision, slow = prepared(device, precision)
    if settings.detector == "filters":
        return Finder(settings, damage_score, settings.threshold(0.5), weak=WEAK, calls_network=False)
    loaded = load_detector(settings.weights, weights_dir=settings.weights_dir, device=at, precision=precision)
    frugal = Frugal(settings.weights, loaded.network, scale=1, tile_px=TILE_PX, overlap_px=OVERLAP_PX)

    threshold = settings.threshold(loaded.threshold)

    @torch.no_grad()
    def probability(light: Tensor) -> Tensor:
        return torch.sigmoid(frugal(light.to(at)).float())

    return Finder(
        settings,
        twice(probability, weaker(threshold, loaded.weak)) if settings.second_look else probability,
        threshold,
        weak=loaded.weak,
        sure=loaded.sure,
        many=loaded.many,
        hinted=loaded.hinted,
        told=frugal.told,
        weights={settings.weights: loaded.sha256},
        remarks=(*slow, *loaded.remarks),
    )


def twice(look: Callable[[Tensor], Tensor], least: float) -> Callable[[Tensor], Tensor]:
    """`look`, which also looks upside down where it sees anything as probable as `least`: the mean of both."""

    def both(x: Tensor) -> Tensor:
        found = look(x)
        if (found < least).all():
            return found
        return (found + look(x.rot90(2, (-2, -1))).rot90(2, (-2, -1))) / 2

    return both


def weaker(threshold: float, share: float) -> float:
    """The probability whose odds are this share of those of `threshold`."""
    odds = share * threshold / (1 - threshold)
    return odds / (1 + odds)


@dataclass(frozen=True, eq=False)
class Finder:
    """Finds damage by the settings.

    Attributes:
        probability: (1, 1, h, w) of luma (1, 1, h, w), for any h, w up to a tile; of luma and a hint (1, 2, h, w) if
            it is `hinted`.
        threshold: the probability from which on a pixel is damage.
        weak: of the odds of `threshold`: what suffices where it touches damage.
        sure: of a mark of such pixels: the share that must reach `threshold`, unless very many do.
        many: so many, as a share of the photo.
        told: what the user should know and has not been told yet.
    """

    settings: Scratches
    probability: Callable[[Tensor], Tensor]
    threshold: float
    weak: float = 1.0
    sure: float = 0.0
    many: float = 1.0
    calls_network: bool = True
    hinted: bool = False
    told: Callable[[], list[str]] = list
    weights: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def run(self, photos: Sequence[Photo], protect: Sequence[Sequence[Dear]]) -> Iterator[Detected]:
        """Mark the damage of `photos`; yields after every tile, and once more with the result."""
        results, maps, notes = list(photos), [], []
        calls = [0] * len(photos)
        total = sum(map(self._calls, photos))

        def progress() -> Detected:
            now = partial(list, tuple(results))
            return Detected(sum(calls), total, tuple(calls), now, tuple(notes), tuple(maps))

        for i, (photo, boxes) in enumerate(zip(photos, protect, strict=True)):
            found = None
            for found in self._looks(photo):
                if found is None:
                    calls[i] += self.calls_network
                    yield progress()
            assert found is not None
            notes += self.told()
            hole = self.widened(self.marked(found, photo.alpha, boxes), photo, boxes)
            results[i] = dataclasses.replace(photo, keep=_kept(photo.keep, hole))
            if (share := hole.float().mean().item()) > SUSPICIOUS:
                marked = f"{100 * share:.0f} % of a photo was taken for damage; a lower sensitivity finds less"
                notes.append(Note(marked, i))
            if self.settings.save_probability:
                maps.append(found)
        yield progress()

    def probability_of(self, photo: Photo) -> Tensor:
        """The map of probabilities of a photo, (1, H, W)."""
        *_, found = self._looks(photo)
        assert found is not None
        return found

    def marked(self, probability: Tensor, alpha: Tensor | None = None, protect: Sequence[Dear] = ()) -> Tensor:
        """The damage, (1, H, W) bool, that a map of probabilities (1, H, W) shows; not enlarged."""
        strong, hole = probability >= self.threshold, probability >= weaker(self.threshold, self.weak)
        if alpha is not None:
            hole &= alpha > 0
        if self.weak < 1:
            hole = connected(hole, strong, share=self.sure) | connected(
                hole, strong, least=max(MANY_PX, math.ceil(self.many * hole.numel()))
            )
        if self.settings.min_area_px > 1:
            hole = connected(hole, hole, least=self.settings.min_area_px)
        if self.settings.thickest is not None and hole.any():
            thickest = max(NEVER_THICK_PX, self.settings.thickest * math.sqrt(hole.numel()))
            hole = connected(hole, ~thicker_than(~hole, thickest), share=0.5)
        if protect:
            hole &= ~_slopes(protect, hole, probability)
            hole = connected(hole, ~_spared(protect, hole), share=0.5)
        return hole

    def widened(self, hole: Tensor, photo: Photo, protect: Sequence[Dear] = ()) -> Tensor:
        """The marks of a photo, (1, H, W) bool, as they are filled: flakes whole, and their rims, but no rim of a scan.

        With `grow_px` in the settings they are enlarged by that instead.
        """
        px = self.settings.grow_px
        if not hole.any() or px == 0:
            return hole
        if px is None:
            light = luma(photo.rgb)
            hole = without_dark_rims(hole, light)
            found = whole_flakes(hole, light)
            more = found & ~hole
            hole = found & (hole | (more & ~_spared(protect, more)))
            px = max(1, rim_px(hole, light))
            if px > 1 and (places := list(_dearest(protect))):
                wide, hole = ~grown(~hole, px), ~grown(~hole, 1)
                for place in places:
                    wide[place] &= hole[place]
                hole, px = wide, 0
        hole = ~grown(~hole, px)
        return hole if photo.alpha is None else hole & (photo.alpha > 0)

    def _looks(self, photo: Photo) -> Iterator[Tensor | None]:
        """None after every tile, of all sizes; at last the map of probabilities, (1, H, W)."""
        light = luma(photo.rgb)[None]
        together = Together(self.settings.combine, self.hinted)
        found = None
        for size in reversed(self._sizes(photo)):
            x = resized(light, *size).clamp(0, 1)
            if self.hinted:
                x = torch.cat([x, torch.full_like(x, 0.5) if found is None else hint(found, x)], 1)
            for tile in by_tiles(self.probability, x, tile=TILE_PX, overlap=OVERLAP_PX):
                found = tile.image
                yield None
            assert found is not None
            together.add(found)
        yield together.map()[0]

    def _sizes(self, photo: Photo) -> list[tuple[int, int]]:
        """The sizes to look at, the photo's own first, each half as large as the one before."""
        H, W = photo.rgb.shape[-2:]
        found = [(H, W)]
        while self.settings.smallest_px and math.sqrt(H * W) >= 2 ** len(found) * self.settings.smallest_px:
            found.append((max(1, round(H / 2 ** len(found))), max(1, round(W / 2 ** len(found)))))
        return found

    def _calls(self, photo: Photo) -> int:
        if not self.calls_network:
            return 0
        return sum(math.prod(len(starts(n, TILE_PX, OVERLAP_PX)) for n in size) for size in self._sizes(photo))


def _kept(before: Tensor | None, hole: Tensor) -> Tensor:
    """What is kept when `hole` is marked, too; a soft mask stays soft elsewhere."""
    if before is None:
        return ~hole
    return before & ~hole if before.dtype == torch.bool else before.masked_fill(hole, 0)


def _dearest(boxes: Sequence[Dear]) -> Iterator[tuple[slice, ...]]:
    """Where eyes and mouths are in (1, H, W): they are white, and next to a white scratch taken for more of it."""
    for top, left, bottom, right, *thin_px in boxes:
        if not thin_px:
            yield (slice(None), slice(max(0, top), max(0, bottom)), slice(max(0, left), max(0, right)))


def _slopes(boxes: Sequence[Dear], hole: Tensor, probability: Tensor) -> Tensor:
    """What of the marks in eyes and mouths is far less probable than their ridge."""
    slopes = torch.zeros_like(hole)
    for place in _dearest(boxes):
        if hole[place].any():
            p = probability[place]
            slopes[place] = hole[place] & (p < SLOPE * widest(p[None], SLOPE_PX)[0])
    return slopes


def _spared(boxes: Sequence[Dear], hole: Tensor) -> Tensor:
    """Where marks are no damage: in the boxes; in one with a fifth number, what is thicker than that."""
    spared = torch.zeros_like(hole)
    for top, left, bottom, right, *thin_px in boxes:
        place = (..., slice(max(0, top), max(0, bottom)), slice(max(0, left), max(0, right)))
        marks = hole[place]
        if marks.any():
            spared[place] |= thicker_than(~marks, *thin_px) if thin_px else marks
    return spared
