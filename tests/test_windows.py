"""Windows: they show every hole, blend without a seam, and are run nowhere else."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from repaint.diffusion import Denoised, NetworkPrior, Packed, Windowed, linear_schedule
from repaint.tiling import corners, feather, resized, starts

from . import tiny

SCHEDULE = linear_schedule().respaced(10)
CANVASES = [(16, 16), (16, 17), (37, 53), (16, 100), (64, 40)]


class Pointwise:
    """A prior that answers `x_0(x_t)` pixel by pixel; counts the windows it was shown."""

    def __init__(self, x_0=lambda x_t: x_t, *, more: bool = False) -> None:
        self.schedule, self.x_0, self.more, self.shown = SCHEDULE, x_0, more, 0

    def __call__(self, x_t: Tensor, t: int) -> Denoised:
        assert x_t.shape[-2:] == (16, 16)
        self.shown += len(x_t)
        x_0 = self.x_0(x_t)
        return Denoised(x_0, 0.5 * x_0, 2 * x_0) if self.more else Denoised(x_0)


def some_holes(height: int, width: int, seed: int) -> Tensor:
    """(1, 1, H, W): a random mixture of blobs and single pixels, at least one pixel."""
    dice = torch.Generator().manual_seed(seed)
    share = torch.rand(1, generator=dice).item() ** 3
    coarse = torch.rand(1, 1, -(-height // 5), -(-width // 5), generator=dice) < share
    hole = coarse.repeat_interleave(5, 2).repeat_interleave(5, 3)[..., :height, :width].clone()
    hole[..., torch.randint(height, (1,), generator=dice), torch.randint(width, (1,), generator=dice)] = True
    return hole


def windowed(denoiser: Pointwise | NetworkPrior, hole: Tensor, overlap: int = 4, batch: int = 3) -> Windowed:
    return Windowed(denoiser, 16, hole, overlap, batch)


@pytest.mark.parametrize("window", [1, 7, 16, 64])
def test_rows_of_windows_cover_their_side_and_overlap_as_asked(window):
    for overlap in {0, window // 4, window - 1}:
        for length in range(1, 5 * window):
            begins = starts(length, window, overlap)
            assert begins[0] == 0
            assert begins[-1] == max(0, length - window)
            assert all(0 < b - a <= window - overlap for a, b in pairwise(begins)), (length, window, overlap)


@pytest.mark.parametrize("overlap", [-1, 16, 20])
def test_overlap_must_be_smaller_than_the_window(overlap):
    with pytest.raises(ValueError, match=rf"overlap must lie in 0..15 px, got {overlap}"):
        starts(50, 16, overlap)


@pytest.mark.parametrize("overlap", [-1, 9, 15])
def test_windows_must_have_an_inside(overlap):
    with pytest.raises(ValueError, match=rf"overlap must lie in 0..8 px, got {overlap}"):
        corners(torch.ones(1, 40, 40, dtype=torch.bool), 16, overlap)


@pytest.mark.parametrize("overlap", [0, 4, 8])
@pytest.mark.parametrize(("height", "width"), CANVASES)
def test_every_hole_pixel_lies_well_inside_a_window(height, width, overlap):
    """By half the overlap, less a cell of an eighth of the window, or as far as the canvas goes."""
    inside = max(0, overlap // 2 - 2)
    for seed in range(12):
        hole = some_holes(height, width, seed)[0]
        shown = torch.zeros(height, width, dtype=torch.bool)
        for top, left in corners(hole, 16, overlap):
            assert 0 <= top <= height - 16
            assert 0 <= left <= width - 16
            rows = slice(top + inside if top else 0, top + 16 - inside if top + 16 < height else height)
            columns = slice(left + inside if left else 0, left + 16 - inside if left + 16 < width else width)
            shown[rows, columns] = True
        assert shown[hole[0]].all()


@pytest.mark.parametrize(("height", "width"), CANVASES)
def test_windows_without_a_hole_are_not_run(height, width):
    for seed in range(8):
        hole = some_holes(height, width, seed)
        prior = Pointwise()
        windowed(prior, hole)(tiny.drawn(1, 3, height, width), 5)
        places = corners(hole[0], 16, 4)
        assert prior.shown == len(places) == len(set(places))
        assert all(hole[0, :, top : top + 16, left : left + 16].any() for top, left in places)


def test_canvas_without_a_hole_is_never_shown_and_comes_back():
    prior, x_t = Pointwise(lambda x: x * 0), tiny.drawn(1, 3, 40, 40)
    assert torch.equal(windowed(prior, torch.zeros(1, 1, 40, 40, dtype=torch.bool))(x_t, 5).x_0, x_t)
    assert prior.shown == 0


def test_small_hole_needs_one_window_and_two_far_apart_need_two():
    hole = torch.zeros(1, 200, 200, dtype=torch.bool)
    hole[:, 100:103, 98:101] = True
    assert len(corners(hole, 16, 4)) == 1
    hole[:, 5:8, 180:183] = True
    assert len(corners(hole, 16, 4)) == 2


@pytest.mark.parametrize(("window", "overlap"), [(16, 4), (16, 1), (16, 15), (7, 3), (64, 16)])
def test_feather_is_symmetric_positive_and_full_in_the_middle(window, overlap):
    weights = feather(window, overlap)[0, 0]
    assert weights.shape == (window, window)
    assert torch.equal(weights, weights.flip(0))
    assert torch.equal(weights, weights.T)
    assert weights.min() > 0
    assert weights.max() <= 1
    assert (weights[overlap : window - overlap, overlap : window - overlap] == 1).all()
    middle = weights[window // 2]
    assert (middle[: window // 2].diff() >= 0).all()
    assert overlap < 2 or middle[0] < middle[overlap - 1]


@pytest.mark.parametrize(("height", "width"), CANVASES)
def test_blended_shares_sum_to_one(height, width):
    """A constant comes back as it is wherever there are windows, the identity everywhere."""
    x_t = tiny.drawn(2, 3, height, width)
    for seed in range(6):
        hole = torch.cat([some_holes(height, width, seed), some_holes(height, width, seed + 50)])
        torch.testing.assert_close(windowed(Pointwise(), hole)(x_t, 5).x_0, x_t)
        said = windowed(Pointwise(lambda x: torch.full_like(x, 0.7), more=True), hole)(x_t, 5)
        shown = said.x_0 != x_t
        assert shown[hole.expand_as(x_t)].all()
        for answer, constant in zip(said, (0.7, 0.35, 1.4), strict=True):
            torch.testing.assert_close(answer[shown], torch.full_like(answer[shown], constant))
        assert (said.var_mix[~shown] == 0).all()


def test_seams_fade_from_one_window_to_the_next():
    """Windows that answer different constants: no step between neighbouring pixels is as large as theirs."""
    answers = iter([0.0, 1.0])
    hole = torch.zeros(1, 1, 16, 24, dtype=torch.bool)
    hole[..., 1:3] = hole[..., 21:23] = True
    x_0 = windowed(Pointwise(lambda x: torch.full_like(x, next(answers))), hole, 8, 1)(torch.zeros(1, 3, 16, 24), 5).x_0
    assert (x_0[..., 0].max(), x_0[..., -1].min()) == (0, 1)
    assert (x_0.diff(dim=-1) >= 0).all()
    assert x_0.diff(dim=-1).max() < 0.2


def test_windowed_network_on_its_own_size_is_the_network():
    prior = NetworkPrior(tiny.our_unet(tiny.oracle_unet()), SCHEDULE)
    hole, x_t = torch.ones(1, 1, 16, 16, dtype=torch.bool), tiny.drawn(1, 3, 16, 16)
    once, here = windowed(prior, hole)(x_t, 5), prior(x_t, 5)
    assert torch.equal(once.x_0, here.x_0)
    assert torch.equal(once.var_mix, here.var_mix)
    assert once.score is None


def test_number_of_windows_shown_at_once_does_not_matter():
    hole, x_t = some_holes(37, 53, 0) | True, tiny.drawn(1, 3, 37, 53)
    one, many = (windowed(Pointwise(lambda x: x.sin()), hole, batch=batch)(x_t, 5).x_0 for batch in (1, 99))
    torch.testing.assert_close(one, many)


def test_images_of_a_batch_do_not_meet():
    hole = torch.cat([some_holes(37, 53, 1), some_holes(37, 53, 2)])
    prior, x_t = Pointwise(lambda x: x - x.mean((1, 2, 3), keepdim=True)), tiny.drawn(2, 3, 37, 53)
    together = windowed(prior, hole)(x_t, 5).x_0
    for i in range(2):
        assert torch.equal(together[i : i + 1], windowed(prior, hole[i : i + 1])(x_t[i : i + 1], 5).x_0)


def test_arguments_are_left_as_they_are():
    hole, x_t = some_holes(37, 53, 1), tiny.drawn(1, 3, 37, 53)
    before = hole.clone(), x_t.clone()
    windowed(Pointwise(torch.sin), hole)(x_t, 5)
    assert torch.equal(hole, before[0])
    assert torch.equal(x_t, before[1])


@pytest.mark.parametrize(("height", "width"), CANVASES)
@pytest.mark.parametrize("more", [False, True])
def test_what_windows_see_can_be_held_in_a_row(height, width, more):
    hole, x_t = some_holes(height, width, 3), tiny.drawn(1, 3, height, width)
    spread, packed = Pointwise(torch.sin, more=more), Pointwise(torch.sin, more=more)
    on_canvas, in_row = windowed(spread, hole), Packed(packed, 16, hole, 4, 3)
    said, row = on_canvas(x_t, 5), in_row(in_row.pack(x_t), 5)
    for on_canvas_says, row_says in zip(said, row, strict=True):
        if on_canvas_says is None:
            assert row_says is None
        else:
            torch.testing.assert_close(row_says, in_row.pack(on_canvas_says))
    assert packed.shown == spread.shown
    assert in_row.pack(hole.float()).sum() == hole.sum()
    black = torch.zeros_like(x_t)
    back = in_row.unpack(in_row.pack(x_t), black)
    assert torch.equal(in_row.pack(back), in_row.pack(x_t))
    assert torch.equal(back != 0, in_row.unpack(torch.ones_like(in_row.pack(x_t)), black) > 0)
    assert not black.any()


def test_schedule_is_that_of_the_prior():
    assert Packed(Pointwise(), 16, torch.ones(1, 1, 16, 16, dtype=torch.bool), 4).schedule is SCHEDULE
    assert windowed(Pointwise(), torch.ones(1, 1, 16, 16, dtype=torch.bool)).schedule is SCHEDULE


def test_canvas_must_not_be_smaller_than_the_window():
    with pytest.raises(ValueError, match="at least 16 x 16 px, got 12 x 40"):
        windowed(Pointwise(), torch.ones(1, 1, 12, 40, dtype=torch.bool))


def test_resized_keeps_means_and_what_has_the_size_already():
    x = tiny.drawn(1, 3, 32, 32)
    assert resized(x, 32, 32) is x
    torch.testing.assert_close(resized(torch.full((1, 3, 9, 7), 0.3), 20, 5), torch.full((1, 3, 20, 5), 0.3))
    assert resized(x, 16, 16).mean().item() == pytest.approx(x.mean().item(), abs=0.02)
    wave = torch.sin(torch.arange(64) * math.pi / 16).expand(1, 1, 64, 64)
    assert (resized(resized(wave, 32, 32), 64, 64) - wave).abs().max() < 0.1
