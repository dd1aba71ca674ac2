"""Work on tiles: what comes out is what would come out of the whole."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from repaint.tiling import by_tiles, tiled


@settings(deadline=None)
@given(
    H=st.integers(1, 70),
    W=st.integers(1, 70),
    tile=st.integers(12, 40),
    part=st.floats(0, 0.5),
    scale=st.integers(1, 3),
)
def test_tiles_of_what_looks_at_pixels_alone_make_the_whole(H, W, tile, part, scale):
    def enlarged(x):
        return F.interpolate(2 * x - 1, scale_factor=scale, mode="nearest")

    x = torch.rand(2, 3, H, W)
    torch.testing.assert_close(tiled(enlarged, x, tile=tile, overlap=int(tile * part), scale=scale), enlarged(x))


@pytest.mark.parametrize("size", [(64, 64), (33, 100), (20, 57)])
def test_what_sees_a_quarter_of_the_overlap_gives_the_same_in_tiles(size):
    def blurred(x):
        return F.avg_pool2d(x, 9, 1, padding=4, count_include_pad=False)

    x = torch.rand(1, 2, *size)
    torch.testing.assert_close(tiled(blurred, x, tile=32, overlap=16), blurred(x))


def test_neighbours_that_disagree_are_blended_without_a_step():
    answers = iter([0.0, 1.0])
    whole = tiled(lambda x: torch.full_like(x, next(answers)), torch.zeros(1, 1, 4, 48), tile=32, overlap=16)
    assert whole.diff().abs().max() < 0.2


def test_an_answer_may_have_other_channels_and_is_counted():
    steps = list(by_tiles(lambda x: x.sum(1, keepdim=True), torch.ones(1, 3, 40, 40), tile=32, overlap=8))
    assert [(s.done, s.total) for s in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    torch.testing.assert_close(steps[-1].image, torch.full((1, 1, 40, 40), 3.0))


def test_an_overlap_of_a_whole_tile_is_refused():
    with pytest.raises(ValueError, match=r"overlap must lie in 0\.\.15 px, got 16"):
        tiled(lambda x: x, torch.zeros(1, 1, 40, 40), tile=16, overlap=16)
