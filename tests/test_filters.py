"""Filters for thin marks: what stands out scores, what is usual around it does not."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from repaint.filters import REACH_PX, connected, damage_score
from repaint.tiling import tiled

from .tiny import drawn


def textured(height: int = 96, width: int = 96, *, grain: float = 0.02) -> Tensor:
    return 0.5 + grain * drawn(1, 1, height, width)


def with_line(light: Tensor, change: float, *, wide: int = 2) -> Tensor:
    """With a line down the middle, between rows 20 and 76."""
    light = light.clone()
    light[..., 20:76, 48 : 48 + wide] += change
    return light


LINE = (slice(None), slice(None), slice(26, 70), slice(48, 50))


@pytest.mark.parametrize("change", [0.2, -0.2])
def test_a_line_lighter_or_darker_than_its_grain_scores_and_the_grain_does_not(change):
    score = damage_score(with_line(textured(), change))
    assert score[LINE].min() > 0.5
    away = score.clone()
    away[..., 14:82, 42:56] = 0
    assert (away > 0.5).float().mean() < 0.01


def test_light_and_dark_marks_score_alike():
    light = with_line(textured(), 0.2)
    torch.testing.assert_close(damage_score(1 - light), damage_score(light), atol=1e-4, rtol=1e-4)


def test_brightness_changes_no_score():
    light = with_line(textured(), 0.2)
    torch.testing.assert_close(damage_score(light + 0.2), damage_score(light), atol=1e-4, rtol=1e-4)


def test_the_same_line_scores_less_where_the_photo_is_rough():
    smooth, rough = (damage_score(with_line(textured(grain=grain), 0.2))[LINE].mean() for grain in (0.01, 0.1))
    assert rough < smooth / 2


@pytest.mark.parametrize("wide", [1, 3, 5])
def test_lines_of_several_widths_are_found(wide):
    score = damage_score(with_line(textured(), 0.3, wide=wide))
    assert score[..., 26:70, 48 : 48 + wide].amax(3).median() > 0.5


def test_an_edge_scores_less_than_a_line():
    edge = textured()
    edge[..., 48:] += 0.2
    assert damage_score(edge)[..., 20:76, 40:56].max() < damage_score(with_line(textured(), 0.2))[LINE].median()


def test_an_even_image_scores_nothing():
    assert damage_score(torch.full((1, 1, 40, 40), 0.3)).max() < 1e-6


@pytest.mark.parametrize("size", [(1, 1), (1, 60), (7, 3), (16, 16), (50, 9)])
def test_every_size_has_scores_from_0_to_1(size):
    score = damage_score(drawn(2, 1, *size).abs().clamp(max=1))
    assert score.shape == (2, 1, *size)
    assert score.dtype == torch.float32
    assert 0 <= score.min() <= score.max() < 1


def test_images_of_a_batch_do_not_see_each_other():
    batch = torch.cat([with_line(textured(), 0.2), textured(grain=0.2)])
    torch.testing.assert_close(damage_score(batch), torch.cat([damage_score(x[None]) for x in batch]))


def test_scores_in_tiles_are_those_of_the_whole():
    light = with_line(textured(150, 260, grain=0.05), 0.2)
    in_tiles = tiled(damage_score, light, tile=200, overlap=4 * REACH_PX)
    torch.testing.assert_close(in_tiles, damage_score(light), atol=1e-5, rtol=1e-4)


# ---- groups


def flooded(weak: Tensor) -> list[list[tuple[int, int]]]:
    """The groups of True pixels of (H, W), found one pixel after the other."""
    left, groups = {(y, x) for y, x in weak.nonzero().tolist()}, []
    while left:
        group, at = [], 0
        group.append(left.pop())
        while at < len(group):
            y, x = group[at]
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            group += near
            at += 1
        groups.append(group)
    return groups


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), least=st.integers(1, 4), share=st.sampled_from([0.0, 0.3, 0.5]))
def test_groups_are_kept_by_how_many_of_their_pixels_are_strong(seed, least, share):
    g = torch.Generator().manual_seed(seed)
    weak, strong = torch.rand(12, 17, generator=g) < 0.3, torch.rand(12, 17, generator=g) < 0.4
    expected = torch.zeros_like(weak)
    for group in flooded(weak):
        count = sum(bool(strong[at]) for at in group)
        if count >= least and count > share * len(group):
            for at in group:
                expected[at] = True
    assert torch.equal(connected(weak[None], strong[None], least=least, share=share)[0], expected)


def test_no_pixels_make_no_groups():
    nothing = torch.zeros(1, 5, 5, dtype=torch.bool)
    assert not connected(nothing, ~nothing).any()


def test_scikit_image_is_imported_only_when_it_is_needed():
    code = "import sys, repaint.filters; print('skimage' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
