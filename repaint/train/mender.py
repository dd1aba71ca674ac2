"""A mender: hide thin parts of photographs, and ask for them back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor, nn

from ..archs.mend_net import MendNet, MendNetConfig, build, detect, grown_into
from ..degrade import DAMAGED, damaged, weathered
from ..degrade.drawing import count, happens, pick
from ..holes import grown, thicker_than
from ..stages.mending import shown_to_mender
from .data import Picture, Pictures, cut, varied
from .enhancer import decibels
from .loop import Shown, Watch, begin_from, train
from .mender_settings import TrainMender
from .settings import Source
from .stamps import read_stamps

HOLES = {name: DAMAGED[name] for name in ("folds", "scratches", "hairs", "dust")}
SHOWN = 6  # windows in a picture


def train_mender(config: TrainMender, watch: Watch = lambda status: None) -> str:
    """Train a mender as `loop.train` says; the path of the exported weights."""
    return train(config, MenderTask(config), watch)


@dataclass(frozen=True)
class HoledWindow:
    """What a mender is shown (4, s, s), the window in [0, 1] (3, s, s), and which of its pixels count (1, s, s).

    The holes have the shapes of damage, enlarged by up to `spread_px`. What is thicker than `thickest_px` is hidden
    too, but nobody is asked for it. A share of the windows has regular holes instead (`regular`).
    """

    size: int
    stamps: Sequence[Tensor] = ()
    strength: float = 0.5
    aged_share: float = 0.5
    thickest_px: int = 12
    spread_px: int = 4
    flip: bool = False
    grey_share: float = 0.0
    regular_share: float = 0.0

    def __call__(self, picture: Picture, g: Generator) -> tuple[Tensor, Tensor, Tensor]:
        image = (varied(cut(picture, self.size, g), g, flip=self.flip, grey_share=self.grey_share) + 1) / 2
        if happens(g, self.aged_share):
            image = weathered(image, g, strength=self.strength)
        if self.regular_share and happens(g, self.regular_share):
            keep = regular(self.size, g)
        else:
            keep = ~damaged(image, g, HOLES, stamps=self.stamps, strength=self.strength).damage
            keep = grown(keep, count(g, 0, self.spread_px))
        counts = ~keep & ~thicker_than(keep, self.thickest_px, corners=False)
        return shown_to_mender(image[None], keep[None])[0], image, counts.float()


def regular(size: int, g: Generator) -> Tensor:
    """What is known (1, size, size) where lines or pixels are missing at equal distances.

    Known is every second row, or column, or both: `lines` and `super-resolution` of the paper's masks; half of the time
    every third or fourth, or all but every second to fourth.
    """
    usual = happens(g, 0.5)
    period = 2 if usual else pick(g, (2, 3, 4))
    is_gap = not usual and happens(g, 0.5)
    along = torch.arange(size)
    rows, columns = ((along + count(g, 0, period - 1)) % period == 0 for _ in range(2))
    kind = pick(g, ("rows", "columns", "both"))
    every = torch.ones(size, dtype=torch.bool)
    known = (every if kind == "columns" else rows)[:, None] & (every if kind == "rows" else columns)
    return (~known if is_gap else known)[None]


class MenderObjective(nn.Module):
    """Charbonnier loss (Lai et al. 2017) over the hidden pixels of a batch."""

    def __init__(self, network: MendNet, soft: float) -> None:
        super().__init__()
        self.network = network
        self.soft = soft

    def forward(self, shown: Tensor, image: Tensor, counts: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        off = (self.network(shown).float() - image).square()
        each = (off + self.soft**2).sqrt() - self.soft
        loss = (each.mean(1, keepdim=True) * counts).sum() / counts.sum().clamp(min=1)
        return loss, {"loss": loss.detach()}


@dataclass(frozen=True)
class MenderTask:
    """A mender, for `loop.train`."""

    config: TrainMender
    name: str = "mender"

    def objective(self) -> MenderObjective:
        network = build(MendNetConfig(**self.config.network.model_dump()))
        if self.config.start_from is not None:
            begin_from(self.config.start_from, network, detect, partial(grown_into, network))
        return MenderObjective(network, self.config.soft)

    def data(self, sources: Sequence[Source], *, seed: int, count: int, training: bool) -> Pictures:
        c = self.config
        folder = c.stamps if training else c.validation_stamps or c.stamps
        changes = {"flip": c.flip, "grey_share": c.grey_share, "regular_share": c.regular_share} if training else {}
        make = HoledWindow(
            c.size,
            read_stamps(folder) if folder is not None else (),
            c.strength,
            c.aged_share,
            c.thickest_px,
            c.spread_px,
            **changes,
        )
        return Pictures(sources, make, seed=seed, count=count, cache_mb=c.cache_mb)

    @torch.no_grad()
    def measured(self, network: nn.Module, shown: Sequence[Shown]) -> dict[str, float]:
        """The mean squared error of hidden pixels; PSNR in dB of it, and how much it gained over the smooth fill."""
        rows = []
        for given, image, counts in shown:
            errors = [(x - image).square().mean(1, keepdim=True) for x in (network(given).float(), given[:, :3])]
            rows.append(torch.stack([(error * counts).sum() for error in errors] + [counts.sum()]))
        after, before, pixels = torch.stack(rows).sum(0).tolist()
        after, before = (error / max(1.0, pixels) for error in (after, before))
        return {"mse": after, "psnr": decibels(after), "gained_db": decibels(after) - decibels(before)}

    @torch.no_grad()
    def picture(self, network: nn.Module, shown: Sequence[Shown]) -> Tensor:
        """Rows of what is known, of the smooth fill, of what was mended, and of the truth."""
        given, image, _ = (x[:SHOWN] for x in shown[0])
        rows = (given[:, :3] * given[:, 3:], given[:, :3], network(given).float(), image)
        return torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1).clamp(0, 1).float().cpu()

    def says(self, measured: Mapping[str, float]) -> dict[str, str]:
        architecture = {"name": "mend_net", **self.config.network.model_dump()}
        return {"architecture": json.dumps(architecture), "thickest_px": str(self.config.thickest_px)}
