"""What is known of one set of weights: name, file, source, hash, size and licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal


@dataclass(frozen=True)
class Url:
    """A file behind an http(s) address."""

    url: str


@dataclass(frozen=True)
class Drive:
    """A file on Google Drive."""

    id: str

    @property
    def url(self) -> str:
        return f"https://drive.google.com/uc?id={self.id}"


@dataclass(frozen=True)
class HuggingFace:
    """Some files of a model repository on the Hugging Face hub; they become a folder."""

    repo: str
    files: tuple[str, ...]

    @property
    def url(self) -> str:
        return f"https://huggingface.co/{self.repo}"


@dataclass(frozen=True)
class Embedded:
    """A file of this package, in `weights/embedded`."""


@dataclass(frozen=True)
class ByHand:
    """A file that nobody serves on its own.

    Attributes:
        url: the page to get it from.
        how: what to do there, and why no command does it.
    """

    url: str
    how: str


Source = Url | Drive | HuggingFace | Embedded | ByHand
Kind = Literal["prior", "classifier", "masks", "scratches", "mender", "upscaler", "faces", "face-parts"]


@dataclass(frozen=True)
class Entry:
    """One set of weights.

    Attributes:
        file: name of the file, or of the folder for a `HuggingFace` source.
        page: where the source describes it; for embedded ones the card, relative to the repository.
        commercial: False if the licence forbids commercial use, allows research only, or is not stated.
        sha256: of the file; None where nobody has published it, and for folders.
        size_bytes: exact; None where unknown.
        about_gb: 1e9 bytes, good enough to decide whether to fetch; None where unknown.
        hints: what shapes cannot tell of a prior or classifier, under the published configs' names. Empty for
            diffusers folders, which describe themselves, and for all other kinds.
    """

    name: str
    file: str
    kind: Kind
    source: Source
    page: str
    purpose: str
    licence: str
    commercial: bool
    sha256: str | None = None
    size_bytes: int | None = None
    about_gb: float | None = None
    hints: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), hash=False)

    @property
    def embedded(self) -> bool:
        return isinstance(self.source, Embedded)

    @property
    def size(self) -> str:
        """'2.21 GB', 'about 2.2 GB' or 'size unknown'."""
        if self.size_bytes is not None:
            return f"{self.size_bytes / 1e9:.2f} GB" if self.size_bytes >= 1e9 else f"{self.size_bytes / 1e6:.1f} MB"
        return f"about {self.about_gb:g} GB" if self.about_gb is not None else "size unknown"
