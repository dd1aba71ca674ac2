"""What all stages share: where a stage stands, and what it is built for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from ..image import Photo

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["float32", "bfloat16", "float16"]


class Note(str):
    """A line for the user about one of several photos.

    Attributes:
        photo: its place among them.
    """

    photo: int

    def __new__(cls, text: str, photo: int) -> Note:
        note = super().__new__(cls, text)
        note.photo = photo
        return note


@dataclass(frozen=True, eq=False)
class Progress:
    """Where a stage stands.

    Attributes:
        done: network calls made so far, over all photos; 0 for stages without a network.
        total: network calls in all, as far as is known.
        calls: network calls made so far for each photo.
        notes: what happened that the user should know, so far; a `Note` if it is of one photo.
    """

    done: int
    total: int
    calls: tuple[int, ...]
    _photos: Callable[[], list[Photo]]
    notes: tuple[str, ...] = ()

    @property
    def photos(self) -> list[Photo]:
        """The photos as guessed so far; of the last progress, the result. Computed when asked for."""
        return self._photos()


class Stage(Protocol):
    """A stage that is ready for work: photos in, better photos out."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """Lines worth telling the user before work starts."""
        ...

    @property
    def weights(self) -> dict[str, str]:
        """sha256 by name of everything learned that it uses; a picture depends on them."""
        ...

    def __call__(self, photos: Sequence[Photo], seeds: Sequence[int]) -> Iterator[Progress]: ...
