"""`repaint inpaint`: one photo, one mask, one result."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import repaint.single
from repaint.stages.inpaint import Sampler

from . import tiny
from .command import called, mask, pixels, png, read

QUICK = ("--t-T", 3, "--jump-length", 2, "--jump-n-sample", 1)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with photo.png, mask.png and prior.safetensors, where the commands are called."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_bytes(png(pixels()))
    (tmp_path / "mask.png").write_bytes(png(mask()))
    tiny.checkpoint(tmp_path / "prior.safetensors")
    return tmp_path


def inpaint(*words, out="out.png", marks="mask.png", prior="prior.safetensors"):
    return called("inpaint", "photo.png", "--mask", marks, "--out", out, "--prior", prior, *QUICK, *words)


@pytest.fixture
def settings(monkeypatch):
    """What the options became, instead of a result."""
    told = {}

    def remember(photo, mask, out, settings, **more):
        told.update(photo=str(photo), mask=str(mask), out=str(out), settings=settings, **more)

    monkeypatch.setattr(repaint.single, "inpaint_file", remember)
    return told


def test_hole_is_filled_and_all_else_is_the_photo(here):
    code, out, lines = inpaint()
    assert (code, out, lines) == (0, "", ["repaint: wrote out.png"])
    kept = mask() == 255
    assert (read(here / "out.png")[kept] == pixels()[kept]).all()
    assert (read(here / "out.png")[~kept] != pixels()[~kept]).any()


def test_white_marks_the_hole_where_that_is_said(here):
    (here / "white.png").write_bytes(png(255 - mask()))
    inpaint()
    assert inpaint("--hole", "white", marks="white.png", out="white_out.png").code == 0
    assert (here / "white_out.png").read_bytes() == (here / "out.png").read_bytes()


def test_same_seed_is_the_same_file_and_another_seed_another_fill(here):
    for out, seed in (("a.png", 7), ("b.png", 7), ("c.png", 8)):
        assert inpaint("--seed", seed, out=out).code == 0
    assert (here / "a.png").read_bytes() == (here / "b.png").read_bytes()
    differs = (read(here / "a.png") != read(here / "c.png")).any(-1)
    assert differs.any()
    assert not differs[mask() == 255].any()


def test_float16_on_a_cpu_is_float32_and_said(here):
    inpaint("--device", "cpu")
    said = inpaint("--device", "cpu", "--precision", "float16", out="half.png")
    assert said.lines[0] == "repaint: precision: float16 is slower than float32 on a CPU: using float32"
    assert (here / "half.png").read_bytes() == (here / "out.png").read_bytes()


@pytest.mark.parametrize("out", ["new/", "there"])
def test_a_folder_gets_the_photos_name(here, settings, out):
    (here / "there").mkdir()
    assert inpaint(out=out).lines == [f"repaint: wrote {Path(out, 'photo.png')}"]
    assert settings["out"] == str(Path(out, "photo.png"))


def test_in_its_own_folder_the_photo_stays(here):
    before = (here / "photo.png").read_bytes()
    said = inpaint(out=".")
    assert (said.code, said.error) == (
        2,
        "--out photo.png: is the photo, which would be overwritten; choose another name",
    )
    assert (here / "photo.png").read_bytes() == before


def test_an_empty_result_is_refused(here):
    said = inpaint(out="")
    assert (said.code, said.error) == (2, "--out: is empty; the result, or a folder for it, would be right")


@pytest.mark.parametrize("out", ["x.jpg", "x.TIFF", "new/folder/x.webp"])
def test_ending_says_the_format(here, out):
    assert inpaint(out=out).lines == [f"repaint: wrote {out}"]
    with Image.open(here / out) as image:
        assert (image.format, image.size) == (
            {"g": "JPEG", "F": "TIFF", "p": "WEBP"}[out[-1]],
            (tiny.SIZE, tiny.SIZE),
        )


def test_options_reach_the_settings(here, settings):
    assert called("inpaint", "photo.png", "--mask", "mask.png", "--out", "out.png").code == 0
    usual = settings["settings"]
    assert (usual.sampler, usual.prior, usual.mender) == (Sampler.model_validate("balanced"), "base-128", "mender")
    assert (settings["seed"], settings["hole"], settings["device"]) == (0, "black", "auto")
    words = "--t-T 30 --jump-length 4 --jump-n-sample 5 --seed 6 --hole white --grow-px 7 --feather-px 3 --label 9"
    more = "--device cpu --precision bfloat16 --quality 80 --prior x --set thin=1 --set sampler.repaint.n_sample=2"
    assert called("inpaint", "photo.png", "--mask", "m.png", "--out", "o.png", *words.split(), *more.split()).code == 0
    told, chosen = settings, settings["settings"]
    repaint = chosen.sampler.repaint
    assert (repaint.t_T, repaint.jump_length, repaint.jump_n_sample, repaint.n_sample) == (30, 4, 5, 2)
    assert (chosen.grow_px, chosen.feather_px, chosen.label, chosen.prior, chosen.thin) == (7, 3, 9, "x", 1)
    assert (told["photo"], told["mask"], told["out"], told["hole"]) == ("photo.png", "m.png", "o.png", "white")
    assert (told["seed"], told["device"], told["precision"], told["quality"]) == (6, "cpu", "bfloat16", 80)


OWN_WALK = {"t_T": 100, "jump_length": 10, "jump_n_sample": 2, "spacing": "quadratic", "variance": "posterior"}


@pytest.mark.parametrize(
    ("words", "walk", "prior", "mender"),
    [
        ("--preset fast", "fast", "base-128", "mender"),
        ("--preset paper", "paper", "base-128", None),
        ("--prior x", "balanced", "x", None),
        ("--prior x --preset quality", "quality", "x", None),
        ("--t-T 30", {**OWN_WALK, "t_T": 30}, "base-128", None),
        ("--spacing even", {**OWN_WALK, "spacing": "even", "variance": "learned"}, "base-128", None),
        ("--variance learned", {**OWN_WALK, "variance": "learned"}, "base-128", None),
        (
            "--conditioning 1",
            {**OWN_WALK, "t_T": 25, "jump_n_sample": 1, "conditioning": 1},
            "base-128",
            None,
        ),
        ("--preset fast --set mender=null", "fast", "base-128", None),
    ],
)
def test_a_walk_or_a_prior_of_ones_own_fills_all_by_itself(here, settings, words, walk, prior, mender):
    assert called("inpaint", "photo.png", "--mask", "mask.png", "--out", "out.png", *words.split()).code == 0
    chosen = settings["settings"]
    assert chosen.sampler == Sampler.model_validate(walk if isinstance(walk, str) else {"repaint": walk})
    assert (chosen.prior, chosen.mender) == (prior, mender)


def test_the_usual_fill_is_that_of_restore(here):
    words = ("photo.png", "--mask", "mask.png", "--preset", "fast")
    assert called("inpaint", *words, "--out", "a.png").code == 0
    assert called("restore", *words, "--out", "b.png", "--no-scratches", "--no-faces", "--no-color").code == 0
    assert (read(here / "a.png") == read(here / "b.png")).all()


def test_label_may_be_random(here, settings):
    assert inpaint("--label", "random").code == 0
    assert settings["settings"].label == "random"


WRONG = {
    "jump as long as the walk": (
        ["--jump-length", 3, "--jump-n-sample", 2],
        "--jump-length: found 3; must be below t_T, which is 3",
    ),
    "preset beside a walk": (["--preset", "x"], "--preset: says how to walk, and so does --t-T; leave one of them out"),
    "no steps": (["--t-T", 0], "--t-T: found 0; must be greater than or equal to 2"),
    "feather alone": (["--feather-px", 2], r"--feather-px: found 2; must be at most grow_px \(0\): .*"),
    "unknown device": (["--device", "gpu"], "--device: found 'gpu'; must be one of 'auto', 'cpu', 'cuda' or 'mps'"),
    "unknown precision": (["--precision", "half"], "--precision: found 'half'; must be one of 'float32', .*"),
    "label in words": (["--label", "cat"], "--label: found 'cat'; must be a whole number or 'random'"),
    "label in superscript": (["--label", "²"], "--label: found '²'; must be a whole number or 'random'"),
    "unknown key": (["--set", "thick=1"], "--set thick: thick: unknown key; .*"),
    "key of another place": (
        ["--set", "t_T=1"],
        "--set t_T: t_T: unknown key; it belongs to sampler.repaint.t_T",
    ),
    "unknown key deep inside": (
        ["--set", "sampler.repaint.jump_lenght=1"],
        r"--set (\S+): \1: unknown key; did you mean 'jump_length'\?",
    ),
    "value of another type": (["--set", "thin=x"], "--set thin: thin: found 'x'; must be a number"),
    "override of no form": (["--set", "thin"], "--set thin: must look like key.0.key=value"),
    "label for a prior without": (["--label", 3], r"label: prior\.safetensors knows no classes; leave label out"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_option_is_exit_2_and_one_line(here, case):
    words, expected = WRONG[case]
    said = inpaint(*words)
    assert said.code == 2
    assert re.fullmatch(expected, said.error)
    assert not (here / "out.png").exists()


def test_two_wrong_options_are_two_lines(here):
    said = inpaint("--device", "gpu", "--t-T", 0)
    assert said.code == 2
    assert [line.split(": found")[0] for line in said.lines] == ["repaint: --device", "repaint: --t-T"]


@pytest.mark.parametrize("out", ["out.gif", "out", "out.txt"])
def test_ending_that_is_no_format_is_refused_before_any_work(here, settings, out):
    said = inpaint(out=out)
    assert said.code == 2
    assert re.fullmatch(rf"--out {out}: ending '.*' is not a format; must be one of \.png, .*", said.error)
    assert not settings


FILES = {
    "no photo": (lambda f: (f / "photo.png").unlink(), r"photo\.png: no such file"),
    "no mask": (lambda f: (f / "mask.png").unlink(), r"mask\.png: no such file"),
    "text for a photo": (lambda f: (f / "photo.png").write_text("hello"), r"photo\.png: begins with b'hello'.*"),
    "half a mask": (lambda f: (f / "mask.png").write_bytes(png(mask())[:50]), r"mask\.png: is cut short.*"),
    "mask of another size": (
        lambda f: (f / "mask.png").write_bytes(png(mask(16, 20))),
        r"mask\.png: the mask is 20 x 16 px, the photo 16 x 16; they must be of one size",
    ),
    "no prior": (lambda f: (f / "prior.safetensors").unlink(), r"prior\.safetensors: no such weights file"),
    "a folder to write to": (lambda f: (f / "out.png").mkdir(), r"cannot write out\.png: Is a directory"),
}


@pytest.mark.parametrize("case", FILES)
def test_file_that_cannot_be_used_is_exit_2_and_one_line(here, case):
    spoil, expected = FILES[case]
    spoil(here)
    said = inpaint()
    assert said.code == 2
    assert re.fullmatch(expected, said.error)
    assert not (here / "out.png").is_file()
    assert not list(here.glob(".out*"))


def test_unknown_prior_is_told_the_names_there_are(here):
    said = inpaint(prior="celebahq256")
    assert said.code == 2
    assert "did you mean 'celebahq-256'?" in said.error


@pytest.mark.parametrize("label", [[], ["--label", 5]])
def test_prior_that_knows_classes_must_be_told_one_of_them(here, label):
    tiny.checkpoint(here / "prior.safetensors", **tiny.CLASSES)
    said = inpaint(*label)
    assert said.code == 2
    assert re.fullmatch(r"label: .*0\.\.4.*", said.error)
    assert inpaint("--label", 4).code == 0


def test_mask_without_a_hole_gives_the_photo_and_says_so(here):
    (here / "mask.png").write_bytes(png(np.full((tiny.SIZE, tiny.SIZE), 255, np.uint8)))
    code, _, lines = inpaint()
    assert code == 0
    assert lines == [
        "repaint: mask.png: marks nothing to fill (black marks the hole)",
        "repaint: wrote out.png",
    ]
    assert (read(here / "out.png") == pixels()).all()


def test_mask_that_is_all_hole_is_said(here):
    (here / "mask.png").write_bytes(png(np.zeros((tiny.SIZE, tiny.SIZE), np.uint8)))
    code, _, lines = inpaint()
    assert code == 0
    assert "repaint: mask.png: keeps nothing; all of the picture is invented" in lines
    assert (here / "out.png").exists()


def test_inverted_mask_is_doubted(here):
    (here / "mask.png").write_bytes(png(255 - mask()))
    code, _, lines = inpaint()
    assert code == 0
    assert any("looks inverted" in line for line in lines)


def test_ctrl_c_is_exit_130_and_leaves_no_result(here, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(repaint.single, "write_photo", interrupted)
    said = inpaint()
    assert said.code == 130
    assert said.error == "stopped"  # there is nothing to go on from
    assert not os.path.exists("out.png")


@pytest.mark.parametrize("name", ["photo.png", "mask.png"])
def test_photo_and_mask_are_not_overwritten(here, name):
    before = (here / name).read_bytes()
    said = inpaint(out=f"./{name}")
    assert said.code == 2
    assert said.error == f"--out {name}: is the {name[:-4]}, which would be overwritten; choose another name"
    assert (here / name).read_bytes() == before


def test_place_that_cannot_be_written_is_said_before_any_work(here, monkeypatch):
    monkeypatch.setattr("repaint.stages.filling.Filler.run", lambda *_: pytest.fail("work began"))
    (here / "file").touch()
    said = inpaint(out="file/out.png")
    assert said.code == 2
    assert re.fullmatch(r"cannot write file/out\.png: .+", said.error)


def test_seed_beyond_what_a_generator_takes_is_refused(here, settings):
    assert inpaint("--seed", 2**63 - 1).code == 0
    settings.clear()
    assert inpaint("--seed", 2**63).code == 2
    assert not settings
