"""The Gaussian steps, as what they do to the coefficients of x_0 and of each noise: exact, nothing drawn."""

from __future__ import annotations

import math
import os
import signal
import time

import pytest
import torch
from torch import Tensor

from repaint.diffusion import (
    Denoised,
    Guided,
    NetworkPrior,
    Noise,
    Schedule,
    cosine_schedule,
    linear_schedule,
    p_step,
    q_sample,
    q_step,
)

from . import tiny
from .oracle import sampler

SCHEDULES = {"linear": linear_schedule().respaced(20), "cosine": cosine_schedule().respaced(20)}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def basis(n: int) -> tuple[Tensor, ...]:
    """n independent quantities, each written as its coefficients."""
    return torch.eye(n, dtype=torch.float64).unbind()


def var_of(coefficients: Tensor) -> float:
    """The variance, given x_0, of a combination whose first coefficient is that of x_0."""
    return coefficients[1:].square().sum().item()


@every_schedule
def test_steps_up_from_the_clean_image_arrive_at_q_sample(schedule: Schedule):
    x_0, *noises = basis(schedule.T + 1)
    x_t = x_0
    for t in range(schedule.T):
        x_t = q_step(schedule, x_t, t, noises[t])
        at_once = q_sample(schedule, x_0, t + 1, noises[0])
        assert x_t[0].item() == pytest.approx(at_once[0].item(), rel=1e-9)
        assert var_of(x_t) == pytest.approx(var_of(at_once), rel=1e-9)
        assert var_of(x_t) == pytest.approx(1 - schedule.bar(t + 1), rel=1e-9)


@every_schedule
def test_step_down_with_the_true_x_0_undoes_a_step_up(schedule: Schedule):
    """x_{t-1} has the law of q(x_{t-1} | x_0) again, and is tied to x_t as the step up ties them."""
    x_0, first, second = basis(3)
    for t in range(2, schedule.T + 1):
        x_t = q_sample(schedule, x_0, t, first)
        below = p_step(schedule, x_t, t, Denoised(x_0), second)
        expected = q_sample(schedule, x_0, t - 1, first)
        assert below[0].item() == pytest.approx(expected[0].item(), rel=1e-9)
        assert var_of(below) == pytest.approx(var_of(expected), rel=1e-9)
        tie = math.sqrt(1 - schedule.beta(t)) * (1 - schedule.bar(t - 1))
        assert (below[1:] @ x_t[1:]).item() == pytest.approx(tie, rel=1e-9)


@every_schedule
def test_last_step_arrives_at_x_0_and_adds_no_noise(schedule: Schedule):
    x_0, first, second = basis(3)
    x_1 = q_sample(schedule, x_0, 1, first)
    for var_mix in (None, torch.tensor(1.0)):
        torch.testing.assert_close(p_step(schedule, x_1, 1, Denoised(x_0, var_mix), second), x_0)


@every_schedule
def test_learned_variance_lies_between_the_posterior_and_beta_on_a_log_scale(schedule: Schedule):
    nothing, noise = basis(2)
    for t in range(2, schedule.T + 1):
        low, high = schedule.posterior_variance(t), schedule.beta(t)
        for mix, expected in ((0.0, low), (1.0, high), (0.5, math.sqrt(low * high)), (-0.5, low**1.5 / high**0.5)):
            said = Denoised(0 * nothing, var_mix=torch.tensor(mix, dtype=torch.float64))
            assert p_step(schedule, 0 * nothing, t, said, noise)[1].item() ** 2 == pytest.approx(expected, rel=1e-9)
        plain = p_step(schedule, 0 * nothing, t, Denoised(0 * nothing), noise)
        assert plain[1].item() ** 2 == pytest.approx(low, rel=1e-9)


@every_schedule
def test_guidance_shifts_the_mean_by_variance_times_score(schedule: Schedule):
    """At the last step too, where the variance is clipped to that of the state above."""
    score, x_t, x_0, noise = basis(4)
    for t in range(1, schedule.T + 1):
        for mix in (None, torch.tensor(0.3, dtype=torch.float64)):
            share = 0.0 if mix is None else 0.3
            variance = schedule.posterior_variance(t) ** (1 - share) * schedule.beta(t) ** share
            plain = p_step(schedule, x_t, t, Denoised(x_0, mix), noise)
            guided = p_step(schedule, x_t, t, Denoised(x_0, mix, score), noise)
            torch.testing.assert_close(guided - plain, variance * score, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("predicts", ["eps", "x_0", "v"])
def test_a_network_that_knows_the_noise_gives_back_the_clean_image(predicts):
    schedule = linear_schedule().respaced(20)
    x_0, eps = tiny.drawn(1, 3, 4, 4).double().clamp(-0.9, 0.9), tiny.drawn(1, 3, 4, 4, seed=1).double()
    for t in range(1, 21):
        a, b = math.sqrt(schedule.bar(t)), math.sqrt(1 - schedule.bar(t))
        says = {"eps": eps, "x_0": x_0, "v": a * eps - b * x_0}[predicts]
        prior = NetworkPrior(lambda x_t, told, says=says: says, schedule, predicts=predicts)
        torch.testing.assert_close(prior(q_sample(schedule, x_0, t, eps), t).x_0, x_0)


def test_x_0_is_clipped_only_if_asked():
    far = torch.full((1, 3, 2, 2), 3.0)
    prior = NetworkPrior(lambda x_t, told: far, linear_schedule(), predicts="x_0")
    free = NetworkPrior(lambda x_t, told: far, linear_schedule(), predicts="x_0", clip=False)
    assert (prior(far, 5).x_0.max(), free(far, 5).x_0.max()) == (1, 3)


def test_network_is_told_the_timestep_of_the_full_chain_and_the_label():
    told = []

    def network(x_t: Tensor, *rest: Tensor) -> Tensor:
        told.append([value.tolist() for value in rest])
        return torch.zeros_like(x_t)

    x = torch.zeros(2, 3, 2, 2)
    prior = NetworkPrior(network, linear_schedule(), labels=torch.tensor([7])).respaced(250)
    prior(x, 1), prior(x, 250), prior(x, 2)
    assert told == [[[0], [7, 7]], [[999], [7, 7]], [[4], [7, 7]]]


def test_learned_variance_is_read_from_minus_1_to_1():
    out = torch.cat([torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), -1.0)], 1)
    prior = NetworkPrior(lambda x_t, told: out, linear_schedule())
    assert prior(torch.zeros(1, 3, 2, 2), 5).var_mix.unique() == 0
    out[:, 3:] = 1
    assert prior(torch.zeros(1, 3, 2, 2), 5).var_mix.unique() == 1


def test_guidance_is_the_gradient_of_the_labels_log_probability():
    """Of a linear classifier: scale * (weights of the label - mean of all weights by their probability)."""
    weights = tiny.drawn(5, 12)
    x_t = tiny.drawn(2, 3, 2, 2, seed=1)
    labels = torch.tensor([4, 1])
    prior = NetworkPrior(lambda x, told: torch.zeros_like(x), linear_schedule())
    guided = Guided(prior, lambda x, told: x.flatten(1) @ weights.T, labels, scale=2.5)
    expected = 2.5 * (weights[labels] - (x_t.flatten(1) @ weights.T).softmax(1) @ weights)
    with torch.no_grad():
        torch.testing.assert_close(guided(x_t, 5).score.flatten(1), expected, rtol=1e-4, atol=1e-5)


def test_guidance_is_the_oracles():
    theirs = tiny.oracle_classifier()
    ours = tiny.our_classifier(theirs)
    x_t = tiny.drawn(1, 3, 16, 16)
    prior = NetworkPrior(lambda x, told: torch.zeros_like(x), linear_schedule().respaced(10))
    said = Guided(prior, ours, torch.tensor([3]))(x_t, 10)
    expected = sampler.class_gradient(theirs, x_t, torch.tensor([999]), torch.tensor([3]))
    torch.testing.assert_close(said.score, expected, rtol=1e-3, atol=1e-5)
    assert said.score.abs().max() > 1e-3


# --- noise ---


def test_an_image_draws_what_one_seeded_cpu_generator_gives():
    generator = torch.Generator().manual_seed(7)
    noise, x = Noise([7]), torch.zeros(1, 3, 5, 9)
    for _ in range(3):
        assert torch.equal(noise.like(x), torch.randn(1, 3, 5, 9, generator=generator))


def test_an_image_draws_the_same_alone_and_in_a_batch():
    batch, first, second = Noise([1, 2]), Noise([1]), Noise([2])
    x = torch.zeros(2, 3, 4, 4)
    for _ in range(3):
        assert torch.equal(batch.like(x), torch.cat([first.like(x[:1]), second.like(x[:1])]))
    assert torch.equal(batch.integers(1000), torch.cat([first.integers(1000), second.integers(1000)]))


def test_images_that_draw_side_by_side_draw_what_each_would_alone():
    seeds, x = range(7), torch.zeros(7, 3, 96, 96)
    batch, alone = Noise(seeds), [Noise([seed]) for seed in seeds]
    for _ in range(3):
        drawn = batch.like(x)
        assert torch.equal(drawn, torch.cat([one.like(x[:1]) for one in alone]))


def test_noise_has_the_precision_of_the_image_but_is_drawn_in_single():
    x = torch.zeros(1, 3, 4, 4)
    assert torch.equal(Noise([3]).like(x.double()), Noise([3]).like(x).double())


def test_integers_cover_their_range_and_nothing_else():
    noise = Noise([0])
    assert {int(noise.integers(3)) for _ in range(60)} == {0, 1, 2}


def test_a_batch_of_another_size_is_refused():
    with pytest.raises(ValueError, match="x must hold 2 images, one a seed, got 3"):
        Noise([0, 1]).like(torch.zeros(3, 3, 2, 2))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_draws_the_same_noise():
    x = torch.zeros(2, 3, 128, 128)
    Noise([0, 1]).like(x)  # the parent has threads that the child has not
    expected = Noise([0, 1]).like(x)
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(Noise([0, 1]).like(x), expected) else 1)
    for _ in range(600):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the child hangs")
    assert os.waitstatus_to_exitcode(status) == 0
