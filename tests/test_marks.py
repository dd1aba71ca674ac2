"""How well damage was found: figures of maps whose truth is known."""

import pytest
import torch
from torch import Generator

from repaint.train.marks import Marks


def random_truth(seed=0):
    return torch.randint(-1, 2, (2, 1, 8, 8), generator=Generator().manual_seed(seed)).float()


def marked(p, truth):
    marks = Marks()
    marks.add(p, truth)
    return marks


def test_figures_of_a_perfect_detector_are_1():
    truth = random_truth()
    marks = marked(0.1 + 0.8 * truth.clamp(min=0), truth)
    assert marks.average_precision() == pytest.approx(1)
    assert marks.best_f1()[0] == pytest.approx(1)
    assert marks.tolerant_f1(0.5) == pytest.approx(1)


def test_average_precision_of_one_answer_for_all_is_the_share_of_damage():
    truth = random_truth()
    share = ((truth > 0).sum() / (truth >= 0).sum()).item()
    assert marked(torch.full_like(truth, 0.3), truth).average_precision() == pytest.approx(share)


def test_a_line_2_px_aside_is_met_and_one_3_px_aside_is_not():
    truth = torch.zeros(1, 1, 16, 16)
    truth[..., 5] = 1
    for aside, f1 in ((0, 1), (2, 1), (3, 0)):
        marks = marked(truth.roll(aside, dims=3), truth)
        assert marks.tolerant_f1(0.5) == pytest.approx(f1)


def test_threshold_is_the_best_of_those_with_few_false_alarms():
    truth = torch.zeros(2, 1, 10, 10)
    truth[0, 0, :, 5] = 1
    p = 0.6 * truth
    p[1, 0, 0, 0], p[1, 0, 0, 1] = 0.9, 0.3  # two alarms on 100 clean pixels
    marks = marked(p, truth)
    assert marks.wrong_on_clean(0.2) == pytest.approx(0.02)
    assert 0.3 < marks.threshold(0.015) <= 0.6
    assert marks.threshold(0.005) > 0.9
