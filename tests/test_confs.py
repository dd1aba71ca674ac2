"""The configs that come with the repository: valid, complete, and true in what they say of themselves."""

import re
from pathlib import Path

import pytest

from repaint.config import Document
from repaint.diffusion import network_calls
from repaint.jobs import RunConfig, paired
from repaint.weights import catalog

from .command import REPAINT, called, read

ROOT = Path(__file__).parents[1]
CONFS = sorted((ROOT / "confs").glob("*.yml"))
every_config = pytest.mark.parametrize("path", CONFS, ids=lambda path: path.stem)


def config_of(path: Path) -> RunConfig:
    return Document.read(path).check(RunConfig)


def calls(path: Path, **changed: int) -> int:
    """Network calls of a photo that fits the prior's window."""
    repaint = config_of(path).inpaint.sampler.repaint.model_copy(update=changed)
    return network_calls(repaint.times(repaint.t_T))


def comment_of(path: Path) -> str:
    """The lines before the first key."""
    lines = path.read_text().splitlines()
    first_key = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return " ".join(line.removeprefix("#").strip() for line in lines[:first_key])


def test_configs_that_were_promised_are_there():
    kinds = ("wide", "narrow", "super_resolution", "lines", "half", "expand")
    promised = {"face", "face_celebahq", "imagenet", "imagenet_uncond", "places", *(f"mask_{kind}" for kind in kinds)}
    assert promised <= {path.stem for path in CONFS}


@every_config
def test_config_is_valid_and_its_files_are_in_the_repository(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = config_of(path)
    items, remarks = paired(config)
    assert items
    assert not remarks
    for item in items:
        assert item.mask is None or read(Path(item.image)).shape[:2] == read(Path(item.mask)).shape[:2]


@every_config
def test_config_opens_with_a_comment_that_says_what_to_expect(path):
    assert path.read_text().startswith("# ")
    assert re.search(r"\d+ (network )?calls", comment_of(path))


@every_config
def test_stated_network_calls_are_those_of_the_sampler(path):
    comment = comment_of(path)
    for stated in re.findall(r"(\d+) network calls a photo", comment):
        assert int(stated) == calls(path)
    for passes, stated in re.findall(r"jump_n_sample: (\d+), (\d+) calls", comment):
        assert int(stated) == calls(path, jump_n_sample=int(passes))
    if config_of(path).inpaint.fit == "crop":
        assert re.search(r"\d+ network calls a photo", comment)


@every_config
def test_weights_are_in_the_catalogue_and_results_in_a_folder_of_their_own(path):
    config = config_of(path)
    inpaint = config.inpaint
    assert catalog.find(inpaint.prior).kind == "prior"
    assert inpaint.fallback is None or catalog.find(inpaint.fallback).embedded
    assert inpaint.classifier is None or catalog.find(inpaint.classifier.weights).kind == "classifier"
    assert config.output == f"log/{path.stem}"


@every_config
def test_words_for_download_sh_are_words_it_knows(path):
    known = (ROOT / "download.sh").read_text()
    for word in re.findall(r"bash download\.sh (\S+)", path.read_text()):
        assert re.search(rf"^\s*{re.escape(word)}\)", known, re.MULTILINE)


def test_face_yml_works_at_once_on_the_embedded_prior(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = (f"output={tmp_path}/out", "limit=1", "stages.0.inpaint.weights_dir=none", f"{REPAINT}.t_T=4")
    words = [word for setting in (*settings, f"{REPAINT}.jump_length=2") for word in ("--set", setting)]
    code, _, lines = called("run", "confs/face.yml", *words)
    assert code == 0
    (said,) = [line for line in lines if "base-64" in line]
    assert "celebahq-256" in said
    (item, *_), _ = paired(config_of(ROOT / "confs" / "face.yml"))
    photo, kept = read(Path(item.image)), read(Path(item.mask)) >= 128
    result = read(tmp_path / "out" / f"{item.stem}.png")
    assert (result[kept] == photo[kept]).all()
    assert (result[~kept] != photo[~kept]).any()
