"""How well damage was found, at every threshold at once: histograms of probabilities, of any number of windows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

BINS = 1024
TOLERANCE_PX = 2


class Marks:
    """Probabilities and the truth, counted. A pixel is marked where its probability is at least the threshold."""

    def __init__(self) -> None:
        kinds = ("damage", "none", "near", "far", "reached", "clean")
        self._seen = {kind: torch.zeros(BINS, dtype=torch.float64) for kind in kinds}

    def add(self, p: Tensor, truth: Tensor) -> None:
        """Count windows.

        Args:
            p: (B, 1, H, W) in [0, 1].
            truth: (B, 1, H, W): 1 damage, 0 none, -1 unsaid, where nothing is counted.
        """
        p, is_damage, is_said = p.float(), truth > 0, truth >= 0
        near = _grown(is_damage.float()) > 0
        is_clean = ~(truth != 0).flatten(1).any(1)
        for kind, values in {
            "damage": p[is_damage],
            "none": p[truth == 0],
            "near": p[near & is_said],
            "far": p[~near & is_said],
            "reached": _grown(p)[is_damage],  # a damaged pixel is reached where a marked one is near
            "clean": p[is_clean].flatten(),
        }.items():
            bins = (values * BINS).long().clamp(max=BINS - 1)
            self._seen[kind] += torch.bincount(bins, minlength=BINS)

    def average_precision(self) -> float:
        """The area below precision over recall; 0 if there is no damage."""
        precision, recall = self._of("damage", "none", "damage")
        precision, recall = precision.flip(0), recall.flip(0)
        return (precision * torch.diff(recall, prepend=recall.new_zeros(1))).sum().item()

    def best_f1(self) -> tuple[float, float]:
        """The best F1 of all thresholds, and that threshold."""
        f1 = _f1(*self._of("damage", "none", "damage"))
        best = int(f1.argmax())
        return f1[best].item(), best / BINS

    def tolerant_f1(self, threshold: float) -> float:
        """F1 where what is at most 2 px away, straight or aslant, counts as met."""
        return self._tolerant()[_bin(threshold)].item()

    def wrong_on_clean(self, threshold: float) -> float:
        """The share of the windows without damage that is marked; 0 if there are none."""
        return self._wrong()[_bin(threshold)].item()

    def threshold(self, wrong_at_most: float) -> float:
        """Where the tolerant F1 is best, of the thresholds with few false alarms; the highest if all have many."""
        allowed = self._wrong() <= wrong_at_most
        allowed[-1] = True
        return int(torch.where(allowed, self._tolerant(), -1.0).argmax()) / BINS

    def _tolerant(self) -> Tensor:
        return _f1(*self._of("near", "far", "reached"))

    def _wrong(self) -> Tensor:
        return _above(self._seen["clean"]) / self._seen["clean"].sum().clamp(min=1)

    def _of(self, right: str, wrong: str, found: str) -> tuple[Tensor, Tensor]:
        """Precision and recall at each threshold."""
        hits, alarms, reached = (_above(self._seen[kind]) for kind in (right, wrong, found))
        return hits / (hits + alarms).clamp(min=1), reached / reached[0].clamp(min=1)


def _bin(threshold: float) -> int:
    return min(BINS - 1, round(threshold * BINS))


def _above(seen: Tensor) -> Tensor:
    """How many lie in each bin or a higher one."""
    return seen.flip(0).cumsum(0).flip(0)


def _f1(precision: Tensor, recall: Tensor) -> Tensor:
    return 2 * precision * recall / (precision + recall).clamp(min=1e-12)


def _grown(x: Tensor) -> Tensor:
    """The largest value in reach of each pixel."""
    return F.max_pool2d(x, 2 * TOLERANCE_PX + 1, 1, padding=TOLERANCE_PX)
