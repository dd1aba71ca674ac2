"""A scratch detector: age windows of photographs, and ask which pixels were damaged."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from ..archs.scratch_net import ScratchNet, ScratchNetConfig, build, detect, grown_into, hint
from ..degrade import DAMAGED, Damaged, damaged, lookalikes, scanned, seen, weathered
from ..degrade.drawing import happens, number, pick
from ..degrade.painting import SMALLEST_PX, scale_of, whole
from ..holes import thicker_than
from ..image import luma
from ..stages.scratches import Scratches
from ..stages.together import Together
from ..tiling import resized
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
THICK, HIDING = 6, 0.25  # nominal px, and luma that it has to change: thicker damage that hides less is a stain
SMALLER = 0.5  # weight of the loss of what is found at smaller sizes
FIRST_GUESS = 0.02  # what a new detector thinks of every pixel
SHOWN = 6  # windows in a picture


def train_scratches(config: TrainScratches, watch: Watch = lambda status: None) -> str:
    """Train a detector as `loop.train` says; the path of the exported weights."""
    return train(config, ScratchTask(config), watch)


@dataclass(frozen=True)
class AgedWindow:
    """Luma (1, s, s) in [0, 1] of an aged window, and (1, s, s) of what each pixel is: 1 damage, 0 none, -1 unsaid.

    Damage is what hides the picture: scratches, hairs, dust, folds, tears. Stains and white borders are drawn and are
    none. Unsaid is damage that its surroundings hide (`degrade.seen`), the soft rim of other damage, what is thick and
    yet shows the picture below, and a stain so strong that it hides as much as a hole does. A share of the windows is
    damaged as others are, and not aged beside that: sharp. In these no wires are drawn, for a drawn wire that has not
    weathered with its picture is what a scratch is. Another share is a mosaic (Bochkovskiy et al. 2020, section 3.3):
    four windows of half the size, for a photograph may be a thumbnail or a large scan, and all lengths of damage grow
    with the size of what is aged.
    """

    size: int
    stamps: Sequence[Tensor] = ()
    strength: float = 0.5
    clean_share: float = 0.0
    lookalikes: float = 0.0
    enlarged: float = 0.0
    new_share: float = 0.0
    flip: bool = False
    mosaic: float = 0.0
    negative_share: float = 0.0

    def __call__(self, picture: Picture, g: Generator) -> tuple[Tensor, Tensor]:
        if self.mosaic and happens(g, self.mosaic):
            quarters = [self._aged(picture, self.size // 2, g) for _ in range(4)]
            light, truth = (_side_by_side(part) for part in zip(*quarters, strict=True))
            return light, truth
        return self._aged(picture, self.size, g)

    def _aged(self, picture: Picture, size: int, g: Generator) -> tuple[Tensor, Tensor]:
        enlarge = 2 if happens(g, self.enlarged) and size >= 2 * SMALLEST_PX else 1
        image = (varied(cut(picture, size // enlarge, g), g, flip=self.flip, grey_share=0) + 1) / 2
        if self.flip:
            image = torch.rot90(image, pick(g, (0, 1, 2, 3)), (1, 2)).contiguous()
        is_new = happens(g, self.new_share)
        if happens(g, self.lookalikes) and not is_new:
            image = lookalikes(image, g)
        photo = image if is_new else weathered(image, g, strength=self.strength)
        stained = damaged(photo, g, {"stains": DAMAGED["stains"]}, strength=self.strength)
        hidden = luma(stained.image - photo).abs() > HIDDEN
        below, rim = damaged(stained.image, g, {"white_borders": DAMAGED["white_borders"]}, strength=self.strength)
        if happens(g, self.clean_share):
            hard = whole(below)
        else:
            strength = min(1.0, self.strength * number(g, 0.2, 1.2))
            is_negative = self.negative_share > 0 and happens(g, self.negative_share)
            hard = damaged(1 - below if is_negative else below, g, HOLES, stamps=self.stamps, strength=strength)
            if is_negative:
                hard = Damaged(1 - hard.image, hard.damage)
        truth = truth_of(hard, below).masked_fill(hidden & ~rim & ~hard.damage, -1)
        if enlarge > 1:
            large = F.interpolate(hard.image[None], scale_factor=enlarge, mode="bicubic")[0].clamp(0, 1)
            hard = Damaged(large, _repeated(hard.damage, enlarge))
            truth = _repeated(truth, enlarge)
        return luma((hard if is_new else scanned(hard, g, strength=self.strength)).image), truth


def truth_of(hard: Damaged, below: Tensor) -> Tensor:
    """(1, H, W): 1 where damage is to be found, -1 where it may be called damage or none, 0 where there is none.

    Args:
        below: (3, H, W), the picture before it was damaged.
    """
    said = seen(hard, below)
    if said.any():
        faint = luma(hard.image - below).abs() < HIDING
        said = said & ~(faint & thicker_than(~hard.damage, THICK * scale_of(below)))
    return torch.where(said, 1.0, torch.where(hard.damage, -1.0, 0.0))


def looks(network: ScratchNet, luma: Tensor, sizes: int) -> list[Tensor]:
    """Logits of luma (B, 1, H, W) at so many sizes, the smallest first, each a hint for the next.

    Hints have no gradient: each size learns for itself. A network that takes none looks once.
    """
    H, W = luma.shape[-2:]
    found: list[Tensor] = []
    for k in reversed(range(sizes if network.config.hinted else 1)):
        x = resized(luma, H >> k, W >> k).clamp(0, 1)
        if found:
            x = torch.cat([x, hint(torch.sigmoid(found[-1].detach()), x)], 1)
        found.append(network(x).float())
    return found


def smaller(truth: Tensor, times: int) -> Tensor:
    """The truth (B, 1, H, W) at 1 / times the size: damage if half of it is, unsaid if less or any of it is unsaid."""
    if times == 1:
        return truth
    damage, any_unsaid = F.avg_pool2d((truth > 0).float(), times), F.max_pool2d((truth < 0).float(), times)
    return torch.where(damage >= 0.5, 1.0, torch.where((damage > 0) | (any_unsaid > 0), -1.0, 0.0))


def _side_by_side(quarters: Sequence[Tensor]) -> Tensor:
    above, below = (torch.cat([left, right], 2) for left, right in (quarters[:2], quarters[2:]))
    return torch.cat([above, below], 1)


def _repeated(x: Tensor, times: int) -> Tensor:
    return x.repeat_interleave(times, 1).repeat_interleave(times, 2)


class ScratchObjective(nn.Module):
    """Focal (Lin et al. 2017, eq. 5) and soft Dice loss of a batch, added."""

    def __init__(self, network: ScratchNet, config: TrainScratches) -> None:
        super().__init__()
        self.network = network
        self.config = config

    def forward(self, luma: Tensor, truth: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        sizes = int(torch.randint(1, self.config.sizes + 1, (1,)))
        focal = dice = luma.new_zeros(())
        for logits in looks(self.network, luma, sizes):
            there = smaller(truth, truth.shape[-1] // logits.shape[-1])
            weight = 1 if there is truth else SMALLER
            focal = focal + weight * focal_loss(logits, there, gamma=self.config.gamma, alpha=self.config.alpha)
            dice = dice + weight * dice_loss(logits, there)
        loss = focal + self.config.dice * dice
        return loss, {"loss": loss.detach(), "focal": focal.detach(), "dice": dice.detach()}


def focal_loss(logits: Tensor, truth: Tensor, *, gamma: float, alpha: float) -> Tensor:
    """-alpha_t (1 - p_t)^gamma log p_t over all pixels, for each that is damaged; a thousandth at least counts as that.

    Args:
        truth: 1 damage, 0 none, -1 unsaid, which does not count.
    """
    is_damage = truth > 0
    sure = torch.where(is_damage, logits, -logits)
    weight = torch.where(is_damage, alpha, 1 - alpha) * (truth >= 0)
    each = -F.logsigmoid(sure) * torch.sigmoid(-sure) ** gamma
    return (weight * each).sum() / is_damage.sum().clamp(min=truth.numel() / 1000)


def dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """1 - Dice of the probabilities and the truth, over the batch; 0 where neither has any damage.

    After Milletari et al. 2016 (V-Net), whose denominator has sums of squares; and 1 is added to both.
    """
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
            begin_from(self.config.start_from, network, detect, partial(grown_into, network))
        return ScratchObjective(network, self.config)

    def data(self, sources: Sequence[Source], *, seed: int, count: int, training: bool) -> Pictures:
        c = self.config
        folder = c.stamps if training else c.validation_stamps or c.stamps
        stamps = read_stamps(folder) if folder is not None else ()
        # Half of what is held out is clean: false alarms are counted there.
        make = AgedWindow(
            *(c.size, stamps, c.strength, c.clean_share if training else 0.5, c.lookalikes, c.enlarged),
            new_share=c.new_share,
            flip=c.flip and training,
            mosaic=c.mosaic,
            negative_share=c.negative_share,
        )
        return Pictures(sources, make, seed=seed, count=count, cache_mb=c.cache_mb)

    @torch.no_grad()
    def measured(self, network: nn.Module, shown: Sequence[Shown]) -> dict[str, float]:
        """1 - average precision, the best F1, and at the chosen threshold F1 of 2 px tolerance and false alarms."""
        marks = Marks()
        for image, truth in shown:
            marks.add(self._found(network, image).cpu(), truth.cpu())
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
        rows = [torch.cat(list(row), dim=2) for row in (image, truth, self._found(network, image))]
        return torch.cat(rows, dim=1).expand(3, -1, -1).clamp(0, 1).float().cpu()

    def _found(self, network: nn.Module, image: Tensor) -> Tensor:
        assert isinstance(network, ScratchNet)
        together = Together(Scratches().combine, network.config.hinted)  # as in the stage, whose threshold this gives
        for logits in looks(network, image, self.config.sizes):
            together.add(torch.sigmoid(logits))
        return together.map()

    def says(self, measured: Mapping[str, float]) -> dict[str, str]:
        architecture = {"name": "scratch_net", **self.config.network.model_dump()}
        alone = min(max(measured["threshold"], 0.01), 0.99)  # what is best for each pixel by itself: between the two
        odds = alone / (1 - alone) / math.sqrt(WEAK)
        return {"architecture": json.dumps(architecture), "threshold": f"{odds / (1 + odds):.4f}"}
