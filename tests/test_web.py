"""The web page: what is painted and what is filled, what is refused, and a server that answers."""

import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from repaint.errors import ImageError, RunError
from repaint.image import Meta, Photo, decode_photo, read_photo, write_photo
from repaint.restoring import Restore
from repaint.stages.scratches import Scratches
from repaint.web import work

from .command import called, pixels, png
from .visiting import RESTORE, Visitor, served, values, words

ROOT = Path(__file__).parents[1]
SIDES = st.tuples(st.integers(1, 1400), st.integers(1, 1400))


def random_hole(height: int, width: int, seed: int = 0, share: float = 0.05) -> torch.Tensor:
    return torch.rand(1, height, width, generator=torch.Generator().manual_seed(seed)) < share


# ---- marks and holes


@given(SIDES)
def test_a_view_fills_the_canvas_one_way_and_keeps_its_shape(sides):
    height, width = work.view_sides(*sides)
    assert max(height, width) == work.VIEW_PX
    longest = max(sides)
    assert abs(height - sides[0] * work.VIEW_PX / longest) <= 1
    assert abs(width - sides[1] * work.VIEW_PX / longest) <= 1


@pytest.mark.parametrize("sides", [(40, 60), (1000, 700), (1501, 2003), (3, 900), (16, 16)])
def test_what_was_found_and_left_alone_is_filled_to_the_pixel(sides):
    hole = random_hole(*sides)
    marks = work.marks_of_hole(hole)
    assert marks.shape == work.view_sides(*sides)
    assert torch.equal(work.hole_of_marks(marks, sides, work.Found(hole, marks)), hole)


@pytest.mark.parametrize("sides", [(40, 60), (1501, 2003), (3, 900)])
def test_what_is_wiped_out_is_not_filled(sides):
    hole = random_hole(*sides)
    marks = work.marks_of_hole(hole)
    assert not work.hole_of_marks(np.zeros_like(marks), sides, work.Found(hole, marks)).any()


def test_wiping_a_part_leaves_the_rest_alone():
    hole = torch.zeros(1, 1500, 2000, dtype=torch.bool)
    hole[:, 300:310, 100:900] = True
    hole[:, 1200:1203, 1500:1600] = True
    marks = work.marks_of_hole(hole)
    left = marks.copy()
    left[:300] = False  # the upper 600 px
    found = work.hole_of_marks(left, (1500, 2000), work.Found(hole, marks))
    assert torch.equal(found[:, 700:], hole[:, 700:])
    assert not found[:, :600].any()


def test_what_is_painted_comes_to_the_size_of_the_photo_beside_what_was_found():
    hole = torch.zeros(1, 2000, 1000, dtype=torch.bool)
    hole[:, 10:20, 10:20] = True
    marks = work.marks_of_hole(hole)
    painted = marks.copy()
    painted[500:510, 100:200] = True
    wanted = hole.clone()
    wanted[:, 1000:1020, 200:400] = True
    assert torch.equal(work.hole_of_marks(painted, (2000, 1000), work.Found(hole, marks)), wanted)
    assert torch.equal(work.hole_of_marks(painted & ~marks, (2000, 1000), None), wanted & ~hole)


def test_another_search_keeps_what_was_painted_and_wiped_out():
    def found(*columns: int) -> work.Found:
        marks = np.zeros((4, 6), bool)
        marks[:, columns] = True
        return work.Found(torch.zeros(1, 4, 6, dtype=torch.bool), marks)

    painted = found(0).marks
    assert (work.looked_again(painted, None, found(1, 2)) == found(0, 1, 2).marks).all()
    corrected = found(0, 2).marks  # of 1 and 2, 1 was wiped out, and 0 painted
    assert (work.looked_again(corrected, found(1, 2), found(1, 2, 3)) == found(0, 2, 3).marks).all()
    assert (work.looked_again(corrected, found(1, 2), found(1)) == found(0).marks).all()


@pytest.mark.parametrize("sides", [(1000, 640), (333, 1000), (1000, 1000), (1, 1000)])
def test_marks_on_a_canvas_are_read_where_they_were_shown(sides):
    marks = np.random.default_rng(0).random(sides) < 0.1
    view = np.zeros((*sides, 3), np.uint8)
    canvas, layer = work.on_canvas(view, marks)
    assert (canvas.shape, layer.shape) == ((1000, 1000, 3), (1000, 1000, 4))
    assert (canvas == 0).all(-1).sum() == view.size // 3
    assert (work.marks_on_canvas([layer], sides) == marks).all()
    assert not work.marks_on_canvas([work.on_canvas(view, None)[1]], sides).any()
    assert not work.marks_on_canvas((), sides).any()


def test_a_faint_trace_of_wiping_is_no_mark():
    layer = np.zeros((1000, 1000, 4), np.uint8)
    layer[:10], layer[10:20] = (255, 32, 16, 20), (255, 32, 16, 150)
    assert work.marks_on_canvas([layer], (1000, 1000)).sum() == 10 * 1000


def test_previews_are_small_and_show_white_where_a_photo_is_transparent():
    photo = Photo(torch.zeros(3, 90, 4000), alpha=torch.zeros(1, 90, 4000))
    assert work.preview(photo).shape == (36, 1600, 3)
    assert work.view(photo).shape == (22, 1000, 3)
    assert (work.preview(photo) == 255).all()
    small = Photo(torch.rand(3, 20, 30))
    assert work.preview(small).shape == (20, 30, 3)


# ---- work


def aged(tmp_path: Path, name: str = "aunt.tif", bits: int = 16) -> Path:
    shades = torch.linspace(0.2, 0.8, 80).expand(3, 60, 80).clone()
    shades[:, 20:23, 10:70] = 1.0
    write_photo(tmp_path / name, Photo(shades, meta=Meta("tiff", bits=bits)))
    return tmp_path / name


def test_a_photo_is_restored_in_its_format_and_only_where_it_is_marked(tmp_path):
    photo = work.opened(aged(tmp_path), max_pixels=10**6)
    hole = torch.zeros(1, 60, 80, dtype=torch.bool)
    hole[:, 19:24, 9:71] = True
    settings = Restore(preset="fast", scratches=False, faces=False, color=False)
    (tmp_path / "new").mkdir()
    looks = list(
        work.restoring(
            photo, "aunt.tif", settings, tmp_path / "new", hole=hole, seed=0, device="cpu", precision="float32"
        )
    )
    last = looks[-1]
    assert last.file == tmp_path / "new" / "aunt-restored.tif"
    assert last.picture is not None
    assert last.picture.shape == (60, 80, 3)
    assert re.fullmatch(r"Done in \d+ s\.", last.words)
    result = read_photo(last.file)
    assert result.meta.bits == 16
    assert torch.equal(result.rgb[:, ~hole[0]], photo.rgb[:, ~hole[0]])
    assert result.rgb[:, hole[0]].max() < 0.9


def test_the_photo_is_seen_while_it_is_worked_on(tmp_path, monkeypatch):
    monkeypatch.setattr(work, "SECONDS_BETWEEN_LOOKS", -1)
    photo = work.opened(aged(tmp_path), max_pixels=10**6)
    hole = torch.zeros(1, 60, 80, dtype=torch.bool)
    hole[:, 16:44, 20:48] = True  # too thick for the mender
    settings = Restore(preset="fast", prior="base-64", scratches=False, faces=False, color=False)
    looks = work.restoring(photo, "aunt.tif", settings, tmp_path, hole=hole, seed=0, device="cpu", precision="float32")
    pictures = [look.picture.astype(int) for look in looks if look.picture is not None]
    assert len(pictures) > 10
    off = [np.abs(picture - pictures[-1]) for picture in pictures]
    assert all((each[:, ~hole[0].numpy().any(0)] == 0).all() for each in off)  # what is known stands from the first
    inside = [each[16:44, 20:48].mean() for each in off]
    assert inside[0] > inside[-2] >= inside[-1] == 0


def test_a_format_that_is_only_read_becomes_png(tmp_path):
    photo = Photo(torch.rand(3, 20, 30))
    settings = Restore(scratches=False, faces=False)
    *_, last = work.restoring(
        photo, "aunt.GIF", settings, tmp_path, hole=None, seed=0, device="cpu", precision="float32"
    )
    assert last.file == tmp_path / "aunt-restored.png"
    assert last.file.read_bytes().startswith(b"\x89PNG")


def test_whoever_comes_while_another_photo_is_worked_on_is_told():
    at_work = work.AtWork()
    alone = at_work.words()
    first, second = at_work.during(iter("ab")), at_work.during(iter("ab"))
    assert at_work.words() == alone
    assert next(first) == "a"
    assert at_work.words() != alone
    assert list(first) == ["b"]
    assert at_work.words() == alone
    next(second)
    second.close()  # as when somebody presses Stop, or leaves
    assert at_work.words() == alone


def test_nothing_to_do_is_said(tmp_path):
    settings = Restore(scratches=False, faces=False, color=False)
    nothing = torch.zeros(1, 20, 30, dtype=torch.bool)
    photo = Photo(torch.rand(3, 20, 30))
    with pytest.raises(RunError, match="nothing to do"):
        list(
            work.restoring(photo, "a.png", settings, tmp_path, hole=nothing, seed=0, device="cpu", precision="float32")
        )


def test_a_file_that_is_no_photo_is_named_without_its_folder(tmp_path):
    (tmp_path / "aunt.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"^aunt\.png: ") as e:
        work.opened(tmp_path / "aunt.png", max_pixels=10**6)
    assert str(tmp_path) not in str(e.value)


def test_finding_ends_with_what_the_stage_finds(tmp_path):
    photo = work.opened(aged(tmp_path), max_pixels=10**6)
    *looks, found = work.finding(photo, 0.9, "cpu")
    assert looks
    assert isinstance(found, work.Found)
    *_, last = Scratches(sensitivity=0.9).build("cpu")([photo])
    assert torch.equal(~found.hole, last.photos[0].keep)
    assert (found.marks == work.marks_of_hole(found.hole)).all()


def test_a_clock_says_how_long_it_may_take_once_it_can_tell():
    now = [0.0]
    clock = work._Clock(lambda: now[0])
    assert clock.words("Filling", 0.5) == "Filling …"
    now[0] = 30
    assert clock.words("Filling", 0.01) == "Filling …"
    assert clock.words("Filling", 0.25) == "Filling: 25 % of all, about 90 s left"
    assert clock.words("Filling", 0.1) == "Filling: 10 % of all, about 4 min left"
    assert clock.done() == "Done in 30 s."


# ---- the page, as a browser talks to it


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server's address, process and temporary folder."""
    with served(tmp_path_factory.mktemp("server")) as there:
        yield there


def test_a_visitor_opens_a_photo_sees_its_damage_and_gets_it_restored(server, tmp_path):
    path = aged(tmp_path, "aunt.png", bits=8)
    visitor = Visitor(server[0])
    opened = visitor.did("open_", visitor.upload(path))
    assert words(opened) == "aunt.png: 80 x 60 pixels. Press **Restore**; or look at the damage first."
    found = visitor.did("find_", None, None, 0.9)
    assert re.match(r"Damage on \d+\.\d\d % of the photo, in red\.", words(found))
    (editor,) = values(found)
    restored = visitor.did("restore_", None, editor, *RESTORE)
    assert words(restored).startswith("**Done in ")
    (result,) = [value for value in values(restored) if "path" in value]
    assert Path(result["path"]).name == "aunt-restored.png"
    new = decode_photo(visitor.get(f"gradio_api/file={result['path']}"), "new", max_pixels=10**6)
    old = read_photo(path)
    *_, there = work.finding(old, 0.9, "cpu")
    assert isinstance(there, work.Found)
    changed = (new.rgb != old.rgb).any(0)
    assert changed.any()
    assert not (changed & ~there.hole[0]).any()


def test_a_visitor_hears_what_is_wrong_and_may_go_on(server, tmp_path):
    visitor = Visitor(server[0])
    (tmp_path / "cut.png").write_bytes(png(pixels())[:-40])
    assert words(visitor.did("open_", visitor.upload(tmp_path / "cut.png"))).startswith(
        "**This did not work:** cut.png: "
    )
    assert words(visitor.did("open_", None)) == "Drop a photo, and press **Restore**."
    visitor.did("open_", visitor.upload(aged(tmp_path)))
    refused = visitor.did("restore_", None, None, False, *RESTORE[1:])
    assert "nothing to do" in words(refused)
    shown = [output["visible"] for output in refused if isinstance(output, dict) and "visible" in output]
    assert shown == [True, False]  # Restore, Stop


def test_what_was_found_is_left_alone_where_that_is_not_asked_for(server, tmp_path):
    visitor = Visitor(server[0])
    visitor.did("open_", visitor.upload(aged(tmp_path)))
    (editor,) = values(visitor.did("find_", None, None, 0.9))
    refused = visitor.did("restore_", None, editor, False, *RESTORE[1:])
    assert "nothing to do" in words(refused)


def test_the_page_asks_no_other_server_and_shows_no_other_files(server, tmp_path):
    visitor = Visitor(server[0])
    assert re.findall(r"https?://(?!127\.0\.0\.1)[^\s\"'<>]+\.(?:js|css|woff2?)\b", visitor.get("").decode()) == []
    (tmp_path / "secret.txt").write_text("secret")
    for path in (tmp_path / "secret.txt", ROOT / "setup.py"):
        with pytest.raises(urllib.error.HTTPError, match="403") as refused:
            visitor.get(f"gradio_api/file={path}")
        refused.value.close()


def test_a_port_that_is_taken_is_said_and_ctrl_c_leaves_nothing_behind(server):
    address, process, folder = server
    port = address.rstrip("/").rpartition(":")[2]
    words = [sys.executable, "-m", "repaint", "web", "--port", port, "--device", "cpu"]
    second = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    wrong = f"repaint: --port {port}: cannot be had on 127.0.0.1; some other program has it, perhaps\n"
    assert (second.returncode, second.stderr) == (2, wrong)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert process.stderr.read() == "repaint: stopped\n"
    assert list(folder.glob("repaint-*")) == []


def test_wrong_options_and_a_missing_gradio_are_one_line(monkeypatch):
    assert called("web", "--device", "gpu").error.startswith("--device: ")
    monkeypatch.setitem(sys.modules, "gradio", None)
    missing = called("web")
    assert missing.code == 2
    assert missing.error.startswith("the web page takes gradio (")
    assert missing.error.endswith("pip install '.[web]'")
