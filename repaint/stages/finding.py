"""Where the faces of a photo are, by our finder: near and far, upright or turned a little."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..archs.face_finder import LARGEST_PX, SMALLEST_PX, STRIDE, UNIT_PX
from ..faces import TEMPLATE, TEMPLATE_PX, Face, aligned
from ..image import luma
from ..tiling import resized

SURE = 0.5
MARGIN_PX = 32  # of even grey around the photo
MOST_PX = 8_000_000  # of the finest level
HINT = 0.1  # how sure the first look must be for a second one
MOST_SEEN, MOST_FACES, AT_ONCE = 2048, 256, 16
LOOKS = 2  # after the first
LOOK_PX, FACE_PX = 96, 44  # the second look: side of what is shown, and of the aligned square in its middle
APART = 0.3  # of the larger square's side: faces nearer to each other are one


class Seen(NamedTuple):
    """What a finder says of faces: (N,) how sure it is, and (N, 5, 2) landmarks in px of what it was shown."""

    scores: Tensor
    landmarks: Tensor


@torch.no_grad()
def found(
    network: nn.Module, image: Tensor, most_px: int = MOST_PX, *, sure: float = SURE, smallest_px: float = 24
) -> list[Face]:
    """The faces of a photo, the surest first.

    The photo is looked at in half the size again and again, so that a face may fill it or be far away. Then each face
    is cut out upright, in the size the finder knows best, and looked at again, twice: that makes its landmarks more
    exact, and many a mistake is seen.

    Args:
        network: `archs.face_finder.FaceFinder`.
        image: (3, H, W) in [0, 1], grey or coloured.
        most_px: of the finest level, which is smaller than a photo that has more.
        sure: 0..1, from which score on it is a face.
        smallest_px: side of the aligned squares of the smallest faces looked for.
    """
    light = luma(image)
    looks = [_at(network, light, scale) for scale in levels(light.shape[1:], smallest_px, most_px)]
    first = Seen(torch.cat([s.scores for s in looks]), torch.cat([s.landmarks for s in looks]))
    faces = distinct(first)[:MOST_FACES]
    for _ in range(LOOKS):
        faces = distinct(again_looked_at(network, light, faces))
    return [face for face in faces if face.score >= sure and face.px >= 0.8 * smallest_px]


def levels(sides: Sequence[int], smallest_px: float, most_px: int = MOST_PX) -> list[float]:
    """The scales at which a photo of these sides is looked at: each half of the one before.

    At the first the smallest faces are as small as the finder can see them, at the last the photo is hardly larger
    than a face.
    """
    finest = min(2.0, SMALLEST_PX / smallest_px, math.sqrt(most_px / math.prod(sides)))
    count = 1 + max(0, math.floor(math.log2(max(sides) * finest / (LARGEST_PX / 2))))
    return [finest / 2**i for i in range(count)]


def seen(out: Tensor) -> Seen:
    """What a finder's answer (11, h, w) says, wherever a cell is surer than its neighbours."""
    scores = torch.sigmoid(out[:1].float())
    peak = (scores == F.max_pool2d(scores[None], 3, 1, 1)[0]) & (scores > HINT)
    y, x = peak[0].nonzero().unbind(1)
    middles = (torch.stack([x, y], 1) + 0.5) * STRIDE
    offsets = out[1:, y, x].T.reshape(-1, 5, 2).float() * UNIT_PX
    return Seen(scores[0, y, x], middles[:, None] + offsets)


def distinct(seen: Seen) -> list[Face]:
    """The faces of what was seen, the surest first; of those that are about in the same place, the surest."""
    order = seen.scores.argsort(descending=True, stable=True)[:MOST_SEEN]
    scores, landmarks = seen.scores[order].cpu(), seen.landmarks[order].cpu()
    middles, px = landmarks.mean(1), sides_px(landmarks)
    one = torch.cdist(middles, middles) < APART * torch.maximum(px, px[:, None])
    kept: list[int] = []
    for i in range(len(order)):
        if 1 < px[i] < math.inf and not one[i, kept].any():
            kept.append(i)
    return [Face(landmarks[i], scores[i].item()) for i in kept]


def sides_px(landmarks: Tensor) -> Tensor:
    """(N,) sides of the aligned squares of (N, 5, 2) landmarks, as `Face.px`; infinite for what is no face at all."""
    z, w = (torch.view_as_complex((p - p.mean(-2, keepdim=True)).contiguous()) for p in (landmarks, TEMPLATE))
    return TEMPLATE_PX * z.abs().square().sum(-1) / (z.conj() * w).sum(-1).abs()


def again_looked_at(network: nn.Module, light: Tensor, faces: Sequence[Face]) -> Seen:
    """The faces as they look upright, in the middle, `FACE_PX` large; the score is the geometric mean of both.

    Args:
        light: (1, H, W), luma of the photo.
    """
    scores, landmarks = [light.new_zeros(0)], [light.new_zeros(0, 5, 2)]
    for start in range(0, len(faces), AT_ONCE):
        some = faces[start : start + AT_ONCE]
        wider = [_wider(face, LOOK_PX / FACE_PX) for face in some]
        shown = torch.stack([aligned(light, wide, LOOK_PX) for wide in wider]).clamp(0, 1)
        for face, wide, out in zip(some, wider, network(shown), strict=True):
            again = _surest_near_middle(out)
            if again is not None:
                scores.append(torch.sqrt(again.scores * face.score))
                landmarks.append(wide.to_template(LOOK_PX).inverse(again.landmarks).float())
    return Seen(torch.cat(scores), torch.cat(landmarks))


def _surest_near_middle(out: Tensor) -> Seen | None:
    """The surest face that has its middle near where it is to be."""
    here = seen(out)
    middle = LOOK_PX / 2 + (TEMPLATE.mean(0) / TEMPLATE_PX - 0.5) * FACE_PX
    near = (here.landmarks.mean(1) - middle.to(out.device)).norm(dim=1) < FACE_PX / 4
    if not near.any():
        return None
    best = (here.scores * near).argmax()
    return Seen(here.scores[best : best + 1], here.landmarks[best : best + 1])


def _wider(face: Face, factor: float) -> Face:
    """A face whose aligned square is larger by the factor, about the same middle."""
    middle = face.corners.mean(0)
    return Face(middle + factor * (face.landmarks - middle))


def _at(network: nn.Module, light: Tensor, scale: float) -> Seen:
    """What the finder sees of the photo at this scale; landmarks in px of the photo."""
    H, W = (max(1, round(side * scale)) for side in light.shape[1:])
    small = resized(light[None], H, W)
    below, right = (-(side + 2 * MARGIN_PX) % (2 * STRIDE) + MARGIN_PX for side in (H, W))
    framed = F.pad(small, (MARGIN_PX, right, MARGIN_PX, below), value=small.mean().item())
    here = seen(network(framed)[0])
    back = here.landmarks.new_tensor([light.shape[2] / W, light.shape[1] / H])
    landmarks = (here.landmarks - MARGIN_PX) * back
    middle = landmarks.mean(1)
    inside = ((middle > 0) & (middle < middle.new_tensor([light.shape[2], light.shape[1]]))).all(1)
    return Seen(here.scores[inside], landmarks[inside])
