"""`repaint run` and test.py: exit codes, and errors of one line."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from . import tiny
from .command import REPAINT, called, dataset, mask, pixels, read

ROOT = Path(__file__).parents[1]


@pytest.fixture
def config(tmp_path):
    return dataset(tmp_path)


def test_all_done_is_exit_0_and_one_line_that_says_where(config, tmp_path):
    code, out, lines = called("run", config)
    assert (code, out) == (0, "")
    assert all(line.startswith("repaint: ") for line in lines)
    assert re.fullmatch(r"repaint: 3 done in \d+\.\d s; see \S+/out/report\.html", lines[-1])
    for i in range(3):
        result, photo = read(tmp_path / "out" / f"{i}.png"), pixels(seed=i)
        kept = mask() == 255
        assert (result[kept] == photo[kept]).all()
        assert (result[~kept] != photo[~kept]).any()


def test_second_start_does_nothing_again(config):
    called("run", config)
    code, _, lines = called("run", config)
    assert code == 0
    assert lines[-1].startswith("repaint: 0 done, 3 done before in ")


def test_settings_left_at_their_defaults_go_on_too(config):
    """What a run writes down of its settings can be read back."""
    short = ("--set", f"{REPAINT}={{t_T: 11}}", "--set", "limit=1")
    assert called("run", config, *short).code == 0
    assert called("run", config, *short).lines[-1].startswith("repaint: 0 done, 1 done before")


def test_some_failed_is_exit_1_and_the_others_are_done(config, tmp_path):
    (tmp_path / "photos" / "1.png").write_bytes(b"hello")
    code, _, lines = called("run", config)
    assert code == 1
    assert lines[-1].startswith("repaint: 2 done, 1 failed in ")
    (failed,) = [line for line in lines if "failed: " in line]
    assert re.search(r"1\.png: begins with b'hello'", failed)
    assert (tmp_path / "out" / "2.png").exists()
    assert not (tmp_path / "out" / "1.png").exists()


def test_set_overrides_the_file(config, tmp_path):
    assert called("run", config, "--set", "limit=1", "--set", f"output={tmp_path}/other").code == 0
    assert {p.name for p in (tmp_path / "other").glob("*.png")} == {"0.png"}
    assert not (tmp_path / "out").exists()


# ---- nothing could start: exit 2, one line


def without_photos(folder):
    (folder / "photos").rename(folder / "moved")


def without_one_mask(folder):
    (folder / "masks" / "1.png").unlink()


def with_empty_folder(folder):
    for path in (folder / "photos").iterdir():
        path.unlink()


def with_a_file_for_the_output(folder):
    (folder / "out").write_text("")


def with_results_of_other_settings(folder):
    assert called("run", folder / "c.yml", "--set", f"{REPAINT}.t_T=3").code == 0


CANNOT_START = {
    without_photos: r"images: \S+/photos does not exist",
    without_one_mask: r"1\.png of \S+/photos has no mask of the same name in \S+/masks",
    with_empty_folder: r"images: \S+/photos holds no images \(.*\)",
    with_a_file_for_the_output: r"\S+/out: cannot be written: .*",
    with_results_of_other_settings: r"\S+/out: holds results of other settings \(.*t_T is 3 there, 4 here.*",
}


@pytest.mark.parametrize("spoil", CANNOT_START, ids=lambda f: f.__name__)
def test_run_that_cannot_start_is_exit_2_and_one_line(spoil, config, tmp_path):
    spoil(tmp_path)
    said = called("run", config)
    assert said.code == 2
    assert re.fullmatch(CANNOT_START[spoil], said.error)


def test_config_error_is_exit_2_and_a_line_for_each(config):
    config.write_text(config.read_text() + "sed: 1\n")
    said = called("run", config)
    assert said.code == 2
    assert said.error == f"{config}:8: sed: unknown key; did you mean 'seed'?"
    said = called("run", config, "--set", f"{REPAINT}.t_T=x")
    assert (said.code, len(said.lines)) == (2, 2)
    assert all(line.startswith("repaint: ") for line in said.lines)
    assert called("run", config.parent / "gone.yml").error.endswith(
        "gone.yml: cannot be read: No such file or directory"
    )


class RunsCode:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def missing(path: Path) -> None:
    pass


def truncated(path: Path) -> None:
    tiny.checkpoint(path)
    path.write_bytes(path.read_bytes()[:-5000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("<html>quota exceeded</html>")


def of_another_network(path: Path) -> None:
    torch.save({"layer1.0.weight": torch.zeros(8, 3, 3, 3), "layer1.0.bias": torch.zeros(8)}, path)


def malicious(path: Path) -> None:
    torch.save({"weights": RunsCode(path.parent / "hacked")}, path)


WEIGHTS = {
    missing: r"\S+prior\.pt: no such weights file",
    truncated: r"\S+prior\.pt: is cut short or no PyTorch file.*; fetch it again",
    empty: r"\S+prior\.pt: is empty; fetch it again",
    text: r"\S+prior\.pt: is cut short or no PyTorch file.*; fetch it again",
    of_another_network: r"\S+prior\.pt: .*; found .*layer1.*",
    malicious: r"\S+prior\.pt: refused: unpickling it would run \S*mkdir; ask for .*",
}


@pytest.mark.parametrize("make", WEIGHTS, ids=lambda f: f.__name__)
def test_weights_that_cannot_be_used_are_exit_2_and_one_line(make, config, tmp_path):
    make(tmp_path / "prior.pt")
    said = called("run", config, "--set", f"stages.0.inpaint.prior={tmp_path}/prior.pt")
    assert said.code == 2
    assert re.fullmatch(WEIGHTS[make], said.error)
    assert not (tmp_path / "hacked").exists()
    assert not list((tmp_path / "out").glob("*.png"))


def test_truncated_safetensors_are_exit_2_and_one_line(config, tmp_path):
    path = tmp_path / "prior.safetensors"
    path.write_bytes(path.read_bytes()[:-5000])
    said = called("run", config)
    assert said.code == 2
    assert re.fullmatch(r"\S+prior\.safetensors: is cut short or no safetensors file .*; fetch it again", said.error)


def test_safetensors_of_another_network_name_what_was_found(config, tmp_path):
    save_file({"conv_first.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "prior.safetensors")
    said = called("run", config)
    assert said.code == 2
    assert "not a guided-diffusion U-Net (no time_embed, input_blocks, output_blocks); found an ESRGAN" in said.error


def test_missing_weights_of_the_catalogue_say_how_to_fetch_them(config, tmp_path):
    settings = ("prior=celebahq-256", f"weights_dir={tmp_path}")
    said = called("run", config, *(word for s in settings for word in ("--set", f"stages.0.inpaint.{s}")))
    assert said.code == 2
    assert said.error == (
        f"celebahq-256: weights are not at {tmp_path}/celeba256_250000.pt; "
        "fetch them with: repaint weights get celebahq-256"
    )


def test_fallback_is_used_and_said_while_the_prior_is_missing(config, tmp_path):
    words = ["prior=celebahq-256", f"weights_dir={tmp_path}", f"fallback={tmp_path}/prior.safetensors"]
    said = called("run", config, *(word for s in words for word in ("--set", f"stages.0.inpaint.{s}")))
    assert said.code == 0
    (line,) = [line for line in said.lines if "celebahq-256" in line]
    assert f"prior celebahq-256 is not in {tmp_path}: using {tmp_path}/prior.safetensors" in line


# ---- in processes of their own


def started(words: list[str], **settings) -> subprocess.Popen:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env=env,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored, where tests run in the background
        **settings,
    )


def test_ctrl_c_is_exit_130_and_one_line(tmp_path):
    config = dataset(tmp_path, photos=60)
    with started(["-m", "repaint", "run", str(config), "--set", f"{REPAINT}.t_T=60"]) as process:
        while not list((tmp_path / "out").glob("*.png")):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in stderr
    lines = stderr.splitlines()
    assert lines[-1] == "repaint: stopped; what is done is kept, the same command goes on from there"
    assert len(list((tmp_path / "out").glob("*.png"))) < 60
    assert not list(tmp_path.rglob("*.part"))


def test_test_py_runs_a_config_and_hands_on_its_exit_code(tmp_path):
    config = dataset(tmp_path, photos=2)
    (tmp_path / "photos" / "1.png").write_bytes(b"")
    with started(["test.py", "--conf_path", str(config), "--set", "seed=3"]) as process:
        _, stderr = process.communicate()
    assert process.returncode == 1
    assert "repaint: 1 done, 1 failed in " in stderr
    assert (tmp_path / "out" / "0.png").exists()
    with started(["test.py", "--conf_path", str(config), "--set", "sed=3"]) as process:
        _, stderr = process.communicate()
    assert process.returncode == 2
    assert stderr == "repaint: --set sed: sed: unknown key; did you mean 'seed'?\n"


def test_same_photo_comes_out_of_both_doors(config, tmp_path):
    """The run and the one-photo command make the same picture of the same seed."""
    photo, marks = tmp_path / "photos" / "0.png", tmp_path / "masks" / "0.png"
    assert called("run", config, "--set", "limit=1", "--set", "seeds=position", "--set", "seed=5").code == 0
    options = (
        "--prior",
        tmp_path / "prior.safetensors",
        "--t-T",
        4,
        "--jump-length",
        2,
        "--spacing",
        "even",
        "--seed",
        5,
    )
    assert called("inpaint", photo, "--mask", marks, "--out", tmp_path / "one.png", *options).code == 0
    np.testing.assert_array_equal(read(tmp_path / "one.png"), read(tmp_path / "out" / "0.png"))
