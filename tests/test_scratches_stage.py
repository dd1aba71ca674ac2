"""The scratches stage: what is probable enough is marked, and nothing else in a photo changes."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from repaint.archs import bopbtl, scratch_net
from repaint.errors import WeightsError
from repaint.filters import connected
from repaint.holes import grown
from repaint.image import Meta, Photo, luma
from repaint.stages import detecting
from repaint.stages.detecting import finder_of
from repaint.stages.pipeline import Pipeline
from repaint.stages.scratches import Scratches, ScratchesStage
from repaint.stages.together import HINTED
from repaint.weights.detectors import SURE, WEAK, LoadedDetector

from . import tiny
from .marking import PLAIN, boxes, dark, finds_light, hole, last

# ---- marks


def test_what_is_probable_enough_is_marked_and_no_pixel_changes():
    photo = dataclasses.replace(tiny.photo(20, 30, bits=16), keep=None, meta=Meta("png", bits=16))
    before = photo.rgb.clone()
    (found,) = last(finds_light(threshold=0.6), photo).photos
    assert found.keep is not None
    assert torch.equal(~found.keep, luma(before) >= 0.6)
    assert found.rgb is photo.rgb
    assert torch.equal(photo.rgb, before)
    assert found.meta == photo.meta
    assert photo.keep is None


def test_what_was_marked_before_stays_marked():
    keep = ~boxes(24, 32, (0, 0, 3, 3))
    found = hole(finds_light(), dark(24, 32, (10, 10, 20, 20), keep=keep))
    assert torch.equal(found, boxes(24, 32, (0, 0, 3, 3), (10, 10, 20, 20)))


def test_a_soft_mask_stays_soft_where_nothing_is_found():
    soft = torch.full((1, 24, 32), 0.7)
    (found,) = last(finds_light(), dark(24, 32, (10, 10, 20, 20), keep=soft)).photos
    assert found.keep is not None
    assert torch.equal(found.keep, torch.where(boxes(24, 32, (10, 10, 20, 20)), 0, 0.7))


def test_transparent_pixels_are_never_marked_not_even_by_growing():
    alpha = torch.ones(1, 24, 32)
    alpha[..., :16] = 0
    found = hole(finds_light(grow_px=3), dark(24, 32, (5, 5, 15, 20), alpha=alpha))
    assert not found[..., :16].any()
    assert found[0, 10, 16:22].all()


def test_small_marks_are_left_out_before_they_grow():
    photo = dark(24, 32, (2, 2, 3, 5), (10, 10, 12, 12))
    found = hole(finds_light(min_area_px=4, grow_px=2), photo)
    assert torch.equal(found, ~grown(~boxes(24, 32, (10, 10, 12, 12)), 2))


def test_marks_that_touch_at_corners_are_one():
    diagonal = dark(24, 32, *[(i, i, i + 1, i + 1) for i in range(5)])
    assert hole(finds_light(min_area_px=5), diagonal).sum() == 5
    assert hole(finds_light(min_area_px=6), diagonal).sum() == 0


def test_thick_marks_are_left_out_and_what_is_thin_for_the_most_part_stays():
    patch, line = (10, 10, 50, 50), (70, 5, 72, 195)
    headed = ((120, 60, 144, 84), (130, 2, 134, 198))  # a line with a knot in it
    photo = dark(200, 200, patch, line, *headed)
    assert torch.equal(hole(finds_light(thickest=0.05), photo), boxes(200, 200, line, *headed))
    assert torch.equal(hole(finds_light(thickest=0.4), photo), boxes(200, 200, patch, line, *headed))


def test_weak_pixels_count_where_they_touch_a_strong_one():
    photo = dark(24, 32, (5, 5, 6, 10), (15, 5, 16, 10))
    photo.rgb[:, 5, 6:] *= 0.35  # a line that fades, and one that was never strong
    photo.rgb[:, 15] *= 0.35
    finder = dataclasses.replace(finds_light(), weak=0.5)  # from 1/3 on
    assert torch.equal(hole(finder, photo), boxes(24, 32, (5, 5, 6, 10)))


def test_a_photo_taken_for_damage_is_worth_a_note():
    assert last(finds_light(), dark(20, 20, (0, 0, 10, 20))).notes == (
        "50 % of a photo was taken for damage; a lower sensitivity finds less",
    )
    assert last(finds_light(), dark(20, 20, (0, 0, 4, 20))).notes == ()


# ---- sensitivity


@given(st.floats(0.01, 0.99))
def test_half_a_sensitivity_is_what_the_weights_say_and_its_ends_are_twenty_times_the_odds(shipped):
    def odds(sensitivity: float) -> float:
        p = Scratches(sensitivity=sensitivity).threshold(shipped)
        return p / (1 - p)

    assert Scratches().threshold(shipped) == pytest.approx(shipped)
    assert odds(0) == pytest.approx(20 * odds(0.5))
    assert odds(0.5) == pytest.approx(20 * odds(1))
    rising = [odds(s / 10) for s in range(11)]
    assert rising == sorted(rising, reverse=True)
    assert 0 < rising[-1] < rising[0] < math.inf


def test_more_sensitivity_marks_all_that_less_does():
    photo, marked = tiny.photo(40, 40), []
    for sensitivity in (0.0, 0.3, 0.5, 0.9):
        settings = Scratches.model_validate({**PLAIN, "detector": "filters", "sensitivity": sensitivity})
        marked.append(hole(finder_of(settings, "cpu", "float32"), photo))
    assert all((less <= more).all() for less, more in pairwise(marked))
    assert marked[0].sum() < marked[-1].sum()


# ---- sizes


@pytest.mark.parametrize(
    ("size", "calls"), [((1, 1), 1), ((16, 16), 1), ((512, 512), 1), ((513, 40), 2), ((9, 1300), 4)]
)
def test_every_size_is_looked_at_in_tiles(size, calls):
    shown = []

    def spy(light: Tensor) -> Tensor:
        shown.append(light.shape)
        return light

    photo = dataclasses.replace(tiny.photo(*size), keep=None)
    finder = dataclasses.replace(finds_light(), probability=spy)
    steps = list(finder.run([photo], [()]))
    assert [step.done for step in steps] == [*range(1, calls + 1), calls]
    assert {step.total for step in steps} == {calls}
    assert len(shown) == calls
    assert max(max(s[-2:]) for s in shown) <= detecting.TILE_PX
    assert torch.equal(hole(finder, photo), luma(photo.rgb) >= 0.5)


def test_photos_are_looked_at_small_too_and_one_size_is_enough():
    photo = dark(200, 200, (0, 0, 100, 100), (150, 20, 151, 180))  # a patch, and a hairline
    seen = []

    def spy(light: Tensor) -> Tensor:
        seen.append(light.shape[-1])
        large = light.shape[-1] == 200
        return light * boxes(200, 200, (101, 0, 200, 200)) if large else light  # a patch is plain in the large one

    either, all_, once = (
        dataclasses.replace(finds_light(threshold=0.7, smallest_px=smallest, combine=how), probability=spy)
        for smallest, how in ((50, "max"), (50, "mean"), (None, "max"))
    )
    found = hole(either, photo)
    assert seen == [50, 100, 200]
    assert found[0, 150, 20:180].all()
    assert found[0, :95, :95].all()
    for unsure in (all_, once):
        assert not hole(unsure, photo)[0, :95, :95].any()
    assert last(either, photo).total == 3


@pytest.mark.parametrize(
    ("sides", "looks"), [((64, 64), 1), ((127, 128), 1), ((128, 128), 2), ((64, 256), 2), ((512, 512), 4)]
)
def test_each_copy_has_half_the_size_down_to_the_smallest(sides, looks):
    assert last(finds_light(smallest_px=64), dark(*sides)).total == looks


def test_one_that_takes_hints_is_shown_what_it_found_at_half_the_size():
    shown = []

    def spy(x: Tensor) -> Tensor:
        shown.append(x)
        return torch.full_like(x[:, :1], 0.2 * len(shown))

    finder = dataclasses.replace(finds_light(smallest_px=50), probability=spy, hinted=True)
    found = finder.probability_of(dark(200, 200))
    assert [tuple(x.shape) for x in shown] == [(1, 2, 50, 50), (1, 2, 100, 100), (1, 2, 200, 200)]
    for x, hint in zip(shown, (0.5, 0.2, 0.4), strict=True):  # of the smallest nothing is known
        torch.testing.assert_close(x[:, 1], torch.full_like(x[:, 1], hint))
    torch.testing.assert_close(found, torch.full((1, 200, 200), 0.6 * HINTED + 0.4 * (1 - HINTED)))


def test_the_mean_of_all_sizes_is_that():
    photo = dark(64, 64, (0, 0, 64, 32))
    finder = dataclasses.replace(
        finds_light(smallest_px=16, combine="mean"),
        probability=lambda light: torch.full_like(light, 1 / light.shape[-1]),
    )
    expected = (1 / 64 + 1 / 32 + 1 / 16) / 3
    torch.testing.assert_close(finder.probability_of(photo), torch.full((1, 64, 64), expected))


# ---- networks


def detector(path: Path, threshold: float | None = None, *, published: bool = False) -> Path:
    torch.manual_seed(0)
    config = bopbtl.BopbtlConfig(8, 2) if published else scratch_net.ScratchNetConfig(8, (1, 2))
    network = bopbtl.build(config) if isinstance(config, bopbtl.BopbtlConfig) else scratch_net.build(config)
    state = {k: v.contiguous() for k, v in network.state_dict().items()}
    if published:
        torch.save({"model_state": state}, path)
    else:
        save_file(state, path, None if threshold is None else {"threshold": str(threshold)})
    return path


def stage_of(path: Path, **settings) -> ScratchesStage:
    return Scratches.model_validate({**PLAIN, "weights": str(path), **settings}).build("cpu")


@pytest.mark.parametrize("threshold", [None, 0.31])
def test_the_network_sees_luma_and_its_threshold_is_that_of_its_weights(tmp_path, threshold):
    path = detector(tmp_path / "w.safetensors", threshold)
    photo = dataclasses.replace(tiny.photo(37, 50), keep=None)
    stage = stage_of(path, save_probability=True)
    *_, progress = stage([photo], [0])
    loaded = scratch_net.build(scratch_net.ScratchNetConfig(8, (1, 2))).eval()
    loaded.load_state_dict(detecting.load_detector(str(path)).network.state_dict())
    with torch.no_grad():
        probability = torch.sigmoid(loaded(luma(photo.rgb)[None]))[0]
    torch.testing.assert_close(progress.probabilities[0], probability)
    keep = progress.photos[0].keep
    assert keep is not None
    found, sure = progress.probabilities[0], threshold or 0.5
    odds = WEAK * sure / (1 - sure)
    assert torch.equal(~keep, connected(found >= odds / (1 + odds), found >= sure, share=SURE))
    assert list(stage.weights) == [str(path)]
    assert len(stage.weights[str(path)]) == 64


def test_a_map_is_kept_only_when_asked_for(tmp_path):
    *_, progress = stage_of(detector(tmp_path / "w.safetensors"))([tiny.photo(16, 16)])
    assert progress.probabilities == ()


def test_the_detector_of_bringing_old_photos_works_as_well(tmp_path):
    stage = stage_of(detector(tmp_path / "w.pt", published=True), save_probability=True)
    *_, progress = stage([tiny.photo(33, 47)])
    assert progress.probabilities[0].shape == (1, 33, 47)
    assert torch.equal(~_keep(progress.photos[0]), progress.probabilities[0] >= 0.4)


def _keep(photo: Photo) -> Tensor:
    assert photo.keep is not None
    return photo.keep


def test_photos_of_several_sizes_are_marked_as_each_alone(tmp_path):
    stage = stage_of(detector(tmp_path / "w.safetensors"))
    photos = [dataclasses.replace(tiny.photo(*size), keep=None) for size in ((20, 30), (600, 16))]
    *_, together = stage(photos, [0, 1])
    for photo, found in zip(photos, together.photos, strict=True):
        *_, alone = stage([photo])
        assert torch.equal(_keep(found), _keep(alone.photos[0]))
    assert together.calls == (1, 2)


def test_a_pipeline_takes_the_stage(tmp_path):
    stage = stage_of(detector(tmp_path / "w.safetensors"))
    *_, step = Pipeline({"scratches": stage})([tiny.photo(20, 30)], [0])
    assert step.photos[0].keep is not None
    assert step.share == 1
    assert step.calls == (1,)


def test_out_of_memory_goes_on_with_smaller_tiles_and_says_so(monkeypatch):
    class Greedy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if max(x.shape[-2:]) > 100:
                raise MemoryError
            return 20 * x - 10

    loaded = LoadedDetector(Greedy(), "0" * 64, {}, (), 0.5)
    monkeypatch.setattr(detecting, "load_detector", lambda *_, **__: loaded)
    photo = dark(300, 200, (10, 10, 150, 20))
    *_, progress = stage_of(Path("greedy"))([photo])
    assert torch.equal(~_keep(progress.photos[0]), boxes(300, 200, (10, 10, 150, 20)))
    assert progress.notes[-1] == "out of memory with tiles of 128 px: greedy goes on with 64 px"


# ---- filters


def test_filters_find_a_scratch_without_weights():
    photo = Photo((0.5 + 0.02 * tiny.drawn(1, 96, 96)).expand(3, -1, -1))
    photo = dataclasses.replace(photo, rgb=photo.rgb.clone())
    photo.rgb[:, 10:86, 40:42] += 0.25
    stage = Scratches(detector="filters", grow_px=0, protect_faces=False).build("cpu")
    *_, progress = stage([photo])
    marked = ~_keep(progress.photos[0])
    assert marked[0, 15:80, 40:42].float().mean() > 0.95
    assert marked.float().mean() < 0.05
    assert (stage.weights, stage.remarks, progress.total, progress.calls) == ({}, (), 0, (0,))


# ---- what is refused


def test_weights_that_are_not_there_are_named(tmp_path):
    with pytest.raises(WeightsError, match="no such weights file"):
        stage_of(tmp_path / "gone.safetensors")
