"""Faces cut out upright and put back: the geometry."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from repaint.faces import (
    TEMPLATE,
    Face,
    Similarity,
    added,
    aligned,
    blurred,
    dear_boxes,
    oval,
    parts,
    similarity,
    softened,
    warped,
)
from repaint.holes import area_means
from repaint.tiling import resized


def smooth(height, width, seed=0):
    """A picture without sharp edges, so that resampling it twice changes little."""
    rough = torch.rand(1, 3, height // 16 + 2, width // 16 + 2, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(rough, (height, width), mode="bicubic")[0] / 2


def face_at(x, y, px, turn=0.0):
    """A face whose aligned square of `px` has its middle at (x, y)."""
    a = px / 512 * complex(math.cos(turn), math.sin(turn))
    return Face(Similarity(a, complex(x, y) - a * (256 + 256j))(TEMPLATE))


@pytest.mark.parametrize("turn", [0.0, 0.4, -2.5])
@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0])
def test_similarity_is_found_again(turn, scale):
    true = Similarity(scale * complex(math.cos(turn), math.sin(turn)), 30 - 12j)
    found = similarity(TEMPLATE, true(TEMPLATE))
    assert found.a == pytest.approx(true.a, rel=1e-4)
    assert found.b == pytest.approx(true.b, rel=1e-3)
    torch.testing.assert_close(found.inverse(found(TEMPLATE)), TEMPLATE, rtol=1e-4, atol=1e-2)


def test_landmarks_that_are_one_point_are_refused():
    with pytest.raises(ValueError, match="landmarks must differ"):
        similarity(torch.ones(5, 2), TEMPLATE)


def test_an_upright_face_of_the_templates_size_is_cut_out_as_it_is():
    image = torch.rand(3, 300, 200)
    torch.testing.assert_close(aligned(image, face_at(100, 150, 128), 128), image[:, 86:214, 36:164], atol=1e-4, rtol=0)


@pytest.mark.parametrize("px", [60, 128, 250])
@pytest.mark.parametrize("turn", [0.0, 0.3, math.pi])
def test_a_face_that_is_taken_away_where_it_was_cut_out_leaves_nothing(px, turn):
    image, face = smooth(300, 320), face_at(160, 150, px, turn)
    mask = F.pad(torch.ones(1, 112, 112), (8, 8, 8, 8))
    rest = added(image, -aligned(image, face, 128), mask, face)
    covered = added(torch.zeros(1, 300, 320), torch.ones(1, 128, 128), mask, face) > 0.999
    assert covered.sum() > 0.6 * px**2
    assert rest[:, covered[0]].abs().max() < 0.02


def test_what_the_mask_does_not_cover_stays_bit_for_bit():
    image, face = torch.rand(3, 200, 200), face_at(100, 100, 80)
    mask = torch.zeros(1, 64, 64)
    mask[:, 20:44, 20:44] = 1
    back = added(image, torch.ones(3, 64, 64), mask, face)
    changed = (back != image).any(0)
    assert 25**2 < changed.sum() < 40**2
    assert torch.equal(added(image, torch.ones(3, 64, 64), 0 * mask, face), image)
    torch.testing.assert_close(back[:, 100, 100], image[:, 100, 100] + 1)


def test_change_and_mask_may_be_of_different_sizes():
    image, face = torch.zeros(3, 100, 100), face_at(50, 50, 64)
    same, other = (added(image, torch.ones(3, 64, 64), oval(size), face) for size in (64, 256))
    torch.testing.assert_close(same, other, atol=0.05, rtol=0)


@pytest.mark.parametrize("middle", [(0, 0), (199, 5), (-30, 100), (100, 260)])
def test_a_face_cut_by_the_border_or_beyond_it_can_be_cut_out_and_changed(middle):
    image, face = smooth(200, 200), face_at(*middle, 90)
    assert torch.isfinite(aligned(image, face, 64)).all()
    assert added(image, aligned(image, face, 64), torch.ones(1, 64, 64), face).shape == image.shape


def test_a_face_that_shrinks_is_filtered_not_skipped_over():
    lines = torch.zeros(3, 256, 256)
    lines[:, :, ::4] = 1
    assert (aligned(lines, face_at(128, 128, 240), 32) - 0.25).abs().max() < 0.1


def test_a_square_of_a_face_is_where_alignment_cuts():
    face = face_at(100, 90, 64)
    assert face.px == pytest.approx(64, rel=1e-4)
    torch.testing.assert_close(face.corners[0], torch.tensor([68.0, 58.0]), atol=1e-2, rtol=0)


def test_a_picture_through_the_identity_is_itself():
    image = torch.rand(3, 20, 30)
    torch.testing.assert_close(warped(image, Similarity(1, 0), 20, 30), image, atol=1e-5, rtol=0)


# ---- where things are in a face


@pytest.mark.parametrize("turn", [0.0, 0.2, -1.5])
def test_boxes_of_eyes_and_mouth_hold_their_own_landmarks_and_no_others(turn):
    face = face_at(150, 140, 100, turn)
    names = ["left_eye", "right_eye", "nose", "mouth", "mouth"]
    for part, (top, left, bottom, right) in parts(face).items():
        for name, (x, y) in zip(names, face.landmarks.tolist(), strict=True):
            inside = top < y < bottom and left < x < right
            assert inside == (part in (name, "face"))


def test_what_is_dear_in_faces_are_their_eyes_and_mouths_and_what_is_thick():
    one, other = face_at(150, 140, 100), face_at(40, 60, 50, 0.4)
    names = ("left_eye", "right_eye", "mouth")
    dear = dear_boxes([one, other])
    assert [box for box in dear if len(box) == 4] == [parts(face)[name] for face in (one, other) for name in names]
    for face, (*box, thin_px) in zip((one, other), [box for box in dear if len(box) > 4], strict=True):
        top, left, bottom, right = parts(face)["face"]
        assert tuple(box) == (top, left, bottom, right)
        assert 0.05 < thin_px / min(bottom - top, right - left) < 0.25


def test_oval_is_whole_over_eyes_and_mouth_and_gone_at_the_border():
    mask = oval(128)
    x, y = (TEMPLATE / 4).long().unbind(1)
    assert (mask[0, y, x] > 0.9).all()
    frame = mask.clone()
    frame[:, 1:-1, 1:-1] = 0
    assert frame.max() < 0.02
    assert mask.diff(dim=1).abs().max() < 0.1
    assert mask.diff(dim=2).abs().max() < 0.1


def test_softened_mask_is_whole_inside_and_nowhere_hard():
    mask = softened(torch.ones(1, 128, 128, dtype=torch.bool))
    assert mask[0, 64, 64] == pytest.approx(1)
    assert mask[0, 0].max() < 0.02
    half = torch.zeros(1, 128, 128, dtype=torch.bool)
    half[:, :, 64:] = True
    assert softened(half)[0, 64].diff().abs().max() < 0.2
    assert softened(half)[0, 64, 63:65].mean() == pytest.approx(0.5, abs=0.01)


def test_blur_is_a_gaussian():
    point = torch.zeros(1, 41, 41)
    point[0, 20, 20] = 1
    along = torch.arange(41) - 20.0
    expected = torch.exp(-0.5 * (along / 3).square()) / (3 * math.sqrt(2 * math.pi))
    torch.testing.assert_close(blurred(point, 3.0)[0], expected[:, None] * expected, atol=1e-4, rtol=0.02)
    flat = torch.full((2, 9, 7), 0.3)
    torch.testing.assert_close(blurred(flat, 5.0), flat)


# ---- on an Apple GPU


@pytest.mark.parametrize(
    ("act", "shape"),
    [
        (lambda x: warped(x, Similarity(0.4, 0), 5, 7), (3, 20, 30)),
        (lambda x: resized(x, 5, 7), (1, 3, 20, 30)),
        (lambda x: area_means(x, 5, 7), (1, 3, 20, 30)),
    ],
    ids=["warped", "resized", "area_means"],
)
def test_filters_that_an_apple_gpu_may_lack_are_asked_of_the_cpu(monkeypatch, act, shape):
    asked = []
    for name in ("interpolate", "grid_sample"):
        filtered = getattr(F, name)
        monkeypatch.setattr(F, name, lambda x, *a, f=filtered, **k: (asked.append(x.device.type), f(x, *a, **k))[1])
    with FakeTensorMode():
        assert act(torch.empty(shape, device="mps")).device.type == "mps"
    assert set(asked) == {"cpu"}
