"""A scratch detector: age windows of photographs, and ask which pixels were damaged."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from ..archs.scratch_net import ScratchNet, ScratchNetConfig, build, detect
from ..degrade import DAMAGED, damaged, lookalikes, scanned, seen, weathered
from ..degrade.drawing import happens, number
from ..degrade.painting import whole
from ..image import luma
from ..weights.detectors import WEAK
from .data import Picture, Pictures, cut, varied
from .loop import Shown, Watch, begin_from, train
from .marks import Marks
from .scratches_settings import TrainScratches
from .settings import Source
from .stamps import read_stamps

SOFT = ("stains", "white_borders")  # drawn, but no holes: colours to be mended, and the rim of a print
HOLES = {name: likely for name, likely in DAMAGED.items() if name not in SOFT}
HIDDEN = 0.25  # luma that a stain changes where it may be called damage or none
FIRST_GUESS = 0.02  # what a new detector thinks of every pixel
SHOWN = 6  # windows in a picture


def train_scratches(config: TrainScratches, watch: Watch = lambda status: None) -> str:
    """Train a detector as `loop.train` says; the path of the exported weights."""
    return train(config, ScratchTask(config), watch)


@dataclass(frozen=True)
class AgedWindow:
    """Luma (1, s, s) in [0, 1] of an aged window, and (1, s, s) of what each pixel is: 1 damage, 0 none, -1 unsaid.

    Damage is what hides the picture: scratches, hairs, dust, folds, tears. Stains and white borders are drawn and are
    none. Unsaid is damage that its surroundings hide (`degrade.seen`), the soft rim of other damage, and a stain so
    strong that it hides as much as a hole does.
    """

    size: int
    stamps: Sequence[Tensor] = ()
    strength: float = 0.5
    clean_share: float = 0.0
    lookalikes: float = 0.0
    flip: bool = False

    def __call__(self, picture: Picture, g: Generator) -> tuple[Tensor, Tensor]:
        image = (varied(cut(picture, self.size, g), g, flip=self.flip, grey_share=0) + 1) / 2
        if happens(g, self.lookalikes):
            image = lookalikes(image, g)
        photo = weathered(image, g, strength=self.strength)
        stained = damaged(photo, g, {"stains": DAMAGED["stains"]}, strength=self.strength)
        hidden = (luma(stained.image) - luma(photo)).abs() > HIDDEN
        below, rim = damaged(stained.image, g, {"white_borders": DAMAGED["white_borders"]}, strength=self.strength)
        if happens(g, self.clean_share):
            hard = whole(below)
        else:
            strength = self.strength * number(g, 0.2, 1.2)
            hard = damaged(below, g, HOLES, stamps=self.stamps, strength=min(1.0, strength))
        unsaid = hard.damage | (hidden & ~rim)
        truth = torch.where(seen(hard, below), 1.0, torch.where(unsaid, -1.0, 0.0))
        return luma(scanned(hard, g, strength=self.strength).image), truth


class ScratchObjective(nn.Module):
    """Focal (Lin et al. 2017, eq. 5) and soft Dice loss (Milletari et al. 2016, eq. 8) of a batch, added."""

    def __init__(self, network: ScratchNet, config: TrainScratches) -> None:
        super().__init__()
        self.network = network
        self.config = config

    def forward(self, luma: Tensor, truth: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits = self.network(luma).float()
        focal = focal_loss(logits, truth, gamma=self.config.gamma, alpha=self.config.alpha)
        dice = dice_loss(logits, truth)
        loss = focal + self.config.dice * dice
        return loss, {"loss": loss.detach(), "focal": focal.detach(), "dice": dice.detach()}


def focal_loss(logits: Tensor, truth: Tensor, *, gamma: float, alpha: float) -> Tensor:
    """-(1 - p_t)^gamma log p_t over all pixels, for each that is damaged; a thousandth at least counts as that.

    Args:
        truth: 1 damage, 0 none, -1 unsaid, which does not count.
    """
    is_damage = truth > 0
    sure = torch.where(is_damage, logits, -logits)
    weight = torch.where(is_damage, alpha, 1 - alpha) * (truth >= 0)
    each = -F.logsigmoid(sure) * torch.sigmoid(-sure) ** gamma
    return (weight * each).sum() / is_damage.sum().clamp(min=truth.numel() / 1000)


def dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """1 - Dice of the probabilities and the truth, over the batch; 0 where neither has any damage."""
    p = torch.sigmoid(logits) * (truth >= 0)
    is_damage = (truth > 0).float()
    return 1 - (2 * (p * is_damage).sum() + 1) / (p.sum() + is_damage.sum() + 1)


@dataclass(frozen=True)
class ScratchTask:
    """A detector, for `loop.train`."""

    config: TrainScratches
    name: str = "scratches"

    def objective(self) -> ScratchObjective:
        network = build(ScratchNetConfig(**self.config.network.model_dump()))
        with torch.no_grad():
            weight, bias = network.last[-1].parameters()
            weight.mul_(0.1)
            bias.fill_(math.log(FIRST_GUESS / (1 - FIRST_GUESS)))
        if self.config.start_from is not None:
            begin_from(self.config.start_from, network, detect)
        return ScratchObjective(network, self.config)

    def data(self, sources: Sequence[Source], *, seed: int, count: int, training: bool) -> Pictures:
        c = self.config
        folder = c.stamps if training else c.validation_stamps or c.stamps
        stamps = read_stamps(folder) if folder is not None else ()
        # Half of what is held out is clean: false alarms are counted there.
        make = AgedWindow(
            c.size, stamps, c.strength, c.clean_share if training else 0.5, c.lookalikes, c.flip and training
        )
        return Pictures(sources, make, seed=seed, count=count, cache_mb=c.cache_mb)

    @torch.no_grad()
    def measured(self, network: nn.Module, shown: Sequence[Shown]) -> dict[str, float]:
        """1 - average precision, the best F1, and at the chosen threshold F1 of 2 px tolerance and false alarms."""
        marks = Marks()
        for image, truth in shown:
            marks.add(torch.sigmoid(network(image)).cpu(), truth.cpu())
        threshold = marks.threshold(self.config.wrong_at_most)
        f1, at = marks.best_f1()
        return {
            "error": 1 - marks.average_precision(),
            "best_f1": f1,
            "best_f1_at": at,
            "threshold": threshold,
            "f1_2px": marks.tolerant_f1(threshold),
            "wrong_on_clean": marks.wrong_on_clean(threshold),
        }

    @torch.no_grad()
    def picture(self, network: nn.Module, shown: Sequence[Shown]) -> Tensor:
        """Rows of what was shown, the truth with the unsaid in grey, and the probability."""
        image, truth = (x[:SHOWN] for x in shown[0])
        truth = torch.where(truth < 0, 0.3, truth)
        rows = [torch.cat(list(row), dim=2) for row in (image, truth, torch.sigmoid(network(image)))]
        return torch.cat(rows, dim=1).expand(3, -1, -1).clamp(0, 1).float().cpu()

    def says(self, measured: Mapping[str, float]) -> dict[str, str]:
        architecture = {"name": "scratch_net", **self.config.network.model_dump()}
        weak = min(max(measured["threshold"], 0.01), 0.99)  # what is best for each pixel by itself
        odds = weak / (1 - weak) / WEAK
        return {"architecture": json.dumps(architecture), "threshold": f"{odds / (1 + odds):.4f}"}
