"""The benchmark of detectors: its pictures and its figures, in cases that can be told by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.damage import Met, aged_cases, cases_of, clean_cases, hole_cases, met
from repaint.degrade import DAMAGING

PHOTO = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
STAMP = torch.ones(1, 5, 9)


def row(*rows: int) -> Tensor:
    marks = torch.zeros(1, 40, 50, dtype=torch.bool)
    marks[:, list(rows)] = True
    return marks


@pytest.mark.parametrize(("away", "f1"), [(0, 1), (1, 1), (2, 1), (3, 0)])
def test_two_px_away_is_met_and_three_are_not(away, f1):
    assert met(row(20 + away), row(20).float()).f1 == pytest.approx(f1)


def test_precision_is_of_marks_and_recall_of_damage():
    found = met(row(5, 20, 30), row(20, 38).float())
    assert found == Met(150, 50, 100, 50)
    assert (found.precision, found.recall, found.f1) == pytest.approx((1 / 3, 1 / 2, 0.4))
    assert found.plus(found) == Met(300, 100, 200, 100)


def test_what_is_not_to_be_counted_is_neither_damage_nor_a_mistake():
    truth = row(20).float()
    truth[:, 30:33] = -1
    assert met(row(20, 31), truth) == met(row(20), truth) == Met(50, 50, 50, 50)


def test_marks_of_nothing_have_no_f1_where_there_is_damage():
    assert met(row(), row(3).float()).f1 == 0


MADE = {
    "aged": lambda: aged_cases([PHOTO] * 4, [STAMP], 3),
    "holes": lambda: hole_cases([PHOTO] * 4, [STAMP], 3),
    "clean": lambda: clean_cases([PHOTO] * 4, 3),
    **{kind: lambda kind=kind: cases_of(kind, [PHOTO] * 2, 3) for kind in DAMAGING},
}


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_cases_of_a_seed_are_the_same_every_time(made):
    for one, other in zip(made(), made(), strict=True):
        assert one.image.shape == PHOTO.shape
        assert set(one.truth.unique().tolist()) <= {-1, 0, 1}
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.truth, other.truth)


def test_clean_cases_have_no_damage_and_the_others_have():
    damaged = {name: sum((case.truth > 0).sum() for case in made()) for name, made in MADE.items()}
    assert damaged.pop("stains") == 0  # thick, and they show the picture below
    assert sum((case.truth < 0).sum() for case in MADE["stains"]()) > 0
    assert damaged.pop("clean") == 0
    assert all(damaged.values())
