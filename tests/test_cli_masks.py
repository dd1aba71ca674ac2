"""`repaint masks`, `weights`, `schema`, `--version`: the smaller commands."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repaint.errors import WeightsError
from repaint.jobs import RunConfig
from repaint.masks import KINDS
from repaint.weights import catalog, store

from .command import called, pixels, png, read


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_every_kind_are_white_to_keep_and_black_to_fill(kind, tmp_path):
    code, out, lines = called("masks", kind, "--out", tmp_path, "--size", 64, "--count", 2)
    assert (code, out, lines) == (0, "", [f"repaint: wrote 2 {kind} masks to {tmp_path}"])
    assert names(tmp_path) == ["000.png", "001.png"]
    for name in names(tmp_path):
        with Image.open(tmp_path / name) as image:
            assert (image.size, image.mode) == ((64, 64), "L")
        assert set(np.unique(read(tmp_path / name))) == {0, 255}
    assert kind != "expand" or read(tmp_path / "000.png").mean() < 128


def test_every_kind_is_named_in_the_help():
    said = called("masks", "--help").out
    assert all(kind in said for kind in KINDS)


def test_masks_of_one_seed_are_the_same_and_of_another_are_not(tmp_path):
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert called("masks", "wide", "--out", tmp_path / folder, "--size", 64, "--seed", seed, "--count", 2).code == 0
    a, b, c = (
        [(tmp_path / folder / name).read_bytes() for name in names(tmp_path / folder)] for folder in ("a", "b", "c")
    )
    assert a == b
    assert a[1] == c[0]  # the second of seed 3 is the first of seed 4
    assert a[0] != c[0]


def test_a_mask_that_is_there_is_not_written_over_by_another(tmp_path):
    words = ("masks", "strokes", "--size", 32, "--out", tmp_path)
    assert called(*words).code == 0
    assert called(*words).code == 0  # the same again
    before = (tmp_path / "000.png").read_bytes()
    said = called(*words, "--seed", 1)
    assert said.code == 2
    assert said.error == f"--out {tmp_path}: 000.png is there, and another; choose another folder"
    assert (tmp_path / "000.png").read_bytes() == before


def test_masks_need_not_be_square(tmp_path):
    said = called("masks", "half", "--out", tmp_path, "--width", 48, "--height", 20)
    assert said.lines == [f"repaint: wrote 1 half mask to {tmp_path}"]
    keep = read(tmp_path / "000.png")
    assert keep.shape == (20, 48)
    assert (keep[:, :24] == 255).all()
    assert (keep[:, 24:] == 0).all()


def test_masks_like_photos_have_their_sizes_and_names(tmp_path):
    photos = tmp_path / "photos"
    (photos / "deep").mkdir(parents=True)
    (photos / "a.png").write_bytes(png(pixels(30, 40)))
    Image.fromarray(pixels(50, 20)).save(photos / "deep" / "b.jpg")
    assert called("masks", "lines", "--out", tmp_path / "masks", "--like", photos).code == 0
    assert names(tmp_path / "masks") == ["a.png", "deep/b.png"]
    assert read(tmp_path / "masks" / "a.png").shape == (30, 40)
    assert read(tmp_path / "masks" / "deep" / "b.png").shape == (50, 20)


WRONG = {
    "unknown kind": (["wde"], r".*'wde'.*wide.*"),
    "sizes and photos": (["wide", "--like", "x", "--size", 64], "--like: sizes and count come from the photos; .*"),
    "width and photos": (["wide", "--like", "x", "--width", 64], "--like: .*"),
    "count and photos": (["wide", "--like", "x", "--count", 2], "--like: .*"),
    "two sizes": (["wide", "--size", 64, "--width", 32], "--size: makes squares; leave out --width and --height"),
    "no photos": (["wide", "--like", "x"], "x: is not a folder"),
}


@pytest.mark.parametrize("case", WRONG)
def test_contradictory_or_wrong_options_are_exit_2_and_one_line(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, expected = WRONG[case]
    said = called("masks", *words, "--out", "masks")
    assert said.code == 2
    assert re.fullmatch(expected, said.error)
    assert names(tmp_path) == []


def test_masks_that_cannot_be_written_are_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    said = called("masks", "half", "--out", tmp_path / "file")
    assert said.code == 2
    assert "cannot write " in said.error


# ---- weights


def test_weights_are_listed_with_size_licence_and_whether_they_are_here(tmp_path):
    code, out, lines = called("weights", "list", "--dir", tmp_path)
    assert (code, lines) == (0, [])
    assert max(map(len, out.splitlines())) <= 100
    for entry in catalog.CATALOG:
        ((row, text),) = re.findall(rf"^  ({re.escape(entry.name)}  .*)\n((?:      .*\n)+)", out, re.MULTILINE)
        assert entry.size in row
        assert ("not for commercial use" in row) == (not entry.commercial)
        assert f"{entry.purpose}. Licence: {entry.licence}" == " ".join(text.split())
    assert re.search("^  base-64 .* embedded$", out, re.MULTILINE)
    assert re.search("^  celebahq-256 .* not here ", out, re.MULTILINE)
    (tmp_path / "celeba256_250000.pt").write_bytes(b"x")
    assert re.search("^  celebahq-256 .* GB +here ", called("weights", "list", "--dir", tmp_path).out, re.MULTILINE)


def test_weights_are_listed_by_what_they_are_for():
    out = called("weights", "list").out
    places = [out.index(f"\n  {entry.name}  ") for entry in catalog.CATALOG]
    assert places == sorted(places)
    assert {entry.kind for entry in catalog.CATALOG} == catalog.KINDS.keys()


def test_weights_are_fetched_one_after_another_where_they_should_go(tmp_path, monkeypatch):
    fetched = []

    def fetch(entry, dir, *, report, say):
        report(5, None)
        report(10, 10)
        say(f"{entry.name}: licence")
        fetched.append((entry.name, dir))
        return tmp_path / entry.file

    monkeypatch.setattr(store, "fetch", fetch)
    code, _, lines = called("weights", "get", "places-256", "celebahq-256", "--dir", tmp_path)
    assert code == 0
    assert fetched == [("places-256", str(tmp_path)), ("celebahq-256", str(tmp_path))]
    assert lines == [
        "repaint: places-256: licence",
        f"repaint: places-256: {tmp_path}/places256_300000.pt",
        "repaint: celebahq-256: licence",
        f"repaint: celebahq-256: {tmp_path}/celeba256_250000.pt",
    ]


def test_unknown_weights_are_said_before_anything_is_fetched(monkeypatch):
    monkeypatch.setattr(store, "fetch", lambda *_, **__: pytest.fail("fetched"))
    said = called("weights", "get", "places-256", "celeba-256")
    assert said.code == 2
    meant = "did you mean 'celebahq-256'? (all names: repaint weights list)"
    assert said.error == f"'celeba-256' is not in the catalogue; {meant}"


def test_fetch_that_fails_is_exit_2_and_one_line(monkeypatch):
    def fail(*_, **__):
        raise WeightsError("https://example.org: cannot be reached")

    monkeypatch.setattr(store, "fetch", fail)
    said = called("weights", "get", "places-256")
    assert (said.code, said.error) == (2, "https://example.org: cannot be reached")


def test_masks_are_not_written_among_the_photos_they_are_like(tmp_path):
    photo = tmp_path / "a.png"
    photo.write_bytes(png(pixels(32, 32)))
    for out in (tmp_path, tmp_path / "masks"):
        said = called("masks", "lines", "--like", tmp_path, "--out", out)
        assert said.code == 2
        assert said.error == f"--out {out}: lies in {tmp_path}, among the photos; choose another folder"
    assert names(tmp_path) == ["a.png"]
    assert photo.read_bytes() == png(pixels(32, 32))


def test_interrupted_fetch_is_exit_130(monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "fetch", interrupt)
    said = called("weights", "get", "places-256")
    assert said.code == 130
    assert said.error.startswith("stopped")


def test_embedded_weights_need_no_fetching(tmp_path):
    code, _, (line,) = called("weights", "get", "base-64", "--dir", tmp_path)
    assert code == 0
    assert line.endswith("/repaint/weights/embedded/base-64.safetensors")


# ---- the rest


def test_schema_is_printed_as_json():
    code, out, lines = called("schema")
    assert (code, lines) == (0, [])
    assert json.loads(out) == RunConfig.model_json_schema()


def test_version_is_printed():
    assert called("--version").out.strip() == version("repaint")
    assert called("--version").code == 0


@pytest.mark.parametrize("words", [[], ["weights"]])
def test_without_a_command_there_is_help(words):
    said = called(*words)
    assert "Usage: " in said.out + "\n".join(said.lines)
    assert said.code == 2


@pytest.mark.parametrize(
    "words", [["paint"], ["run"], ["run", "c.yml", "--sett", "a=1"], ["masks", "wide", "--size", "x"]]
)
def test_words_the_parser_does_not_know_are_exit_2(words):
    said = called(*words)
    assert said.code == 2
    assert "Usage: " in said.lines[0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("words", [("schema",), ("--version",), ("weights", "list")])
def test_output_that_cannot_be_printed_is_one_line(words):
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "repaint", *words], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "repaint: cannot print: No space left on device\n")
