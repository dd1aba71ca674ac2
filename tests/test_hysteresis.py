"""Marks of pixels that are unsure: how many of them must be sure."""

import torch
from torch import Tensor

from repaint.stages.detecting import Finder
from repaint.stages.scratches import Scratches

FAINT = 0.4  # more than the odds of 1 : 2 that suffice beside a sure pixel


def marked(probability: Tensor, sure: float, many: float = 1.0) -> Tensor:
    finder = Finder(Scratches(), lambda light: light, 0.5, weak=0.5, sure=sure, many=many)
    return finder.marked(probability)


def test_a_mark_needs_a_share_of_sure_pixels():
    found = torch.zeros(1, 24, 32)
    found[:, [5, 15], 5:15] = FAINT
    found[:, 5, 5] = 1  # a tenth of the one is sure, of the other a fifth
    found[:, 15, 5:7] = 1
    expected = torch.zeros_like(found, dtype=torch.bool)
    expected[:, 15, 5:15] = True
    assert torch.equal(marked(found, sure=0.1), expected)
    assert torch.equal(marked(found, sure=0.0), found > 0)


def test_a_large_mark_needs_many_sure_pixels_and_no_share_of_them():
    found = torch.zeros(1, 350, 480)
    found[:, 100:200, 100:200] = found[:, 100:200, 300:400] = FAINT
    found[:, 100:106, 100:117] = 1  # 102 px, where 1/1750 of the photo are 96
    found[:, 100:106, 300:315] = 1  # 90 px
    expected = torch.zeros_like(found, dtype=torch.bool)
    expected[:, 100:200, 100:200] = True
    assert torch.equal(marked(found, sure=0.1, many=1 / 1750), expected)
