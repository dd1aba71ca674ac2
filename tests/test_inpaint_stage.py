"""The inpaint stage on tiny networks: holes are filled, and nothing else in a photo changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from repaint.diffusion import Noise, repaint, time_travel
from repaint.errors import ConfigError, WeightsError
from repaint.holes import grown
from repaint.image import Meta, Photo
from repaint.image.writing import to_samples
from repaint.stages.inpaint import Inpaint, InpaintStage
from repaint.stages.progress import Progress
from repaint.weights.load import load_prior

from . import tiny
from .oracle import sampler as published

FAST = {"num_channels": 32, "channel_mult": "1,1"}
WALK = {"t_T": 4, "jump_length": 2, "jump_n_sample": 2}  # 6 calls
LONG = {"t_T": 8, "jump_length": 2}
HOLE = (4, 5, 11, 12)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Callable[..., Path]:
    """A function: the file of a tiny prior, or of a classifier."""
    folder = tmp_path_factory.mktemp("weights")

    def made(kind: str = "prior") -> Path:
        path = folder / f"{kind}.safetensors"
        if path.exists():
            return path
        if kind == "classifier":
            return tiny.saved(path, tiny.oracle_classifier().state_dict(), {"num_head_channels": 32})
        more = {"prior": FAST, "classes": {**FAST, **tiny.CLASSES}, "published": {}}[kind]
        return tiny.checkpoint(path, **more)

    return made


@pytest.fixture(scope="module")
def build(weights) -> Callable[..., InpaintStage]:
    """A function: the stage of a tiny prior, with other settings."""

    def made(kind: str = "prior", *, batch_size: int = 8, walk: dict[str, Any] = WALK, **settings: Any) -> InpaintStage:
        told = {"prior": str(weights(kind)), "sampler": {"repaint": walk}, "refine": 0.5, "thin": 0.5, **settings}
        return Inpaint.model_validate(told).build("cpu", batch_size=batch_size)

    return made


@pytest.fixture(scope="module")
def stage(build) -> InpaintStage:
    return build()


def last(stage: InpaintStage, photos: list[Photo], seeds: list[int]) -> Progress:
    *_, progress = stage(photos, seeds)
    return progress


def filled(stage: InpaintStage, photo: Photo, seed: int = 0) -> Photo:
    return last(stage, [photo], [seed]).photos[0]


def assert_only_the_hole_changed(before: Photo, after: Photo) -> None:
    """Bit for bit outside; inside, something new in [0, 1]."""
    keep = (before.keep >= 1).expand_as(before.rgb)
    assert torch.equal(after.rgb[keep], before.rgb[keep])
    assert torch.equal(after.keep, before.keep)
    inside = after.rgb[~keep]
    assert 0 <= inside.min() <= inside.max() <= 1
    assert (inside != before.rgb[~keep]).float().mean() > 0.9


PHOTOS = {
    "the prior's size": tiny.photo(16, 16, HOLE),
    "smaller than the window": tiny.photo(9, 13, (2, 3, 6, 9)),
    "one pixel high": tiny.photo(1, 20, (0, 4, 1, 9)),
    "odd": tiny.photo(37, 53, (5, 6, 8, 40), (20, 44, 33, 46)),
    "a wide hole, several passes": tiny.photo(40, 48, (8, 8, 32, 36)),
    "wide and thin holes": tiny.photo(40, 41, (4, 4, 24, 20), (30, 10, 31, 39)),
    "larger than is worked on whole": tiny.photo(90, 30, (70, 11, 76, 18)),
    "holes at the borders": tiny.photo(21, 34, (0, 0, 3, 34), (19, 30, 21, 34)),
    "one pixel": tiny.photo(24, 24, (7, 7, 8, 8)),
    "nothing known": tiny.photo(20, 31, (0, 0, 20, 31)),
    "nothing known, the prior's size": tiny.photo(16, 16, (0, 0, 16, 16)),
    "one pixel known": tiny.photo(24, 24, (0, 0, 23, 24), (23, 1, 24, 24)),
}


@pytest.mark.parametrize("photo", PHOTOS.values(), ids=PHOTOS)
def test_holes_of_any_photo_are_filled_and_nothing_else_changes(stage, photo):
    assert_only_the_hole_changed(photo, filled(stage, photo))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("size", [(16, 16), (37, 29)])
def test_known_pixels_are_saved_with_the_very_numbers_they_were_read_with(stage, bits, size):
    photo = tiny.photo(*size, HOLE, (13, 2, 14, 14), bits=bits)
    before, after = (to_samples(p.rgb, bits=bits) for p in (photo, filled(stage, photo)))
    keep = photo.keep[0].numpy()
    assert np.array_equal(before[keep], after[keep])
    assert not np.array_equal(before[~keep], after[~keep])


def test_every_guess_on_the_way_keeps_the_known_pixels(stage):
    photo = PHOTOS["wide and thin holes"]
    keep = photo.keep.expand_as(photo.rgb)
    for progress in stage([photo], [0]):
        (guess,) = progress.photos
        assert torch.equal(guess.rgb[keep], photo.rgb[keep])


@pytest.mark.parametrize("name", ["the prior's size", "odd", "wide and thin holes", "larger than is worked on whole"])
def test_what_stands_in_the_hole_does_not_matter(stage, name):
    photo = PHOTOS[name]
    other = dataclasses.replace(photo, rgb=torch.where(photo.keep, photo.rgb, 1 - photo.rgb))
    assert torch.equal(filled(stage, photo).rgb, filled(stage, other).rgb)


def test_far_pixels_of_a_large_photo_do_not_matter_and_cost_nothing(stage):
    photo, other = tiny.photo(90, 90, (40, 40, 44, 45)), tiny.photo(90, 150, (40, 40, 44, 45), seed=1)
    other.rgb[:, :80, :80] = photo.rgb[:, :80, :80]
    one, two = last(stage, [photo], [0]), last(stage, [other], [0])
    assert torch.equal(one.photos[0].rgb[:, 40:44, 40:45], two.photos[0].rgb[:, 40:44, 40:45])
    assert one.total == two.total


def test_photo_keeps_its_alpha_and_what_its_file_says(stage):
    photo = dataclasses.replace(tiny.photo(16, 16, HOLE), alpha=torch.rand(1, 16, 16), meta=Meta("tiff", bits=16))
    after = filled(stage, photo)
    assert after.alpha is photo.alpha
    assert after.meta == photo.meta


def test_photos_that_are_given_are_left_as_they_are(build):
    photo = tiny.photo(37, 29, HOLE)
    rgb, keep = photo.rgb.clone(), photo.keep.clone()
    filled(build(grow_px=2, feather_px=2), photo)
    assert torch.equal(photo.rgb, rgb)
    assert torch.equal(photo.keep, keep)


# --- batches, seeds, progress ---


@pytest.mark.parametrize("names", [list(PHOTOS), ["odd"] * 3, ["the prior's size", "nothing known, the prior's size"]])
def test_batch_gives_each_photo_the_bits_it_gets_alone(stage, names):
    photos, seeds = [PHOTOS[name] for name in names], list(range(7, 7 + len(names)))
    together = last(stage, photos, seeds)
    for photo, seed, after, calls in zip(photos, seeds, together.photos, together.calls, strict=True):
        alone = last(stage, [photo], [seed])
        assert torch.equal(after.rgb, alone.photos[0].rgb)
        assert calls == alone.calls[0] == alone.total


def test_windows_at_once_do_not_matter(build):
    photo = PHOTOS["odd"]
    assert torch.equal(filled(build(batch_size=1), photo).rgb, filled(build(batch_size=5), photo).rgb)


@pytest.mark.parametrize("name", ["the prior's size", "odd", "wide and thin holes"])
def test_seed_decides_what_is_filled_in(stage, name):
    photo = PHOTOS[name]
    one, same, other = (filled(stage, photo, seed).rgb for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert (one - other)[:, ~photo.keep[0]].abs().mean() > 0.01


@pytest.mark.parametrize("names", [[name] for name in PHOTOS] + [list(PHOTOS)])
def test_progress_counts_every_network_call_up_to_the_total(stage, names):
    photos = [PHOTOS[name] for name in names]
    steps = list(stage(photos, list(range(len(photos)))))
    done = [step.done for step in steps]
    assert all(a < b for a, b in zip([0, *done], done, strict=False))
    assert all(step.done == sum(step.calls) <= step.total == steps[0].total for step in steps)
    assert done[-1] == steps[-1].total
    assert names != ["the prior's size"] or done == [1, 2, 3, 4, 5, 6]


def test_progress_counts_what_the_network_is_shown(weights, build, monkeypatch):
    from repaint.archs.unet import UNet

    shown, forward = [], UNet.forward
    monkeypatch.setattr(UNet, "forward", lambda self, x, t: shown.append(len(x)) or forward(self, x, t))
    assert last(build(), list(PHOTOS.values()), list(range(len(PHOTOS)))).total == sum(shown)


def test_photo_without_a_hole_comes_back_at_once(stage):
    photo = tiny.photo(30, 20)
    (step,) = stage([photo], [0])
    assert (step.done, step.total, step.calls) == (0, 0, (0,))
    assert step.photos[0].rgb is photo.rgb
    progress = last(stage, [photo, PHOTOS["odd"]], [0, 1])
    assert progress.calls[0] == 0 < progress.calls[1]
    assert torch.equal(progress.photos[0].rgb, photo.rgb)


def test_stage_can_be_left_in_the_middle(stage):
    steps = stage([PHOTOS["odd"]], [0])
    first = next(steps)
    steps.close()
    assert first.done < first.total
    assert first.photos[0].rgb.isfinite().all()


@pytest.mark.parametrize("size", [(16, 16), (37, 29)])
def test_soft_masks_keep_only_what_is_wholly_kept_unless_asked(stage, size):
    photo = tiny.photo(*size, HOLE)
    soft = dataclasses.replace(photo, keep=torch.where(photo.keep, 1.0, 0.7))
    assert torch.equal(filled(stage, soft).rgb, filled(stage, photo).rgb)


def test_photo_without_a_mask_is_refused(stage):
    with pytest.raises(ValueError, match="must have a mask"):
        filled(stage, Photo(tiny.levels(16, 16)))


# --- grown and feathered masks ---


@pytest.mark.parametrize("size", [(16, 16), (37, 29)])
def test_grown_holes_are_filled_and_the_rest_is_exact(build, size):
    stage, photo = build(grow_px=2), tiny.photo(*size, (6, 6, 9, 10))
    prepared = stage.prepared(photo)
    assert torch.equal(prepared.keep, grown(photo.keep, 2))
    assert torch.equal(prepared.rgb, photo.rgb)
    assert_only_the_hole_changed(prepared, filled(stage, photo))


@pytest.mark.parametrize("size", [(16, 16), (37, 29)])
@pytest.mark.parametrize("feather_px", [2, 3])
def test_feathering_blends_the_ring_that_was_grown_and_nothing_else(build, size, feather_px):
    photo = tiny.photo(*size, (6, 6, 9, 10))
    hard, soft = (filled(build(grow_px=3, feather_px=px), photo).rgb for px in (0, feather_px))
    kept, hole = grown(photo.keep, 3)[0], ~photo.keep[0]
    ring = ~kept & ~hole
    assert torch.equal(soft[:, kept], photo.rgb[:, kept])
    assert torch.equal(soft[:, hole], hard[:, hole])
    low, high = torch.minimum(hard, photo.rgb) - 1e-6, torch.maximum(hard, photo.rgb) + 1e-6
    assert ((low <= soft) & (soft <= high))[:, ring].all()
    assert 0.02 < (soft - photo.rgb)[:, ring].abs().mean() < 0.9 * (hard - photo.rgb)[:, ring].abs().mean()


def test_prepared_photo_is_what_the_stage_fills(build):
    for settings in ({}, {"grow_px": 2}, {"fit": "crop"}, {"fit": "crop", "soft_masks": True, "grow_px": 1}):
        stage, photo = build(**settings), tiny.photo(40, 50, (10, 10, 22, 25))
        prepared, after = stage.prepared(photo), filled(stage, photo)
        keep = (prepared.keep >= 1).expand_as(prepared.rgb)
        assert torch.equal(after.rgb[keep], prepared.rgb[keep])
        assert torch.equal(after.keep, prepared.keep)
        assert not torch.equal(after.rgb, prepared.rgb)


# --- the paper's protocol ---


def test_cropped_photo_has_the_size_of_the_prior(build):
    photo = tiny.photo(40, 50, (10, 10, 22, 25))
    hard, soft = (build(fit="crop", soft_masks=soft).prepared(photo) for soft in (False, True))
    assert hard.rgb.shape == (3, 16, 16)
    assert hard.keep.dtype == torch.bool
    assert ((soft.keep > 0) & (soft.keep < 1)).any()
    assert torch.equal(hard.keep, soft.keep >= 1)


def assert_as_published(stage: InpaintStage, photo: Photo, seed: int, respacing: str) -> None:
    """From the prepared photo to the output's grey levels, whose last digit rounding decides."""
    prepared, after = stage.prepared(photo), filled(stage, photo, seed)
    known, keep = prepared.rgb[None] * 2 - 1, prepared.keep[None].float()
    conf = {"timestep_respacing": respacing, "schedule_jump_params": WALK}
    expected = published.inpaint(tiny.oracle_unet(), known, keep, conf=conf, seed=seed)
    apart = to_samples(after.rgb, bits=8).astype(int) - published.to_uint8(expected)
    assert abs(apart[(prepared.keep[0] < 1).numpy()]).max() <= 1


@pytest.mark.parametrize("soft", [True, False])
def test_cropped_photo_is_filled_as_the_published_code_fills_it(build, soft):
    stage = build("published", fit="crop", soft_masks=soft)
    assert_as_published(stage, tiny.photo(40, 50, (10, 10, 22, 25)), 5, "4")


def test_chain_below_the_schedules_length_starts_there_as_in_old_configs(build):
    stage = build("published", walk={**WALK, "timestep_respacing": "20"})
    assert_as_published(stage, PHOTOS["the prior's size"], 3, "20")


# --- classes and guidance ---


@pytest.mark.parametrize("label", [2, "random"])
def test_classes_batches_and_windows_go_together(build, label):
    """Also where a photo's coarsest pass has the prior's size and the finer ones are in windows."""
    stage = build("classes", label=label)
    photos = [tiny.photo(32, 32, (4, 4, 28, 26), seed=i) for i in range(2)]
    photos += [tiny.photo(16, 16, HOLE, seed=i) for i in range(3)] + [tiny.photo(37, 40, HOLE)] * 2
    seeds = list(range(len(photos)))
    together = last(stage, photos, seeds)
    for photo, seed, after in zip(photos, seeds, together.photos, strict=True):
        assert_only_the_hole_changed(photo, after)
        assert torch.equal(filled(stage, photo, seed).rgb, after.rgb)


def test_label_matters(build):
    photo = PHOTOS["the prior's size"]
    fixed = [filled(build("classes", label=label), photo).rgb for label in range(5)]
    assert not any(torch.equal(a, b) for i, a in enumerate(fixed) for b in fixed[:i])


def test_random_label_is_drawn_from_the_images_own_stream_before_its_noise(build, weights):
    photo, noise = PHOTOS["the prior's size"], Noise([3])
    label = noise.integers(5)
    prior = dataclasses.replace(load_prior(str(weights("classes"))).prior, labels=label).respaced(4)
    *_, sample = repaint(prior, photo.rgb[None] * 2 - 1, photo.keep[None], time_travel(4, 2, 2), noise)
    after = filled(build("classes", label="random"), photo, 3)
    expected = ((sample.x_t[0] + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(after.rgb[:, ~photo.keep[0]], expected[:, ~photo.keep[0]])


def test_classifier_steers_a_prior_that_knows_no_classes(build, weights):
    photo = PHOTOS["the prior's size"]
    judge = {"weights": str(weights("classifier")), "scale": 50.0}
    plain, *steered = (
        filled(build(**more), photo).rgb
        for more in ({}, {"classifier": judge, "label": 0}, {"classifier": judge, "label": 3})
    )
    assert not torch.equal(plain, steered[0])
    assert not torch.equal(steered[0], steered[1])


def test_hashes_are_of_all_weights_that_are_used(build, weights):
    judge = {"weights": str(weights("classifier"))}
    alone, guided = build().weights, build(classifier=judge, label=0).weights
    assert [len(sha256) for sha256 in alone.values()] == [64]
    assert [len(sha256) for sha256 in guided.values()] == [64, 64]
    assert alone.items() < guided.items()


# --- settings that cannot be meant ---


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("classes", {}, "knows 5 classes and must be told one; say label: 0..4 or label: random"),
        ("classes", {"label": 5}, "label: found 5; must lie in 0..4"),
        ("classes", {"label": -1}, "label: found -1; must lie in 0..4"),
        ("prior", {"label": 0}, "knows no classes; leave label out"),
        ("prior", {"label": "random"}, "knows no classes; leave label out"),
        ("prior", {"walk": {**LONG, "timestep_respacing": 6}}, "t_T: found 8; must be at most the 6"),
        ("prior", {"walk": {**LONG, "timestep_respacing": "six"}}, "timestep_respacing: steps must"),
        ("prior", {"walk": {**LONG, "timestep_respacing": 2000}}, "timestep_respacing: cannot take"),
    ],
)
def test_settings_that_do_not_suit_the_prior_say_what_would(build, kind, settings, words):
    with pytest.raises(ConfigError) as caught:
        build(kind, **settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"grow_px": 1, "feather_px": 2}, "must be at most grow_px"),
        ({"soft_masks": True}, "soft_masks: true needs fit: crop"),
        ({"sampler": {"repaint": {"t_T": 5, "jump_length": 5}}}, "must be below t_T, which is 5"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Inpaint.model_validate(settings)


def test_fallback_is_used_with_a_warning_while_the_prior_is_missing(build, weights, tmp_path):
    missing = str(tmp_path / "nothing.safetensors")
    used = Inpaint(prior=missing, fallback=str(weights())).build("cpu")
    assert used.weights == build().weights
    assert len(used.remarks) == 1
    assert f"prior {missing} is not in data/pretrained: using {weights()}" in used.remarks[0]
    assert Inpaint(prior=str(weights()), fallback="base-64").build("cpu").remarks == ()
    with pytest.raises(WeightsError, match="no such weights file"):
        Inpaint(prior=missing).build("cpu")


def test_device_that_is_not_here_is_said():
    if not torch.backends.mps.is_available():
        with pytest.raises(ConfigError, match="device: mps is not available here"):
            Inpaint().build("mps")
