"""The order of the states, against the published numbers and the oracle's loop."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest

from repaint.diffusion import network_calls, time_travel

from .oracle import sampler

NEVER_STOP = 10**8


@pytest.mark.parametrize(
    ("t_T", "length", "passes", "start", "calls", "moves"),
    [
        (250, 10, 10, NEVER_STOP, 2410, 4570),
        (250, 10, 5, NEVER_STOP, 1210, None),
        (250, 10, 2, NEVER_STOP, 490, None),
        (250, 10, 1, NEVER_STOP, 250, 250),
        (100, 10, 10, NEVER_STOP, 910, None),
        (100, 10, 5, NEVER_STOP, 460, None),
        (100, 10, 2, NEVER_STOP, 190, None),
        (50, 5, 5, NEVER_STOP, 230, None),
        (50, 5, 2, NEVER_STOP, 95, None),
        (250, 10, 10, 100, 1150, None),
    ],
)
def test_published_settings_make_the_published_numbers_of_calls_and_moves(t_T, length, passes, start, calls, moves):
    times = time_travel(t_T, length, passes, start_resampling=start)
    assert network_calls(times) == calls
    assert moves is None or len(times) - 1 == moves


def settings(chosen: random.Random) -> dict[str, int]:
    """Any that are allowed, small enough that their walks are short."""
    T = chosen.randint(1, 20)
    names = ["jump", "jump2", "jump3"][: chosen.randint(1, 3)]
    found = {"T": T, "n_sample": chosen.choice([1, 1, 2, 3])}
    for name in names:
        found[f"{name}_length"] = chosen.randint(1, max(1, T - 1))
        found[f"{name}_n_sample"] = chosen.randint(1, 3) if T > 1 else 1
    if chosen.random() < 0.5:
        found["start_resampling"] = chosen.randint(0, T + 1)
    return found


@pytest.mark.parametrize("seed", range(6))
def test_walk_is_the_published_one_counted_from_1(seed):
    chosen = random.Random(seed)
    for _ in range(60):
        found = settings(chosen)
        told = {k: v for k, v in found.items() if k != "T"}
        published = sampler.jump_schedule(found["T"], **{"jump_length": 10, "jump_n_sample": 10, **told})
        if "jump_length" in told and found["T"] > 1:
            assert time_travel(**found) == [t + 1 for t in published], found


@pytest.mark.parametrize("seed", range(3))
def test_walk_goes_from_noise_to_image_in_single_moves(seed):
    chosen = random.Random(100 + seed)
    for _ in range(60):
        found = settings(chosen)
        times = time_travel(**{"jump_length": 1, "jump_n_sample": 1, **found})
        assert (times[0], times[-1]) == (found["T"], 0), found
        assert all(abs(t - s) == 1 for t, s in pairwise(times)), found
        assert times.count(0) == 1
        assert max(times) == found["T"]
        assert network_calls(times) == (len(times) - 1 + found["T"]) // 2


@pytest.mark.parametrize("T", [2, 3, 10, 31])
def test_calls_follow_the_formula(T):
    for length in range(1, T):
        for passes in (1, 2, 5):
            expected = T + (passes - 1) * length * math.ceil((T - length) / length)
            assert network_calls(time_travel(T, length, passes)) == expected


def test_paper_jumps_from_231_but_not_from_241():
    times = time_travel(250, 10, 10)
    turns = {b for a, b, c in zip(times, times[1:], times[2:], strict=False) if a > b < c}
    assert turns == set(range(1, 241, 10))


def test_n_sample_goes_one_step_back_and_forth_at_every_state_below_the_top():
    assert time_travel(5, 1, 1, n_sample=2) == [5, 4, 3, 4, 3, 2, 3, 2, 1, 2, 1, 0]


def test_outer_jump_refills_the_inner_one():
    inner = [3, 4, 5, 4, 3, 2, 1, 2, 3, 2, 1]  # from 3 down to 1 with a jump of 2 at both
    assert time_travel(6, 3, 2, jump2_length=2, jump2_n_sample=2) == [6, 5, 4, *inner, 2, 3, 4, *inner, 0]


def test_no_jump_ends_above_where_resampling_starts():
    times = time_travel(20, 3, 4, start_resampling=9)
    assert max(c for b, c in pairwise(times) if c > b) <= 10
    assert times[:11] == list(range(20, 9, -1))


def test_one_state_is_one_call():
    assert time_travel(1, 1, 1) == time_travel(1, 10, 1) == [1, 0]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"T": 0}, "t_T must be at least 1, got 0"),
        ({"T": 5, "jump_length": 5}, r"jump_length must lie in 1..4 \(t_T - 1\), got 5"),
        ({"T": 5, "jump_length": 0}, "jump_length must lie in 1..4 .*, got 0"),
        ({"T": 5, "jump_length": 2, "jump_n_sample": 0}, "jump_n_sample must be at least 1, got 0"),
        ({"T": 5, "jump_length": 2, "n_sample": 0}, "^n_sample must be at least 1, got 0"),
        ({"T": 5, "jump_length": 2, "jump2_length": 9, "jump2_n_sample": 2}, "jump2_length must lie in 1..4"),
        ({"T": 5, "jump_length": 2, "jump3_n_sample": -1}, "jump3_n_sample must be at least 1, got -1"),
    ],
)
def test_bad_settings_say_what_would_be_right(wrong, words):
    with pytest.raises(ValueError, match=words):
        time_travel(**wrong)
