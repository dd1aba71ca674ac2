"""A face finder: paste faces into photographs, and ask where they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..archs.face_finder import LARGEST_PX, SMALLEST_PX, STRIDE, UNIT_PX, FaceFinder, FaceFinderConfig, build, detect
from ..faces import Face
from ..stages.finding import found
from .crowds import CrowdWindow, read_faces
from .data import Pictures
from .finder_settings import TrainFinder
from .loop import Shown, Watch, begin_from, train
from .settings import Source

UNSAID = (0.75, 1.45)  # times the smallest and the largest size: faces between them and the finder's may be seen or not
BLUR = 0.09  # of a face's side: how far from its middle a cell is hardly wrong
REACH = 0.35  # of a face's side: the place of one that is neither face nor none
LANDMARKS_FROM = 0.1  # cells this near to a face's middle learn its landmarks
SAME = 0.2  # of a face's side: what is found so near to it is it
SHOWN = 6


def train_finder(config: TrainFinder, watch: Watch = lambda status: None) -> str:
    """Train a finder as `loop.train` says; the path of the exported weights."""
    return train(config, FinderTask(config), watch)


class Aim(nn.Module):
    """What a finder is to say of windows of `size` px."""

    middles: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        along = (torch.arange(size // STRIDE) + 0.5) * STRIDE
        self.register_buffer("middles", torch.stack(torch.meshgrid(along, along, indexing="xy"), -1), persistent=False)

    def forward(self, table: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For every cell: heat, 1 where a face has its middle; whether it counts; landmarks (5, 2) and px of its face.

        Args:
            table: (B, 8, 11), as `CrowdWindow` says.
        """
        px, points = table[..., 0], table[..., 1:].unflatten(-1, (5, 2))
        gap = (self.middles - points.mean(2)[:, :, None, None]).square().sum(-1)  # (B, 8, h, w)
        side = px.abs().clamp(min=1)[..., None, None]
        is_face = ((px >= SMALLEST_PX) & (px <= LARGEST_PX))[..., None, None]
        near = torch.exp(-gap / (2 * (BLUR * side).clamp(min=STRIDE / 2).square()))
        heat, which = (near * is_face).max(1)
        at_middle = (gap == gap.amin((2, 3), keepdim=True)) & is_face
        heat = torch.where(at_middle.any(1), 1.0, heat)
        between = (px > UNSAID[0] * SMALLEST_PX) & (px < UNSAID[1] * LARGEST_PX)
        unsaid = ((px < 0) | between)[..., None, None] & ~is_face & (gap < (REACH * side).square())
        counts = ~unsaid.any(1) | (heat == 1)
        chosen = which.flatten(1)[..., None]
        landmarks = points.flatten(2).gather(1, chosen.expand(-1, -1, 10)).view(*which.shape, 5, 2)
        return heat, counts, landmarks, side[..., 0, 0].gather(1, chosen[..., 0]).view_as(heat)


class FinderObjective(nn.Module):
    """Focal loss of the middles (Law & Deng 2018, eq. 1; Zhou et al. 2019), and L1 of the landmarks near them."""

    def __init__(self, network: FaceFinder, config: TrainFinder) -> None:
        super().__init__()
        self.network = network
        self.weight = config.landmarks
        self.aim = Aim(config.size)

    def forward(self, luma: Tensor, table: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        out = self.network(luma).float()
        heat, counts, landmarks, px = self.aim(table)
        focal = focal_loss(out[:, 0], heat, counts)
        said = self.aim.middles[..., None, :] + UNIT_PX * out[:, 1:].permute(0, 2, 3, 1).unflatten(-1, (5, 2))
        wrong = (said - landmarks).abs().mean((-1, -2)) / px
        share = heat * (heat > LANDMARKS_FROM)
        away = (wrong * share).sum() / share.sum().clamp(min=1)
        loss = focal + self.weight * away
        return loss, {"loss": loss.detach(), "focal": focal.detach(), "landmarks": away.detach()}


def focal_loss(logits: Tensor, heat: Tensor, counts: Tensor) -> Tensor:
    """-(1 - p)^2 log p where a face has its middle, -(1 - heat)^4 p^2 log(1 - p) elsewhere; for each face."""
    is_face = heat == 1
    p = torch.sigmoid(logits)
    missed = -F.logsigmoid(logits) * (1 - p).square()
    wrong = -F.logsigmoid(-logits) * p.square() * (1 - heat) ** 4
    return (torch.where(is_face, missed, wrong) * counts).sum() / is_face.sum().clamp(min=1)


@dataclass
class FinderTask:
    """A finder, for `loop.train`."""

    config: TrainFinder
    name: str = field(default="finder", init=False)

    def objective(self) -> FinderObjective:
        network = build(FaceFinderConfig(**self.config.network.model_dump()))
        if self.config.start_from is not None:
            begin_from(self.config.start_from, network, detect)
        return FinderObjective(network, self.config)

    def data(self, sources: Sequence[Source], *, seed: int, count: int, training: bool) -> Pictures:
        c = self.config
        folder = c.faces if training else c.validation_faces or c.faces
        make = CrowdWindow(c.size, read_faces(folder), c.most, c.strength, c.flip and training)
        return Pictures(sources, make, seed=seed, count=count, cache_mb=c.cache_mb)

    def measured(self, network: nn.Module, shown: Sequence[Shown]) -> dict[str, float]:
        """1 - F1, how many of the faces are found and of the found are faces, and how far off landmarks are.

        The last by the distance of the eyes, in the mean. Faces that hardly show count neither way.
        """
        tally = Tally()
        for luma, table in shown:
            for image, faces in zip(luma, table, strict=True):
                tally.add(found(network, image.expand(3, -1, -1)), faces)
        return tally.figures()

    def picture(self, network: nn.Module, shown: Sequence[Shown]) -> Tensor:
        """Windows, and what is found in them: a green dot for each landmark."""
        rows = []
        for luma in shown[0][0][:SHOWN]:
            image = luma.float().expand(3, -1, -1)
            rows.append(torch.cat([image, _dotted(image, found(network, image))], 1))
        return torch.cat(rows, 2).cpu()

    def says(self, measured: Mapping[str, float]) -> dict[str, str]:
        return {"architecture": json.dumps({"name": "face_finder", **self.config.network.model_dump()})}


@dataclass
class Tally:
    """Faces that were there, were found, and are the same."""

    there: int = 0
    found: int = 0
    same: int = 0
    away: float = 0.0

    def add(self, faces: Sequence[Face], table: Tensor) -> None:
        """Count what was found, the surest first, against the rows of a table as `CrowdWindow` says."""
        rows = [row for row in table.cpu() if row[0] != 0]
        self.there += sum(_counts(row) for row in rows)
        for face in faces:
            near = [row for row in rows if _is(face, row)]
            if not near:
                self.found += 1
                continue
            row = near[0]
            rows = [other for other in rows if other is not row]
            if _counts(row):
                truth = row[1:].view(5, 2)
                eyes = (truth[0] - truth[1]).norm()
                self.found, self.same = self.found + 1, self.same + 1
                self.away += ((face.landmarks - truth).norm(dim=1).mean() / eyes).item()

    def figures(self) -> dict[str, float]:
        recall, precision = self.same / max(1, self.there), self.same / max(1, self.found)
        f1 = 2 * self.same / max(1, self.there + self.found)
        return {"error": 1 - f1, "recall": recall, "precision": precision, "landmarks": self.away / max(1, self.same)}


def _counts(row: Tensor) -> bool:
    """Whether a face must be found."""
    return row[0].item() >= SMALLEST_PX


def _is(face: Face, row: Tensor) -> bool:
    px, middle = row[0].abs(), row[1:].view(5, 2).mean(0)
    return bool((face.landmarks.mean(0) - middle).norm() < SAME * px and 0.6 < face.px / px < 1.6)


def _dotted(image: Tensor, faces: Sequence[Face]) -> Tensor:
    dotted = image.clone()
    for face in faces:
        for x, y in face.landmarks.long().tolist():
            if 0 <= x < image.shape[2] and 0 <= y < image.shape[1]:
                dotted[:, max(0, y - 1) : y + 1, max(0, x - 1) : x + 1] = torch.tensor([0.0, 1, 0])[:, None, None]
    return dotted
