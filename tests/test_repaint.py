"""The sampler: noise levels, closed forms, and the published code number by number."""

from __future__ import annotations

import math
from itertools import islice, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from repaint.diffusion import (
    Guided,
    NetworkPrior,
    Noise,
    cosine_schedule,
    linear_schedule,
    network_calls,
    q_sample,
    repaint,
    time_travel,
)

from . import tiny
from .oracle import sampler

BLACK = torch.full((1, 3, 64, 64), -1.0)
LEFT = torch.arange(64).expand(1, 1, 64, 64) < 32
WALKS = {
    "straight": time_travel(20, 5, 1),
    "time travel": time_travel(20, 5, 3),
    "single steps": time_travel(20, 5, 1, n_sample=3),
    "jumps in jumps": time_travel(20, 6, 2, jump2_length=2, jump2_n_sample=2),
    "late": time_travel(20, 5, 3, start_resampling=8),
}
KEEPS = {"all": torch.ones_like(LEFT), "nothing": torch.zeros_like(LEFT), "the left half": LEFT}
GREY = torch.zeros_like(BLACK)


@pytest.mark.parametrize("keep", KEEPS.values(), ids=KEEPS)
@pytest.mark.parametrize("times", WALKS.values(), ids=WALKS)
def test_denoiser_is_shown_the_noise_level_it_is_told(times, keep):
    """Of grey images, known and filled; the first call sees x_T, pure noise, which is a little more."""
    spy = tiny.Spy(linear_schedule().respaced(20))
    list(repaint(spy, GREY, keep, times, Noise([0])))
    spy.seen[20][0] *= math.sqrt(1 - spy.schedule.bar(20))
    assert sum(map(len, spy.seen.values())) == network_calls(times)
    for t, stds in spy.seen.items():
        for std in stds:
            assert std == pytest.approx(math.sqrt(1 - spy.schedule.bar(t)), rel=0.04), t


def test_known_part_is_shown_at_the_level_of_the_network_not_one_below():
    """The last step of a short chain tells the two apart: 0.01 and no noise at all, or 0.01 and 0.3."""
    spy = tiny.Spy(linear_schedule().respaced(4))
    list(repaint(spy, GREY, KEEPS["all"], [4, 3, 2, 1, 0], Noise([0])))
    assert spy.seen[1] == pytest.approx([0.01], rel=0.03)
    assert spy.seen[2] == pytest.approx([math.sqrt(1 - spy.schedule.bar(2))], rel=0.03)


# --- an exact prior ---

ROOT = 0.5 * torch.tensor([[1.0, 0, 0, 0], [0.7, 0.6, 0, 0], [-0.3, 0.5, 0.5, 0], [0.2, 0.4, -0.5, 0.5]])
KNOWN = torch.tensor([True, False, True, False])
COLUMNS = 8000  # each an image of 4 px with the same two known


def filled_by_gaussian(passes: int) -> tuple[Tensor, tiny.Gaussian, Tensor]:
    prior = tiny.Gaussian(linear_schedule().respaced(200), torch.tensor([0.2, -0.1, 0.3, 0.0]), ROOT @ ROOT.T)
    values = torch.tensor([1.0, math.pi, -0.2, -math.e])  # what stands in the holes is never looked at
    known, keep = (row[None, None, :, None].expand(1, 1, 4, COLUMNS) for row in (values, KNOWN))
    *_, last = repaint(prior, known, keep, time_travel(200, 10, passes), Noise([0]))
    return last.x_t[0, 0][~KNOWN], prior, values


def test_time_travel_gives_holes_the_mean_and_covariance_of_the_unknown_given_the_known():
    """Within a fraction of what the known pixels tell; ten standard errors. One pass alone stays three times as far."""
    (once, prior, values), (fill, _, _) = filled_by_gaussian(1), filled_by_gaussian(5)
    mean, covariance = prior.given(KNOWN, values[KNOWN])
    torch.testing.assert_close(fill.mean(1), mean, atol=0.05, rtol=0)
    torch.testing.assert_close(torch.cov(fill), covariance, atol=0.025, rtol=0)
    assert (mean - prior.mean[~KNOWN]).abs().min() > 0.18
    assert (covariance - prior.covariance[~KNOWN][:, ~KNOWN]).abs().max() > 0.15
    assert (fill.mean(1) - mean).norm() < 0.4 * (once.mean(1) - mean).norm()


def test_without_known_pixels_the_image_is_one_of_the_priors():
    prior = tiny.Gaussian(linear_schedule().respaced(200), torch.tensor([0.2, -0.1, 0.3, 0.0]), ROOT @ ROOT.T)
    nothing = torch.zeros(1, 1, 4, COLUMNS)
    *_, last = repaint(prior, nothing, nothing, time_travel(200, 10, 1), Noise([0]))
    torch.testing.assert_close(last.x_t[0, 0].mean(1), prior.mean, atol=0.02, rtol=0)
    torch.testing.assert_close(torch.cov(last.x_t[0, 0]), prior.covariance, atol=0.02, rtol=0)


# --- the published code, number by number ---

TRAVEL = {"jump_length": 3, "jump_n_sample": 2}
NETWORKS: dict[str, dict[str, Any]] = {
    "as published": {},
    "no scale-shift": {"use_scale_shift_norm": False},
    "no resblock_updown": {"resblock_updown": False},
    "new attention order": {"use_new_attention_order": True},
    "num_heads": {"num_head_channels": -1, "num_heads": 2},
    "heads_upsample": {"num_head_channels": -1, "num_heads": 2, "num_heads_upsample": 4},
    "classes": tiny.CLASSES,
}
RUNS: dict[str, dict[str, Any]] = {
    "straight": {"t_T": 8},
    "time travel": {"t_T": 8, **TRAVEL},
    "n_sample": {"t_T": 6, "n_sample": 2},
    "jump2": {"t_T": 7, **TRAVEL, "jump2_length": 2, "jump2_n_sample": 2},
    "jump3": {"t_T": 7, "jump_length": 4, "jump_n_sample": 2, "jump3_length": 2, "jump3_n_sample": 2},
    "start_resampling": {"t_T": 9, **TRAVEL, "start_resampling": 5},
    "t_T below the schedule": {"t_T": 6, **TRAVEL, "timestep_respacing": "20"},
    "ddim": {"t_T": 10, "timestep_respacing": "ddim10"},
    "soft mask": {"t_T": 6, **TRAVEL, "soft": True},
    "cosine": {"t_T": 6, **TRAVEL, "noise_schedule": "cosine"},
    "other seed": {"t_T": 6, **TRAVEL, "seed": 41},
    "guided": {"t_T": 6, **TRAVEL, "classifier_scale": 2.0},
}
WALK = {"jump_length", "jump_n_sample", "n_sample", "jump2_length", "jump2_n_sample", "jump3_length", "jump3_n_sample"}


def both(network: dict[str, Any], run: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Our result, the oracle's, and the mask, for one image and the same weights."""
    theirs = tiny.oracle_unet(seed=1, **network)
    run = dict(run)
    jumps = {"jump_length": 1, "jump_n_sample": 1, **{k: v for k, v in run.items() if k in {*WALK, "start_resampling"}}}
    T, seed, scale = run["t_T"], run.get("seed", 3), run.get("classifier_scale", 0.0)
    spacing, noise_schedule = run.get("timestep_respacing", str(T)), run.get("noise_schedule", "linear")
    conf = {
        "timestep_respacing": spacing,
        "noise_schedule": noise_schedule,
        "schedule_jump_params": {"t_T": T, **jumps},
        "class_cond": network.get("class_cond", False),
        "learn_sigma": network.get("learn_sigma", True),
        "classifier_scale": scale,
    }
    known = tiny.drawn(1, 3, 16, 16, seed=2).clamp(-1, 1)
    keep = (torch.arange(16) < 7).expand(1, 1, 16, 16)
    if run.get("soft"):
        keep = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    judge = tiny.oracle_classifier(seed=5)
    label = 2 if scale or conf["class_cond"] else None
    expected = sampler.inpaint(
        theirs, known, keep.float(), conf=conf, seed=seed, classifier=judge if scale else None, y=label
    )

    schedule = {"linear": linear_schedule, "cosine": cosine_schedule}[noise_schedule]().respaced(spacing)
    labels = torch.tensor([2])
    prior = NetworkPrior(tiny.our_unet(theirs, **network), schedule, labels if conf["class_cond"] else None)
    if not conf["learn_sigma"]:
        prior = NetworkPrior(prior.network, schedule, prior.labels, fixed_var_mix=1)
    denoiser = Guided(prior, tiny.our_classifier(judge), labels, scale) if scale else prior
    *_, last = repaint(denoiser, known, keep, time_travel(T, **jumps), Noise([seed]))
    return last.x_t, expected, keep


def as_published(ours: Tensor, expected: Tensor, keep: Tensor) -> None:
    assert expected.std() > 0.1
    assert (ours - expected).abs().mean() < 1e-4
    torch.testing.assert_close(ours, expected, atol=2e-3, rtol=0)  # a quarter of a grey level
    levels = ((ours + 1) * 127.5).clamp(0, 255).round()[0].permute(1, 2, 0)
    apart = (levels - torch.from_numpy(sampler.to_uint8(expected))).abs()
    assert apart[(keep < 1)[0, 0]].max() <= 1


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_any_network_fills_what_the_published_code_fills(network):
    as_published(*both(network, {"t_T": 6, **TRAVEL}))


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_any_walk_fills_what_the_published_code_fills(run):
    as_published(*both({}, run))


def test_classes_and_guidance_together_fill_what_the_published_code_fills():
    as_published(*both(tiny.CLASSES, {"t_T": 6, **TRAVEL, "classifier_scale": 1.0}))


def test_fixed_variance_fills_what_its_formulas_fill():
    as_published(*both({"learn_sigma": False}, {"t_T": 6, **TRAVEL}))


# --- as a generator ---

SCHEDULE = linear_schedule().respaced(6)
TIMES = time_travel(6, 2, 2)


def prior() -> tiny.Gaussian:
    root = 0.3 * torch.eye(8) + 0.1
    return tiny.Gaussian(SCHEDULE, torch.zeros(8), root @ root.T)


def walk(known: Tensor, keep: Tensor, seeds: list[int], **more: Any):
    return repaint(prior(), known, keep, TIMES, Noise(seeds), **more)


def test_every_network_call_is_one_sample_that_says_where_it_stands():
    samples = list(walk(tiny.drawn(1, 3, 8, 8), torch.zeros(1, 1, 8, 8), [0]))
    assert [s.t for s in samples] == [s for t, s in pairwise(TIMES) if s < t]
    assert samples[-1].t == 0
    torch.testing.assert_close(samples[-1].x_t, samples[-1].x_0)


def test_known_pixels_come_out_as_the_prior_sees_them_through_next_to_no_noise():
    known, keep = tiny.drawn(1, 3, 8, 8).clamp(-1, 1), torch.arange(8).expand(1, 1, 8, 8) < 5
    *_, last = walk(known, keep, [0])
    assert (last.x_t - known)[..., :5].abs().max() < 0.1
    assert (last.x_t - known)[..., 5:].abs().max() > 0.3


def test_walk_can_be_left_and_costs_nothing_more():
    spy = tiny.Spy(SCHEDULE)
    steps = repaint(spy, GREY, LEFT, TIMES, Noise([0]))
    assert len(list(islice(steps, 3))) == 3
    steps.close()
    assert sum(map(len, spy.seen.values())) == 3
    assert list(steps) == []


def test_arguments_are_left_as_they_are():
    known, keep, times, start = (
        tiny.drawn(1, 3, 8, 8),
        tiny.drawn(1, 1, 8, 8).abs().clamp(max=1),
        list(TIMES),
        tiny.drawn(1, 3, 8, 8),
    )
    before = [x.clone() for x in (known, keep, start)]
    list(walk(known, keep, [0], start=start))
    assert all(torch.equal(a, b) for a, b in zip((known, keep, start), before, strict=True))
    assert times == TIMES


def test_samples_do_not_change_after_they_are_given():
    kept = [(s.x_t, s.x_0, s.x_t.clone(), s.x_0.clone()) for s in walk(GREY[..., :8, :8], LEFT[..., :8, :8], [0])]
    assert all(torch.equal(a, c) and torch.equal(b, d) for a, b, c, d in kept)


@pytest.mark.parametrize("wanted", [True, False])
def test_consumer_keeps_its_own_grad_mode_between_samples(wanted):
    layer = torch.nn.Conv2d(3, 3, 1)  # in training: its answers would carry a gradient
    denoiser = NetworkPrior(lambda x_t, told: layer(x_t), SCHEDULE)
    with torch.set_grad_enabled(wanted):
        for sample in repaint(denoiser, GREY, LEFT, TIMES, Noise([0])):
            assert torch.is_grad_enabled() == wanted
            assert not sample.x_t.requires_grad


def test_batch_gives_each_image_what_it_gets_alone():
    known, keep = tiny.drawn(3, 3, 8, 8), torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.5
    *_, together = walk(known, keep, [5, 6, 7])
    for i in range(3):
        *_, alone = walk(known[i : i + 1], keep[i : i + 1], [5 + i])
        torch.testing.assert_close(together.x_t[i : i + 1], alone.x_t, atol=1e-5, rtol=0)


def test_seed_decides_the_fill():
    *_, one = walk(GREY[..., :8, :8], KEEPS["nothing"][..., :8, :8], [0])
    *_, same = walk(GREY[..., :8, :8], KEEPS["nothing"][..., :8, :8], [0])
    *_, other = walk(GREY[..., :8, :8], KEEPS["nothing"][..., :8, :8], [1])
    assert torch.equal(one.x_t, same.x_t)
    assert (one.x_t - other.x_t).abs().mean() > 0.1


def test_what_stands_in_the_hole_is_never_looked_at():
    keep = LEFT[..., :8, 28:36]
    *_, one = walk(GREY[..., :8, :8], keep, [0])
    *_, other = walk(torch.where(keep, GREY[..., :8, :8], 1e3), keep, [0])
    assert torch.equal(one.x_t, other.x_t)


def test_given_start_is_taken_up_at_its_noise_level_with_the_known_pixels_put_in():
    """The first call sees known pixels at the level of the state, not those of `start`."""
    spy = tiny.Spy(linear_schedule().respaced(20))
    start = q_sample(spy.schedule, GREY, 5, tiny.drawn(1, 3, 64, 64, seed=9))
    list(repaint(spy, GREY, KEEPS["nothing"], time_travel(5, 2, 2), Noise([0]), start=start))
    list(repaint(spy, GREY, KEEPS["all"], time_travel(5, 2, 2), Noise([0]), start=start * 99))
    for t, stds in spy.seen.items():
        assert stds == pytest.approx([math.sqrt(1 - spy.schedule.bar(t))] * len(stds), rel=0.04)


def test_what_is_no_number_in_a_hole_is_never_looked_at():
    prior = tiny.Gaussian(linear_schedule().respaced(4), torch.zeros(8), torch.eye(8))
    keep = torch.ones(1, 1, 8, 8)
    keep[..., 2:5, 2:5] = 0
    known, ends = tiny.drawn(1, 3, 8, 8).clamp(-1, 1), []
    for image in (known, torch.where(keep > 0, known, torch.nan)):
        *_, last = repaint(prior, image, keep, [4, 3, 2, 1, 0], Noise([0]))
        ends.append(last.x_t)
    assert torch.equal(*ends)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([4, 2, 1, 0], "got 4 and then 2"),
        ([4, 3, 3, 2], "got 3 and then 3"),
        ([2, 4, 3], "got 2 and then 4"),
        ([5, 4, 3], "0..4, got 5"),
        ([1, 0, -1], "0..4, got -1"),
    ],
    ids=str,
)
def test_a_walk_goes_one_state_at_a_time_within_the_chain(times, words):
    spy = tiny.Spy(linear_schedule().respaced(4))
    with pytest.raises(ValueError, match=words):
        next(repaint(spy, GREY, KEEPS["all"], times, Noise([0])))
    assert not spy.seen
