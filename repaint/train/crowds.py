"""Photographs with faces pasted in, aged, and where the faces are: what a face finder learns from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn import functional as F

from .. import files
from ..degrade import DAMAGED, damaged, degraded, weathered
from ..degrade.drawing import cloud, happens, number, pick, pixels, uniform
from ..degrade.overall import contrast, toning
from ..errors import RunError
from ..faces import TEMPLATE, TEMPLATE_PX, Face
from ..image import luma
from .data import ENDINGS, NO_IMAGE, Picture, below, cut, pixels_of, varied

MOST = 8  # faces in a window
FACE_PX = 128  # as large as a face is kept
OUTLINES = 256  # in which faces are cut out
SIZES_PX = (18.0, 72.0)  # of most faces
LARGE_PX, LARGE_SHARE = 260.0, 0.12  # of the others: too near for the finder, which is to see no face in an eye
LONELY, BLANK, SMALL = 0.25, 0.08, 0.15  # shares of windows without faces, without a photo, and with a small one
SMALL_PX = (32.0, 90.0)  # of a small photo: the finder is shown such, to see faces that fill a photo
FRAMED, SPOILED = 0.2, 0.05  # shares of windows with a border around the picture, and with scratches and folds
WEATHERED, DEGRADED = 0.3, 0.3  # shares that look old, and poor; the rest is black and white


class Posed(NamedTuple):
    """A face as it will stand in the window: (2, 2) `turn` takes the template's px to the window's, about `middle`."""

    turn: Tensor
    middle: Tensor

    @property
    def landmarks(self) -> Tensor:
        """(5, 2) px."""
        return (TEMPLATE - TEMPLATE_PX / 2) @ self.turn.T + self.middle


@dataclass(frozen=True)
class CrowdWindow:
    """Luma (1, s, s) in [0, 1] of a window, and (8, 11) of its faces: px of the aligned square, and five x, y.

    Rows of 0 stand for no face. Of faces that hardly show, because a border hides them, the px are negative: they are
    neither faces nor none.

    Attributes:
        faces: aligned, (3, 128, 128) uint8.
        most: faces in a window.
        strength: of ageing.
    """

    size: int
    faces: Sequence[Tensor]
    most: int = 6
    strength: float = 0.3
    flip: bool = False

    def __call__(self, picture: Picture, g: Generator) -> tuple[Tensor, Tensor]:
        photo = (varied(cut(picture, self.size, g), g, flip=self.flip, grey_share=0) + 1) / 2
        ground = number(g, 0, 1)
        if ground < BLANK:
            photo = photo.mean().expand_as(photo)
        elif ground < BLANK + SMALL:
            photo = shrunk(photo, g)
        image, standing = photo, []
        for _ in range(0 if happens(g, LONELY) else 1 + below(self.most, g)):
            posed = _posed(self.size, g)
            if all(_apart(posed, other) for other in standing):
                image = self._with_face(image, posed, g)
                standing.append(posed)
        for _ in range(below(2, g)):
            posed = _posed(self.size, g)
            if all(_apart(posed, other) for other in standing):
                image = self._with_decoy(image, photo, posed, g)
        hidden = torch.zeros(1, self.size, self.size)
        if happens(g, FRAMED):
            image, hidden = framed(image, g)
        return luma(self._aged(image, g)), _table(standing, hidden[0])

    def _with_face(self, image: Tensor, posed: Posed, g: Generator) -> Tensor:
        face = pick(g, self.faces).float() / 255
        return put(image, face.flip(2) if happens(g, 0.5) else face, outline(below(OUTLINES, g)), posed, g)

    def _with_decoy(self, image: Tensor, photo: Tensor, posed: Posed, g: Generator) -> Tensor:
        """Cut out and pasted like a face, and none: a face on its head, in pieces, or a piece of the photo."""
        kind = number(g, 0, 1)
        if kind < 0.5:
            top, left = (below(max(1, self.size - 64), g) for _ in range(2))
            piece = F.interpolate(photo[None, :, top : top + 64, left : left + 64], (FACE_PX, FACE_PX))[0]
        else:
            face = pick(g, self.faces).float() / 255
            piece = face.flip(1) if kind < 0.7 else in_pieces(face, g)
        return put(image, piece, outline(below(OUTLINES, g)), posed, g)

    def _aged(self, image: Tensor, g: Generator) -> Tensor:
        kind = number(g, 0, 1)
        if kind < WEATHERED:
            image = weathered(image, g, strength=self.strength)
        elif kind < WEATHERED + DEGRADED:
            image = degraded(image, g, strength=self.strength)
        else:
            image = contrast(toning(image, 1, g), 2 * self.strength, g)
        return damaged(image, g, DAMAGED, strength=0.3).image if happens(g, SPOILED) else image


def put(image: Tensor, face: Tensor, mask: Tensor, posed: Posed, g: Generator) -> Tensor:
    """The image with a face in it, its light brought nearer to that of the place.

    Args:
        image: (3, s, s).
        face: (3, 128, 128).
        mask: (1, 128, 128), how much of the face counts.
    """
    px = TEMPLATE_PX * posed.turn.det().abs().sqrt().item()
    corners = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]) * (TEMPLATE_PX / 2) @ posed.turn.T + posed.middle
    size = image.shape[-1]
    left, top = (max(0, int(v)) for v in corners.amin(0).floor().tolist())
    right, bottom = (min(size, int(v) + 1) for v in corners.amax(0).ceil().tolist())
    if left >= right or top >= bottom:
        return image
    source = torch.cat([face, mask])[None]
    side = max(8, round(px))
    if side < FACE_PX:
        source = F.interpolate(source, (side, side), mode="bilinear", antialias=True)
    y, x = pixels(bottom - top, right - left)
    points = torch.stack([x + (left + 0.5), y + (top + 0.5)], -1) - posed.middle
    grid = points @ posed.turn.inverse().T / (TEMPLATE_PX / 2)
    seen = F.grid_sample(source, grid[None], mode="bilinear", align_corners=False)[0]
    shown, share = seen[:3], seen[3:]
    place = image[:, top:bottom, left:right]
    result = image.clone()
    result[:, top:bottom, left:right] = place + share * (_lit(shown, share, place, g) - place)
    return result.clamp(0, 1)


@cache
def outline(i: int) -> Tensor:
    """(1, 128, 128): how much is cut out of an aligned face; an oval, a ragged head, the square, or a part of it."""
    g = Generator().manual_seed(i)
    y, x = (pixels(FACE_PX, FACE_PX) + 0.5) / FACE_PX - 0.5
    soft = number(g, 0.02, 0.15)
    kind = number(g, 0, 1)
    if kind < 0.2:  # as a photo that holds little more than the face
        kept = [(0.5 + side > number(g, 0, most)) for side, most in ((x, 0.3), (-x, 0.3), (y, 0.35), (-y, 0.2))]
        return torch.stack(kept).all(0, keepdim=True).float()
    if kind < 0.4:
        outside = torch.maximum(x.abs(), y.abs()) - 0.5 + soft * number(g, 0, 1)
    else:
        wide, high = number(g, 0.3, 0.46), number(g, 0.38, 0.5)
        outside = ((x / wide).square() + ((y - number(g, -0.02, 0.05)) / high).square()).sqrt() - 1
        outside = outside * wide
        if kind < 0.75:
            outside = outside + number(g, 0, 0.1) * cloud(g, FACE_PX, FACE_PX, FACE_PX / 3, octaves=3)[0]
    return (0.5 - outside / soft).clamp(0, 1)[None]


def in_pieces(face: Tensor, g: Generator) -> Tensor:
    """A face cut into four, nine or sixteen, and put together wrongly."""
    n = 2 + below(3, g)
    side = FACE_PX // n
    parts = [face[:, i * side : (i + 1) * side, j * side : (j + 1) * side] for i in range(n) for j in range(n)]
    order = torch.randperm(n * n, generator=g).roll(1).tolist()
    rows = [torch.cat([parts[k] for k in order[i * n : (i + 1) * n]], 2) for i in range(n)]
    return F.interpolate(torch.cat(rows, 1)[None], (FACE_PX, FACE_PX), mode="bilinear")[0]


def shrunk(photo: Tensor, g: Generator) -> Tensor:
    """(3, s, s): all of a photo (3, s, s), small, on a ground of its mean."""
    size = photo.shape[-1]
    side = min(size, round(math.exp(number(g, *map(math.log, SMALL_PX)))))
    top, left = below(size - side + 1, g), below(size - side + 1, g)
    result = photo.mean().expand_as(photo).clone()
    little = F.interpolate(photo[None], (side, side), mode="bilinear", antialias=True)[0]
    result[:, top : top + side, left : left + side] = little
    return result


def framed(image: Tensor, g: Generator) -> tuple[Tensor, Tensor]:
    """The image with an even border, up to a third of each side; and (1, s, s) where the border hides it."""
    size = image.shape[-1]
    near = [int(size * number(g, 0, 0.33)) if happens(g, 0.6) else 0 for _ in range(4)]
    hidden = torch.ones(1, size, size)
    hidden[:, near[0] : size - near[1], near[2] : size - near[3]] = 0
    tone = pick(g, (image.mean().item(), number(g, 0, 1), number(g, 0.8, 1), number(g, 0, 0.1)))
    return torch.where(hidden > 0, torch.tensor(tone), image), hidden


def read_faces(folder: str) -> list[Tensor]:
    """The aligned faces of a folder and its subfolders, (3, 128, 128) uint8.

    Raises:
        RunError: if there is none, or one cannot be read or is not square.
    """
    names = files.list_files(folder, ENDINGS) if files.is_dir(folder) else []
    if not names:
        raise RunError(f"faces: {folder} holds no images ({', '.join(ENDINGS)})")
    return [_read(files.join(folder, name)) for name in names]


def _read(path: str) -> Tensor:
    try:
        face = Image.fromarray(pixels_of(path))
    except NO_IMAGE as e:
        raise RunError(f"faces: {path}: cannot be read as an image: {e}") from e
    if face.width != face.height:
        raise RunError(f"faces: {path}: is {face.width} x {face.height} px; aligned faces are square")
    face = face.resize((FACE_PX, FACE_PX), Image.Resampling.BOX if face.width > FACE_PX else Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(face)).permute(2, 0, 1).contiguous()


def _posed(size: int, g: Generator) -> Posed:
    """Anywhere in the window or just beside it, turned, and at times seen a little from one side."""
    low, high = (SIZES_PX[1], LARGE_PX) if happens(g, LARGE_SHARE) else SIZES_PX
    px = math.exp(number(g, math.log(low), math.log(high)))
    angle = math.radians(18) * torch.randn((), generator=g).clamp(-2, 2).item()
    narrow, slant = number(g, 0.78, 1.08), number(g, -0.08, 0.08)
    c, s = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[c, -s], [s, c]]) @ torch.tensor([[narrow, slant], [0, 1.0]]) * (px / TEMPLATE_PX)
    return Posed(turn, uniform(g, -0.1 * px, size + 0.1 * px, 2))


def _apart(one: Posed, other: Posed) -> bool:
    reach = sum(TEMPLATE_PX * p.turn.det().sqrt().item() for p in (one, other)) / 2
    return (one.middle - other.middle).norm().item() > 0.75 * reach


def _lit(face: Tensor, share: Tensor, place: Tensor, g: Generator) -> Tensor:
    """The face with its mean brought towards that of the place, its contrast changed, and light from one side."""
    mean = (face * share).sum((1, 2), keepdim=True) / share.sum().clamp(min=1)
    there = place.mean((1, 2), keepdim=True)
    target = mean.lerp(there, number(g, 0, 0.6))
    y, x = pixels(*face.shape[1:]) / max(face.shape[1:]) - 0.5
    side = number(g, 0, math.tau)
    shade = 1 + number(g, 0, 0.6) * (math.cos(side) * x + math.sin(side) * y)
    return (target + (face - mean) * number(g, 0.6, 1.15)) * shade


def _table(standing: Sequence[Posed], hidden: Tensor) -> Tensor:
    """(8, 11), as `CrowdWindow` says."""
    table = torch.zeros(MOST, 11)
    size = hidden.shape[-1]
    for row, posed in zip(table, standing, strict=False):
        points = posed.landmarks
        middle = points.mean(0)
        inside = ((points > 0) & (points < size)).all(1)
        x, y = points.long().clamp(0, size - 1).unbind(1)
        shows = (inside & (hidden[y, x] == 0)).sum()
        at_home = bool(((middle > 0) & (middle < size)).all())
        row[0] = Face(points).px * (1 if shows >= 4 and at_home else -1)
        row[1:] = points.flatten()
    return table
