"""The weights this package knows: one table of names, files, sources, hashes and licences."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..errors import WeightsError
from .entry import ByHand, Drive, Embedded, Entry, HuggingFace, Kind, Url

KINDS: dict[Kind, str] = {  # in the order of the table, and what each is for
    "prior": "fill holes",
    "classifier": "steer priors towards a class",
    "masks": "to measure with",
    "scratches": "find damage",
    "mender": "fill thin damage",
    "upscaler": "enlarge",
    "faces": "restore faces",
    "face-parts": "find faces and their parts",
}

_OPENAI = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021"
_OPENAI_CARD = "https://github.com/openai/guided-diffusion/blob/main/model-card.md"
_OPENAI_LICENCE = "research only, not to be deployed commercially (model card)"
_REPAINT_PAGE = "https://github.com/andreas128/RePaint"
_REPAINT_LICENCE = "not stated by the authors; the code that came with them is CC BY-NC-SA 4.0"
_DDPM_LICENCE = "Apache-2.0 (model card); trained on CelebA-HQ, a dataset for non-commercial research"
# No safetensors in these repositories; the .bin is a plain state dict, read with weights_only=True.
_DDPM_FILES = ("config.json", "diffusion_pytorch_model.bin", "model_index.json", "scheduler_config.json")

_LINEAR = {"use_new_attention_order": False, "noise_schedule": "linear", "diffusion_steps": 1000}
_ADM_256 = {"image_size": 256, "num_head_channels": 64, **_LINEAR}

_REAL_ESRGAN = "https://github.com/xinntao/Real-ESRGAN"
_GFPGAN = "https://github.com/TencentARC/GFPGAN"
_FACEXLIB = "https://github.com/xinntao/facexlib"
_MASK_HQ = "trained on CelebAMask-HQ, a dataset for non-commercial research"


def _embedded(
    name: str, kind: Kind, purpose: str, *, sha256: str, size_bytes: int, hints: Mapping[str, Any] | None = None
) -> Entry:
    """Weights of our own that come with the package; their card is `docs/weights/<name>.md`."""
    return Entry(
        name=name,
        file=f"{name}.safetensors",
        kind=kind,
        source=Embedded(),
        page=f"docs/weights/{name}.md",
        purpose=purpose,
        licence="Apache-2.0",
        commercial=True,
        sha256=sha256,
        size_bytes=size_bytes,
        hints=MappingProxyType(dict(hints or {})),
    )


def _real_esrgan(name: str, version: str, purpose: str, *, sha256: str, size_bytes: int) -> Entry:
    return Entry(
        name=name,
        file=f"{name}.pth",
        kind="upscaler",
        source=Url(f"{_REAL_ESRGAN}/releases/download/{version}/{name}.pth"),
        page=_REAL_ESRGAN,
        purpose=purpose,
        licence="BSD-3-Clause",
        commercial=True,
        sha256=sha256,
        size_bytes=size_bytes,
    )


def _facexlib(
    file: str, version: str, purpose: str, licence: str, *, sha256: str, size_bytes: int, commercial: bool = True
) -> Entry:
    return Entry(
        name=file.removesuffix(".pth").removesuffix("_Final"),
        file=file,  # facexlib looks for this name in its `model_rootpath`
        kind="face-parts",
        source=Url(f"{_FACEXLIB}/releases/download/{version}/{file}"),
        page=_FACEXLIB,
        purpose=purpose,
        licence=licence,
        commercial=commercial,
        sha256=sha256,
        size_bytes=size_bytes,
    )


# No publisher states a hash. Those of released files are the ones that several independent projects pin for the same
# address; where there were none, it is None.
CATALOG: tuple[Entry, ...] = (
    _embedded(
        "base-64",
        "prior",
        "small prior for faces and photos alike; comes with the package, so everything runs without a download",
        sha256="ca1abbae05d15f36411c5ee87e1a6436b32e04af8e73fd4b395280b1f325c7ab",
        size_bytes=10_895_100,
        hints={"image_size": 64, "num_head_channels": 32, **_LINEAR},
    ),
    _embedded(
        "base-128",
        "prior",
        "prior for faces and photos alike that sees twice as far: for large holes; comes with the package",
        sha256="14f7001b66bc5224b2ab95854fda055cb9573a8c670ebe4f31985ccccacc5c6e",
        size_bytes=24_620_316,
        hints={"image_size": 128, "num_head_channels": 32, **_LINEAR},
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
        name="repaint-masks",
        file="data.zip",
        kind="masks",
        source=Drive("1Q_dxuyI41AAmSv9ti3780BwaJQqwvwMv"),
        page=_REPAINT_PAGE,
        purpose="the paper's test masks and its example faces, to be unpacked by hand",
        licence=_REPAINT_LICENCE,
        commercial=False,
    ),
    _embedded(
        "scratches",
        "scratches",
        "scratches, hairs, dust, folds, tears; small; comes with the package",
        sha256="4e5f2f75aad4fb24add1617d86e1a47034d203f23898f9262412e1f070d0d2ee",
        size_bytes=9_650_784,
    ),
    Entry(
        name="bopbtl-scratches",
        file="FT_Epoch_latest.pt",
        kind="scratches",
        source=ByHand(
            "https://github.com/Haoming02/sd-webui-old-photo-restoration/releases",
            "the authors' own address is reported gone, and it lies inside a large archive: of the mirror's "
            "global_checkpoints.zip take checkpoints/detection/FT_Epoch_latest.pt",
        ),
        page="https://github.com/microsoft/Bringing-Old-Photos-Back-to-Life",
        purpose="the scratch detector of Bringing Old Photos Back to Life; sees photos at 256 px",
        licence="MIT",
        commercial=True,
        sha256="b2d7ab04e9b3885c6b1991bb7a0b823129dd6e3ac078a9fd059ebd2a7ba59a95",
    ),
    _embedded(
        "mender",
        "mender",
        "fills thin holes in one call (trained up to 12 px, used up to 16 px); comes with the package",
        sha256="69652a96b19f3aca55200535bb9fe374a59c78a8045970760f92f09517bbfccf",
        size_bytes=4_207_824,
    ),
    _embedded(
        "upscale-x2",
        "upscaler",
        "twice as wide and high, small; comes with the package",
        sha256="9fae6f802a2d2fbdb95cf81efcf68bbb2984ef64770b1573897b4e9f94108b08",
        size_bytes=349_104,
    ),
    _embedded(
        "upscale-x4",
        "upscaler",
        "four times as wide and high, small; comes with the package",
        sha256="8e33dfe8f99ae90e6212c55f2539ef3eec550a75f98f6318bf2cb8a318689e14",
        size_bytes=653_600,
    ),
    _real_esrgan(
        "RealESRGAN_x4plus",
        "v0.1.0",
        "x4, photos of anything",
        sha256="4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
        size_bytes=67_040_989,
    ),
    _real_esrgan(
        "RealESRGAN_x2plus",
        "v0.2.1",
        "x2, photos of anything",
        sha256="49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
        size_bytes=67_061_725,
    ),
    _real_esrgan(
        "RealESRNet_x4plus",
        "v0.1.1",
        "x4, RealESRGAN_x4plus before its adversarial training: softer, invents less",
        sha256="a820b9bde89a874d7599d545567308ce6c128fc8754a53208eda016d40aa81df",
        size_bytes=67_040_989,
    ),
    _real_esrgan(
        "realesr-general-x4v3",
        "v0.2.5.0",
        "x4, photos of anything, small and fast",
        sha256="8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
        size_bytes=4_885_111,
    ),
    _real_esrgan(
        "realesr-general-wdn-x4v3",
        "v0.2.5.0",
        "x4, keeps more noise; mixed with realesr-general-x4v3 for a strength of denoising",
        sha256="1641f8c4464b9f097c9fdda5589273713f67cf59f3d909e0bd688f0cee269dca",
        size_bytes=4_885_111,
    ),
    _real_esrgan(
        "RealESRGAN_x4plus_anime_6B",
        "v0.2.2.4",
        "x4, drawings",
        sha256="f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da",
        size_bytes=17_938_799,
    ),
    _real_esrgan(
        "realesr-animevideov3",
        "v0.2.5.0",
        "x4, drawn films, small and fast",
        sha256="b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d",
        size_bytes=2_504_012,
    ),
    _embedded(
        "face-128",
        "faces",
        "aligned faces at 128 px, small; comes with the package",
        sha256="e9af26a3c46e59a9230ace6c46c99c3e9c0f59033f65dab79b93a0112100671d",
        size_bytes=4_267_302,
    ),
    Entry(
        name="GFPGANv1.4",
        file="GFPGANv1.4.pth",
        kind="faces",
        source=Url(f"{_GFPGAN}/releases/download/v1.3.0/GFPGANv1.4.pth"),
        page=_GFPGAN,
        purpose="aligned faces at 512 px",
        licence="Apache-2.0, but for StyleGAN2 in it: research only (NVIDIA)",
        commercial=False,
        sha256="e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad",
        size_bytes=348_632_874,
    ),
    Entry(
        name="RestoreFormer",
        file="RestoreFormer.pth",
        kind="faces",
        source=Url(f"{_GFPGAN}/releases/download/v1.3.4/RestoreFormer.pth"),
        page="https://github.com/wzhouxiff/RestoreFormer",
        purpose="aligned faces at 512 px",
        licence="Apache-2.0; trained on FFHQ, a dataset for non-commercial use",
        commercial=True,
    ),
    Entry(
        name="codeformer",
        file="codeformer.pth",
        kind="faces",
        source=Url("https://github.com/sczhou/CodeFormer/releases/download/v0.1.0/codeformer.pth"),
        page="https://github.com/sczhou/CodeFormer",
        purpose="aligned faces at 512 px, faithful or beautiful as told; takes spandrel_extra_arches",
        licence="NTU S-Lab License 1.0: non-commercial",
        commercial=False,
        sha256="1009e537e0c2a07d4cabce6355f53cb66767cd4b4297ec7a4a64ca4b8a5684b7",
        size_bytes=376_637_898,
    ),
    _embedded(
        "face-finder",
        "face-parts",
        "finds faces and their five landmarks, small; comes with the package",
        sha256="8fa526a82e53848e8ff8988ca9ebaddebeb3404e7ca2bb748c34dff97adcf06f",
        size_bytes=1_792_190,
    ),
    _facexlib(
        "detection_Resnet50_Final.pth",
        "v0.1.0",
        "finds faces and five points of each (RetinaFace)",
        "MIT",
        sha256="6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
        size_bytes=109_497_761,
    ),
    _facexlib(
        "detection_mobilenet0.25_Final.pth",
        "v0.1.0",
        "as detection_Resnet50, small and fast",
        "MIT",
        sha256="2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
        size_bytes=1_789_735,
    ),
    _facexlib(
        "parsing_parsenet.pth",
        "v0.2.2",
        "tells skin, hair, background ... of a face apart; facexlib's FaceRestoreHelper always takes it",
        f"CC BY-NC-SA 4.0 (PSFRGAN, where facexlib has it from); {_MASK_HQ}",
        commercial=False,
        sha256="3d558d8d0e42c20224f13cf5a29c79eba2d59913419f945545d8cf7b72920de2",
        size_bytes=85_331_193,
    ),
    _facexlib(
        "parsing_bisenet.pth",
        "v0.2.0",
        "as parsing_parsenet",
        f"MIT; {_MASK_HQ}",
        sha256="468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567",
        size_bytes=53_289_463,
    ),
)


def find(name: str) -> Entry:
    """The entry of that name.

    Raises:
        WeightsError: if there is none; says which one is closest.
    """
    for entry in CATALOG:
        if entry.name == name:
            return entry
    by_lower = {entry.name.lower(): entry.name for entry in CATALOG}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    meant = f"; did you mean {by_lower[close[0]]!r}?" if close else ""
    raise WeightsError(f"{name!r} is not in the catalogue{meant} (all names: repaint weights list)")
