from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from repaint.weights.catalog import find

ROOT = Path(__file__).parents[1]


ECHO = '#!/bin/sh\necho "$0 $*"\n'


def script(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(ECHO)
    path.chmod(0o755)


@pytest.fixture
def download(tmp_path):
    """Runs a copy of download.sh from elsewhere, with only `repaint` of a temporary folder on its PATH."""
    shutil.copy(ROOT / "download.sh", tmp_path)
    script(tmp_path / "bin" / "repaint")
    env = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}

    def run(*words):
        done = subprocess.run([tmp_path / "download.sh", *words], env=env, cwd="/", capture_output=True, text=True)
        done.stdout = done.stdout.removeprefix(f"{tmp_path}/")
        return done

    return run


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("celebahq", "celebahq-256"),
        ("places", "places-256"),
        ("imagenet", "imagenet-256 imagenet-256-classifier"),
        ("imagenet-uncond", "imagenet-256-uncond"),
        ("celebahq places", "celebahq-256 places-256"),
        ("all", "celebahq-256 places-256 imagenet-256 imagenet-256-classifier imagenet-256-uncond"),
    ],
)
def test_download_sh_asks_for_the_weights_behind_each_word(download, words, names):
    done = download(*words.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"bin/repaint weights get {names}\n"
    assert [find(name).name for name in names.split()]


@pytest.mark.parametrize("words", [[], ["imagnet"], ["celebahq", "imagnet"], [""]])
def test_download_sh_shows_its_usage_and_exits_2_for_anything_else(download, words):
    done = download(*words)
    assert done.returncode == 2
    assert "usage: " in done.stderr
    assert "repaint weights get" not in done.stdout


def test_download_sh_prefers_the_virtual_environment_and_falls_back_to_python(download, tmp_path):
    script(tmp_path / "bin" / "python")
    script(tmp_path / ".venv" / "bin" / "repaint")
    assert download("places").stdout == ".venv/bin/repaint weights get places-256\n"
    shutil.rmtree(tmp_path / ".venv")
    (tmp_path / "bin" / "repaint").unlink()
    assert download("places").stdout == "bin/python -m repaint weights get places-256\n"
