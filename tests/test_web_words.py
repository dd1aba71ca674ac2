"""What the web page says, of pages, of nothing found, of nothing to do, of a seed that is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from repaint.image import Photo
from repaint.restoring import Restore
from repaint.web import work

from .command import pixels
from .visiting import RESTORE, Visitor, served, values, words

MOVED = "What is red was found as the slider stood before; **Show the damage** looks again."


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with served(tmp_path_factory.mktemp("server")) as (there, _, _):
        yield there


@pytest.fixture
def plain(tmp_path) -> Path:
    """A photo of one grey, 40 px wide."""
    Image.new("RGB", (40, 40), (120, 120, 120)).save(tmp_path / "plain.png")
    return tmp_path / "plain.png"


@pytest.fixture
def visitor(address, plain) -> Visitor:
    """Who has opened that photo."""
    visitor = Visitor(address)
    visitor.did("open_", visitor.upload(plain))
    return visitor


def test_pages_that_are_not_read_are_said_when_a_photo_is_opened_and_with_its_result(visitor, tmp_path):
    first, second = (Image.fromarray(pixels(seed=seed)) for seed in (0, 1))
    first.save(tmp_path / "scan.tif", save_all=True, append_images=[second])
    said = "holds 2 pages or frames; the first is read, and no other"
    assert said in words(visitor.did("open_", visitor.upload(tmp_path / "scan.tif")))
    assert f"- {said}\n" in words(visitor.did("restore_", None, None, *RESTORE))


def test_a_photo_without_damage_is_said_to_have_none(visitor):
    assert words(visitor.did("restore_", None, None, *RESTORE)).endswith("- no damage found")
    assert words(visitor.did("find_", None, None, 0.5)).startswith("No damage found. ")


def test_nothing_to_do_is_said_in_words_of_the_page_though_damage_was_looked_for(visitor):
    (editor,) = values(visitor.did("find_", None, None, 0.5))
    said = words(visitor.did("restore_", None, editor, *RESTORE))
    assert said.endswith("nothing to do: nothing is red, no other box is ticked, and the size is as it is")


def test_what_is_painted_is_not_said_to_be_found(tmp_path):
    photo = Photo(torch.full((3, 40, 40), 0.5))
    hole = torch.zeros(1, 40, 40, dtype=torch.bool)
    hole[:, 10:14, 5:35] = True
    settings = Restore(preset="fast", faces=False, color=False)
    *_, last = work.restoring(photo, "a.png", settings, tmp_path, hole=hole, seed=0, device="cpu", precision="float32")
    assert last.notes[0] == "no damage found, beside what is painted"


@pytest.mark.parametrize("seed", [-1, 1e30])
def test_a_seed_that_is_none_is_said_and_the_page_goes_on(visitor, seed):
    refused = visitor.did("restore_", None, None, *RESTORE[:-1], seed)
    assert f"Seed: found {seed:g}; a whole number from 0 to " in words(refused)
    shown = [output["visible"] for output in refused if isinstance(output, dict) and "visible" in output]
    assert shown == [True, False]  # Restore, Stop


def test_a_slider_that_is_moved_after_the_search_says_what_is_red(visitor):
    assert visitor.did("moved", None) != [MOVED]
    visitor.did("find_", None, None, 0.5)
    assert visitor.did("moved", None) == [MOVED]
