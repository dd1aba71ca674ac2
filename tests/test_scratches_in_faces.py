"""What looks like damage in faces and is none: eyes, teeth, foreheads."""

from __future__ import annotations

import dataclasses

import torch

from repaint.faces import TEMPLATE, Face, parts
from repaint.stages import detecting, facing
from repaint.stages.scratches import Scratches, ScratchesStage

from .marking import PLAIN, boxes, dark, finds_light, hole


def test_marks_in_protected_boxes_are_dropped_and_a_scratch_through_them_stays():
    eye, scratch, box = (8, 20, 10, 24), (0, 10, 24, 11), (6, 6, 14, 26)
    photo = dark(24, 32, eye, scratch)
    assert torch.equal(hole(finds_light(), photo, [box]), boxes(24, 32, scratch))
    assert torch.equal(hole(finds_light(), photo, [(-5, -5, 2, 2)]), boxes(24, 32, eye, scratch))
    assert not hole(finds_light(), photo, [(0, 0, 99, 99)]).any()


def test_in_a_mouth_a_scratch_ends_where_it_is_half_as_probable():
    scratch, teeth, mouth = (10, 0, 14, 64), (14, 24, 22, 40), (4, 20, 30, 44)
    photo = dark(32, 64, scratch)
    photo.rgb[:, 14:22, 24:40] = 0.4
    assert torch.equal(hole(finds_light(threshold=0.3), photo), boxes(32, 64, scratch, teeth))
    assert torch.equal(hole(finds_light(threshold=0.3), photo, [mouth]), boxes(32, 64, scratch))
    assert torch.equal(hole(finds_light(threshold=0.3), photo, [(0, 0, 3, 3)]), boxes(32, 64, scratch, teeth))
    assert torch.equal(hole(finds_light(threshold=0.3), photo, [(*mouth, 20.0)]), boxes(32, 64, scratch, teeth))


def test_rims_are_no_wider_than_a_pixel_in_a_mouth(monkeypatch):
    monkeypatch.setattr(detecting, "rim_px", lambda hole, light: 3)
    scratch, mouth = (10, 0, 14, 64), (4, 20, 30, 44)
    found = hole(finds_light(grow_px=None), dark(32, 64, scratch), [mouth])
    assert torch.equal(found, boxes(32, 64, (7, 0, 17, 20), (9, 20, 15, 44), (7, 44, 17, 64)))


def test_marks_that_are_enlarged_by_so_much_are_that_in_a_mouth_too():
    scratch, mouth = (10, 0, 14, 64), (4, 20, 30, 44)
    found = hole(finds_light(grow_px=3), dark(32, 64, scratch), [mouth])
    assert torch.equal(found, boxes(32, 64, (7, 0, 17, 64)))


def test_in_a_face_thick_marks_are_dropped_and_thin_ones_and_what_is_torn_off_beside_it_stay():
    forehead, scratch, torn = (20, 30, 40, 60), (50, 20, 53, 70), (60, 10, 90, 40)
    photo, face = dark(100, 100, forehead, scratch, torn), (10, 20, 80, 80, 9.0)
    assert torch.equal(hole(finds_light(), photo, [face]), boxes(100, 100, scratch, torn))
    assert torch.equal(hole(finds_light(), photo, [(*face[:4], 25.0)]), boxes(100, 100, forehead, scratch, torn))


def test_eyes_and_mouths_of_the_faces_that_are_found_are_protected(monkeypatch):
    face = Face(TEMPLATE / 8)

    def finder(settings, at):
        return facing.Finder(lambda rgb: [face], {"a-finder": "0" * 64}, ())

    monkeypatch.setattr(detecting, "face_finder_of", finder)
    settings = Scratches.model_validate({**PLAIN, "detector": "filters", "protect_faces": True})
    stage = settings.build("cpu")
    assert "a-finder" in stage.weights
    top, left, bottom, right = parts(face)["left_eye"]
    middle = (top + bottom) // 2, (left + right) // 2
    photo = dark(64, 64, (*middle, middle[0] + 1, middle[1] + 2))
    found = [progress.photos[0].keep for *_, progress in (s([photo]) for s in (stage, faceless(stage)))]
    assert [bool(keep.all()) for keep in found] == [True, False]


def faceless(stage: ScratchesStage) -> ScratchesStage:
    """The stage without its knowledge of faces."""
    return dataclasses.replace(stage, dear=lambda photo: ())
