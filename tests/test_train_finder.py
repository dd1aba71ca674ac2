"""Training a face finder: faces pasted where the table says, what is asked for there, and a training that resumes."""

import json
import math
import os
import signal
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator

from repaint import RunError
from repaint.archs import face_finder
from repaint.archs.face_finder import LARGEST_PX, SMALLEST_PX, STRIDE, UNIT_PX
from repaint.config import resolved
from repaint.faces import TEMPLATE, TEMPLATE_PX, Face
from repaint.train.crowds import FACE_PX, CrowdWindow, Posed, framed, in_pieces, outline, put, read_faces, shrunk
from repaint.train.data import Pictures
from repaint.train.finder import Aim, FinderObjective, FinderTask, Tally, focal_loss, train_finder
from repaint.train.finder_settings import TrainFinder
from repaint.train.settings import Source
from repaint.weights.files import read_state

from .command import called


def drawn_face():
    """(3, 128, 128) uint8: bright, with a dark dot at each of the template's points."""
    y, x = torch.meshgrid(torch.arange(FACE_PX) + 0.5, torch.arange(FACE_PX) + 0.5, indexing="ij")
    at = TEMPLATE * FACE_PX / TEMPLATE_PX
    gap = (torch.stack([x, y], -1)[:, :, None] - at).norm(dim=-1).amin(-1)
    return (255 * (0.1 + 0.8 * (gap > 5))).byte().expand(3, -1, -1)


@pytest.fixture
def folders(tmp_path):
    pixels = np.random.default_rng(0)
    for kind, size, n in (("photos", (90, 70), 3), ("faces", (128, 128), 2)):
        (tmp_path / kind).mkdir()
        for i in range(n):
            Image.fromarray(pixels.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / kind / f"{i}.png")
    return tmp_path


@pytest.fixture
def config(folders):
    def made(output="out", **changes):
        said = {
            "output": str(folders / output),
            "data": [{"folder": str(folders / "photos")}],
            "faces": str(folders / "faces"),
            "size": 64,
            "network": {"widths": [4, 8, 8, 8], "blocks": 1},
            "steps": 4,
            "validate_every": 2,
            "batch_size": 2,
            "workers": 0,
            "device": "cpu",
            "warm_up": 2,
            **changes,
        }
        return TrainFinder.model_validate(said)

    return made


def posed(x, y, px, turn=0.0, narrow=1.0):
    c, s = math.cos(turn), math.sin(turn)
    square = torch.tensor([[c, -s], [s, c]]) @ torch.tensor([[narrow, 0], [0, 1.0]])
    return Posed(square * px / TEMPLATE_PX, torch.tensor([float(x), float(y)]))


def table(*faces):
    """Of (px, landmarks)."""
    rows = torch.zeros(8, 11)
    for row, (px, landmarks) in zip(rows, faces, strict=False):
        row[0], row[1:] = px, landmarks.flatten()
    return rows


def at(x, y, px):
    return (TEMPLATE - TEMPLATE.mean(0)) * px / TEMPLATE_PX + torch.tensor([x, y])


# ---- pasting


@pytest.mark.parametrize(
    "pose",
    [posed(80, 90, 64), posed(70, 80, 100, 0.5), posed(90, 60, 48, -0.4, 0.8), posed(80, 80, 256), posed(10, 90, 60)],
    ids=["upright", "turned", "narrow", "large", "cut by the border"],
)
def test_a_pasted_faces_dots_lie_where_its_landmarks_are(pose):
    image = put(torch.full((3, 160, 160), 0.5), drawn_face() / 255, torch.ones(1, 128, 128), pose, Generator())
    scale = pose.turn.det().sqrt() * TEMPLATE_PX / FACE_PX
    inside = [p for p in pose.landmarks if bool(((p > 8) & (p < 152)).all())]
    assert inside
    for x, y in inside:
        r = max(3, math.ceil(5 * scale))
        top, left = int(y) - r, int(x) - r
        place = image.mean(0)[max(0, top) : top + 2 * r + 1, max(0, left) : left + 2 * r + 1]
        dark = (place.max() - place).clamp(min=0) ** 2
        rows, columns = (torch.arange(n) + 0.5 for n in place.shape)
        middle = torch.stack([(dark.sum(0) * columns).sum(), (dark.sum(1) * rows).sum()]) / dark.sum()
        found = middle + torch.tensor([max(0, left), max(0, top)])
        assert (found - torch.stack([x, y])).norm() < 0.6 + 0.4 * scale


def test_nothing_changes_beyond_the_outline():
    image = torch.rand(3, 96, 96)
    assert torch.equal(put(image, drawn_face() / 255, torch.zeros(1, 128, 128), posed(40, 40, 60), Generator()), image)
    changed = put(image, drawn_face() / 255, torch.ones(1, 128, 128), posed(40, 40, 30), Generator()) != image
    assert not changed[:, 57:].any()
    assert not changed[:, :, :23].any()


def test_a_face_beside_the_window_changes_nothing():
    image = torch.rand(3, 64, 64)
    assert put(image, drawn_face() / 255, torch.ones(1, 128, 128), posed(200, 10, 40), Generator()) is image


@pytest.mark.parametrize("i", range(20))
def test_an_outline_leaves_eyes_and_nose_in(i):
    x, y = (TEMPLATE[:3] * FACE_PX / TEMPLATE_PX).long().unbind(1)
    assert outline(i)[0, y, x].min() > 0.5
    assert 0 <= outline(i).min() <= outline(i).max() <= 1


def test_a_face_in_pieces_is_no_face():
    face = torch.rand(3, 128, 128)
    for seed in range(5):
        pieces = in_pieces(face, Generator().manual_seed(seed))
        assert pieces.shape == face.shape
        assert (pieces - face).abs().mean() > 0.1


def test_what_a_border_hides_is_even():
    image, hidden = framed(torch.rand(3, 64, 64), Generator().manual_seed(3))
    assert 0 < hidden.mean() < 0.9
    assert image[:, hidden[0] > 0].std() < 1e-6


def test_a_small_photo_is_all_of_it_on_its_mean():
    photo = torch.rand(3, 96, 96)
    small = shrunk(photo, Generator().manual_seed(0))
    there = (small != photo.mean()).all(0)
    side = math.isqrt(int(there.sum()))
    assert 32 <= side <= 90
    assert small[:, there].mean().item() == pytest.approx(photo.mean().item(), abs=0.02)


# ---- windows


def test_window_is_a_function_of_seed_and_place_alone(folders):
    sources = [Source(folder=str(folders / "photos"))]
    make = CrowdWindow(64, read_faces(str(folders / "faces")))
    first = Pictures(sources, make, seed=1, count=12)
    again = Pictures(sources, make, seed=1, count=12, cache_mb=0)
    forwards, backwards = [first[i][0] for i in range(12)], [again[i][0] for i in reversed(range(12))][::-1]
    assert all(
        torch.equal(a, b)
        for one, other in zip(forwards, backwards, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    for luma, faces in forwards:
        assert luma.shape == (1, 64, 64)
        assert 0 <= luma.min() <= luma.max() <= 1
        assert faces.shape == (8, 11)


def test_rows_are_faces_that_stand_in_the_window_or_hardly_show(folders):
    make = CrowdWindow(160, read_faces(str(folders / "faces")))
    windows = Pictures([Source(folder=str(folders / "photos"))], make, seed=0, count=60)
    rows = [row for i in range(60) for row in windows[i][0][1] if row[0] != 0]
    assert {bool(row[0] > 0) for row in rows} == {True, False}
    for row in rows:
        points = row[1:].view(5, 2)
        assert row[0].abs().item() == pytest.approx(Face(points).px, rel=1e-4)
        if row[0] > 0:
            assert ((points > 0) & (points < 160)).all(1).sum() >= 4


def test_a_share_of_windows_has_no_faces(folders):
    make = CrowdWindow(64, read_faces(str(folders / "faces")))
    windows = Pictures([Source(folder=str(folders / "photos"))], make, seed=0, count=60)
    assert 5 < sum(not windows[i][0][1].any() for i in range(60)) < 30


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda d: d.rename(d.parent / "gone"), r"faces: .*faces holds no images"),
        (lambda d: (d / "a.png").write_text("x"), r"faces: .*a.png: cannot be read as an image"),
        (lambda d: Image.new("RGB", (40, 30)).save(d / "a.png"), r"a.png: is 40 x 30 px; aligned faces are square"),
    ],
    ids=["no folder", "no image", "not square"],
)
def test_faces_that_cannot_be_used_are_one_clear_line(folders, spoil, said):
    spoil(folders / "faces")
    with pytest.raises(RunError, match=said):
        read_faces(str(folders / "faces"))


# ---- what is asked for


def test_a_face_is_asked_for_in_one_cell_with_its_landmarks():
    points = at(52.0, 70.0, 40)
    heat, counts, landmarks, px = Aim(128)(table((40.0, points))[None])
    assert (heat == 1).nonzero().tolist() == [[0, 70 // STRIDE, 52 // STRIDE]]
    assert counts.all()
    near = heat > 0.1
    assert near.sum() > 1
    torch.testing.assert_close(landmarks[near], points.expand(int(near.sum()), 5, 2))
    assert (px[near] == 40).all()


def test_each_cell_learns_the_landmarks_of_its_own_face():
    faces = [(30.0, at(28.0, 28.0, 30)), (50.0, at(84.0, 92.0, 50))]
    heat, _, landmarks, px = Aim(128)(table(*faces)[None])
    for (side, points), (row, column) in zip(faces, [(3, 3), (11, 10)], strict=True):
        assert heat[0, row, column] == 1
        torch.testing.assert_close(landmarks[0, row, column], points)
        assert px[0, row, column] == side


@pytest.mark.parametrize(
    ("px", "asked"), [(SMALLEST_PX - 2, "either"), (LARGEST_PX + 6, "either"), (-40.0, "either"), (200.0, "no")]
)
def test_of_faces_beyond_its_sizes_the_near_ones_do_not_matter_and_the_far_ones_are_none(px, asked):
    heat, counts, _, _ = Aim(128)(table((px, at(64.0, 64.0, abs(px))))[None])
    assert not heat.any()
    assert bool(counts[0, 8, 8]) == (asked == "no")
    assert counts[0, 0, 0]


def test_windows_without_faces_ask_for_nothing():
    heat, counts, _, _ = Aim(64)(torch.zeros(2, 8, 11))
    assert not heat.any()
    assert counts.all()


def test_focal_loss_is_nothing_for_who_is_right_and_log_2_over_4_for_who_knows_nothing():
    heat = torch.tensor([[0.0, 1.0, 0.0]])
    counts = torch.ones_like(heat, dtype=torch.bool)
    assert focal_loss(torch.tensor([[-20.0, 20.0, -20.0]]), heat, counts) < 1e-6
    assert focal_loss(torch.zeros(1, 3), heat, counts).item() == pytest.approx(3 * math.log(2) / 4)
    assert focal_loss(torch.zeros(1, 3), heat, torch.tensor([[False, True, False]])).item() == pytest.approx(
        math.log(2) / 4
    )


def test_cells_near_a_face_are_hardly_wrong():
    heat = torch.tensor([[0.9, 1.0, 0.0]])
    counts = torch.ones_like(heat, dtype=torch.bool)
    near = focal_loss(torch.tensor([[5.0, 20.0, -20.0]]), heat, counts)
    far = focal_loss(torch.tensor([[-20.0, 20.0, 5.0]]), heat, counts)
    assert near < 1e-3 * far


def test_objective_of_a_network_that_knows_is_nothing(config):
    faces = table((40.0, at(36.0, 28.0, 40)))[None]
    aim = Aim(64)
    heat, _, landmarks, _ = aim(faces)
    offsets = (landmarks - aim.middles[..., None, :]).flatten(3).permute(0, 3, 1, 2) / UNIT_PX

    class Knows(torch.nn.Module):
        def forward(self, luma):
            return torch.cat([(40 * (heat == 1) - 20.0)[:, None], offsets], 1)

    knowing = cast(face_finder.FaceFinder, Knows())
    loss, figures = FinderObjective(knowing, config())(torch.zeros(1, 1, 64, 64), faces)
    assert loss < 1e-5
    assert list(figures) == ["loss", "focal", "landmarks"]


# ---- figures


def test_what_is_found_is_counted_once_and_what_hardly_shows_not_at_all():
    tally = Tally()
    rows = table((40.0, at(50.0, 50.0, 40)), (30.0, at(120.0, 50.0, 30)), (-40.0, at(50.0, 120.0, 40)))
    faces = [Face(at(51.0, 50.0, 40)), Face(at(50.0, 52.0, 40)), Face(at(50.0, 120.0, 40)), Face(at(120.0, 120.0, 40))]
    tally.add(faces, rows)
    assert (tally.there, tally.found, tally.same) == (2, 3, 1)
    figures = tally.figures()
    assert figures["error"] == pytest.approx(1 - 2 / 5)
    assert (figures["recall"], figures["precision"]) == (1 / 2, pytest.approx(1 / 3))
    eyes = 40 * (TEMPLATE[0] - TEMPLATE[1]).norm().item() / TEMPLATE_PX
    assert figures["landmarks"] == pytest.approx(1 / eyes, rel=1e-3)


# ---- the training


def weights(path):
    return read_state(Path(path))[0]


@pytest.mark.parametrize("when", [1, 3])
def test_a_stopped_training_ends_with_the_weights_of_one_that_was_not(config, when):
    whole = weights(train_finder(config("whole")))

    def stop(status):
        if status.step == when:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_finder(config("stopped"), stop)
    ended = weights(train_finder(config("stopped")))
    assert all(torch.equal(ended[name], value) for name, value in whole.items())


def test_exported_weights_are_a_finder_and_say_so(config):
    state, said = read_state(Path(train_finder(config())))
    assert json.loads(said["architecture"]) == {"name": "face_finder", "widths": [4, 8, 8, 8], "blocks": 1}
    assert face_finder.detect(state) == face_finder.FaceFinderConfig((4, 8, 8, 8), 1)
    assert "validation_recall" in said


def test_a_training_may_begin_with_the_weights_of_another(config):
    first = train_finder(config("first"))
    begun = FinderTask(config("second", start_from=first)).objective().network.state_dict()
    assert all(torch.equal(begun[name], value.float()) for name, value in weights(first).items())


def test_weights_of_another_network_cannot_be_begun_with(config):
    first = train_finder(config("first", steps=1))
    other = {"widths": [4, 8, 8, 16], "blocks": 1}
    with pytest.raises(RunError, match=r"start_from: .*finder.safetensors is of another network"):
        train_finder(config("second", start_from=first, network=other))


def test_command_trains_and_names_the_weights(config, tmp_path):
    file = tmp_path / "train.yml"
    file.write_text(resolved(config(steps=1)))
    said = called("train", "finder", file)
    assert said.code == 0
    assert said.lines[-1] == f"repaint: wrote {tmp_path}/out/finder.safetensors"
