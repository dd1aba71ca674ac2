"""Faces: where they are, cut out upright, and put back. Tensors only.

Coordinates are px, x to the right, y down; the middle of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .tiling import resized

TEMPLATE = torch.tensor([[192.98, 239.95], [318.90, 240.19], [256.63, 314.02], [201.26, 371.41], [313.09, 371.15]])
"""The five landmarks of an aligned face of 512 px, as FFHQ aligns them (Karras et al. 2019; measured by facexlib)."""
TEMPLATE_PX = 512


@dataclass(frozen=True, eq=False)
class Face:
    """A face in a photo.

    Attributes:
        landmarks: (5, 2) float32: left eye, right eye, nose, left and right corner of the mouth, as seen in the photo.
        score: 0..1, how sure the finder is.
    """

    landmarks: Tensor
    score: float = 1.0

    def to_template(self, size: int) -> Similarity:
        """Where the photo's pixels lie in an aligned face of `size` px."""
        return similarity(self.landmarks, TEMPLATE * (size / TEMPLATE_PX))

    @property
    def px(self) -> float:
        """Side of the square in the photo that alignment cuts out."""
        return TEMPLATE_PX / self.to_template(TEMPLATE_PX).scale

    @property
    def corners(self) -> Tensor:
        """(4, 2) of that square, clockwise from the upper left of the upright face."""
        square = torch.tensor([[0.0, 0.0], [1, 0], [1, 1], [0, 1]]) * TEMPLATE_PX
        return self.to_template(TEMPLATE_PX).inverse(square)


@dataclass(frozen=True)
class Similarity:
    """Turned, scaled and moved: z -> a z + b, points read as complex numbers x + iy."""

    a: complex
    b: complex

    def __call__(self, points: Tensor) -> Tensor:
        """(..., 2) of (..., 2)."""
        x, y = points.unbind(-1)
        re, im = self.a.real, self.a.imag
        return torch.stack([re * x - im * y + self.b.real, im * x + re * y + self.b.imag], -1)

    @property
    def inverse(self) -> Similarity:
        return Similarity(1 / self.a, -self.b / self.a)

    @property
    def scale(self) -> float:
        return abs(self.a)

    def then_moved(self, x: float, y: float) -> Similarity:
        return Similarity(self.a, self.b + complex(x, y))

    def after_moved(self, x: float, y: float) -> Similarity:
        """For points that are first moved by (x, y)."""
        return Similarity(self.a, self.b + self.a * complex(x, y))


def similarity(points: Tensor, onto: Tensor) -> Similarity:
    """The one that takes (N, 2) points nearest to `onto` in the least squares (Umeyama 1991, without mirroring).

    Raises:
        ValueError: if the points are all one.
    """
    z, w = (torch.view_as_complex(p.double().contiguous()) for p in (points, onto))
    z_mean, w_mean = z.mean(), w.mean()
    spread = (z - z_mean).abs().square().sum()
    if not spread > 0:
        raise ValueError(f"landmarks must differ, got {points.tolist()}")
    a = ((z - z_mean).conj() * (w - w_mean)).sum() / spread
    return Similarity(complex(a), complex(w_mean - a * z_mean))


def aligned(image: Tensor, face: Face, size: int) -> Tensor:
    """(C, size, size): the face upright in the middle, as restorers know faces; the photo's edge goes on beyond it.

    Args:
        image: (C, H, W).
    """
    to = face.to_template(size)
    top, left, bottom, right = _box(face.corners, image.shape[1:], margin=math.ceil(2 / min(1, to.scale)) + 2)
    return warped(image[:, top:bottom, left:right], to.after_moved(left, top), size, size)


def pasted(image: Tensor, patch: Tensor, mask: Tensor, face: Face) -> Tensor:
    """The image with an aligned patch put back in its place; where the mask is 0 nothing changes.

    Args:
        image: (C, H, W).
        patch: (C, size, size), aligned as `aligned` does it.
        mask: (1, size, size) in [0, 1], how much of the patch counts; 0 along its border, or a seam shows.
    """
    size = patch.shape[-1]
    top, left, bottom, right = _box(face.corners, image.shape[1:], margin=1)
    if top >= bottom or left >= right:
        return image
    back = face.to_template(size).inverse.then_moved(-left, -top)
    height, width = bottom - top, right - left
    put = warped(patch, back, height, width)
    share = warped(F.pad(mask, (1, 1, 1, 1)), back.after_moved(-1, -1), height, width).clamp(0, 1)
    result = image.clone()
    place = result[:, top:bottom, left:right]
    result[:, top:bottom, left:right] = torch.where(share > 0, place + share * (put - place), place)
    return result


def warped(source: Tensor, to: Similarity, height: int, width: int) -> Tensor:
    """(C, height, width): `source` (C, h, w) seen through `to`; its edge goes on beyond it.

    Filtered first where it shrinks, bicubic otherwise.
    """
    h, w = source.shape[1:]
    shrunk_h, shrunk_w = (max(1, round(side * min(1.0, to.scale))) for side in (h, w))
    small = resized(source[None], shrunk_h, shrunk_w)
    y = torch.arange(height, device=source.device) + 0.5
    x = torch.arange(width, device=source.device) + 0.5
    points = to.inverse(torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1))
    grid = 2 * points / points.new_tensor([w, h]) - 1
    return F.grid_sample(small, grid[None].to(small), mode="bicubic", padding_mode="border", align_corners=False)[0]


def _box(corners: Tensor, sides: torch.Size, margin: int) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of the part of an image that corners span; never empty when they lie beside it."""
    H, W = sides
    left, top = (corners.amin(0).floor().int() - margin).tolist()
    right, bottom = (corners.amax(0).ceil().int() + margin).tolist()
    top, left = min(max(top, 0), H - 1), min(max(left, 0), W - 1)
    return top, left, max(min(bottom, H), top + 1), max(min(right, W), left + 1)
