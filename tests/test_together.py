"""One map of what was found at several sizes."""

from typing import Literal

import pytest
import torch
from torch import Tensor

from repaint.stages.together import HINTED, Together


def test_neighbouring_sizes_must_agree_by_default():
    def together(how: Literal["neighbours", "max", "mean"], *probabilities: float) -> float:
        maps = Together(how)
        for p in probabilities:
            maps.add(torch.full((1, 1, 2, 2), p))
        return maps.map().flatten()[0].item()

    assert together("neighbours", 0.8, 0.1, 0.5, 0.9) == pytest.approx(0.7)
    assert together("max", 0.8, 0.1, 0.5, 0.9) == pytest.approx(0.9)
    assert together("mean", 0.8, 0.1, 0.5, 0.9) == pytest.approx(0.575)
    assert together("neighbours", 0.9) == pytest.approx(0.9)


def test_the_largest_of_sizes_that_were_shown_hints_counts_most():
    maps = Together("neighbours", hinted=True)
    for p in (0.8, 0.1, 0.5, 0.9):
        maps.add(torch.full((1, 1, 2, 2), p))
    assert maps.map().flatten()[0].item() == pytest.approx(HINTED * 0.9 + (1 - HINTED) * 0.5)
    maps = Together("neighbours", hinted=True)
    for p in (0.8, 0.7, 0.1):  # what only smaller sizes see still has to be seen by two
        maps.add(torch.full((1, 1, 2, 2), p))
    assert maps.map().flatten()[0].item() == pytest.approx(0.75)


def seen_in(*marks: tuple[tuple[int, int], float]) -> Tensor:
    """What `neighbours` makes of maps of 16, 32, 64 and 128 px, in each of which rows are marked, so sure."""
    together = Together("neighbours")
    for k, ((first, last), p) in enumerate(marks):
        found = torch.full((1, 1, 16 << k, 16 << k), 0.01)
        found[:, :, first:last] = p
        together.add(found)
    return together.map()[0, 0, :, 64] >= 0.6


def test_a_scratch_is_as_wide_as_the_finest_two_sizes_see_it():
    marked = seen_in(((8, 9), 0.9), ((16, 18), 0.9), ((33, 34), 0.9), ((66, 68), 0.9))
    assert marked.nonzero().flatten().tolist() == [66, 67]


def test_a_scratch_that_only_smaller_sizes_see_counts_as_they_see_it():
    marked = seen_in(((8, 9), 0.9), ((16, 17), 0.9), ((0, 0), 0), ((0, 0), 0)).nonzero()
    assert 0 < len(marked) <= 9


def test_a_flake_is_whole_though_larger_sizes_see_no_more_than_its_rim():
    fine = torch.full((1, 1, 128, 128), 0.01)
    fine[:, :, 30:32] = fine[:, :, 94:96] = 0.9
    together = Together("neighbours")
    for k in range(3):
        found = torch.full((1, 1, 16 << k, 16 << k), 0.01)
        found[:, :, (30 << k) // 8 : (96 << k) // 8] = 0.9
        together.add(found)
    together.add(fine)
    assert (together.map()[0, 0, 30:96] >= 0.6).all()
