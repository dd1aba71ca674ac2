"""Thin marks found without having learned anything: what stands out of the texture around it.

Slower detectors that have learned know more. This one needs no weights, and it is what they have to beat.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

RADII_PX = (2, 4)  # of the discs that top-hats do not see past
SIGMAS_PX = (1, 2)  # of the ridges
AROUND_PX = 41  # the square in which the usual strength of marks is measured
QUIET = (0.02, 0.01)  # of top-hats and ridges: what counts as usual where there is no texture, as grain would
HALF = 1.9  # times the usual strength, where a pixel is as likely damaged as not; see benchmarks/scratches.py
WEAK = 0.36  # of the odds of a mark: how faint the rest of it may be
REACH_PX = 32  # how far a score sees, at most
SMALLEST_PX = 8


def damage_score(light: Tensor) -> Tensor:
    """How much each pixel looks like part of a thin light or dark mark: (B, 1, H, W) float32 in 0..1.

    White and black top-hats (Serra 1982) with discs, and the larger eigenvalue of the Hessian (Sato et al. 1998), each
    the strongest of two scales and divided by its own mean over a square around; the mean z of the two becomes
    z^2 / (z^2 + 1.9^2). A score, no probability: nothing says how often it is right.

    Args:
        light: (B, 1, H, W) luma in 0..1, of any size.
    """
    scores = [_score(x[0].numpy()) for x in light.detach().float().cpu()]
    return torch.from_numpy(np.stack(scores))[:, None].float()


def connected(weak: Tensor, strong: Tensor, *, least: int = 1, share: float = 0.0) -> Tensor:
    """Of the groups of `weak` pixels that touch, also at corners, those that are `strong` enough: (1, H, W) bool.

    Args:
        weak, strong: (1, H, W) bool.
        least: strong pixels that a group must have.
        share: of the group, that they must be more than.
    """
    from skimage.measure import label

    if not weak.any():
        return weak
    groups = np.asarray(label(weak[0].cpu().numpy(), connectivity=2))
    sizes, counts = (
        np.bincount(groups[pixels[0].cpu().numpy()], minlength=groups.max() + 1) for pixels in (weak, weak & strong)
    )
    enough = (counts >= least) & (counts > share * sizes)
    return torch.from_numpy(enough[groups])[None].to(weak.device)


def _score(x: np.ndarray) -> np.ndarray:
    H, W = x.shape
    x = np.pad(x, [(0, max(0, SMALLEST_PX - side)) for side in (H, W)], mode="symmetric")
    z = (_unusual(_top_hats(x), QUIET[0]) + _unusual(_ridges(x), QUIET[1])) / 2
    return (z**2 / (z**2 + HALF**2))[:H, :W]


def _top_hats(x: np.ndarray) -> np.ndarray:
    """How much lighter, and how much darker, a pixel is than what is left when all smaller than a disc is removed."""
    from skimage.filters import gaussian
    from skimage.morphology import black_tophat, disk, white_tophat

    x = gaussian(x, 0.7)  # single noisy pixels would be lighter than all around them
    discs = [disk(r, decomposition="sequence") for r in RADII_PX]
    found = [[np.asarray(tophat(x, disc)) for disc in discs] for tophat in (white_tophat, black_tophat)]
    return np.array(found).max(1)


def _ridges(x: np.ndarray) -> np.ndarray:
    """How sharply the image bends across light, and across dark lines; scaled so that widths compare."""
    from skimage.feature import hessian_matrix, hessian_matrix_eigvals

    bent = []
    for sigma in SIGMAS_PX:
        # Twice differences of a blurred image: a tenth of the time of Gaussian derivatives, and as good here.
        hessian = hessian_matrix(x, sigma, mode="reflect", use_gaussian_derivatives=False)
        larger, smaller = hessian_matrix_eigvals(hessian)
        bent.append(sigma**2 * np.stack([-smaller, larger]))
    return np.stack(bent).max(0).clip(0)


def _unusual(marks: np.ndarray, quiet: float) -> np.ndarray:
    """The stronger of light and dark marks, (2, H, W), in units of what is usual around: (H, W)."""
    usual = torch.from_numpy(marks.sum(0))[None]
    padded = F.pad(usual, (AROUND_PX // 2,) * 4, mode="replicate")
    mean = F.avg_pool2d(F.avg_pool2d(padded, (AROUND_PX, 1), 1), (1, AROUND_PX), 1)
    return marks.max(0) / (mean[0].numpy() + quiet)
