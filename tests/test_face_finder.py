"""The face finder: what it is read from, and where a photo's faces are by what it says."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from repaint.archs import face_finder, scratch_net
from repaint.archs.face_finder import LARGEST_PX, SMALLEST_PX, STRIDE, UNIT_PX, FaceFinderConfig, evened
from repaint.faces import TEMPLATE, TEMPLATE_PX, Face
from repaint.stages.finding import FACE_PX, Seen, distinct, found, levels, sides_px

from . import tiny

TINY = FaceFinderConfig((8, 8, 16, 16), 1)
CONFIGS = [FaceFinderConfig(), TINY, FaceFinderConfig((4, 8, 12, 20), 3)]


def built(config):
    """With nothing at 0, where a new one says nothing."""
    torch.manual_seed(0)
    network = face_finder.build(config).eval()
    for i, parameter in enumerate(network.parameters()):
        if not parameter.any():
            parameter.data = 0.05 * tiny.drawn(*parameter.shape, seed=i)
    return network


class Spots(nn.Module):
    """A finder of bright spots of 16 px: each is to it the middle of an upright face of `FACE_PX` px."""

    def forward(self, x):
        light = F.avg_pool2d(x, 16, 1, padding=8)[..., :-1, :-1]
        around = torch.stack([light.roll(16 * way, dim) for way in (-1, 1) for dim in (2, 3)]).amax(0)
        logits, at = F.max_pool2d(40 * (light - around - 0.6), STRIDE, return_indices=True)
        bright = torch.cat([at % x.shape[3], at // x.shape[3]], 1).float()
        y, x_ = torch.meshgrid(torch.arange(at.shape[2]), torch.arange(at.shape[3]), indexing="ij")
        offsets = bright - (torch.stack([x_, y]) + 0.5) * STRIDE
        face = ((TEMPLATE - TEMPLATE.mean(0)) * FACE_PX / TEMPLATE_PX).flatten()[:, None, None]
        return torch.cat([logits, (offsets.repeat(1, 5, 1, 1) + face) / UNIT_PX], 1)


def seen_in(image, **said):
    """At a finest scale of 1, so that `Spots` know what they see."""
    return found(Spots(), image, smallest_px=SMALLEST_PX, **said)


def spot(height, width, *middles, px=16):
    """A black photo with bright spots at some (x, y)."""
    image = torch.zeros(3, height, width)
    for x, y in middles:
        image[:, round(y - px / 2) : round(y + px / 2), round(x - px / 2) : round(x + px / 2)] = 1
    return image


def face_at(x, y, px, score=1.0):
    return Face((TEMPLATE - TEMPLATE.mean(0)) * px / TEMPLATE_PX + torch.tensor([x, y]), score)


def middles(faces):
    return sorted(tuple(face.landmarks.mean(0).tolist()) for face in faces)


# ---- weights


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_architecture_is_read_from_shapes(config):
    with torch.device("meta"):
        assert face_finder.detect(face_finder.build(config).state_dict()) == config


@torch.no_grad()
def test_state_dict_makes_the_same_network_again():
    network, x = built(TINY), torch.rand(1, 1, 32, 48)
    again = face_finder.build(TINY)
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(x), network(x))


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({}, r"no convolution stem.weight, down.0.weight"),
        (scratch_net.build(scratch_net.ScratchNetConfig(8, (1, 1))).state_dict(), "no convolution down.0.weight"),
        ({**built(TINY).state_dict(), "last.weight": torch.zeros(3, 16, 1, 1)}, "sees 2 channels and says 3"),
    ],
    ids=["nothing", "a scratch detector", "another head"],
)
def test_other_networks_are_refused_by_what_they_lack(state, reason):
    with pytest.raises(ValueError, match=f"not a face finder of ours: .*{reason}"):
        face_finder.detect(state)


def test_default_finder_has_less_than_a_million_parameters():
    with torch.device("meta"):
        assert sum(p.numel() for p in face_finder.build(FaceFinderConfig()).parameters()) == 894_603


def test_gradient_reaches_every_parameter():
    network = built(TINY)
    network(torch.rand(1, 1, 32, 32)).square().mean().backward()
    assert [k for k, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_sides_it_cannot_halve_are_refused():
    with pytest.raises(ValueError, match="sides must be multiples of 16 px, got 24 x 32"):
        built(TINY)(torch.rand(1, 1, 32, 24))


# ---- what it says


@torch.no_grad()
def test_new_finder_thinks_little_of_every_place():
    torch.manual_seed(0)
    assert torch.sigmoid(face_finder.build(TINY)(torch.rand(1, 1, 64, 64))[:, 0]).max() < 0.2


@torch.no_grad()
def test_what_it_says_moves_with_the_photo():
    network, x = built(TINY), F.pad(torch.rand(1, 1, 32, 32), (144,) * 4, value=0.5)
    moved = network(x.roll((16, 32), (2, 3)))[..., 12:-12, 12:-12]
    expected = network(x).roll((2, 4), (2, 3))[..., 12:-12, 12:-12]
    torch.testing.assert_close(moved, expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_photo_says_the_same_alone_and_in_a_batch():
    network, x = built(TINY), torch.rand(2, 1, 32, 48)
    torch.testing.assert_close(network(x), torch.cat([network(x[:1]), network(x[1:])]))


def test_a_faded_photo_is_evened_out_to_about_what_it_was():
    x = torch.rand(1, 1, 64, 64)
    torch.testing.assert_close(evened(0.5 * x + 0.4), evened(x), atol=0.3, rtol=0)
    assert evened(x).std() == pytest.approx(1, abs=0.2)


def test_nothing_is_made_of_an_even_photo():
    assert evened(torch.full((1, 1, 32, 32), 0.7)).abs().max() < 0.01


# ---- where faces are


@pytest.mark.parametrize("at", [(60, 100), (133, 71), (40, 41), (150, 20)])
def test_a_face_is_where_the_finder_sees_it(at):
    (face,) = seen_in(spot(140, 180, at))
    assert face.landmarks.mean(0).tolist() == pytest.approx(at, abs=0.7)
    assert face.px == pytest.approx(FACE_PX, rel=0.05)
    torch.testing.assert_close(face.landmarks, face_at(at[0], at[1], FACE_PX).landmarks, atol=1, rtol=0)


@pytest.mark.parametrize("shift", [(8, 0), (0, 8), (-16, 24), (3, 5)])
def test_a_photo_moved_moves_its_faces(shift):
    at = (88, 72)
    moved = (at[0] + shift[0], at[1] + shift[1])
    (before,), (after,) = (seen_in(spot(160, 176, middle)) for middle in (at, moved))
    torch.testing.assert_close(
        after.landmarks - before.landmarks, torch.tensor(shift).float().expand(5, 2), atol=0.8, rtol=0
    )


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_larger_face_is_found_in_a_smaller_copy(scale):
    at = (40 * scale, 31 * scale)
    (face,) = seen_in(spot(64 * scale, 80 * scale, at, px=16 * scale))
    assert face.px == pytest.approx(FACE_PX * scale, rel=0.1)
    assert face.landmarks.mean(0).tolist() == pytest.approx(at, abs=0.7 * scale)


def test_faces_are_found_each_once_and_the_surest_first():
    at = [(40, 40), (130, 44), (60, 130)]
    faces = seen_in(spot(180, 180, *at))
    assert [f.score for f in faces] == sorted((f.score for f in faces), reverse=True)
    assert [pytest.approx(m, abs=0.7) for m in middles(faces)] == [(40, 40), (60, 130), (130, 44)]


@pytest.mark.parametrize("sides", [(1, 1), (16, 16), (17, 400), (90, 3)])
def test_a_photo_of_any_size_can_be_looked_at(sides):
    assert found(built(TINY), torch.rand(3, *sides), sure=0.999) == []


def test_who_is_to_be_surer_finds_fewer():
    image = spot(180, 180, (40, 40)) + 0.72 * spot(180, 180, (130, 130))
    assert len(seen_in(image, sure=0.5)) == 2
    assert middles(seen_in(image, sure=0.999)) == [pytest.approx((40, 40), abs=0.7)]


def test_of_faces_in_one_place_the_surest_counts():
    seen = [face_at(50, 50, 40, 0.7), face_at(54, 52, 44, 0.9), face_at(50, 75, 40, 0.6), face_at(200, 50, 150, 0.8)]
    kept = distinct(Seen(torch.tensor([f.score for f in seen]), torch.stack([f.landmarks for f in seen])))
    assert [round(face.score, 1) for face in kept] == [0.9, 0.8, 0.6]


@pytest.mark.parametrize("smallest_px", [12, 24, 80])
@pytest.mark.parametrize("sides", [(640, 480), (300, 20_000), (16, 16), (2000, 2000)])
def test_some_level_shows_a_face_of_any_size_as_large_as_the_finder_knows_them(sides, smallest_px):
    scales = levels(sides, smallest_px)
    smallest = math.ceil(max(smallest_px, SMALLEST_PX / scales[0]))
    for px in range(smallest, max(sides), 7):
        assert any(SMALLEST_PX - 1e-6 <= px * scale <= LARGEST_PX for scale in scales)
    assert all(a == 2 * b for a, b in pairwise(scales))


def test_a_huge_scan_is_not_looked_at_in_full():
    assert levels((10_000, 20_000), 24)[0] == pytest.approx(math.sqrt(8e6 / 2e8))


@pytest.mark.parametrize("seed", range(5))
def test_sides_of_many_faces_are_those_of_each(seed):
    landmarks = 100 * tiny.drawn(4, 5, 2, seed=seed)
    torch.testing.assert_close(
        sides_px(landmarks), torch.tensor([Face(points).px for points in landmarks]), rtol=1e-3, atol=0
    )
