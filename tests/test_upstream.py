"""A config of the published code writes the same four folders, and for the same seed the same pictures."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from repaint import Color, ConfigError, read_config

from . import published, tiny
from .command import called, read
from .published import FOLDERS, SET

ROOT = Path(__file__).parents[1]
LABELLED = {"class_cond": True, "cond_y": 3}
GUIDED = {"classifier_path": "CLASSIFIER", "classifier_scale": 3.0, "classifier_width": 64, "classifier_depth": 1}


def jumps(**changed):
    return {"schedule_jump_params": {"t_T": 6, "n_sample": 1, "jump_length": 2, "jump_n_sample": 2, **changed}}


CASES = {
    "face example": {},
    "neither scale-shift nor residual resizing": {"use_scale_shift_norm": False, "resblock_updown": False},
    "new attention order": {"use_new_attention_order": True},
    "heads counted": {"num_heads": 4, "num_head_channels": -1},
    "heads counted, others on the way up": {"num_heads": 4, "num_heads_upsample": 2, "num_head_channels": -1},
    "n_sample": jumps(n_sample=2),
    "jump2": jumps(jump2_length=3, jump2_n_sample=2),
    "jump3": jumps(jump2_length=3, jump2_n_sample=2, jump3_length=1, jump3_n_sample=2),
    "start_resampling": jumps(start_resampling=3),
    "t_T below timestep_respacing": {"timestep_respacing": "12"},
    "cosine": {"noise_schedule": "cosine"},
    "ddim spacing": {"timestep_respacing": "ddim10"},
    "sections": {"timestep_respacing": "4,3"},
    "unclipped": {"clip_denoised": False},
    "class": LABELLED,
    "class and classifier": {**LABELLED, **GUIDED},
    "classifier alone": {"cond_y": 1, **GUIDED},
    "another seed": {"seed": 41},
}


def networks_of(changed):
    """The networks of a config: the prior's, and the classifier's or None."""
    keys = {k: v for k, v in changed.items() if k in ("use_scale_shift_norm", "resblock_updown", "class_cond")}
    more = {k: v for k, v in changed.items() if k in tiny.HINTS}
    classes = {"num_classes": 5} if changed.get("class_cond") else {}
    judge = tiny.oracle_classifier(num_head_channels=64) if "classifier_path" in changed else None
    return tiny.oracle_unet(**keys, **more, **classes), judge


def prepared(folder, changed, **photos):
    """The config file and the networks, with everything they need in `folder`."""
    published.photos(folder, **photos)
    unet, judge = networks_of(changed)
    torch.save(unet.state_dict(), folder / "unet.pt")
    if judge is not None:
        torch.save(judge.state_dict(), folder / "classifier.pt")
        changed = {**changed, "classifier_path": f"{folder}/classifier.pt"}
    return published.config(folder, **changed), unet, judge


def assert_as_published(folder: Path, name: str, theirs: published.Files) -> None:
    ours = {kind: read(folder / "log" / "face_example" / kind / name).astype(int) for kind in FOLDERS}
    assert all(a.shape == (tiny.SIZE, tiny.SIZE, 3) for a in ours.values())
    hole = np.broadcast_to(theirs.keep < 1, theirs.prepared.shape)
    assert hole.any()
    apart = np.abs(ours["inpainted"] - theirs.inpainted)[hole]  # theirs is cut off, ours rounded
    assert apart.max() <= 2
    assert (apart > 1).mean() <= 0.001
    assert (ours["inpainted"][~hole] == theirs.prepared[~hole]).all()
    assert (ours["gt"] == theirs.prepared).all()
    for kind in ("gt_masked", "gt", "gt_keep_mask"):
        assert np.abs(ours[kind] - getattr(theirs, kind)).max() <= 1


@pytest.mark.parametrize("case", CASES)
def test_four_folders_are_those_of_the_published_code(case, tmp_path):
    config, *networks = prepared(tmp_path, CASES[case])
    code, _, lines = called("run", config)
    assert (code, lines[-1].split(" in ")[0]) == (0, "repaint: 4 done")
    results = list(published.made(config, *networks))
    assert [name for name, _ in results] == ["a.png", "b.png", "c.png", "d.png"]
    for name, theirs in results:
        assert_as_published(tmp_path, name, theirs)


def test_masks_are_soft_where_resizing_made_them(tmp_path):
    """Or the comparison above would not notice a mask made hard again."""
    config, unet, _ = prepared(tmp_path, {})
    soft = {name: bool(((f.keep > 0) & (f.keep < 1)).any()) for name, f in published.made(config, unet)}
    assert soft == {"a.png": False, "b.png": True, "c.png": True, "d.png": True}


def test_mask_may_be_of_another_size_than_its_photo(tmp_path):
    config, *networks = prepared(tmp_path, {})
    for path in (tmp_path / "gt_keep_masks").iterdir():
        Image.open(path).resize((tiny.SIZE, tiny.SIZE), Image.Resampling.NEAREST).save(path)
    code, _, lines = called("run", config)
    assert (code, lines[-1].split(" in ")[0]) == (0, "repaint: 4 done")
    for name, theirs in published.made(config, *networks):
        assert_as_published(tmp_path, name, theirs)


def test_a_config_is_read_from_python_whichever_kind_it_is(tmp_path):
    ours = tmp_path / "ours.yml"
    ours.write_text("images: a\noutput: b\nstages: [{color: {}}]\n")
    config = read_config(ours, ["limit=3", "stages.0.color.strength=0.5"])
    assert (config.images, config.limit, config.stages[0].settings) == ("a", 3, Color(strength=0.5))
    theirs, *_ = prepared(tmp_path, {})
    assert read_config(theirs, ["seed=7"]).seed == 7
    ours.write_text("imges: a\n")
    with pytest.raises(ConfigError, match=r"ours\.yml:1: imges: unknown key"):
        read_config(ours)


def test_test_py_takes_a_published_config(tmp_path):
    config, unet, _ = prepared(tmp_path, {}, names=("a.png", "b.jpg"))
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "test.py", "--conf_path", config]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert f"repaint: {config}: a config of the published RePaint code; ignored: " in done.stderr
    for name, theirs in published.made(config, unet):
        assert_as_published(tmp_path, name, theirs)


def test_what_goes_beside_the_results_is_in_the_folder_around_them(tmp_path):
    config, *_ = prepared(tmp_path, {}, names=("a.png",))
    assert called("run", config).code == 0
    beside = {path.name for path in (tmp_path / "log" / "face_example").iterdir()}
    assert beside >= {*FOLDERS, "manifest.jsonl", "config.yml", "report.html"}
    for kind in FOLDERS:
        assert [path.name for path in (tmp_path / "log" / "face_example" / kind).iterdir()] == ["a.png"]


def test_batches_and_limits_do_not_change_a_picture(tmp_path):
    """`max_len` beyond the folder crashed in the published code; `offset` leaves the others' seeds as they are."""
    config, *_ = prepared(tmp_path, {})
    assert called("run", config, "--set", f"{SET}.max_len=100").code == 0
    whole = {name: read(tmp_path / "log/face_example/inpainted" / name) for name in ("b.png", "c.png")}
    elsewhere = [f"{SET}.paths.{key}={tmp_path}/two/{key}" for key in ("srs", "lrs", "gts", "gt_keep_masks")]
    more = [*elsewhere, f"{SET}.offset=1", f"{SET}.max_len=2", f"{SET}.batch_size=4"]
    assert called("run", config, *(word for setting in more for word in ("--set", setting))).code == 0
    assert {path.name for path in (tmp_path / "two" / "srs").iterdir()} == whole.keys()
    for name, result in whole.items():
        assert (read(tmp_path / "two" / "srs" / name) == result).all()


def test_overrides_name_the_old_keys(tmp_path):
    config, unet, _ = prepared(tmp_path, {}, names=("a.png",))
    words = ("seed=5", "schedule_jump_params.t_T=4", "timestep_respacing='4'")
    assert called("run", config, *(word for setting in words for word in ("--set", setting))).code == 0
    said = yaml.safe_load(config.read_text())
    said["schedule_jump_params"]["t_T"] = 4
    config = published.config(tmp_path, **{**said, "seed": 5, "timestep_respacing": "4"})
    ((name, theirs),) = published.made(config, unet)
    assert_as_published(tmp_path, name, theirs)


def test_random_class_is_one_of_the_weights_and_the_same_again(tmp_path):
    config, *_ = prepared(tmp_path, {"class_cond": True, "cond_y": "random"}, names=("a.png",))
    assert called("run", config).code == 0
    result = read(tmp_path / "log/face_example/inpainted/a.png")
    assert called("run", config, "--set", f"{SET}.paths={{srs: {tmp_path}/again}}").code == 0
    assert (read(tmp_path / "again" / "a.png") == result).all()


def test_weights_are_right_where_the_config_says_otherwise(tmp_path):
    """`learn_sigma: true` over weights of fixed variance crashed in the published code."""
    published.photos(tmp_path, names=("a.png",))
    torch.save(tiny.oracle_unet(learn_sigma=False).state_dict(), tmp_path / "unet.pt")
    code, _, lines = called("run", published.config(tmp_path))
    assert code == 0
    assert "repaint: learn_sigma: True was asked for, the weights say False; the weights are right" in lines
