"""Networks that restore aligned faces, whoever made them, and the diffusion prior that does so, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ..archs.blocks import in_precision
from ..diffusion import Denoiser, Noise, State, image_by_image, p_step, q_sample
from ..errors import ConfigError
from ..tiling import resized
from ..weights.enhancers import kind_of, load_face_restorer
from ..weights.load import load_prior
from ..weights.networks import entry_of
from ..weights.spandrel import load_spandrel
from .faces import Faces
from .progress import Precision

EMBEDDED = "face-128"
EMBEDDED_PX = 128
PUBLISHED_PX = 512
COARSE_PX = 16  # the side at which a face that a prior restores is still what it was


@dataclass(frozen=True, eq=False)
class Restorer:
    """What restores aligned faces.

    Attributes:
        restored: the face, as guessed after each network call, of one (1, 3, size, size) in [0, 1]; the last guess is
            the answer, and may leave [0, 1] a little. All on its device.
        size: px of the faces it knows.
        calls: of a network, for one face.
        weights: sha256 by name.
        remarks: lines worth telling the user.
    """

    restored: Callable[[Tensor, Noise], Iterator[Tensor]]
    size: int
    calls: int
    weights: dict[str, str]
    remarks: tuple[str, ...]


def load_restorer(settings: Faces, device: torch.device, precision: Precision) -> Restorer:
    """The restorer of the settings.

    Raises:
        WeightsError: if weights are missing, damaged or restore no faces.
        ConfigError: if what runs them is not installed, or the prior wants to be told a class.
    """
    name = EMBEDDED if settings.restorer == "auto" else settings.restorer
    if name == "prior":
        return _prior(settings, device, precision)
    if kind_of(name, weights_dir=settings.weights_dir) is not None:
        found = load_face_restorer(name, weights_dir=settings.weights_dir, device=device)
        network = in_precision(found.network, getattr(torch, precision))
        return Restorer(partial(_once, network), EMBEDDED_PX, 1, {name: found.sha256}, found.remarks)
    return _published(name, settings, device, precision)


def _published(name: str, settings: Faces, device: torch.device, precision: Precision) -> Restorer:
    """A restorer that spandrel knows. Its model is called: not all of its descriptors bring faces to [-1, 1]."""
    try:
        found = load_spandrel(
            name, "FaceSR", weights_dir=settings.weights_dir, device=device, extra=settings.noncommercial
        )
    except ImportError as e:
        raise ConfigError(f"restorer: {name} takes spandrel ({e}): pip install spandrel") from None
    descriptor, remarks = found.network, [*found.remarks, *licence_remarks(name)]
    able = {"float32": True, "bfloat16": descriptor.supports_bfloat16, "float16": descriptor.supports_half}
    if not able[precision]:
        remarks.append(f"precision: {name} does not compute in {precision}: using float32")
        precision = "float32"
    half = partial(torch.autocast, device.type, getattr(torch, precision)) if precision != "float32" else nullcontext

    def network(face: Tensor) -> Tensor:
        with half():  # each takes what it knows: GFPGAN the first two, CodeFormer the weight
            answer = descriptor.model(2 * face - 1, return_rgb=False, randomize_noise=False, weight=settings.fidelity)
        return (answer[0].float() + 1) / 2

    return Restorer(partial(_once, network), PUBLISHED_PX, 1, {name: found.sha256}, tuple(remarks))


def _prior(settings: Faces, device: torch.device, precision: Precision) -> Restorer:
    s = settings.prior
    found = load_prior(
        s.weights,
        weights_dir=settings.weights_dir,
        device=device,
        precision=precision,
        architecture=s.architecture.told(),
    )
    if found.classes:
        raise ConfigError(f"prior.weights: {s.weights} must be told a class; faces take a prior that knows none")
    network = image_by_image(found.prior.network) if device.type == "cpu" else found.prior.network
    prior = replace(found.prior, network=network, use_learned_var=False, fixed_var_mix=0.0)  # learned for long chains
    try:
        prior = prior.respaced(s.t_T)
    except ValueError as e:
        raise ConfigError(f"prior.t_T: {e}") from None
    begin = max(1, round(s.noise * s.t_T))
    remarks = (*found.remarks, *licence_remarks(s.weights))
    return Restorer(partial(denoised, prior, begin), found.size, begin, {s.weights: found.sha256}, remarks)


@torch.no_grad()
def denoised(denoiser: Denoiser, begin: State, face: Tensor, noise: Noise) -> Iterator[Tensor]:
    """The faces (B, 3, s, s) in [0, 1] with noise on them as of state `begin`, denoised step by step.

    What a picture of 16 px shows of a face is at each step that of the face itself (Choi et al. 2021, eq. 8).
    """
    known, schedule = 2 * face - 1, denoiser.schedule
    x_t = q_sample(schedule, known, begin, noise.like(known))
    for t in range(begin, 0, -1):
        said = denoiser(x_t, t)
        x_t = p_step(schedule, x_t, t, said, noise.like(x_t))
        x_t = x_t + coarse(q_sample(schedule, known, t - 1, noise.like(known)) - x_t)
        yield ((x_t if t == 1 else said.x_0) + 1) / 2


def coarse(x: Tensor) -> Tensor:
    """(B, C, s, s) as a picture of 16 px shows it."""
    size = x.shape[-1]
    return resized(resized(x, COARSE_PX, COARSE_PX), size, size) if size > COARSE_PX else x


def licence_remarks(name: str) -> tuple[str, ...]:
    """What to say of weights whose licence allows no commercial use."""
    entry = entry_of(name)
    return () if entry is None or entry.commercial else (f"{name} is not for commercial use: {entry.licence}",)


@torch.no_grad()
def _once(network: Callable[[Tensor], Tensor], face: Tensor, noise: Noise) -> Iterator[Tensor]:
    yield network(face)
