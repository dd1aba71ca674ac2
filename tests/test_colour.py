"""Colours: laws of the curves, what they are deaf to, and known ageing undone on real pictures."""

from __future__ import annotations

import math
from functools import cache

import pytest
import skimage.data
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from repaint import colour
from repaint.colour import (
    KNOTS,
    MOST_BEND,
    MOST_CAST,
    MOST_GAIN,
    MOST_LIFT,
    corrected,
    curves_for,
    in_tone_of,
    with_local_contrast,
)
from repaint.degrade import OVERALL
from repaint.image import Meta, Photo, luma
from repaint.stages.color import Color

PICTURES = ("astronaut", "chelsea", "coffee", "rocket")
SEPIA = ((0.13, 0.09, 0.06), (0.98, 0.92, 0.78))
OLIVE = ((0.17, 0.14, 0.07), (0.88, 0.83, 0.60))
CYANOTYPE = ((0.05, 0.12, 0.25), (0.85, 0.92, 0.95))
GREEN = ((0.10, 0.20, 0.10), (0.70, 0.90, 0.70))
VIOLET = ((0.20, 0.10, 0.20), (0.90, 0.70, 0.90))
LEVEL = 1 / 255


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


@cache
def picture(name: str) -> Tensor:
    """One of scikit-image's photographs, (3, 96, ...)."""
    levels = torch.from_numpy(getattr(skimage.data, name)().copy()).float() / 255
    rgb = levels.permute(2, 0, 1) if levels.ndim == 3 else levels.expand(3, -1, -1)
    width = round(96 * rgb.shape[2] / rgb.shape[1])
    return F.interpolate(rgb[None], (96, width), mode="area")[0]


def faded(rgb: Tensor) -> Tensor:
    return 0.25 + 0.5 * rgb


def toned(grey: Tensor, tone: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    black, white = (torch.tensor(end)[:, None, None] for end in tone)
    return black + grey * (white - black)


def some_keep(like: Tensor, seed: int = 5) -> Tensor:
    return torch.rand(1, *like.shape[1:], generator=seeded(seed)) > 0.2


def psnr(a: Tensor, b: Tensor) -> float:
    return -10 * math.log10((a - b).square().mean().item())


def change(a: Tensor, b: Tensor) -> float:
    """Mean difference in levels of 255."""
    return (a - b).abs().mean().item() / LEVEL


every_picture = pytest.mark.parametrize("name", PICTURES)


# --- curves ---


@every_picture
@pytest.mark.parametrize("tone", ["color", "mono"])
@pytest.mark.parametrize("effect", ["fading", "yellowing", "colour", "contrast"])
def test_curves_rise_everywhere_from_black_to_white(name, tone, effect):
    curves = curves_for(OVERALL[effect](picture(name), 1.0, seeded()), tone=tone)
    assert curves is not None
    assert curves.shape == (3 if tone == "color" else 1, KNOTS)
    assert (curves.diff() >= 0).all()
    assert (curves[:, 0] == 0).all()
    torch.testing.assert_close(curves[:, -1], torch.ones(len(curves)))


def test_line_continues_with_its_own_slope_into_both_ends():
    curve = colour._stretched(0.2, 0.9, 1.0).double()
    slope = curve.diff() * (KNOTS - 1)
    assert slope.max() <= 1 / 0.7 + 1e-3
    assert slope.diff().abs().max() < 0.05  # no corner
    at = torch.tensor([0.3, 0.5, 0.8], dtype=torch.float64)
    knots = (at * (KNOTS - 1)).round().long()
    torch.testing.assert_close(curve[knots], (at - 0.2) / 0.7, atol=1e-3, rtol=0)


def test_line_from_black_to_white_is_the_identity():
    torch.testing.assert_close(colour._stretched(0.0, 1.0, 1.0), torch.linspace(0, 1, KNOTS))


@every_picture
def test_strength_0_gives_the_picture_itself(name):
    rgb = faded(picture(name))
    assert corrected(rgb, strength=0) is rgb
    assert with_local_contrast(rgb, strength=0) is rgb


@every_picture
@pytest.mark.parametrize("act", [corrected, with_local_contrast])
def test_correction_is_in_proportion_to_strength(name, act):
    rgb = faded(picture(name)) * torch.tensor([1, 0.95, 0.8])[:, None, None]
    whole = act(rgb, strength=1)
    for strength in (0.01, 0.5, 0.99):
        torch.testing.assert_close(act(rgb, strength=strength), rgb.lerp(whole, strength), atol=2e-5, rtol=0)


def test_sixteen_bits_survive():
    rgb = faded(torch.rand(3, 200, 300, generator=seeded()))
    rgb = (rgb * 65535).round() / 65535
    after = with_local_contrast(corrected(rgb, strength=0.8, tone="color"), strength=0.5)
    for before, channel in zip(rgb, after, strict=True):
        assert len((channel * 65535).round().unique()) > 0.98 * len(before.unique())


def test_picture_is_the_same_however_thick_the_strips_are(monkeypatch):
    rgb, keep = faded(picture("coffee")), some_keep(picture("coffee"))
    whole = with_local_contrast(corrected(rgb, keep, strength=1), keep, strength=1)
    monkeypatch.setattr(colour, "STRIP_PX", 700)
    torch.testing.assert_close(
        with_local_contrast(corrected(rgb, keep, strength=1), keep, strength=1), whole, atol=1e-5, rtol=0
    )


# --- tones ---


@pytest.mark.parametrize("tone", ["auto", "color", "mono"])
def test_grey_stays_exactly_grey(tone):
    rgb = faded(luma(picture("astronaut")).expand(3, -1, -1))
    after = with_local_contrast(corrected(rgb, strength=0.8, tone=tone), strength=0.7)
    assert change(after, rgb) > 10
    assert (after == after[:1]).all()


@pytest.mark.parametrize("tone", [SEPIA, OLIVE, CYANOTYPE], ids=["sepia", "olive", "cyanotype"])
@every_picture
def test_tone_of_a_process_is_kept_while_luma_is_stretched(name, tone):
    rgb = toned(luma(picture(name)) * 0.6 + 0.2, tone)
    rgb = (rgb + 0.003 * torch.randn(rgb.shape, generator=seeded())).clamp(0, 1)
    after = corrected(rgb, strength=1)
    seen = ((after < 1).all(0) & (luma(after) > 0.02))[0]
    shades, shades_before = after / luma(after), rgb / luma(rgb)
    torch.testing.assert_close(shades[:, seen], shades_before[:, seen], atol=1e-4, rtol=1e-4)
    assert luma(after).std() > 1.2 * luma(rgb).std()


@pytest.mark.parametrize("tone", [GREEN, VIOLET], ids=["green", "violet"])
@every_picture
def test_tone_no_process_gives_is_a_cast(name, tone):
    rgb = toned(luma(picture(name)), tone)
    after = corrected(rgb, strength=1)

    def chroma(x: Tensor) -> float:
        return (x.amax(0) - x.amin(0)).mean().item()

    assert chroma(after) < 0.5 * chroma(rgb)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "rocket"])
def test_colours_are_recognised_though_faded(name):
    assert not colour.is_monochrome(faded(picture(name)).flatten(1))
    assert colour.is_monochrome(luma(picture(name)).expand(3, -1, -1).flatten(1))


def test_cast_on_all_things_is_undone_and_a_coloured_subject_is_not():
    grey = luma(picture("astronaut")).expand(3, -1, -1)
    warm = torch.tensor([1, 0.8, 0.6])[:, None, None]
    cast = corrected(grey * warm, strength=1, tone="color")
    assert change(cast, grey) < 0.4 * change(grey * warm, grey)

    sunset = torch.cat([picture("astronaut") * torch.tensor([1, 0.5, 0.2])[:, None, None], grey], 1)
    assert change(corrected(sunset, strength=1), sunset) < 4


# --- what it is deaf to ---


@pytest.mark.parametrize("act", [corrected, with_local_contrast])
@pytest.mark.parametrize("height", [96, 700])
def test_values_of_damage_do_not_matter(act, height):
    rgb = faded(F.interpolate(picture("coffee")[None], (height, 300), mode="bilinear")[0])
    keep = some_keep(rgb)
    noise = torch.rand(rgb.shape, generator=seeded(1))
    spoiled = torch.where(keep, rgb, noise)
    one, other = act(rgb, keep, strength=1), act(spoiled, keep, strength=1)
    assert torch.equal(one[:, keep[0]], other[:, keep[0]])
    assert torch.equal(act(rgb, keep.float(), strength=1), one)


@every_picture
@pytest.mark.parametrize("paper", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("sides", [(9, 9, 9, 9), (0, 0, 14, 14), (5, 20, 0, 0)], ids=str)
def test_frames_do_not_matter(name, paper, sides):
    rgb = faded(picture(name))
    framed = F.pad(rgb, sides, value=paper)
    left, right, top, bottom = sides
    H, W = framed.shape[1:]
    inside = corrected(framed, strength=1)[:, top : H - bottom, left : W - right]
    assert change(inside, corrected(rgb, strength=1)) < 5
    assert change(inside, rgb) > 10


def test_round_picture_on_black_is_corrected_as_without_the_black():
    rgb = faded(picture("astronaut"))
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in rgb.shape[1:]), indexing="ij")
    disc = x**2 + y**2 < 0.95
    framed = torch.where(disc, rgb, 0.0)
    one, other = corrected(framed, strength=1), corrected(rgb, disc[None], strength=1)
    assert change(one[:, disc], other[:, disc]) < 3


# --- what it does to pictures ---


@pytest.mark.parametrize(
    ("effect", "strength", "gain_db"),
    [("fading", 0.5, 3), ("fading", 1, 4), ("yellowing", 1, 1), ("contrast", 1, 0.5), ("colour", 1, 0.5)],
)
def test_ageing_is_partly_undone(effect, strength, gain_db):
    gains = []
    for name in PICTURES:
        for seed in range(4):
            rgb = picture(name)
            old = OVERALL[effect](rgb, strength, seeded(seed))
            gains.append(psnr(corrected(old, strength=0.8), rgb) - psnr(old, rgb))
    assert sum(gains) / len(gains) > gain_db


def test_pictures_of_good_tones_change_little():
    changes = [
        change(corrected(picture(name), strength=0.8), picture(name)) for name in ("astronaut", "coffee", "rocket")
    ]
    assert sum(changes) / 3 < 5
    assert max(changes) < 9


@pytest.mark.parametrize("name", ["astronaut", "coffee", "rocket"])
def test_second_correction_changes_little(name):
    rgb = 0.25 + 0.7 * picture(name)
    once = corrected(rgb, strength=1)
    assert change(corrected(once, strength=1), once) < 0.3 * change(once, rgb)


def test_night_stays_night_and_fog_stays_fog():
    night = 0.3 * picture("astronaut")
    assert corrected(night, strength=1, tone="mono").mean() <= MOST_LIFT * night.mean()
    fog = 0.6 + 0.15 * picture("astronaut")
    slope = curves_for(fog, tone="color").diff().max() * (KNOTS - 1)
    assert slope <= MOST_GAIN * math.exp(MOST_CAST) * (1 + MOST_BEND)
    assert corrected(fog, strength=1).std() <= MOST_GAIN * 1.05 * fog.std()


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("side", [1, 5, 16, 64])
def test_plain_picture_stays(value, side):
    rgb = torch.full((3, side, side), value)
    after = corrected(rgb, strength=1)
    torch.testing.assert_close(after, rgb)
    assert torch.isfinite(with_local_contrast(rgb, strength=1)).all()


@pytest.mark.parametrize("act", [corrected, with_local_contrast])
def test_nothing_changes_where_all_is_damaged(act):
    rgb = torch.rand(3, 40, 50, generator=seeded())
    torch.testing.assert_close(act(rgb, torch.zeros(1, 40, 50, dtype=torch.bool), strength=1), rgb)


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (700, 2), (16, 16), (33, 1300)], ids=str)
def test_pictures_of_any_size_can_be_corrected(size):
    rgb = faded(torch.rand(3, *size, generator=seeded()))
    after = with_local_contrast(corrected(rgb, strength=1), strength=1)
    assert after.shape == rgb.shape
    assert ((after >= 0) & (after <= 1)).all()


# --- local contrast ---


def test_local_contrast_raises_differences_between_neighbours_and_no_slope_beyond_the_clip():
    rgb = 0.4 + 0.2 * picture("astronaut")
    after = with_local_contrast(rgb, strength=1)
    assert luma(after).diff().abs().mean() > 1.5 * luma(rgb).diff().abs().mean()
    curves = colour._local_curves(*colour._looked_at(rgb, None))
    slopes = curves.diff(dim=2) * colour.BINS
    assert slopes.min() >= 0
    assert slopes.max() <= colour.CLIP + 1e-3
    torch.testing.assert_close(curves[:, :, -1], torch.ones_like(curves[:, :, -1]))


def test_local_contrast_keeps_colour_differences():
    rgb = 0.3 + 0.4 * picture("coffee")
    after = with_local_contrast(rgb, strength=1)
    unclipped = ((after > 0) & (after < 1)).all(0)
    torch.testing.assert_close((after - after[:1])[:, unclipped], (rgb - rgb[:1])[:, unclipped], atol=1e-5, rtol=0)


# --- the stage ---


def photo(**other) -> Photo:
    return Photo(faded(picture("coffee")), **other)


def result(settings: Color, *photos: Photo) -> list[Photo]:
    *_, last = settings.build("cpu")(photos, [0] * len(photos))
    return last.photos


def test_stage_changes_colours_and_nothing_else():
    keep, alpha = some_keep(picture("coffee")), some_keep(picture("coffee"), 6).float()
    before = photo(keep=keep, alpha=alpha, meta=Meta("tiff", bits=16, dpi=(300, 300)))
    (after,) = result(Color(), before)
    assert after.keep is keep
    assert after.alpha is alpha
    assert after.meta is before.meta
    assert change(after.rgb, before.rgb) > 10


def test_stage_with_all_at_0_gives_the_same_bits():
    before = photo()
    (after,) = result(Color(strength=0, local_contrast=0), before)
    assert after.rgb is before.rgb


def test_stage_makes_no_network_calls_and_shows_each_photo_when_it_is_done():
    stage = Color().build("cpu", "float32", batch_size=4)
    assert (stage.remarks, stage.weights) == ((), {})
    photos = [photo(), photo()]
    steps = list(stage(photos, [1, 2]))
    assert {(step.done, step.total, step.calls) for step in steps} == {(0, 0, (0, 0))}
    done = [[new.rgb is not old.rgb for new, old in zip(s.photos, photos, strict=True)] for s in steps]
    assert done == [[False, False], [True, False], [True, True]]


def test_stage_does_not_look_at_what_is_fully_transparent():
    alpha = some_keep(picture("coffee")).float()
    other = Photo(torch.where(alpha > 0, photo().rgb, 1.0), alpha=alpha)
    one, two = result(Color(local_contrast=0.5), photo(alpha=alpha), other)
    assert torch.equal(one.rgb[:, alpha[0] > 0], two.rgb[:, alpha[0] > 0])


def test_stage_takes_the_tone_it_is_told():
    sepia = Photo(toned(luma(picture("astronaut")), SEPIA))
    auto, mono, color = (result(Color(tone=tone), sepia)[0].rgb for tone in ("auto", "mono", "color"))
    assert torch.equal(auto, mono)
    assert change(auto, color) > 3


def test_a_picture_toned_like_sepia_is_sepia_and_keeps_its_luma():
    ramp = torch.linspace(0.1, 0.9, 50)
    sepia = torch.stack([ramp + 0.05 * ramp, ramp, ramp - 0.08])
    made = in_tone_of(torch.rand(3, 9, 9) * 0.6 + 0.2, sepia)
    grey = luma(made)
    again = in_tone_of(grey.expand(3, -1, -1), sepia)
    assert (made - again).abs().max() < 0.03
    assert ((made[0] > made[1]) & (made[1] > made[2])).all()


def test_a_picture_toned_like_grey_is_grey_exactly():
    made = in_tone_of(torch.rand(3, 9, 9), torch.rand(1, 50).expand(3, -1))
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[1], made[2])
