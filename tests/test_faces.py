"""Faces cut out upright and put back: the geometry."""

import math

import pytest
import torch
from torch.nn import functional as F

from repaint.faces import TEMPLATE, Face, Similarity, aligned, pasted, similarity, warped


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
def test_a_face_cut_out_and_put_back_is_what_it_was(px, turn):
    image, face = smooth(300, 320), face_at(160, 150, px, turn)
    mask = F.pad(torch.ones(1, 112, 112), (8, 8, 8, 8))
    back = pasted(image, aligned(image, face, 128), mask, face)
    assert (back - image).abs().max() < 0.02


def test_what_the_mask_does_not_cover_stays_bit_for_bit():
    image, face = torch.rand(3, 200, 200), face_at(100, 100, 80)
    mask = torch.zeros(1, 64, 64)
    mask[:, 20:44, 20:44] = 1
    back = pasted(image, torch.zeros(3, 64, 64), mask, face)
    changed = (back != image).any(0)
    assert 25**2 < changed.sum() < 40**2
    assert torch.equal(pasted(image, torch.zeros(3, 64, 64), 0 * mask, face), image)
    assert (back[:, 100, 100] == 0).all()


@pytest.mark.parametrize("middle", [(0, 0), (199, 5), (-30, 100), (100, 260)])
def test_a_face_cut_by_the_border_or_beyond_it_can_be_cut_out_and_put_back(middle):
    image, face = smooth(200, 200), face_at(*middle, 90)
    assert torch.isfinite(aligned(image, face, 64)).all()
    assert pasted(image, aligned(image, face, 64), torch.ones(1, 64, 64), face).shape == image.shape


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
