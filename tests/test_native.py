"""Coarse to fine: how large holes are planned, and what each finer level begins with."""

from __future__ import annotations

import math

import pytest
import torch

from repaint.diffusion import Denoised, Noise, linear_schedule, network_calls, time_travel
from repaint.stages.native import Walk, corners, fill, overlap_of, plan

from .test_canvases import holes

SIZE, T = 16, 20
SCHEDULE = linear_schedule().respaced(T)
WALK = Walk(
    times=lambda begin: time_travel(begin, 1, 1), begin=lambda share: max(1, round(share * T)), refine=0.4, thin=0.2
)
LARGE, LINE = (20, 20, 76, 76), (100, 10, 102, 120)


def planned(*boxes):
    return plan(holes(128, 128, *boxes), SIZE, WALK)


class OfOneGrey:
    """A prior that knows one grey for each time it is asked anew from pure noise; it remembers what it was shown."""

    schedule = SCHEDULE

    def __init__(self) -> None:
        self.shown: list[tuple[int, torch.Tensor]] = []

    def __call__(self, x_t, t):
        self.shown.append((t, x_t))
        return Denoised(torch.full_like(x_t, 0.6))


def filled(*boxes, known=None):
    """What the prior was shown, one list for each pass, and the picture (1, 3, 128, 128)."""
    keep, prior, passes = holes(128, 128, *boxes), OfOneGrey(), planned(*boxes)
    known = torch.full((1, 3, 128, 128), -0.8) if known is None else known
    steps = fill(prior, SIZE, known, keep[None], [passes], WALK, Noise([0]), batch=10_000)
    *_, (calls, picture) = steps
    per_pass = [network_calls(WALK.times(WALK.begin(p.share))) for p in passes]
    assert sum(per_pass) == len(prior.shown)  # all windows of a step at once
    shown = iter(prior.shown)
    return calls, picture(), [[next(shown) for _ in range(n)] for n in per_pass]


def test_a_large_hole_is_filled_where_it_is_small_then_at_twice_the_size_and_so_on():
    coarsest, *finer = planned(LARGE)
    assert coarsest.share == 1
    assert coarsest.shape == (SIZE, SIZE)
    assert [p.share for p in finer] == [WALK.refine] * len(finer)
    assert [p.shape for p in finer] == [(32, 32), (64, 64), (128, 128)]
    assert torch.equal(finer[-1].keep, holes(128, 128, LARGE))
    assert not any(p.on_top for p in (coarsest, *finer))


@pytest.mark.parametrize("side", [5, 8, 20, 60])
def test_a_plain_rectangle_has_no_thin_parts(side):
    assert not any(p.on_top for p in planned((30, 30, 30 + side, 40 + side)))


def test_thin_holes_alone_are_filled_at_once_at_full_size():
    (only,) = planned(LINE)
    assert (only.share, only.on_top, only.shape) == (WALK.thin, False, (128, 128))


def test_thin_holes_beside_a_large_one_are_filled_at_the_end_and_never_before():
    *levels, last = planned(LARGE, LINE)
    alone = planned(LARGE)
    assert [(p.share, p.shape) for p in levels] == [(p.share, p.shape) for p in alone]
    assert all(torch.equal(p.keep, other.keep) for p, other in zip(levels, alone, strict=True))
    assert (last.share, last.on_top) == (WALK.thin, True)
    assert torch.equal(last.keep, holes(128, 128, LINE))


def test_a_finer_level_takes_up_the_coarser_fill_with_noise_on_it():
    _, picture, shown = filled(LARGE)
    for level, steps in enumerate(shown):
        begin, seen = steps[0]
        assert begin == (T if level == 0 else WALK.begin(WALK.refine))
        if level:
            scale = 128 // (SIZE * 2**level)
            top, left, bottom, right = (side // scale for side in LARGE)
            places = corners(planned(LARGE)[level].keep < 1, SIZE, overlap_of(SIZE))
            inside = [  # windows that see nothing else
                window
                for window, (y, x) in zip(seen, places, strict=True)
                if top <= y and y + SIZE <= bottom and left <= x and x + SIZE <= right
            ]
            if inside:
                expected = math.sqrt(SCHEDULE.bar(begin)) * 0.6
                assert torch.stack(inside).mean().item() == pytest.approx(expected, abs=0.05)
    assert len(inside) > 1
    hole = ~holes(128, 128, LARGE)[0]
    assert picture[0, :, hole].mean().item() == pytest.approx(0.6, abs=0.02)


def test_thin_holes_begin_with_a_smooth_fill():
    shade = torch.linspace(-1, 1, 128).expand(1, 3, 128, 128).clone()
    damaged = torch.where(holes(128, 128, LARGE, LINE), shade, -3.0)
    calls, picture, shown = filled(LARGE, LINE, known=damaged)
    begin, seen = shown[-1][0]
    assert begin == WALK.begin(WALK.thin)
    bar = SCHEDULE.bar(begin)
    places = corners(planned(LINE)[0].keep < 1, SIZE, overlap_of(SIZE))
    for window, (top, left) in zip(seen, places, strict=True):
        row = slice(100 - top, 102 - top) if top <= 100 else slice(0, 102 - top)
        expected = math.sqrt(bar) * shade[0, :, 100:102, left : left + SIZE].mean()
        assert window[:, row].mean().item() == pytest.approx(expected.item(), abs=0.35)
    assert calls == [sum(p.calls(SIZE, WALK) for p in planned(LARGE, LINE))]
    kept = holes(128, 128, LARGE, LINE)[0]
    torch.testing.assert_close(picture[0, :, kept], shade[0, :, kept])
