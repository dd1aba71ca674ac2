"""Faces: where they are, cut out upright, and put back. Tensors only.

Coordinates are px, x to the right, y down; the middle of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .tiling import off_mps, resized

TEMPLATE = torch.tensor([[192.98, 239.95], [318.90, 240.19], [256.63, 314.02], [201.26, 371.41], [313.09, 371.15]])
"""The five landmarks of an aligned face of 512 px, as FFHQ aligns them (Karras et al. 2019; measured by facexlib)."""
TEMPLATE_PX = 512

Box = tuple[int, int, int, int]
"""Top, left, bottom, right in px; half-open."""
Dear = Box | tuple[int, int, int, int, float]
"""A box, and the px up to which marks in it are damage all the same; without these none is."""

PARTS = {  # left, top, right, bottom in the template, with room for how people differ
    "face": (110, 90, 402, 480),
    "left_eye": (145, 208, 241, 272),
    "right_eye": (271, 208, 367, 272),
    "mouth": (188, 345, 326, 420),
}
OVAL = (256, 286, 190, 225)  # x, y of its middle in the template, and its radii
OVAL_FALL = 0.35  # of the radius, over which it falls to 0
THIN = 1 / 8  # of a face without its hair: as thick may a scratch in it be, for its eyes were seen beside it
BORDER = 40  # of the template, over which masks fall to 0 along it


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
        return self.to_template(TEMPLATE_PX).inverse(_corners_of(0, 0, TEMPLATE_PX, TEMPLATE_PX))


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


def added(image: Tensor, change: Tensor, mask: Tensor, face: Face) -> Tensor:
    """The image with a change of the aligned face made in its place; where the mask is 0 no bit changes.

    What is finer than the change can show stays as it is in the image, however large the face is there.

    Args:
        image: (C, H, W).
        change: (C, s, s), what is to be added to the face as `aligned` cuts it out.
        mask: (1, m, m) in [0, 1], how much of the change is made; 0 along its border, or a seam shows.
    """
    top, left, bottom, right = _box(face.corners, image.shape[1:], margin=1)
    height, width = bottom - top, right - left

    def back(patch: Tensor) -> Tensor:
        to = face.to_template(patch.shape[-1]).inverse.then_moved(-left, -top)
        return warped(F.pad(patch, (1, 1, 1, 1)), to.after_moved(-1, -1), height, width)

    share, what = back(mask).clamp(0, 1), back(change)
    result = image.clone()
    place = result[:, top:bottom, left:right]
    result[:, top:bottom, left:right] = torch.where(share > 0, place + share * what, place)
    return result


def warped(source: Tensor, to: Similarity, height: int, width: int) -> Tensor:
    """(C, height, width): `source` (C, h, w) seen through `to`; its edge goes on beyond it.

    Filtered first where it shrinks, bicubic otherwise.
    """
    h, w = source.shape[1:]
    shrunk_h, shrunk_w = (max(1, round(side * min(1.0, to.scale))) for side in (h, w))
    small = resized(off_mps(source)[None], shrunk_h, shrunk_w)
    y = torch.arange(height, device=small.device) + 0.5
    x = torch.arange(width, device=small.device) + 0.5
    points = to.inverse(torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1))
    grid = 2 * points / points.new_tensor([w, h]) - 1
    seen = F.grid_sample(small, grid[None].to(small), mode="bicubic", padding_mode="border", align_corners=False)[0]
    return seen.to(source.device)


def _box(corners: Tensor, sides: torch.Size, margin: int) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of the part of an image that corners span; never empty when they lie beside it."""
    H, W = sides
    left, top = (corners.amin(0).floor().int() - margin).tolist()
    right, bottom = (corners.amax(0).ceil().int() + margin).tolist()
    top, left = min(max(top, 0), H - 1), min(max(left, 0), W - 1)
    return top, left, max(min(bottom, H), top + 1), max(min(right, W), left + 1)


def parts(face: Face) -> dict[str, Box]:
    """Upright boxes, in the photo, around the face without its hair ("face"), "left_eye", "right_eye" and "mouth".

    They may reach beyond the photo.
    """
    back = face.to_template(TEMPLATE_PX).inverse
    return {name: _around(back(_corners_of(*sides))) for name, sides in PARTS.items()}


def dear_boxes(faces: Iterable[Face]) -> list[Dear]:
    """What looks like damage to a detector of scratches, and is dear: eyes, mouths, and what is thick in a face."""
    return [_dear(name, box) for face in faces for name, box in parts(face).items()]


def _dear(name: str, box: Box) -> Dear:
    top, left, bottom, right = box
    return (*box, THIN * min(bottom - top, right - left)) if name == "face" else box


def oval(size: int) -> Tensor:
    """(1, size, size) in [0, 1], where an aligned face is: 1 inside an oval, smoothly 0 from its edge on."""
    at = (torch.arange(size) + 0.5) * (TEMPLATE_PX / size)
    x, y, across, down = OVAL
    radius = torch.hypot((at - x) / across, (at[:, None] - y) / down)
    return _smooth((1 - radius) / OVAL_FALL)[None] * _inside(size)


def softened(inside: Tensor) -> Tensor:
    """(1, s, s) in [0, 1]: the mask of an aligned face, of the same shape, without hard edges; 0 along the border.

    As wide as facexlib blurs it: twice with a sigma of 11 px of 512.
    """
    size = inside.shape[-1]
    return blurred(inside.float(), math.sqrt(2) * 11 / TEMPLATE_PX * size).clamp(0, 1) * _inside(size).to(inside.device)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """(C, H, W) seen through a Gaussian; the edge goes on beyond it."""
    reach = max(1, math.ceil(3 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=x.device) / sigma).square())
    taps = (taps / taps.sum()).to(x)
    padded = F.pad(x[:, None], (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, taps[None, None, None]), taps[None, None, :, None])[:, 0]


def _inside(size: int) -> Tensor:
    """(1, size, size): 0 along the border, 1 inside."""
    along = torch.arange(size) + 0.5
    ramp = _smooth(torch.minimum(along, size - along) / (BORDER / TEMPLATE_PX * size))
    return (ramp[:, None] * ramp)[None]


def _smooth(x: Tensor) -> Tensor:
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def _corners_of(left: float, top: float, right: float, bottom: float) -> Tensor:
    points = [[left, top], [right, top], [right, bottom], [left, bottom]]
    return torch.tensor(points, dtype=torch.float32)


def _around(points: Tensor) -> Box:
    (left, top), (right, bottom) = points.amin(0).floor().int().tolist(), points.amax(0).ceil().int().tolist()
    return top, left, bottom, right
