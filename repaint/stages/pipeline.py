"""Stages one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .progress import Progress, Stage

if TYPE_CHECKING:
    from ..image import Photo


@dataclass(frozen=True, eq=False)
class Step:
    """Where a pipeline stands.

    Attributes:
        stage: the name of the one at work.
        share: of all the work, 0..1; stages count alike.
        calls: network calls made so far for each photo, by all stages.
        given: the photos, before any stage.
        results: of the stages that are through, by name, in their order; the last one's of the last step is the result.
        notes: what happened that the user should know, so far.
    """

    stage: str
    share: float
    calls: tuple[int, ...]
    given: Sequence[Photo] = ()
    results: dict[str, list[Photo]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    _guess: Callable[[], list[Photo]] | None = None

    @property
    def guess(self) -> list[Photo]:
        """The photos as the stage at work has them so far. Computed when asked for."""
        return self.photos if self._guess is None else self._guess()

    @property
    def photos(self) -> list[Photo]:
        """The photos as the last stage that is through left them."""
        return [list(self.given), *self.results.values()][-1]


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Stages by name, in their order, ready for work; each sees what the one before made of the photos."""

    stages: Mapping[str, Stage]

    @property
    def remarks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(remark for stage in self.stages.values() for remark in stage.remarks))

    @property
    def weights(self) -> dict[str, str]:
        """sha256 by name of all that is learned."""
        return {name: sha256 for stage in self.stages.values() for name, sha256 in stage.weights.items()}

    def __call__(self, photos: Sequence[Photo], seeds: Sequence[int]) -> Iterator[Step]:
        """Yields whenever a stage does; the last step holds the results of all."""
        results: dict[str, list[Photo]] = {}
        given, before, notes = photos, [0] * len(photos), ()
        for place, (name, stage) in enumerate(self.stages.items()):
            progress: Progress | None = None
            for progress in stage(photos, seeds):
                share = (place + progress.done / max(1, progress.total)) / len(self.stages)
                calls = tuple(a + b for a, b in zip(before, progress.calls, strict=True))
                so_far = (*notes, *progress.notes)
                yield Step(name, min(share, 1.0), calls, given, dict(results), so_far, progress._photos)
            if progress is None:
                raise RuntimeError(f"the {name} stage answered nothing")
            photos = results[name] = progress.photos
            before = [a + b for a, b in zip(before, progress.calls, strict=True)]
            notes = (*notes, *progress.notes)
            yield Step(name, (place + 1) / len(self.stages), tuple(before), given, dict(results), notes)
