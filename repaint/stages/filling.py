"""What the inpaint stage does with tensors; kept apart so that settings and errors need no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..diffusion import Conditioned, Denoiser, Guided, NetworkPrior, Noise, conditioned, image_by_image
from ..errors import ConfigError
from ..holes import feathered, grown
from ..image import Photo, centre_cropped
from ..weights.load import LoadedPrior, load_classifier, load_prior
from ..weights.menders import load_mender
from .device import device_name, prepared
from .frugal import FewerAtOnce
from .inpaint import REFINE, REFINE_CONDITIONED, THIN, Inpaint, InpaintStage
from .mending import Mender
from .native import Pass, Walk, canvases, fill, is_large, plan
from .progress import Device, Precision, Progress
from .toning import Tone, is_toned, tone_of

STREAM = 0x9E3779B97F4A7C15  # between the seeds of a photo's canvases; odd, so that no two meet


def built(
    settings: Inpaint, device: Device, precision: Precision, batch_size: int, own: LoadedPrior | None = None
) -> InpaintStage:
    """The stage of these settings, its weights loaded, but for a prior of one's own."""
    at, precision, slow = prepared(device, precision)
    name, remarks = settings.chosen_prior() if own is None else ("own prior", ())
    remarks = (*remarks, *slow)
    loaded = _loaded_prior(settings, name, at, precision) if own is None else own
    walked = _walked(settings, dataclasses.replace(loaded.prior, clip=settings.clip))
    steps = settings.sampler.repaint.conditioning
    if steps and own is None and isinstance(walked.network, nn.Module):
        walked.network.requires_grad_(False)  # ours: the way back is to the image alone, and needs less memory
    asked = conditioned(walked, steps) if steps else walked.network
    network = FewerAtOnce(name, image_by_image(asked) if at.type == "cpu" else asked)
    prior = dataclasses.replace(walked, network=network)
    weights, told = {name: loaded.sha256}, network.told

    classifier, classes = _loaded_classifier(settings, at, name, loaded.classes, weights)
    _check_label(settings, name, classes)

    def denoiser(labels: Tensor | None, known: Tensor, keep: Tensor) -> Denoiser:
        of_prior = labels if loaded.classes else None
        if steps:
            return Conditioned(network, prior.schedule, known, keep, of_prior)
        of_labels = dataclasses.replace(prior, labels=of_prior)
        if classifier is None or labels is None or settings.classifier is None:
            return of_labels
        return Guided(of_labels, classifier, labels, settings.classifier.scale)

    mender = None
    if settings.mender is not None and settings.fit == "native":
        found = load_mender(settings.mender, weights_dir=settings.weights_dir, device=at)
        weights[settings.mender] = found.sha256
        remarks = (*remarks, *found.remarks)
        fewer = FewerAtOnce(settings.mender, found.network)
        told = partial(_of_both, network.told, fewer.told)
        mender = Mender(fewer, settings.mend_px, at, 1 if at.type == "cpu" else batch_size)
    filler = Filler(settings, denoiser, loaded.size, classes, at, batch_size, mender, told)
    return InpaintStage(
        filler.run,
        filler.prepared,
        weights=weights,
        remarks=(*remarks, *loaded.remarks),
        size=loaded.size,
        device=device_name(at),
    )


def _loaded_prior(settings: Inpaint, name: str, at: torch.device, precision: Precision) -> LoadedPrior:
    told = settings.architecture.told() if name == settings.prior else {}
    return load_prior(name, weights_dir=settings.weights_dir, device=at, precision=precision, architecture=told)


def _walked(settings: Inpaint, prior: NetworkPrior) -> NetworkPrior:
    """The prior with the states and the variance that the settings ask for."""
    repaint = settings.sampler.repaint
    if repaint.variance == "posterior":
        prior = dataclasses.replace(prior, use_learned_var=False, fixed_var_mix=0.0)
    try:
        prior = prior.respaced(repaint.states())
    except ValueError as e:
        key = "t_T" if repaint.spacing == "quadratic" or repaint.timestep_respacing is None else "timestep_respacing"
        raise ConfigError(f"{key}: {e}") from None
    if repaint.t_T > prior.schedule.T:
        raise ConfigError(
            f"t_T: found {repaint.t_T}; must be at most the {prior.schedule.T} states of timestep_respacing"
        )
    return prior


def _loaded_classifier(
    settings: Inpaint, at: torch.device, name: str, classes: int, weights: dict[str, str]
) -> tuple[Callable[[Tensor, Tensor], Tensor] | None, int]:
    """The classifier that guides, if one is asked for, and how many classes there are; `weights` gets its sha256."""
    if settings.classifier is None:
        return None, classes
    network, sha = load_classifier(
        settings.classifier.weights,
        weights_dir=settings.weights_dir,
        device=at,
        architecture=settings.classifier.architecture.told(),
    )
    known = network.config.classes
    if classes not in (0, known):
        raise ConfigError(f"classifier: knows {known} classes, {name} {classes}; both must mean the same by a label")
    weights[settings.classifier.weights] = sha
    return image_by_image(network) if at.type == "cpu" else network, known


def _of_both(one: Callable[[], list[str]], other: Callable[[], list[str]]) -> list[str]:
    return [*one(), *other()]


def _check_label(settings: Inpaint, name: str, classes: int) -> None:
    label = settings.label
    if classes and label is None:
        raise ConfigError(
            f"label: {name} knows {classes} classes and must be told one; say label: 0..{classes - 1} or label: random"
        )
    if label is not None and not classes:
        raise ConfigError(f"label: {name} knows no classes; leave label out")
    if isinstance(label, int) and not 0 <= label < classes:
        raise ConfigError(f"label: found {label}; must lie in 0..{classes - 1}")


@dataclass(frozen=True, eq=False)
class Job:
    """A canvas of a photo: what is worked on, and where it goes back to.

    Attributes:
        at: which of the photos.
        seed: of the photo.
        nth: which canvas of the photo; each has a random stream of its own.
        known: (3, h, w) in [-1, 1], the canvas.
        keep: (1, h, w).
        top, left: of the canvas in the photo, beyond which it may reach down and right.
        weight: (1, h, w) float32 of the photo's own pixels beside the fill's; without what reaches beyond.
        tone: of a canvas of a photo of one dye, else None; its fill is to have it.
    """

    at: int
    seed: int
    nth: int
    known: Tensor
    keep: Tensor
    top: int
    left: int
    weight: Tensor
    passes: tuple[Pass, ...]
    tone: Tone | None = None

    @property
    def alike(self) -> tuple[object, ...]:
        """Jobs of which this is the same can share network calls."""
        return (self.known.shape, *((p.shape, p.share, p.on_top) for p in self.passes))


@dataclass(frozen=True, eq=False)
class Filler:
    """Fills the holes of photos by the settings, with the denoiser of given labels and of what is known."""

    settings: Inpaint
    denoiser: Callable[[Tensor | None, Tensor, Tensor], Denoiser]
    size: int
    classes: int
    device: torch.device
    batch_size: int
    mender: Mender | None = None
    told: Callable[[], list[str]] = list

    @property
    def walk(self) -> Walk:
        s, chain = self.settings, self.settings.sampler.repaint
        usual = REFINE_CONDITIONED if chain.conditioning else REFINE[chain.spacing]
        refine = usual if s.refine is None else s.refine
        thin = THIN[chain.spacing] if s.thin is None else s.thin
        return Walk(chain.times, chain.begin, refine, thin)

    def prepared(self, photo: Photo) -> Photo:
        """The photo as it will be filled: cut to size if the settings say so, its holes grown."""
        if photo.keep is None:
            raise ValueError("a photo to inpaint must have a mask (keep)")
        if self.settings.fit == "crop":
            photo = centre_cropped(photo, self.size)
        if not self.settings.soft_masks:
            assert photo.keep is not None
            photo = dataclasses.replace(photo, keep=photo.keep >= 1)
        if self.settings.grow_px:
            assert photo.keep is not None
            photo = dataclasses.replace(photo, keep=grown(photo.keep >= 1, self.settings.grow_px))
        assert photo.keep is not None
        if not bool(photo.rgb.isfinite().all()):  # as scientific data mark what is missing
            photo = dataclasses.replace(photo, rgb=torch.where(photo.keep > 0, photo.rgb, 0))
        return photo

    def run(self, photos: Sequence[Photo], seeds: Sequence[int]) -> Iterator[Progress]:
        """Fill the holes of `photos`; yields after every step of the sampler, or once if there is nothing to fill."""
        if len(photos) != len(seeds):
            raise ValueError(f"there must be a seed for each photo, found {len(seeds)} for {len(photos)}")
        seeds = [int(seed) for seed in seeds]  # of NumPy, too, whose numbers do not reach as far
        mended = [self._mended(self.prepared(photo)) for photo in photos]
        results = [photo for photo, _ in mended]
        each = enumerate(zip(mended, seeds, strict=True))
        groups = self._groups([job for i, ((photo, kept), seed) in each for job in self._jobs(i, photo, kept, seed)])
        total = sum(p.calls(self.size, self.walk) for group in groups for job in group for p in job.passes)
        before, calls, notes = [0] * len(photos), [0] * len(photos), (*self.told(),)
        progress = Progress(0, total, tuple(calls), partial(list, results), notes)
        if not groups:
            yield progress
        for group in groups:
            for made, guess in self._filled(group):
                calls = list(before)
                for job, n in zip(group, made, strict=True):
                    calls[job.at] += n
                notes = (*notes, *self.told())
                now = partial(self._put_back, tuple(results), group, guess)
                progress = Progress(sum(calls), total, tuple(calls), now, notes)
                yield progress
            results, before = progress.photos, calls

    def _mended(self, photo: Photo) -> tuple[Photo, Tensor]:
        """The photo with its thin holes filled, and what is known of it then; as it was without a mender."""
        assert photo.keep is not None
        if self.mender is None or not (thin := self.mender.thin(photo.keep)).any():
            return photo, photo.keep
        fill = self.mender(photo.rgb, photo.keep, thin)
        if is_toned(photo, photo.keep):
            fill = torch.where(thin, tone_of(photo.rgb, photo.keep).of(fill), fill)
        weight = self._weight(photo.keep)
        rgb = torch.where(thin & (weight < 1), weight * photo.rgb + (1 - weight) * fill, photo.rgb)
        return dataclasses.replace(photo, rgb=rgb), photo.keep | thin

    def _weight(self, keep: Tensor) -> Tensor:
        """What a photo's own pixels count for beside their fill: float32, 1 where they are kept."""
        return feathered(keep >= 1, self.settings.feather_px) if self.settings.feather_px else (keep >= 1).float()

    def _jobs(self, at: int, photo: Photo, kept: Tensor, seed: int) -> Iterator[Job]:
        """The canvases of a photo, of which `kept` is known; none where there is nothing to fill."""
        places = canvases(kept, self.size)
        if not places:
            return
        assert photo.keep is not None
        weights = torch.where(kept >= 1, 1.0, self._weight(photo.keep))  # mended is known, and no pixel of the photo
        toned = self.settings.fit == "native" and is_toned(photo, kept)
        for k, (top, left, bottom, right) in enumerate(places):
            here = slice(None), slice(top, bottom), slice(left, right)
            known, keep = photo.rgb[here] * 2 - 1, kept[here]
            tone = tone_of(photo.rgb[here], keep) if toned else None
            beyond = (0, max(0, self.size - known.shape[2]), 0, max(0, self.size - known.shape[1]))
            if any(beyond):
                known = F.pad(known[None], beyond, mode="replicate")[0]
                keep = F.pad(keep[None].float(), beyond, mode="replicate")[0].to(keep.dtype)
            yield Job(at, seed, k, known, keep, top, left, weights[here], plan(keep, self.size, self.walk), tone)

    def _groups(self, jobs: Sequence[Job]) -> list[list[Job]]:
        """Jobs that share network calls, `batch_size` at most.

        Alone are those that are large, and those whose windows cannot tell whose class is whose.
        """
        found: dict[object, list[Job]] = {}
        for job in jobs:
            alone = self.classes and any(p.shape != (self.size, self.size) for p in job.passes)
            alone = alone or any(is_large(p.shape, self.size) for p in job.passes)
            found.setdefault((job.at, job.nth) if alone else job.alike, []).append(job)
        most = self.batch_size
        return [jobs[i : i + most] for jobs in found.values() for i in range(0, len(jobs), most)]

    def _filled(self, group: Sequence[Job]) -> Iterator[tuple[Sequence[int], Callable[[], Tensor]]]:
        noise = Noise([(job.seed + job.nth * STREAM) % 2**63 for job in group])
        known = torch.stack([job.known for job in group]).to(self.device)
        keep = torch.stack([job.keep for job in group]).to(self.device)
        denoiser = self.denoiser(self._labels(noise, [job.seed for job in group]), known, keep)
        plans = [tuple(p.to(self.device) for p in job.passes) for job in group]
        return fill(denoiser, self.size, known, keep, plans, self.walk, noise, batch=self.batch_size)

    def _labels(self, noise: Noise, seeds: Sequence[int]) -> Tensor | None:
        label = self.settings.label
        if label is None:
            return None
        if label != "random":
            return torch.full((len(seeds),), label, device=self.device)
        noise.integers(self.classes)  # before x_T, as the published code draws them; one class for all of a photo
        return Noise(seeds).integers(self.classes).to(self.device)

    def _put_back(self, before: Sequence[Photo], group: Sequence[Job], guess: Callable[[], Tensor]) -> list[Photo]:
        """The photos with what is filled in their holes, every kept pixel as it was."""
        photos = list(before)
        for at in {job.at for job in group}:
            photos[at] = dataclasses.replace(photos[at], rgb=photos[at].rgb.clone())
        for job, image in zip(group, guess().float().cpu(), strict=True):
            h, w = job.weight.shape[-2:]
            fill = ((image + 1) / 2).clamp(0, 1)[:, :h, :w]
            if job.tone is not None:
                fill = job.tone.of(fill)
            rgb, weight = photos[job.at].rgb, job.weight
            there = slice(None), slice(job.top, job.top + h), slice(job.left, job.left + w)
            rgb[there] = torch.where(weight >= 1, rgb[there], weight * rgb[there] + (1 - weight) * fill)
        return photos
