"""Masks: laws for every kind, closed forms for the fixed ones, brute force for distances and groups."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor

from repaint import masks
from repaint.holes import boxes_of_holes, feathered, grown, hole_depth
from repaint.masks import KINDS, make_mask

DRAWN = ("wide", "narrow", "strokes", "scratches")
SIZES = ((16, 16), (17, 96), (133, 70), (256, 256))


def seeded(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def made(kind: str, height: int, width: int, seed: int) -> Tensor:
    return make_mask(kind, height, width, seeded(seed))


def scattered(height: int, width: int, share: float, seed: int = 0) -> Tensor:
    """keep (1, H, W), with this share of single hole pixels."""
    return torch.rand(1, height, width, generator=seeded(seed)) >= share


def holed(height: int, width: int, *holes: tuple[int, int, int, int]) -> Tensor:
    keep = torch.ones(1, height, width, dtype=torch.bool)
    for top, left, bottom, right in holes:
        keep[:, top:bottom, left:right] = False
    return keep


def distance(target: Tensor) -> Tensor:
    """From every pixel (1, H, W) to the nearest True, by looking at all of them; inf if there is none."""
    everywhere, targets = torch.ones_like(target[0]).nonzero().double(), target[0].nonzero().double()
    if not len(targets):
        return torch.full(target.shape, math.inf, dtype=torch.float64)
    return torch.cdist(everywhere, targets, compute_mode="donot_use_mm_for_euclid_dist").amin(1).view_as(target)


# --- every kind ---


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_mask_has_the_size_asked_for_and_both_a_hole_and_kept_pixels(kind, size):
    for seed in range(10):
        keep = made(kind, *size, seed)
        assert keep.shape == (1, *size)
        assert keep.dtype == torch.bool
        assert keep.any()
        assert not keep.all()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_makes_the_same_mask(kind, size):
    torch.manual_seed(0)
    one = made(kind, *size, 7)
    torch.manual_seed(1)
    assert torch.equal(one, made(kind, *size, 7))


@pytest.mark.parametrize("kind", DRAWN)
def test_other_seeds_make_other_masks(kind):
    assert len({made(kind, 64, 64, seed).numpy().tobytes() for seed in range(20)}) == 20


@pytest.mark.parametrize("kind", DRAWN)
def test_masks_drawn_from_one_generator_in_turn_differ(kind):
    generator = seeded(0)
    assert not torch.equal(make_mask(kind, 64, 64, generator), make_mask(kind, 64, 64, generator))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", DRAWN)
def test_at_most_half_of_the_image_is_hole(kind, size):
    for seed in range(25):
        assert (~made(kind, *size, seed)).float().mean() <= 0.5


def test_a_last_drawing_that_is_too_large_is_cut_short_but_not_to_nothing(monkeypatch):
    seeds = range(30)
    redrawn = [made("wide", 128, 128, seed) for seed in seeds]
    monkeypatch.setattr(masks, "ATTEMPTS", 1)
    cut = [made("wide", 128, 128, seed) for seed in seeds]
    assert all(0.01 < (~keep).float().mean() <= 0.5 for keep in cut)
    assert 5 < sum(not torch.equal(one, other) for one, other in zip(cut, redrawn, strict=True)) < 25


@pytest.mark.parametrize("kind", ["wide", "narrow", "strokes"])
def test_one_seed_draws_the_same_picture_at_every_size(kind):
    for seed in range(6):
        small, large = made(kind, 256, 256, seed), made(kind, 512, 512, seed)
        assert (small == large[:, ::2, ::2]).float().mean() > 0.98


@pytest.mark.parametrize(("kind", "tolerance"), [("wide", 0.1), ("narrow", 0.1), ("strokes", 0.1), ("scratches", 0.5)])
@pytest.mark.parametrize("size", [(128, 128), (128, 512)], ids=str)
def test_the_same_share_is_lost_at_every_size(kind, tolerance, size):
    def share(height: int, width: int) -> float:
        return sum((~made(kind, height, width, seed)).float().mean().item() for seed in range(30)) / 30

    if size == (128, 512):  # another shape: other pictures
        tolerance = 0.5
    assert share(*size) == pytest.approx(share(512, 512), rel=tolerance)


@pytest.mark.parametrize(("kind", "widest"), [("narrow", 10), ("scratches", 7)])
def test_thin_kinds_are_thin(kind, widest):
    # Where lines of this width cross, a disc of 1.5 times the width fits in at most.
    assert all(hole_depth(made(kind, 256, 256, seed), limit_px=64) < 1.5 * widest for seed in range(5))


def test_wide_masks_have_thick_holes():
    depths = [hole_depth(made("wide", 256, 256, seed), limit_px=64) for seed in range(10)]
    assert sorted(depths)[5] > 20


def test_fixed_kinds_draw_nothing_from_the_generator():
    generator = seeded(3)
    before = generator.get_state()
    for kind in set(KINDS) - set(DRAWN):
        make_mask(kind, 32, 32, generator)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("size", [(32, 48), (17, 21), (256, 256)], ids=str)
def test_fixed_kinds_keep_what_the_paper_keeps(size):
    height, width = size
    y, x = torch.arange(height)[:, None], torch.arange(width)[None]
    everywhere = torch.ones(size, dtype=torch.bool)
    kept = {
        "super-resolution": (y % 2 == 0) & (x % 2 == 0),
        "lines": (y % 2 == 0) & everywhere,
        "half": (x < width // 2) & everywhere,
    }
    for kind, keep in kept.items():
        assert torch.equal(made(kind, height, width, 0)[0], keep), kind


def test_expand_keeps_the_central_64_of_256_px():
    assert torch.equal(~made("expand", 256, 256, 0), holed(256, 256, (96, 96, 160, 160)))


def test_expand_keeps_a_quarter_of_each_side_of_an_oblong():
    assert torch.equal(~made("expand", 64, 128, 0), holed(64, 128, (24, 48, 40, 80)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("wied", 64, 64),
            r"'wied' is unknown; did you mean 'wide'\? There are: wide, narrow, super-resolution, lines",
        ),
        (("?", 64, 64), r"'\?' is unknown; There are: wide"),
        (("wide", 15, 64), "at least 16 x 16 px, got 15 x 64"),
    ],
)
def test_what_cannot_be_made_is_said(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_mask(*arguments, seeded(0))


# --- painting ---


@pytest.mark.parametrize(
    "ends", [(9, 12, 25, 30), (30, 6, 8, 9), (12, 5, 12, 33), (4, 20, 36, 20), (20, 20, 20, 20)], ids=str
)
@pytest.mark.parametrize("width", [1.25, 5.25, 14.25])  # no pixel lies exactly on an edge
def test_a_stroke_covers_the_pixels_within_half_its_width(ends, width):
    # On 256 x 256 a unit is a px; pixel centres lie at halves.
    a, b = torch.tensor(ends[:2]).double(), torch.tensor(ends[2:]).double()
    pixels = torch.cartesian_prod(torch.arange(256.0), torch.arange(256.0)).double() + 0.5
    along = ((pixels - a) @ (b - a) / (b - a).square().sum().clamp(min=1)).clamp(0, 1)[:, None]
    near = (pixels - a - along * (b - a)).norm(dim=1) <= width / 2
    mark = torch.tensor([[*ends, width, 1]]).double()
    assert torch.equal(masks._painted(mark, 256, 256), near.view(256, 256))


def test_a_box_has_sharp_corners():
    mark = torch.tensor([[60.0, 40.0, 60.0, 140.0, 30.0, 0.0]]).double()
    assert torch.equal(~masks._painted(mark, 256, 256)[None], holed(256, 256, (45, 40, 75, 140)))


def test_marks_outside_the_image_are_ignored():
    marks = torch.tensor([[-90, -80, -70, -40, 20, 1], [300, 20, 400, 90, 40, 1], [50, 300, 90, 900, 9, 0]]).double()
    assert not masks._painted(marks, 256, 256).any()


# --- distances ---

SCATTERED = {
    "few holes": scattered(23, 31, 0.01),
    "many holes": scattered(31, 23, 0.3),
    "few kept": scattered(23, 31, 0.97),
    "all kept": holed(9, 12),
    "all hole": holed(9, 12, (0, 0, 9, 12)),
    "one row": scattered(1, 40, 0.2),
}
scattered_masks = pytest.mark.parametrize("keep", SCATTERED.values(), ids=SCATTERED)


@scattered_masks
@pytest.mark.parametrize("px", [0, 1, 2, 3, 5, 8, 40])
def test_a_grown_hole_reaches_all_pixels_within_px_and_no_others(keep, px):
    assert torch.equal(~grown(keep, px), distance(~keep) <= px)


@scattered_masks
@pytest.mark.parametrize("px", [1, 2, 3, 5, 8, 40])
def test_a_shrunk_hole_is_what_lies_further_than_px_from_kept_pixels(keep, px):
    assert torch.equal(~grown(keep, -px), distance(keep) > px)


@scattered_masks
@pytest.mark.parametrize(("a", "b"), [(1, 1), (2, 3), (4, 1)])
def test_growing_twice_lies_between_the_larger_growth_and_the_sum(keep, a, b):
    hole = ~grown(grown(keep, a), b)
    assert (hole | grown(keep, max(a, b))).all()
    assert (~grown(keep, a + b) | ~hole).all()


@scattered_masks
@pytest.mark.parametrize("px", [1, 2, 4, 9])
def test_a_feather_is_1_on_kept_pixels_and_0_from_px_on(keep, px):
    weight, depth = feathered(keep, px), distance(keep)
    assert weight.dtype == torch.float32
    assert (weight[keep] == 1).all()
    assert (weight[depth >= px] == 0).all()
    between = weight[(depth > 0) & (depth < px)]
    assert ((between > 0) & (between < 1)).all()


def test_a_feather_falls_with_depth_and_is_level_at_both_ends():
    ramp = feathered(holed(1, 300, (0, 50, 1, 300)), 100)[0, 0]
    falls = -ramp.diff()
    assert (falls >= 0).all()
    assert ramp[49 + 50] == pytest.approx(0.5)
    assert falls[49] < 0.001
    assert falls[147] < 0.001
    assert falls.max() < 0.016


def test_a_feather_of_0_px_is_the_mask():
    keep = scattered(20, 20, 0.5)
    assert torch.equal(feathered(keep, 0), keep.float())


def test_a_feather_of_negative_width_is_refused():
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        feathered(scattered(20, 20, 0.5), -1)


@pytest.mark.parametrize("fn", [lambda k: grown(k, 3), lambda k: grown(k, -2), lambda k: feathered(k, 4)])
def test_a_batch_is_treated_image_by_image(fn):
    batch = torch.stack([scattered(40, 30, 0.1, seed) for seed in range(3)])
    assert torch.equal(fn(batch), torch.stack([fn(keep) for keep in batch]))


def test_distances_do_not_depend_on_how_the_image_is_cut_to_pieces(monkeypatch):
    keep = made("narrow", 150, 130, 0)
    whole = feathered(keep, 20)
    monkeypatch.setattr(masks, "CHUNK", 1000)
    assert torch.equal(feathered(keep, 20), whole)


@scattered_masks
@pytest.mark.parametrize("limit", [1, 2, 5, 60])
def test_depth_is_the_largest_distance_to_a_kept_pixel_up_to_its_limit(keep, limit):
    assert hole_depth(keep, limit_px=limit) == pytest.approx(min(distance(keep).max().item(), limit))


def test_depth_tells_thin_holes_from_large_ones():
    thin, large = holed(100, 100, (40, 0, 45, 100)), holed(100, 100, (30, 30, 71, 71))
    assert hole_depth(thin, limit_px=64) == 3
    assert hole_depth(large, limit_px=64) == 21


# --- boxes ---


def boxes_by_flooding(keep: Tensor, gap: int) -> list[tuple[int, int, int, int]]:
    left_over, boxes = set(map(tuple, (~keep[0]).nonzero().tolist())), []
    while left_over:
        group = [left_over.pop()]
        for y, x in group:
            near = {at for at in left_over if max(abs(at[0] - y), abs(at[1] - x)) < max(gap, 2)}
            left_over -= near
            group += near
        ys, xs = zip(*group, strict=True)
        boxes.append((min(ys), min(xs), max(ys) + 1, max(xs) + 1))
    return sorted(boxes)


@pytest.mark.parametrize("gap", [0, 1, 2, 3, 6, 20])
@pytest.mark.parametrize("share", [0.005, 0.05, 0.3])
@pytest.mark.parametrize("size", [(40, 57), (64, 31), (1, 30)], ids=str)
def test_groups_of_small_images_are_exact(size, share, gap):
    keep = scattered(*size, share, seed=5)
    assert boxes_of_holes(keep, gap=gap) == boxes_by_flooding(keep, gap)


def test_no_hole_gives_no_box():
    assert boxes_of_holes(holed(700, 900), gap=10) == []


def test_an_image_that_is_all_hole_is_one_box():
    assert boxes_of_holes(holed(700, 900, (0, 0, 700, 900)), gap=10) == [(0, 0, 700, 900)]


def test_far_holes_of_a_large_photo_get_exact_boxes_from_top_to_bottom():
    holes = [(3, 1700, 11, 1999), (401, 1203, 402, 1204), (801, 5, 1177, 40), (1499, 0, 1500, 2000)]
    assert boxes_of_holes(holed(1500, 2000, *reversed(holes)), gap=32) == holes


@pytest.mark.parametrize("offset", range(9))
@pytest.mark.parametrize("gap", [1, 2, 5, 32, 33])
def test_on_large_photos_close_holes_are_one_group_and_distant_ones_two(gap, offset):
    cell = 4  # ceil(2000 / 512)
    one = (100 + offset, 200 + offset, 110 + offset, 210 + offset)
    for apart, groups in ((max(gap, 2) - 1, 1), (max(gap, 2) + 2 * cell, 2)):
        left = one[3] - 1 + apart  # so many columns from the last of the one to the first of the other
        keep = holed(1500, 2000, one, (one[2], left, one[2] + 5, left + 5))
        assert len(boxes_of_holes(keep, gap=gap)) == groups


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_cover_all_holes_of_every_kind_and_are_tight(kind):
    keep = made(kind, 700, 530, 1)
    covered = torch.zeros_like(keep)
    for top, left, bottom, right in boxes_of_holes(keep, gap=16):
        covered[:, top:bottom, left:right] = True
        hole = ~keep[0, top:bottom, left:right]
        assert all(side.any() for side in (hole[0], hole[-1], hole[:, 0], hole[:, -1]))
    assert (covered | keep).all()
