"""The faces stage: what it changes, by how much, and what it never changes."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from repaint.errors import ConfigError
from repaint.faces import TEMPLATE, Face, added, blurred, oval
from repaint.image import Meta, Photo, luma
from repaint.stages import facing
from repaint.stages.face_restorers import Restorer
from repaint.stages.faces import Faces
from repaint.stages.facing import Facer, Finder

from . import tiny

SIZE = 32  # px of the faces that restorers know here
CPU = torch.device("cpu")


def face_at(x, y, px):
    """An upright face whose aligned square of `px` has its middle at (x, y)."""
    return Face(torch.tensor([x, y]) + (TEMPLATE - 256) * (px / 512))


def drawn(height, width, *faces, seed=0):
    """(3, H, W): discs with eyes and mouths on a smooth background."""
    rough = torch.rand(1, 3, height // 16 + 2, width // 16 + 2, generator=torch.Generator().manual_seed(seed))
    rgb = F.interpolate(rough, (height, width), mode="bilinear")[0] / 4 + 0.3
    y, x = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
    for face in faces:
        middle, px = face.landmarks.mean(0), face.px
        rgb[:, torch.hypot(x - middle[0], y - middle[1]) < 0.3 * px] = torch.tensor([0.8, 0.6, 0.5])[:, None]
        for spot in face.landmarks[[0, 1, 3, 4]]:
            rgb[:, torch.hypot(x - spot[0], y - spot[1]) < 0.04 * px] = 0.2
    return rgb


def restorer(answer, calls=1):
    """One that answers `answer(face)`, after so many calls."""

    def restored(face, noise):
        yield from [face] * (calls - 1)
        yield answer(face)

    return Restorer(restored, SIZE, calls, {"stub": "0" * 64}, ())


def facer(faces, answer, calls=1, **settings):
    said = Faces(**{"strength": 1.0, "min_px": 8, **settings})
    return Facer(said, lambda image: list(faces), restorer(answer, calls), lambda face: oval(SIZE), CPU)


def result(faces, photo, answer, **settings):
    photo = photo if isinstance(photo, Photo) else Photo(photo)
    *_, last = facer(faces, answer, **settings).run([photo], [0])
    return last.photos[0].rgb


def lines(face):
    """A face with fine lines on it."""
    return face + 0.1 * (torch.arange(SIZE) % 4 // 2 - 0.5)


# ---- what changes


@pytest.mark.parametrize("px", [20, 32, 90])
@pytest.mark.parametrize("middle", [(60, 50), (0, 20), (119, 99)])
def test_pixels_outside_of_the_masks_of_faces_keep_every_bit(px, middle):
    face = face_at(*middle, px)
    rgb = torch.rand(3, 100, 120)
    after = result([face], rgb, lines)
    masked = added(torch.zeros(1, 100, 120), torch.ones(1, SIZE, SIZE), oval(SIZE), face)[0] > 0
    changed = (after != rgb).any(0)
    assert changed.sum() > 0.3 * masked.sum()
    assert not (changed & ~masked).any()


@pytest.mark.parametrize("px", [20, 32, 90])
def test_face_that_needs_no_restoring_keeps_every_bit(px):
    face = face_at(60, 50, px)
    rgb = drawn(100, 120, face)
    assert torch.equal(result([face], rgb, lambda face: face), rgb)


def test_strength_is_the_share_of_the_change():
    face = face_at(60, 50, 40)
    rgb = drawn(100, 120, face)
    half, whole = (result([face], rgb, lines, strength=strength) - rgb for strength in (0.5, 1.0))
    assert whole.abs().max() > 0.03
    torch.testing.assert_close(2 * half, whole, atol=1e-5, rtol=0)


def test_no_strength_changes_no_bit_and_calls_no_network():
    rgb = torch.rand(3, 50, 50)
    (only,) = facer([face_at(20, 20, 30)], lines, strength=0).run([Photo(rgb)], [0])
    assert only.photos[0].rgb is rgb
    assert (only.done, only.total, only.calls) == (0, 0, (0,))


def test_small_face_becomes_what_the_restorer_says():
    face = face_at(50, 50, 24)
    rgb = drawn(100, 100)
    after = result([face], rgb, lambda face: torch.full_like(face, 0.25), keep_colors=False)
    assert (after[:, 48:54, 48:52] - 0.25).abs().max() < 0.02


def test_large_face_keeps_the_detail_that_the_restorer_cannot_see():
    face = face_at(150, 150, 256)  # 8 times what the restorer knows
    grain = 0.05 * tiny.drawn(3, 300, 300)
    grain -= blurred(grain, 4.0)
    rgb = (drawn(300, 300, face) / 2 + 0.2 + grain).clamp(0, 1)
    after = result([face], rgb, lambda face: 0 * face + 0.5, keep_colors=False)
    middle = (slice(None), slice(120, 190), slice(120, 180))
    before_fine, after_fine = (x - blurred(x, 2.0) for x in (rgb, after))
    assert (after - rgb)[middle].abs().max() > 0.05  # the restorer was listened to
    assert after_fine[middle].std() == pytest.approx(before_fine[middle].std().item(), rel=0.1)


@pytest.mark.parametrize("keep_colors", [True, False])
def test_colours_of_a_face_are_kept_if_they_are_to_be(keep_colors):
    face = face_at(60, 50, 64)
    rgb = drawn(100, 120, face)
    redder = torch.tensor([0.1, 0, -0.1])[:, None, None]
    change = result([face], rgb, lambda face: face + redder, keep_colors=keep_colors) - rgb
    expected = 0 * redder if keep_colors else redder
    torch.testing.assert_close(change[:, 45:55, 55:65], expected.expand(3, 10, 10), atol=0.01, rtol=0)


def test_colours_kept_are_those_of_shading_and_not_of_detail():
    face = face_at(60, 50, 64)
    rgb = drawn(100, 120, face)
    kept, all_of_it = (result([face], rgb, lines, keep_colors=keep) - rgb for keep in (True, False))
    middle = (slice(None), slice(40, 60), slice(50, 70))
    assert kept[middle].std() == pytest.approx(all_of_it[middle].std().item(), rel=0.05)


def test_overlapping_faces_are_restored_one_on_top_of_the_other():
    near = [face_at(50, 50, 40), face_at(60, 50, 38)]
    rgb = drawn(100, 120, *near)
    first = result(near[:1], rgb, lines)
    assert torch.equal(result(near, rgb, lines), result(near[1:], first, lines))


# ---- what never changes


def coloured(face):
    """What networks of colour do to grey faces."""
    return lines(face) + torch.tensor([0.05, 0, -0.02])[:, None, None] * torch.rand(1, SIZE, SIZE)


@pytest.mark.parametrize("meta", [Meta("png", grey=True), Meta("png", bits=16)])
def test_grey_photo_stays_grey_exactly(meta):
    face = face_at(60, 50, 50)
    grey = luma(drawn(100, 120, face)).repeat(3, 1, 1)
    after = result([face], Photo(grey, meta=meta), coloured)
    assert (after != grey).any()
    assert bool((after == after[:1]).all())


def test_sepia_photo_stays_sepia():
    face = face_at(60, 50, 50)
    grey = luma(drawn(100, 120, face))
    sepia = torch.cat([grey + 0.08, grey, grey - 0.06])
    after = result([face], sepia, coloured)
    assert (after - sepia).abs().max() > 0.02
    torch.testing.assert_close(after - after[1:2], sepia - sepia[1:2], atol=1e-6, rtol=0)


def test_photo_of_colours_gets_colours():
    face = face_at(60, 50, 50)
    rgb = drawn(100, 120, face)
    rgb[:, :, :30] = torch.tensor([0.1, 0.7, 0.2])[:, None, None]
    rgb[:, :, 90:] = torch.tensor([0.1, 0.2, 0.8])[:, None, None]
    change = result([face], rgb, coloured) - rgb
    assert (change - change[1:2]).abs().max() > 0.01


def test_everything_but_colours_stays_what_it_was():
    face, meta = face_at(30, 30, 30), Meta("tiff", bits=16, icc=b"profile", dpi=(300.0, 300.0))
    photo = replace(tiny.photo(60, 60, (20, 20, 40, 40)), alpha=torch.rand(1, 60, 60), meta=meta)
    *_, last = facer([face], lines).run([photo], [0])
    after = last.photos[0]
    assert not torch.equal(after.rgb, photo.rgb)
    assert after.keep is photo.keep
    assert after.alpha is photo.alpha
    assert after.meta is photo.meta


def test_photos_given_are_not_written_to():
    rgb = torch.rand(3, 60, 60)
    before = rgb.clone()
    result([face_at(30, 30, 40)], rgb, lines)
    assert torch.equal(rgb, before)


def test_photo_without_faces_keeps_every_bit_and_is_told_of():
    rgb = torch.rand(3, 60, 60)
    *_, last = facer([], lines, min_px=48).run([Photo(rgb)], [0])
    assert last.photos[0].rgb is rgb
    assert last.notes == ("no face of 48 px or more was found",)


# ---- when memory does not suffice


def tight(what, errors):
    """`what`, which fails with these errors one after the other before it answers."""
    left = list(errors)

    def answer(face):
        if left:
            raise left.pop(0)
        return what(face)

    return answer


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")])
@pytest.mark.parametrize("where", ["restorer", "parser"])
def test_face_that_does_not_fit_in_memory_is_left_as_it_is_and_the_others_are_restored(where, error):
    large, small = face_at(30, 30, 40), face_at(80, 30, 30)
    photo = Photo(drawn(60, 110, large, small))
    if where == "restorer":
        stage = facer([large, small], tight(lines, [error]), calls=3)
    else:
        stage = replace(facer([large, small], lines, calls=3), mask=tight(lambda face: oval(SIZE), [error]))
    *_, last = stage.run([photo, photo], [0, 0])
    assert last.notes == ("out of memory: a face of 40 px is left as it is",)
    assert torch.equal(last.photos[0].rgb, result([small], photo, lines))
    assert torch.equal(last.photos[1].rgb, result([large, small], photo, lines))
    assert last.calls == (1 + 2 + 3, 1 + 3 + 3)
    assert last.done == last.total


def test_a_restorer_that_fails_otherwise_is_not_passed_over():
    stage = facer([face_at(30, 30, 40)], tight(lines, [RuntimeError("shapes do not match")]))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(stage.run([Photo(torch.rand(3, 60, 60))], [0]))


def test_faces_found_in_a_smaller_copy_are_those_of_the_photo():
    shown = []

    def find(image, most_px, scale):
        shown.append((tuple(image.shape[1:]), most_px, scale))
        if image[0].numel() > 300_000:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [Face(torch.tensor(image.shape[1:]) / 4 + TEMPLATE / 8)]

    finder = facing.frugal_finder("net", find, 1_000_000)
    (face,) = finder(torch.rand(3, 1000, 1000))
    torch.testing.assert_close(face.landmarks, 250 + TEMPLATE / 4)
    half = pytest.approx(0.707, abs=1e-3)
    assert shown == [((1000, 1000), 1_000_000, 1.0), ((707, 707), 500_000, half), ((500, 500), 250_000, 0.5)]
    assert len(finder.told()) == 2
    finder(torch.rand(3, 400, 600))
    assert shown[-1] == ((400, 600), 250_000, 1.0)


# ---- which faces


def test_small_faces_are_left_alone():
    large, small = face_at(30, 30, 40), face_at(80, 30, 20)
    rgb = drawn(60, 110, large, small)
    assert torch.equal(result([small, large], rgb, lines, min_px=30), result([large], rgb, lines))
    *_, last = facer([small], lines, min_px=30).run([Photo(rgb)], [0])
    assert len(last.notes) == 1


def test_largest_faces_are_chosen():
    sizes = (20, 40, 30)
    faces = [face_at(30 + 50 * i, 30, px) for i, px in enumerate(sizes)]
    photo = Photo(drawn(60, 160, *faces))
    for settings, chosen in [({"which": "largest"}, (1,)), ({"max_faces": 2}, (1, 2)), ({}, (1, 2, 0))]:
        *_, last = facer(faces, lines, **settings).run([photo], [0])
        assert last.faces == (tuple(faces[i] for i in chosen),)


def test_stage_finds_faces_for_others_whether_or_not_it_would_restore_them(monkeypatch):
    faces = [face_at(30, 30, 40), face_at(80, 30, 60), face_at(80, 30, 20)]
    monkeypatch.setattr(facing, "finder_of", lambda s, device: Finder(lambda image: faces, {"finder": "f"}, ()))
    monkeypatch.setattr(facing, "load_restorer", lambda s, device, precision: restorer(lines))
    stage = Faces(which="largest", min_px=30, mask="oval").build("cpu")
    assert stage.find(Photo(torch.rand(3, 60, 120))) == faces[:2]
    assert stage.weights == {"finder": "f", "stub": "0" * 64}


def test_forty_faces_are_all_restored():
    faces = [face_at(15 + 30 * (i % 8), 15 + 30 * (i // 8), 24) for i in range(40)]
    rgb = drawn(150, 240, *faces)
    *_, last = facer(faces, lines).run([Photo(rgb)], [0])
    changed = (last.photos[0].rgb != rgb).any(0)
    assert all(changed[int(y), int(x)] for x, y in (face.landmarks.mean(0).tolist() for face in faces))
    assert last.calls == (41,)


@pytest.mark.parametrize("sides", [(16, 16), (1, 1), (30, 2000)])
def test_photos_of_odd_sizes_are_restored(sides):
    face = face_at(sides[1] / 2, sides[0] / 2, 12)
    rgb = torch.rand(3, *sides)
    after = result([face], rgb, lines)
    assert after.shape == rgb.shape
    assert bool(((after >= 0) & (after <= 1)).all())


# ---- how it goes


def test_progress_counts_the_look_and_every_call_and_shows_the_photos_so_far():
    faces = [face_at(30, 30, 40), face_at(80, 30, 30)]
    photos = [Photo(drawn(60, 110, *faces)), Photo(drawn(60, 110, *faces, seed=1))]
    steps = list(facer(faces, lines, calls=3).run(photos, [0, 0]))
    assert [s.done for s in steps] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
    assert steps[-1].total == 14
    assert steps[-1].calls == (7, 7)
    assert all(s.done == sum(s.calls) <= s.total for s in steps)
    shown = [s.photos for s in steps]
    assert torch.equal(shown[3][0].rgb, photos[0].rgb)
    assert not torch.equal(shown[4][0].rgb, photos[0].rgb)
    assert torch.equal(shown[4][1].rgb, photos[1].rgb)


def test_no_photos_are_no_work():
    (only,) = facer([], lines).run([], [])
    assert (only.total, only.photos) == (0, [])


@pytest.mark.parametrize("said", [{"strength": 1.5}, {"min_px": 0}, {"max_faces": 0}, {"finder": "best"}])
def test_settings_that_cannot_be_meant_are_refused(said):
    with pytest.raises(ValueError, match="Faces"):
        Faces(**said)


def test_codeformer_needs_a_word_on_commerce():
    from repaint.config import Document

    with pytest.raises(ConfigError, match=r"a\.yml:1: restorer: found codeformer, .* say noncommercial: true"):
        Document("restorer: codeformer", "a.yml").check(Faces)
    assert Faces(restorer="codeformer", noncommercial=True).restorer == "codeformer"
