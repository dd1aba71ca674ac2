"""A conditioned prior: exact where images are normal, and told what is known wherever it is asked."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from repaint.diffusion import (
    Conditioned,
    NetworkPrior,
    Noise,
    Packed,
    Windowed,
    conditioned,
    image_by_image,
    linear_schedule,
    repaint,
    time_travel,
)
from repaint.diffusion.conditioned import RIDGE
from repaint.stages.frugal import FewerAtOnce
from repaint.stages.inpaint import Inpaint

from . import tiny

SHAPE = (3, 4, 4)
N = math.prod(SHAPE)
SCHEDULE = linear_schedule().respaced(20)


class Normal:
    """A prior of normal images, whose x_0 is known in closed form; as a network that says x_0."""

    def __init__(self, seed: int = 0, schedule=SCHEDULE) -> None:
        g = torch.Generator().manual_seed(seed)
        root = torch.randn(N, N, generator=g, dtype=torch.float64) / math.sqrt(N)
        self.covariance = 0.3 * root @ root.T + 0.02 * torch.eye(N, dtype=torch.float64)
        self.mean = 0.3 * torch.randn(N, generator=g, dtype=torch.float64)
        self.schedule = schedule

    def behind(self, x_t: Tensor, bar: float) -> tuple[Tensor, Tensor]:
        """Mean (B, N) and covariance of the images behind x_t."""
        gain = (
            math.sqrt(bar)
            * self.covariance
            @ torch.linalg.inv(bar * self.covariance + (1 - bar) * torch.eye(N, dtype=torch.float64))
        )
        mean = self.mean + (x_t.flatten(1) - math.sqrt(bar) * self.mean) @ gain.T
        return mean, self.covariance - math.sqrt(bar) * gain @ self.covariance

    def prior(self, *, clip: bool = False) -> NetworkPrior:
        bars = {told: self.schedule.bar(t) for t, told in enumerate(self.schedule.network_t) if t}

        def network(x_t: Tensor, told: Tensor) -> Tensor:
            return self.behind(x_t, bars[int(told)])[0].unflatten(1, SHAPE)

        return NetworkPrior(network, self.schedule, predicts="x_0", clip=clip)

    def images(self, count: int, seed: int) -> Tensor:
        g = torch.Generator().manual_seed(seed)
        drawn = torch.randn(count, N, generator=g, dtype=torch.float64)
        return (self.mean + drawn @ torch.linalg.cholesky(self.covariance).T).unflatten(1, SHAPE)


def some_known(count: int = 2) -> Tensor:
    """(B, 1, 4, 4): other pixels known in each image."""
    return torch.stack([torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(i)) < 0.5 for i in range(count)])


def closed_form(normal: Normal, x_t: Tensor, t: int, known: Tensor, keep: Tensor) -> Tensor:
    mean, covariance = normal.behind(x_t, SCHEDULE.bar(t))
    found = []
    for m, y, k in zip(mean, known.flatten(1), keep.expand_as(known).flatten(1), strict=True):
        K = torch.eye(N, dtype=torch.float64)[k]
        seen = K @ covariance @ K.T + RIDGE * (1 - SCHEDULE.bar(t)) * torch.eye(len(K), dtype=torch.float64)
        found.append(m + covariance @ K.T @ torch.linalg.solve(seen, K @ (y - m)))
    return torch.stack(found).unflatten(1, SHAPE)


@pytest.mark.parametrize("t", [1, 5, 12, 20])
def test_of_normal_images_the_mean_given_what_is_known_is_exact(t):
    normal = Normal()
    known, keep = normal.images(2, seed=1), some_known()
    x_t = torch.randn(2, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = closed_form(normal, x_t, t, known, keep)
    said = Conditioned(conditioned(normal.prior(), 2 * N, noisy_steps=2 * N), SCHEDULE, known, keep)(x_t, t)
    torch.testing.assert_close(said.x_0, expected, atol=1e-6, rtol=0)
    one = Conditioned(conditioned(normal.prior(), 1), SCHEDULE, known, keep)(x_t, t)
    alone = normal.prior()(x_t, t)
    assert (one.x_0 - expected).norm() < 0.8 * (alone.x_0 - expected).norm()


@pytest.mark.parametrize(("steps", "share"), [(1, 0.9), (10, 0.4)])
def test_fills_follow_what_is_known_without_jumps(steps, share):
    """The mean of many fills is that of the images that agree; a prior that is not told stays nearer to its own."""
    schedule = linear_schedule().respaced(100)
    normal = Normal(seed=3, schedule=schedule)
    keep = some_known(1)
    known = normal.images(1, seed=4) + 0.5
    k = keep.expand(1, *SHAPE).flatten()
    K = torch.eye(N, dtype=torch.float64)[k]
    seen = K @ normal.covariance @ K.T
    exact = normal.mean + normal.covariance @ K.T @ torch.linalg.solve(seen, K @ (known.flatten() - normal.mean))
    many = 200
    known, keep = known.expand(many, *SHAPE), keep.expand(many, 1, 4, 4)
    off = {}
    for told in (0, steps):
        prior = normal.prior()
        denoiser = Conditioned(conditioned(prior, told, noisy_steps=told), schedule, known, keep) if told else prior
        *_, last = repaint(denoiser, known, keep, time_travel(100, 1, 1), Noise(range(many)))
        off[told] = (last.x_t.mean(0).flatten() - exact)[~k].square().mean().sqrt().item()
    assert off[steps] < share * off[0], off


def test_where_nothing_is_known_or_missed_the_prior_answers_alone():
    normal = Normal()
    x_t = torch.randn(2, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    alone = normal.prior()(x_t, 7)
    nothing = torch.zeros(2, 1, 4, 4)
    for known, keep in ((normal.images(2, seed=1), nothing), (alone.x_0, nothing + 1)):
        said = Conditioned(conditioned(normal.prior(), 3), SCHEDULE, known, keep)(x_t, 7)
        torch.testing.assert_close(said.x_0, alone.x_0, atol=1e-12, rtol=0)
    assert alone.var_mix is None
    assert said.var_mix is None


def test_what_stands_in_holes_is_never_looked_at():
    normal = Normal()
    known, keep = normal.images(2, seed=1), some_known()
    x_t = torch.randn(2, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    answer = conditioned(normal.prior(), 2)
    said = [answer(x_t, 7, torch.where(keep, known, other), keep) for other in (0.0, torch.nan)]
    assert torch.equal(*said)


def test_while_there_is_more_noise_than_image_one_pass_back_is_enough():
    asked = []

    class Counted(Normal):
        def prior(self, *, clip: bool = False) -> NetworkPrior:
            told = super().prior(clip=clip)

            def network(x_t: Tensor, t: Tensor) -> Tensor:
                said = told.network(x_t, t)
                said.register_hook(lambda grad: asked.append(1))
                return said

            return NetworkPrior(network, self.schedule, predicts="x_0", clip=clip)

    normal = Counted()
    known, keep = normal.images(2, seed=1), some_known()
    x_t = torch.randn(2, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for t in range(1, 21):
        asked.clear()
        Conditioned(conditioned(normal.prior(), 3), SCHEDULE, known, keep)(x_t, t)
        assert len(asked) == (3 if SCHEDULE.bar(t) > 0.5 else 1)


def test_guesses_stay_within_the_range_of_images_where_the_prior_keeps_them_there():
    normal = Normal()
    x_t = 9 * torch.randn(2, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    said = Conditioned(conditioned(normal.prior(clip=True), 2), SCHEDULE, 3 + x_t, some_known())(x_t, 7)
    assert said.x_0.abs().max() == 1


def test_a_derivative_that_is_no_covariance_takes_nothing_along():
    prior = NetworkPrior(lambda x_t, told: -x_t, SCHEDULE, predicts="x_0")
    x_t, keep = torch.rand(1, *SHAPE), torch.ones(1, 1, 4, 4)
    said = Conditioned(conditioned(prior, 3), SCHEDULE, 1 - x_t, keep)(x_t, 7)
    torch.testing.assert_close(said.x_0, -x_t)


def test_a_network_without_a_derivative_is_refused_and_one_in_inference_mode_is_not():
    x_t, keep = torch.rand(1, *SHAPE), torch.ones(1, 1, 4, 4)
    for network in (torch.no_grad()(lambda x_t, told: 0.5 * x_t), lambda x_t, told: 0.5 * x_t.detach()):
        answer = conditioned(NetworkPrior(network, SCHEDULE), 1)
        with pytest.raises(ValueError, match="must know the derivative of the network, and its answer has none"):
            answer(x_t, 7, x_t, keep)
    answer = conditioned(NetworkPrior(lambda x_t, told: 0.5 * x_t, SCHEDULE), 1)
    expected = answer(x_t, 7, -x_t, keep)
    with torch.inference_mode():
        said = answer(torch.clone(x_t), 7, torch.neg(x_t), torch.ones(1, 1, 4, 4))
    torch.testing.assert_close(said, expected)


def test_learned_variance_and_classes_pass_through():
    seen = []

    def network(x_t: Tensor, told: Tensor, labels: Tensor) -> Tensor:
        seen.append(labels.tolist())
        return torch.cat([0.1 * x_t, torch.full_like(x_t, 0.5)], dim=1)

    prior = NetworkPrior(network, SCHEDULE)
    x_t, keep = torch.rand(2, *SHAPE), some_known()
    for labels, told in ((torch.tensor([3]), [[3], [3]]), (torch.tensor([1, 2]), [[1], [2]])):
        seen.clear()
        of_each = image_by_image(conditioned(prior, 1))
        said = Conditioned(of_each, SCHEDULE, torch.zeros_like(x_t), keep, labels)(x_t, 7)
        assert seen == told
        assert said.var_mix is not None
        torch.testing.assert_close(said.var_mix, torch.full_like(x_t, 0.75))


def test_where_memory_suffices_for_one_image_only_one_is_shown_at_once():
    def network(x_t: Tensor, told: Tensor) -> Tensor:
        if len(x_t) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return 0.1 * x_t

    fewer = FewerAtOnce("prior", conditioned(NetworkPrior(network, SCHEDULE), 2))
    x_t, keep = torch.rand(2, *SHAPE), some_known()
    said = Conditioned(fewer, SCHEDULE, torch.zeros_like(x_t), keep)(x_t, 3)
    assert fewer.told() == ["out of memory with 2 windows at once: prior goes on with 1"]
    enough = conditioned(NetworkPrior(lambda x_t, told: 0.1 * x_t, SCHEDULE), 2)
    torch.testing.assert_close(said.x_0, Conditioned(enough, SCHEDULE, torch.zeros_like(x_t), keep)(x_t, 3).x_0)


class Spied:
    """An answer that gives back what is known, and the middle of the range elsewhere."""

    def __init__(self) -> None:
        self.shown = 0

    def __call__(self, x_t: Tensor, t: int, known: Tensor, keep: Tensor) -> Tensor:
        assert x_t.shape[-2:] == known.shape[-2:] == keep.shape[-2:] == (16, 16)
        self.shown += len(x_t)
        return torch.where(keep > 0, known, 0.1 * t)


def test_windows_are_told_what_is_known_of_them():
    g = torch.Generator().manual_seed(0)
    known, keep = torch.rand(1, 3, 37, 53, generator=g), torch.rand(1, 1, 37, 53, generator=g) < 0.7
    told = Conditioned(Spied(), SCHEDULE, known, keep)
    windowed = Windowed(told, 16, ~keep, 4, 3)
    said = windowed(torch.zeros(1, 3, 37, 53), 5)
    torch.testing.assert_close(said.x_0, torch.where(keep, known, 0.5))
    packed = Packed(told, 16, ~keep, 4, 3)
    row = packed(packed.pack(torch.zeros(1, 3, 37, 53)), 5)
    torch.testing.assert_close(packed.unpack(row.x_0, torch.zeros_like(known)), said.x_0)


def test_each_pass_of_a_canvas_is_told_what_it_knows_itself(tmp_path):
    weights = tiny.checkpoint(tmp_path / "prior.safetensors")
    photo = tiny.photo(48, 40, (10, 8, 34, 30), (0, 36, 48, 37))
    keep = photo.keep
    assert keep is not None
    walk = {"t_T": 4, "jump_n_sample": 1, "jump_length": 1, "conditioning": 1}
    made = {}
    for conditioning in (0, 1):
        said = {"prior": str(weights), "sampler": {"repaint": {**walk, "conditioning": conditioning}}}
        stage = Inpaint.model_validate(said).build("cpu")
        *_, done = stage([photo], [5])
        made[conditioning] = done
        rgb = done.photos[0].rgb
        assert torch.equal(rgb[:, keep[0]], photo.rgb[:, keep[0]])
        assert rgb.isfinite().all()
    assert made[0].total == made[1].total
    assert not torch.equal(made[0].photos[0].rgb, made[1].photos[0].rgb)


def test_a_photo_does_not_depend_on_its_neighbours(tmp_path):
    weights = tiny.checkpoint(tmp_path / "prior.safetensors")
    walk = {"t_T": 4, "jump_n_sample": 1, "jump_length": 1, "conditioning": 2}
    stage = Inpaint.model_validate({"prior": str(weights), "sampler": {"repaint": walk}}).build("cpu")
    photos = [tiny.photo(16, 16, (4, 4, 12, 12), seed=seed) for seed in range(3)]
    *_, together = stage(photos, [1, 2, 3])
    *_, alone = stage(photos[1:2], [2])
    assert torch.equal(together.photos[1].rgb, alone.photos[0].rgb)


@pytest.mark.parametrize("sampler", ["balanced", {"repaint": {"conditioning": 1}}])
def test_beside_a_classifier_it_is_refused(sampler):
    said = {"classifier": {"weights": "c"}, "label": 1, "sampler": sampler}
    with pytest.raises(ValueError, match="classifier: found one beside conditioning: 1; one of the two would be right"):
        Inpaint.model_validate(said)
