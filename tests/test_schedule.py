"""How much of the image is left at each state, against the papers' formulas and the oracle's tables."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from repaint.diffusion import Schedule, cosine_schedule, from_betas, linear_schedule, spaced

from .oracle import sampler

SCHEDULES = {"linear": linear_schedule, "cosine": cosine_schedule}
RESPACINGS = ["1", "2", "7", "50", "250", "999", "1000", "ddim50", "ddim250", "10,20,30", "1,1,1"]
QUADRATIC = ["quad1", "quad2", "quad10", "quad25", "quad250", "quad1000"]


def betas(schedule: Schedule) -> torch.Tensor:
    return torch.tensor([schedule.beta(t) for t in range(1, schedule.T + 1)], dtype=torch.float64)


@pytest.mark.parametrize("T", [1000, 4000, 50])
def test_linear_beta_rises_evenly_from_1e_4_to_2e_2_scaled_by_1000_over_T(T):
    beta = betas(linear_schedule(T)) * T / 1000
    torch.testing.assert_close(beta[[0, -1]], torch.tensor([1e-4, 0.02], dtype=torch.float64), rtol=1e-7, atol=0)
    torch.testing.assert_close(beta.diff(), torch.full_like(beta[1:], (0.02 - 1e-4) / (T - 1)), rtol=1e-5, atol=0)


@pytest.mark.parametrize("T", [1000, 50])
def test_cosine_alpha_bar_is_the_squared_cosine_until_beta_is_capped(T):
    def f(t: int) -> float:
        return math.cos((t / T + 0.008) / 1.008 * math.pi / 2) ** 2

    schedule = cosine_schedule(T)
    for t in range(T):
        assert schedule.bar(t) == pytest.approx(f(t) / f(0), rel=1e-9)
    assert schedule.beta(T) == pytest.approx(0.999)


@pytest.mark.parametrize("T", [1, 30, 1000])
@pytest.mark.parametrize("name", SCHEDULES)
def test_betas_are_the_oracles(name, T):
    torch.testing.assert_close(
        betas(SCHEDULES[name](T)), torch.from_numpy(sampler.betas(name, T)), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("T", [20, 7])
def test_linear_chain_too_short_for_its_betas_is_refused(T):
    """1000 / T times 0.02 is 1 or more: nothing of the image would be left, or less than nothing."""
    with pytest.raises(ValueError, match="beta must lie between 0 and 1"):
        linear_schedule(T)


def test_state_0_is_the_clean_image_and_state_t_is_told_as_t_minus_1():
    schedule = linear_schedule()
    assert (schedule.T, schedule.bar(0)) == (1000, 1.0)
    assert [schedule.network_t[t] for t in (1, 2, 1000)] == [0, 1, 999]


@pytest.mark.parametrize("steps", ["250", 250])
def test_250_of_1000_states_are_told_as_in_the_published_code(steps):
    told = linear_schedule().respaced(steps).network_t[1:]
    assert (told[:4], told[-2:], len(told)) == ((0, 4, 8, 12), (995, 999), 250)


def test_ddim_takes_a_whole_stride_and_sections_are_spaced_each_on_its_own():
    assert spaced(1000, "ddim50") == list(range(0, 1000, 20))
    assert spaced(300, "10,15,20")[9:12] == [99, 100, 107]
    assert spaced(11, "2,2") == [0, 5, 6, 10]  # the first section takes what is left over


@pytest.mark.parametrize("T", [1000, 333])
def test_any_spacing_is_the_oracles(T):
    for steps in [*RESPACINGS, *map(str, range(1, T, 13))]:
        try:
            expected = sampler.space_timesteps(T, steps)
        except ValueError:
            with pytest.raises(ValueError, match=r"no whole stride|cannot take"):
                spaced(T, steps)
        else:
            assert spaced(T, steps) == expected


def test_strides_are_summed_not_multiplied():
    """The two differ where rounding errors of a sum decide which way a half goes."""
    T, steps = next(
        (T, n)
        for T in range(2, 1001)
        for n in range(2, min(T, 60))
        if spaced(T, n) != [round(i * ((T - 1) / (n - 1))) for i in range(n)]
    )
    assert spaced(T, steps) == sampler.space_timesteps(T, str(steps))


def test_quadratic_states_are_squares_of_evenly_spaced_numbers():
    assert spaced(101, "quad11") == [i * i for i in range(11)]
    assert spaced(10, "quad10") == list(range(10))  # no state twice, where squares would lie too close


@pytest.mark.parametrize("steps", QUADRATIC[1:])
@pytest.mark.parametrize("T", [1000, 1313])
def test_quadratic_states_go_from_first_to_last_ever_farther_apart(T, steps):
    kept = spaced(T, steps)
    gaps = np.diff(kept)
    assert (len(kept), kept[0], kept[-1]) == (int(steps[4:]), 0, T - 1)
    assert gaps.min() >= 1
    assert (np.diff(gaps) >= -1).all()  # rounding


def test_more_states_than_there_are_cannot_be_taken():
    with pytest.raises(ValueError, match="cannot take 11 of 10"):
        spaced(10, "quad11")
    with pytest.raises(ValueError, match="quad25"):
        spaced(10, "quad")


@pytest.mark.parametrize("steps", [*RESPACINGS, *QUADRATIC])
@pytest.mark.parametrize("name", SCHEDULES)
def test_respaced_chain_sees_the_same_process_at_fewer_states(name, steps):
    full = SCHEDULES[name]()
    few = full.respaced(steps)
    assert few.bar(0) == 1
    for t in range(1, few.T + 1):
        assert few.bar(t) == full.bar(few.network_t[t] + 1)


def test_respaced_betas_are_the_oracles():
    full, kept = sampler.betas("linear", 1000), sampler.space_timesteps(1000, "37")
    expected = torch.from_numpy(sampler.respaced_betas(full, kept))
    torch.testing.assert_close(betas(linear_schedule().respaced(37)), expected, rtol=1e-9, atol=1e-12)


def test_respacing_twice_still_tells_the_states_of_the_full_chain():
    twice = linear_schedule().respaced(100).respaced(10)
    kept = sampler.space_timesteps(1000, "100")
    assert list(twice.network_t[1:]) == [kept[i] for i in sampler.space_timesteps(100, "10")]


def test_all_states_respaced_are_all_states():
    assert linear_schedule().respaced(1000).network_t == linear_schedule().network_t


@pytest.mark.parametrize("name", SCHEDULES)
def test_posterior_variance_is_the_oracles_clipped_at_the_lowest_state(name):
    schedule = SCHEDULES[name]().respaced(40)
    kept = sampler.space_timesteps(1000, "40")
    expected = sampler.Tables(sampler.respaced_betas(sampler.betas(name, 1000), kept)).log_variance_clipped
    for t in range(1, 41):
        assert math.log(schedule.posterior_variance(t)) == pytest.approx(expected[t - 1], rel=1e-9)
    assert schedule.posterior_variance(1) == schedule.posterior_variance(2)


def test_posterior_variance_is_below_beta_and_positive_even_for_a_single_step():
    schedule = linear_schedule().respaced(20)
    assert all(0 < schedule.posterior_variance(t) < schedule.beta(t) for t in range(2, 21))
    assert 0 < linear_schedule().respaced(1).posterior_variance(1) < 1e-12


def test_noise_only_grows():
    for make in SCHEDULES.values():
        assert all(a > b > 0 for a, b in pairwise(make().alpha_bar.tolist()))


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (1001, "cannot take 1001 of 1000 states"),
        ("600,10", "cannot take 600 of 500 states"),
        ("ddim51", "no whole stride takes 51 of 1000 states, as 'ddim51' asks"),
        ("", "must look like 250, 'ddim50', '10,20,30' or 'quad25', got ''"),
        ("ten", "got 'ten'"),
        ("ddim", "got 'ddim'"),
        (0, "got '0'"),
        ("-5", "got '-5'"),
        ("10,,20", "got '10,,20'"),
    ],
)
def test_bad_respacing_says_what_would_be_right(steps, words):
    with pytest.raises(ValueError, match=words):
        linear_schedule().respaced(steps)


@pytest.mark.parametrize(
    "bar",
    [
        torch.tensor([0.9, 0.5], dtype=torch.float64),
        torch.tensor([1.0, 0.5, 0.5], dtype=torch.float64),
        torch.tensor([1.0, 0.5, 0.7], dtype=torch.float64),
        torch.tensor([1.0], dtype=torch.float64),
        torch.tensor([1.0, 0.5]),
        torch.tensor([1.0, math.nan], dtype=torch.float64),
        torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64),
    ],
)
def test_alpha_bar_must_fall_strictly_from_1(bar):
    with pytest.raises(ValueError, match="fall strictly"):
        Schedule(bar, tuple(range(len(bar))))


def test_network_t_must_have_one_entry_a_state():
    with pytest.raises(ValueError, match="must have 3 entries, one a state, got 2"):
        Schedule(torch.tensor([1, 0.5, 0.1], dtype=torch.float64), (0, 1))


def test_betas_in_single_precision_lose_nothing_more():
    assert from_betas(torch.tensor([0.25, 0.5])).alpha_bar.tolist() == [1, 0.75, 0.375]


@pytest.mark.parametrize("t", [0, -1, 101])
def test_no_step_leads_to_a_state_that_is_none(t):
    with pytest.raises(ValueError, match=rf"a step leads to a state in 1\.\.100, got {t}"):
        linear_schedule(100).beta(t)


@pytest.mark.parametrize("t", [0, -1, 101])
def test_no_step_leaves_from_a_state_that_is_none(t):
    with pytest.raises(ValueError, match=r"1\.\.100"):
        linear_schedule(100).posterior_variance(t)


@pytest.mark.parametrize("t", [-1, 101])
def test_no_state_is_counted_from_the_end(t):
    with pytest.raises(ValueError, match=r"0\.\.100"):
        linear_schedule(100).bar(t)
