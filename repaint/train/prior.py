"""A DDPM prior: add noise to windows of pictures, and ask for it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from ..archs.unet import UNet, UNetConfig, build
from ..degrade.drawing import happens, number, pick
from ..degrade.overall import colour, contrast, fading, yellowing
from ..diffusion import NetworkPrior, Noise, p_step
from ..errors import RunError
from ..weights.load import SCHEDULES, load_prior
from .data import Picture, Pictures, cut, varied
from .loop import Shown, Watch, begin_with, train
from .loss import HybridLoss
from .prior_settings import TrainPrior
from .settings import Source

SAMPLES, SAMPLE_STEPS = 16, 50
FADED = (fading, yellowing, colour, contrast)


def train_prior(config: TrainPrior, watch: Watch = lambda status: None) -> str:
    """Train a prior as `loop.train` says; the path of the exported weights."""
    return train(config, PriorTask(config), watch)


@dataclass(frozen=True)
class Window:
    """A (3, size, size) window in [-1, 1], and its class if classes are learned."""

    size: int
    flip: bool = False
    grey_share: float = 0.0
    classes: tuple[str, ...] = ()
    faded_share: float = 0.0

    def __call__(self, picture: Picture, g: Generator) -> tuple[Tensor, ...]:
        x = varied(cut(picture, self.size, g), g, flip=self.flip, grey_share=self.grey_share)
        if self.faded_share and happens(g, self.faded_share):
            x = 2 * pick(g, FADED)((x + 1) / 2, number(g, 0.1, 0.7), g) - 1
        return (x, torch.tensor(self.classes.index(_class_of(picture.name)))) if self.classes else (x,)


class PriorObjective(nn.Module):
    """The hybrid loss of a batch at random noise levels; its simple part is what is followed."""

    def __init__(self, network: UNet, config: TrainPrior) -> None:
        super().__init__()
        self.network = network
        self.loss = HybridLoss(SCHEDULES[config.noise_schedule](), config.weighting)

    def forward(self, x_0: Tensor, labels: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        index = torch.randint(self.loss.T, (len(x_0),), device=x_0.device)
        loss, simple = self.loss(self.network, x_0, index, torch.randn_like(x_0), labels)
        return loss.mean(), {"loss": simple.mean()}


class PriorTask:
    """A prior, for `loop.train`."""

    name = "prior"

    def __init__(self, config: TrainPrior) -> None:
        self.config = config
        self.classes = self._classes() if config.class_cond else ()

    def objective(self) -> PriorObjective:
        network = build(architecture(self.config, len(self.classes)))
        if self.config.start_from is not None:
            _begin_from(self.config.start_from, network)
        return PriorObjective(network, self.config)

    def data(self, sources: Sequence[Source], *, seed: int, count: int, training: bool) -> Pictures:
        c = self.config
        changes = {"flip": c.flip, "grey_share": c.grey_share, "faded_share": c.faded_share} if training else {}
        make = Window(c.size, classes=self.classes, **changes)
        return Pictures(sources, make, seed=seed, count=count, cache_mb=c.cache_mb)

    @torch.no_grad()
    def measured(self, network: nn.Module, shown: Sequence[Shown]) -> dict[str, float]:
        """The simple loss over noise levels evenly spread over all that is shown; of fixed noise."""
        loss_of, losses = HybridLoss(SCHEDULES[self.config.noise_schedule](), "simple"), []
        count = sum(len(x) for x, *_ in shown)
        levels = torch.linspace(0, loss_of.T - 1, count).round().long()
        levels = levels[torch.randperm(count, generator=Generator().manual_seed(0))]
        for i, (index, (x, *labels)) in enumerate(zip(levels.split([len(x) for x, *_ in shown]), shown, strict=True)):
            g, index = Generator().manual_seed(i), index.to(x.device)
            eps = torch.randn(x.shape, generator=g).to(x.device)
            losses.append(loss_of.to(x.device)(network, x, index, eps, *labels)[1].mean().item())
        return {"loss": sum(losses) / len(losses)}

    @torch.no_grad()
    def picture(self, network: nn.Module, shown: Sequence[Shown]) -> Tensor:
        """A square of ancestral samples, of fixed noise; of the classes in turn."""
        x, *_ = shown[0]
        labels = torch.arange(SAMPLES, device=x.device) % len(self.classes) if self.classes else None
        prior = NetworkPrior(network, SCHEDULES[self.config.noise_schedule](), labels=labels).respaced(SAMPLE_STEPS)
        noise = Noise(range(SAMPLES))
        x_t = noise.like(x.new_zeros(SAMPLES, *x.shape[1:]))
        for t in range(prior.schedule.T, 0, -1):
            x_t = p_step(prior.schedule, x_t, t, prior(x_t, t), noise.like(x_t))
        rows = [torch.cat(list(row), dim=2) for row in x_t.split(math.isqrt(SAMPLES))]
        return ((torch.cat(rows, dim=1) + 1) / 2).clamp(0, 1).float().cpu()

    def says(self, measured: Mapping[str, float]) -> dict[str, str]:
        architecture = {
            "image_size": self.config.size,
            "num_head_channels": self.config.network.head_channels,
            "use_new_attention_order": False,
            "noise_schedule": self.config.noise_schedule,
            "diffusion_steps": 1000,
        }
        classes = {"classes": json.dumps(self.classes)} if self.classes else {}
        return {"architecture": json.dumps(architecture), **classes}

    def _classes(self) -> tuple[str, ...]:
        pictures = Pictures(self.config.data, Window(self.config.size), seed=0, count=0)
        names = [name for names in pictures.names for name in names]
        for name in names:
            if not _class_of(name):
                raise RunError(f"data: {name} lies in no subfolder; class_cond: true takes a class's name from it")
        classes = {_class_of(name) for name in names}
        for listed in Pictures(self.config.validation, Window(self.config.size), seed=0, count=0).names:
            for name in listed:
                if _class_of(name) not in classes:
                    raise RunError(f"validation: {name} is of class {_class_of(name) or '(none)'}, which data has not")
        return tuple(sorted(classes))


def architecture(config: TrainPrior, classes: int = 0) -> UNetConfig:
    n = config.network
    return UNetConfig(
        channels=n.channels,
        level_channels=tuple(n.channels * m for m in n.multipliers),
        res_blocks=n.res_blocks,
        attention=n.attention_at,
        head_channels=n.head_channels,
        resblock_updown=n.resblock_updown,
        dropout=n.dropout,
        classes=classes,
    )


def _begin_from(name: str, network: UNet) -> None:
    there = load_prior(name).prior.network
    if not isinstance(there, UNet):
        raise RunError(f"start_from: {name} is no guided-diffusion checkpoint")
    here = network.config
    if (there.config.head_channels, there.config.new_attention_order) != (here.head_channels, here.new_attention_order):
        raise RunError(
            f"start_from: {name} has {there.config.head_channels} channels a head, these settings say "
            f"head_channels: {here.head_channels}"
        )
    begin_with(there.state_dict(), network, name)


def _class_of(name: str) -> str:
    return name.rpartition("/")[0].partition("/")[0]
