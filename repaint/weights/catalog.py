"""The weights this package knows: one table of names, files, sources, hashes and licences."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from ..errors import WeightsError


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


Source = Url | Drive | HuggingFace | Embedded
Kind = Literal["prior", "classifier", "masks"]


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
        hints: what shapes cannot tell, under the published configs' names. Empty for diffusers
            folders, which describe themselves.
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
    def image_size(self) -> int | None:
        """Width and height in px the weights were trained at; None for masks and self-describing folders."""
        return self.hints.get("image_size")

    @property
    def size(self) -> str:
        """'2.21 GB', 'about 2.2 GB' or 'size unknown'."""
        if self.size_bytes is not None:
            return f"{self.size_bytes / 1e9:.2f} GB" if self.size_bytes >= 1e9 else f"{self.size_bytes / 1e6:.1f} MB"
        return f"about {self.about_gb:g} GB" if self.about_gb is not None else "size unknown"


_OPENAI = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021"
_OPENAI_CARD = "https://github.com/openai/guided-diffusion/blob/main/model-card.md"
_OPENAI_LICENCE = "research only, not to be deployed commercially (model card)"
_REPAINT_PAGE = "https://github.com/andreas128/RePaint"
_REPAINT_LICENCE = "not stated by the authors; the code that came with them is CC BY-NC-SA 4.0"
_DDPM_LICENCE = "Apache-2.0 (model card); trained on CelebA-HQ, a dataset for non-commercial research"
# No safetensors in these repositories; the .bin is a plain state dict, read with weights_only=True.
_DDPM_FILES = ("config.json", "diffusion_pytorch_model.bin", "model_index.json", "scheduler_config.json")

_ADM_256 = {
    "image_size": 256,
    "num_head_channels": 64,
    "use_new_attention_order": False,
    "noise_schedule": "linear",
    "diffusion_steps": 1000,
}

CATALOG: tuple[Entry, ...] = (
    Entry(
        name="base-64",
        file="base-64.safetensors",
        kind="prior",
        source=Embedded(),
        page="docs/weights/base-64.md",
        purpose="small prior for faces and photos alike; comes with the package, so everything runs without a download",
        licence="Apache-2.0",
        commercial=True,
        sha256="480300c715b8d5c4984aac9704f34ba1d2a98540c03ea5e2a4f32694de90213b",
        size_bytes=6_606_932,
        hints=MappingProxyType(
            {
                "image_size": 64,
                "num_head_channels": 32,
                "use_new_attention_order": False,
                "noise_schedule": "linear",
                "diffusion_steps": 1000,
            }
        ),
    ),
    Entry(
        name="celebahq-256",
        file="celeba256_250000.pt",
        kind="prior",
        source=Drive("1norNWWGYP3EZ_o05DmoW1ryKuKMmhlCX"),
        page=_REPAINT_PAGE,
        purpose="aligned faces; the paper's CelebA-HQ prior",
        licence=_REPAINT_LICENCE,
        commercial=False,
        about_gb=2.2,
        hints=MappingProxyType(_ADM_256),
    ),
    Entry(
        name="places-256",
        file="places256_300000.pt",
        kind="prior",
        source=Drive("1QEl-btGbzQz6IwkXiFGd49uQNTUtTHsk"),
        page=_REPAINT_PAGE,
        purpose="scenes: landscapes, streets, rooms; the paper's Places2 prior",
        licence=_REPAINT_LICENCE,
        commercial=False,
        about_gb=2.2,
        hints=MappingProxyType(_ADM_256),
    ),
    Entry(
        name="imagenet-256-uncond",
        file="256x256_diffusion_uncond.pt",
        kind="prior",
        source=Url(f"{_OPENAI}/256x256_diffusion_uncond.pt"),
        page=_OPENAI_CARD,
        purpose="photos of anything; the best general prior",
        licence=_OPENAI_LICENCE,
        commercial=False,
        # Hash and size as several independent projects publish them (Disco Diffusion's model table among them).
        sha256="a37c32fffd316cd494cf3f35b339936debdc1576dad13fe57c42399a5dbc78b1",
        size_bytes=2_211_383_297,
        hints=MappingProxyType(_ADM_256),
    ),
    Entry(
        name="imagenet-256",
        file="256x256_diffusion.pt",
        kind="prior",
        source=Url(f"{_OPENAI}/256x256_diffusion.pt"),
        page=_OPENAI_CARD,
        purpose="photos of a known ImageNet class; the paper's ImageNet prior, with imagenet-256-classifier",
        licence=_OPENAI_LICENCE,
        commercial=False,
        about_gb=2.2,
        hints=MappingProxyType({**_ADM_256, "num_classes": 1000}),
    ),
    Entry(
        name="imagenet-256-classifier",  # width 128, depth 2, attention pool
        file="256x256_classifier.pt",
        kind="classifier",
        source=Url(f"{_OPENAI}/256x256_classifier.pt"),
        page=_OPENAI_CARD,
        purpose="steers imagenet-256 and imagenet-256-uncond towards a class",
        licence=_OPENAI_LICENCE,
        commercial=False,
        about_gb=0.22,
        hints=MappingProxyType({**_ADM_256, "num_classes": 1000, "num_res_blocks": 2}),
    ),
    Entry(
        name="celebahq-256-diffusers",
        file="ddpm-celebahq-256",
        kind="prior",
        source=HuggingFace("google/ddpm-celebahq-256", _DDPM_FILES),
        page="https://huggingface.co/google/ddpm-celebahq-256",
        purpose="aligned faces; smaller than celebahq-256, fixed variance, needs diffusers",
        licence=_DDPM_LICENCE,
        commercial=True,
        about_gb=0.46,
    ),
    Entry(
        name="celebahq-256-ema-diffusers",
        file="ddpm-ema-celebahq-256",
        kind="prior",
        source=HuggingFace("google/ddpm-ema-celebahq-256", _DDPM_FILES),
        page="https://huggingface.co/google/ddpm-ema-celebahq-256",
        purpose="as celebahq-256-diffusers, averaged over the training (EMA), usually the better of the two",
        licence=_DDPM_LICENCE,
        commercial=True,
        about_gb=0.46,
    ),
    Entry(
        name="repaint-masks",
        file="data.zip",
        kind="masks",
        source=Drive("1Q_dxuyI41AAmSv9ti3780BwaJQqwvwMv"),
        page=_REPAINT_PAGE,
        purpose="the paper's test masks and its example faces, to be unpacked by hand",
        licence=_REPAINT_LICENCE,
        commercial=False,
    ),
)


def names() -> tuple[str, ...]:
    return tuple(entry.name for entry in CATALOG)


def find(name: str) -> Entry:
    """The entry of that name.

    Raises:
        WeightsError: if there is none; says which names there are and which one is closest.
    """
    for entry in CATALOG:
        if entry.name == name:
            return entry
    close = difflib.get_close_matches(name, names(), n=1)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    raise WeightsError(f"{name!r} is not in the catalogue{meant} (known: {', '.join(names())})")
