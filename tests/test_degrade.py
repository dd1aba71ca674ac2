"""Ageing: laws for every effect, closed forms for the blends, and what random old photographs are made of."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor

from repaint.degrade import BLENDS, DAMAGING, EFFECTS, LEVEL, OVERALL, Damaged, aged, damage, degraded, seen, stamped
from repaint.degrade.drawing import covered, line, stroke
from repaint.degrade.painting import painted, whole
from repaint.degrade.stamps import placed

SIZES = ((33, 47), (64, 64), (120, 50))


def seeded(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def photo(height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    """Something smooth and coloured, with detail, in the mid-tones."""
    lumps = torch.rand(1, 3, 5, 5, generator=seeded(seed))
    smooth = torch.nn.functional.interpolate(lumps, (height, width), mode="bilinear", align_corners=True)[0]
    return 0.2 + 0.5 * smooth + 0.1 * torch.rand(3, height, width, generator=seeded(seed + 1))


def a_cross(side: int = 21) -> Tensor:
    stamp = torch.zeros(1, side, side)
    stamp[:, side // 2 - 1 : side // 2 + 2] = 1
    stamp[:, :, side // 2 - 1 : side // 2 + 2] = 1
    return stamp


def with_stamps(image: Tensor, strength: float, generator: Generator) -> Damaged:
    return stamped(image, [a_cross(), torch.ones(1, 9, 15)], strength, generator)


STRUCTURAL = {**DAMAGING, "stamped": with_stamps}
ALL = {
    **EFFECTS,
    "stamped": with_stamps,
    "aged": lambda image, strength, generator: aged(image, generator, stamps=[a_cross()], strength=strength),
    "degraded": lambda image, strength, generator: degraded(image, generator, strength=strength),
}
every_effect = pytest.mark.parametrize("effect", ALL.values(), ids=ALL)
structural = pytest.mark.parametrize("effect", STRUCTURAL.values(), ids=STRUCTURAL)
overall = pytest.mark.parametrize("effect", OVERALL.values(), ids=OVERALL)


def image_of(result: Tensor | Damaged) -> Tensor:
    return result.image if isinstance(result, Damaged) else result


@every_effect
def test_same_seed_gives_the_same_result_and_others_differ(effect):
    image = photo()
    torch.manual_seed(0)
    one = image_of(effect(image, 0.8, seeded(3)))
    torch.manual_seed(1)
    assert torch.equal(one, image_of(effect(image, 0.8, seeded(3))))
    assert any(not torch.equal(one, image_of(effect(image, 0.8, seeded(seed)))) for seed in range(4, 9))


@every_effect
def test_the_argument_is_left_as_it_was(effect):
    image = photo()
    before = image.clone()
    for seed in range(3):
        effect(image, 1, seeded(seed))
    assert torch.equal(image, before)


@every_effect
def test_strength_0_is_the_identity_without_damage(effect):
    image = photo(33, 47)
    for seed in range(5):
        result = effect(image, 0, seeded(seed))
        assert torch.equal(image_of(result), image)
        assert not isinstance(result, Damaged) or not result.damage.any()


@pytest.mark.parametrize("size", SIZES, ids=str)
@every_effect
def test_result_has_the_size_of_the_image_and_lies_between_0_and_1(effect, size):
    for image in (photo(*size), torch.rand(3, *size, generator=seeded(0)).round()):
        for seed in range(2):
            result = effect(image, 1, seeded(seed))
            assert image_of(result).shape == (3, *size)
            assert image_of(result).dtype == torch.float32
            assert image_of(result).min() >= 0
            assert image_of(result).max() <= 1
            if isinstance(result, Damaged):
                assert result.damage.shape == (1, *size)
                assert result.damage.dtype == torch.bool


@every_effect
def test_more_strength_changes_the_image_more(effect):
    def change(strength: float) -> float:
        images = [photo(seed=seed) for seed in range(12)]
        changes = [(image_of(effect(x, strength, seeded(i))) - x).abs().mean() for i, x in enumerate(images)]
        return sum(changes).item() / 12

    assert 0 < change(0.15) < change(0.9)


@pytest.mark.parametrize(
    ("image", "strength", "message"),
    [
        (torch.rand(1, 40, 40), 0.5, r"image must be \(3, H, W\) float32, got \(1, 40, 40\) torch.float32"),
        (torch.zeros(3, 40, 40, dtype=torch.uint8), 0.5, r"float32, got \(3, 40, 40\) torch.uint8"),
        (torch.rand(3, 31, 40), 0.5, "at least 32 x 32 px, got 31 x 40"),
        (torch.rand(3, 40, 40), 1.5, r"strength must lie in 0..1, got 1.5"),
        (torch.rand(3, 40, 40), math.nan, r"strength must lie in 0..1, got nan"),
    ],
)
@every_effect
def test_what_is_no_image_or_no_strength_is_refused(effect, image, strength, message):
    with pytest.raises(ValueError, match=message):
        effect(image, strength, seeded(0))


# --- damage ---


@structural
def test_outside_the_damage_every_bit_is_kept_and_inside_the_change_can_be_seen(effect):
    for seed in range(6):
        image = photo(70, 90, seed)
        result = effect(image, 0.7, seeded(seed))
        kept = ~result.damage.expand_as(image)
        assert torch.equal(result.image[kept], image[kept])
        changed = (result.image != image).any(0, keepdim=True)
        assert (changed & result.damage).sum() > 0.95 * result.damage.sum()  # layers seldom undo one another


@structural
def test_at_full_strength_something_is_damaged_but_never_all(effect):
    for size in SIZES:
        shares = [effect(photo(*size), 1, seeded(seed)).damage.float().mean().item() for seed in range(12)]
        assert max(shares) < 0.9
        # A stamp may land outside of a small picture.
        assert sum(share > 0 for share in shares) >= (10 if effect is with_stamps else 12)


@structural
def test_more_strength_damages_more_pixels(effect):
    def share(strength: float) -> float:
        return sum(effect(photo(), strength, seeded(seed)).damage.float().mean().item() for seed in range(20))

    assert share(0.1) < share(1)


@pytest.mark.parametrize("name", ["scratches", "hairs", "dust"])
def test_thin_damage_covers_little(name):
    shares = [DAMAGING[name](photo(128, 128), 1, seeded(seed)).damage.float().mean() for seed in range(8)]
    assert max(shares) < 0.2


def test_half_of_the_even_scratches_are_upright_or_level_and_alike_from_end_to_end(monkeypatch):
    monkeypatch.setattr(damage, "EVEN_SHARE", 1.0)
    grey, widths_px, changes = torch.full((3, 256, 256), 0.5), [], []
    for seed in range(100):
        change = DAMAGING["scratches"](grey, 0.001, seeded(seed)).image[1] - 0.5  # of one line, nearly always
        for c in (change, change.T):
            inner = c[:, c.any(0)][:, 4:-4]  # without the round ends
            if inner.shape[1] > 20 and (inner - inner[:, :1]).abs().max() < 1e-5:
                changes.append(inner[inner[:, 0].abs().argmax(), 0].item())
                widths_px.append((inner[:, 0] / changes[-1] > 0.5).sum().item())
    assert 35 < len(widths_px) < 65
    assert set(widths_px) >= {1, 2, 3, 4}
    light, dark = ([sign * c for c in changes if sign * c > 0] for sign in (1, -1))
    assert max(min(light), min(dark)) < 0.15  # faint and strong
    assert min(max(light), max(dark)) > 0.3


def test_white_borders_leave_the_middle_and_turn_all_edges_to_light_paper():
    for seed in range(8):
        result = DAMAGING["white_borders"](photo(128, 128), 1, seeded(seed))
        damage = result.damage[0]
        assert not damage[40:88, 40:88].any()
        assert all(edge.all() for edge in (damage[0], damage[-1], damage[:, 0], damage[:, -1]))
        assert result.image[:, 0].mean() > 0.6


# --- blends ---


@pytest.mark.parametrize(
    ("blend", "image", "cover", "colour", "result"),
    [
        ("addition", 0.3, 0.5, 0.4, 0.5),
        ("addition", 0.8, 1, 0.4, 1.2),
        ("lighten", 0.3, 0.5, 0.7, 0.5),
        ("lighten", 0.7, 1, 0.3, 0.7),
        ("darken", 0.7, 0.5, 0.3, 0.5),
        ("darken", 0.3, 1, 0.7, 0.3),
        ("screen", 0.5, 0.5, 0.8, 0.7),
        ("multiply", 0.5, 0.5, 0.2, 0.3),
        ("replacement", 0.2, 0.25, 0.6, 0.3),
    ],
)
def test_a_blend_has_its_closed_form(blend, image, cover, colour, result):
    values = [torch.full((3, 2, 2), image), torch.full((1, 2, 2), float(cover)), torch.full((3, 1, 1), colour)]
    torch.testing.assert_close(BLENDS[blend](*values), torch.full((3, 2, 2), result))


@pytest.mark.parametrize("blend", BLENDS)
def test_a_blend_changes_nothing_where_the_cover_is_0(blend):
    image = photo()
    torch.testing.assert_close(BLENDS[blend](image, torch.zeros(1, 64, 64), torch.rand(3, 1, 1)), image)


def test_changes_up_to_the_level_are_not_painted():
    cover = torch.tensor([[[0.9, 1.1]]]) * LEVEL
    result = painted(whole(torch.zeros(3, 1, 2)), cover, torch.ones(3, 1, 1), "addition")
    assert result.damage.tolist() == [[[False, True]]]
    assert result.image[0].tolist() == [[0, pytest.approx(1.1 * LEVEL)]]


# --- strokes and stamps ---


@pytest.mark.parametrize("heading", [0.0, 0.4, math.pi / 2, 2.5])
def test_a_line_and_a_stroke_cover_what_lies_within_their_radius_with_soft_edges(heading):
    middle, step = torch.tensor([18.0, 23.5]), torch.tensor([math.sin(heading), math.cos(heading)])
    pixel = torch.cartesian_prod(torch.arange(40.0), torch.arange(50.0)) - middle
    distance = (pixel - (pixel @ step).clamp(-10, 10)[:, None] * step).norm(dim=1)
    expected = 0.5 * (3.5 - distance).clamp(0, 1).view(1, 40, 50)
    points = middle + torch.linspace(-10, 10, 81)[:, None] * step
    torch.testing.assert_close(covered(stroke(points, 3.0, 0.5), 40, 50), expected, atol=0.02, rtol=0)
    torch.testing.assert_close(line(40, 50, middle, heading, 20, radius=3, opacity=0.5), expected, atol=1e-4, rtol=0)


def test_a_stroke_outside_the_image_covers_nothing():
    assert not covered(stroke(torch.tensor([[-9.0, 5.0], [5.0, 60.0], [70.0, 70.0]]), 4.0), 40, 50).any()


def test_a_stamp_put_down_straight_is_the_stamp():
    stamp = torch.rand(1, 7, 11, generator=seeded(0))
    cover = placed(stamp, 40, 50, middle=torch.tensor([13.5, 25.5]), longest_px=11, turn=0, flip=False)
    torch.testing.assert_close(cover[:, 10:17, 20:31], stamp)
    assert cover.sum() == pytest.approx(stamp.sum().item(), rel=1e-4)


def test_a_stamp_can_be_mirrored_and_turned_clockwise():
    stamp, middle = torch.rand(1, 9, 9, generator=seeded(0)), torch.tensor([20.5, 20.5])
    mirrored = placed(stamp, 40, 40, middle=middle, longest_px=9, turn=0, flip=True)
    torch.testing.assert_close(mirrored[:, 16:25, 16:25], stamp.flip(2))
    turned = placed(stamp, 40, 40, middle=middle, longest_px=9, turn=math.pi / 2, flip=False)
    torch.testing.assert_close(turned[:, 16:25, 16:25], stamp.rot90(-1, (1, 2)), atol=1e-4, rtol=0)


def test_stamped_damage_lies_where_the_stamp_is():
    disc = (torch.cartesian_prod(*[torch.arange(41.0) - 20] * 2).norm(dim=1) < 20).float().view(1, 41, 41)
    image = torch.full((3, 96, 96), 0.5)
    for seed in range(20):
        result = stamped(image, [disc], 0.001, seeded(seed))  # one stamp of 0.3 to 0.6 of the side
        damaged = result.damage[0].nonzero().float()
        low, high = damaged.amin(0), damaged.amax(0)
        assert (high - low).max() < 0.6 * 96 + 2
        if low.min() > 0 and high.max() < 95:  # all of it inside: a disc, without holes or strays
            radius = (high - low).max() / 2 + 0.5
            from_middle = (torch.cartesian_prod(*[torch.arange(96.0)] * 2) - (low + high) / 2).norm(dim=1).view(96, 96)
            assert result.damage[0][from_middle < radius - 2].all()
            assert not result.damage[0][from_middle > radius + 1].any()


@pytest.mark.parametrize(
    ("stamps", "message"),
    [([], "at least one"), ([torch.ones(3, 5, 5)], r"\(1, h, w\) float32, got \(3, 5, 5\)")],
)
def test_what_is_no_stamp_is_refused(stamps, message):
    with pytest.raises(ValueError, match=message):
        stamped(photo(), stamps, 0.5, seeded(0))


# --- the whole image ---


def test_a_jpeg_of_high_quality_is_close_to_the_image_and_a_poor_one_is_not():
    image = photo()
    image = image.mean(0, keepdim=True) + 0.1 * torch.tensor([1.0, 0, -1])[:, None, None]
    near, far = ((OVERALL["jpeg"](image, strength, seeded(1)) - image).std() for strength in (0.001, 1))
    assert near < 2.5 / 255
    assert far > 2.5 * near


def test_yellowing_takes_blue_most_and_red_least():
    grey = torch.full((3, 64, 64), 0.6)
    for seed in range(5):
        red, green, blue = OVERALL["yellowing"](grey, 0.5, seeded(seed)).mean((1, 2)).tolist()
        assert red > green + 0.02
        assert green > blue + 0.05
        assert red > 0.55


def test_toning_at_full_strength_leaves_one_colour_to_each_lightness():
    toned = OVERALL["toning"](photo(), 1, seeded(4)).flatten(1)
    _, green, blue = toned[:, toned[0].argsort()]
    assert (green.diff() > -1e-5).all()
    assert (blue.diff() > -1e-5).all()


def test_fading_lifts_black_and_narrows_the_range():
    image = (torch.rand(3, 64, 64, generator=seeded(0)) > 0.5).float()
    for seed in range(5):
        faded = OVERALL["fading"](image, 1, seeded(seed))
        assert faded[image == 0].mean() > 0.1
        assert faded.std() < 0.8 * image.std()


@pytest.mark.parametrize("name", ["grain", "noise"])
def test_grain_and_noise_keep_the_mean(name):
    grey = torch.full((3, 128, 128), 0.5)
    assert OVERALL[name](grey, 0.6, seeded(0)).mean() == pytest.approx(0.5, abs=0.01)


def test_neighbours_share_grain_but_not_noise():
    grey = torch.full((3, 128, 128), 0.5)

    def correlation(name: str) -> float:
        change = OVERALL[name](grey, 0.6, seeded(0))[0] - 0.5
        return torch.corrcoef(torch.stack([change[:, 1:].flatten(), change[:, :-1].flatten()]))[0, 1].item()

    assert correlation("grain") > 0.1
    assert abs(correlation("noise")) < 0.03


def test_grain_is_strongest_in_the_mid_tones():
    greys = [torch.full((3, 64, 64), level) for level in (0.1, 0.5, 0.9)]
    spread = [(OVERALL["grain"](grey, 0.5, seeded(0)) - grey).std() for grey in greys]
    assert spread[1] > 1.5 * max(spread[0], spread[2])


@pytest.mark.parametrize("name", ["blur", "down_up"])
def test_blur_and_small_storage_lose_detail_and_keep_the_mean(name):
    image = photo()
    for seed in range(5):
        poor = OVERALL[name](image, 1, seeded(seed))
        assert poor.diff(dim=2).square().mean() < 0.5 * image.diff(dim=2).square().mean()
        assert poor.mean() == pytest.approx(image.mean().item(), abs=0.01)


@overall
def test_a_change_of_the_whole_answers_an_image_alone(effect):
    assert isinstance(effect(photo(), 0.5, seeded(0)), Tensor)


# --- old photographs ---


def test_some_old_photographs_are_clean_and_most_are_not():
    shares = [aged(photo(), seeded(seed)).damage.float().mean().item() for seed in range(80)]
    assert 0.08 < sum(share == 0 for share in shares) / 80 < 0.35
    assert 0.01 < sum(shares) / 80 < 0.25
    assert max(shares) < 0.9


def test_old_photographs_are_monochrome_or_coloured():
    def saturation(image: Tensor) -> float:
        return (image.amax(0) - image.amin(0)).std().item()

    spread = [saturation(aged(photo(), seeded(seed), strength=0.35).image) for seed in range(40)]
    assert min(spread) < 0.03
    assert max(spread) > 0.08


def test_stamps_add_damage_of_their_own():
    def damaged(*stamps: Tensor) -> list[Tensor]:
        return [aged(photo(), seeded(seed), stamps=stamps).damage for seed in range(30)]

    without, stamped = damaged(), damaged(torch.ones(1, 20, 20))
    assert all((less <= more).all() for less, more in zip(without, stamped, strict=True))
    grown = sum(bool((less < more).any()) for less, more in zip(without, stamped, strict=True))
    assert grown > 9  # of 30; 0.6 have stamps, and some of those are not seen


def test_a_stamp_that_is_full_is_put_down_small():
    def most(stamp: Tensor) -> float:
        results = [stamped(photo(), [stamp], 0.1, seeded(seed)) for seed in range(20)]
        return max(result.damage.float().mean().item() for result in results)

    assert 0.0005 < most(torch.ones(1, 60, 60)) < 0.006  # two may lie there, with soft rims


@pytest.mark.parametrize(("texture", "change", "is_seen"), [(0, 0.04, False), (0, 0.06, True), (0.2, 0.15, False)])
def test_damage_is_seen_where_it_stands_out_of_the_texture(texture, change, is_seen):
    y, x = torch.meshgrid(torch.arange(40), torch.arange(48), indexing="ij")
    below = (0.4 + texture * ((x + y) % 2 * 2 - 1)).expand(3, -1, -1).contiguous()
    cover = torch.zeros(1, 40, 48)
    cover[:, 20, 10:30] = 1
    spoiled = painted(whole(below), cover * change, torch.ones(3, 1, 1), "addition")
    assert spoiled.damage.sum() == 20
    assert seen(spoiled, below).sum() == (20 if is_seen else 0)
