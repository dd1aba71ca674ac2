"""Training a prior: the loss, the windows, and that a stopped training ends as one that was not."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from repaint import RunError, files, load_prior
from repaint.config import resolved
from repaint.train.data import Pictures, pixels_of
from repaint.train.loop import rate_at
from repaint.train.loss import HybridLoss
from repaint.train.prior import PriorTask, Window, train_prior
from repaint.train.prior_settings import TrainPrior
from repaint.train.settings import Source
from repaint.weights.files import read_state

from .command import called

NETWORK = {"channels": 32, "multipliers": [1], "res_blocks": 1, "attention_at": [], "dropout": 0.1}


@pytest.fixture
def photos(tmp_path):
    """A folder of three pictures of different sizes, one of them in a subfolder."""
    pixels = np.random.default_rng(0)
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for name, size in (("a.png", (20, 30)), ("b.jpg", (16, 16)), ("more/c.webp", (33, 17))):
        Image.fromarray(pixels.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / "photos" / name)
    return str(tmp_path / "photos")


@pytest.fixture
def config(photos, tmp_path):
    def made(output="out", **changes):
        said = {
            "output": str(tmp_path / output),
            "data": [{"folder": photos, "scales": [1, 0.5]}, {"folder": photos, "weight": 0.5}],
            "size": 8,
            "network": NETWORK,
            "steps": 6,
            "validate_every": 2,
            "batch_size": 2,
            "workers": 0,
            "device": "cpu",
            "warm_up": 2,
            **changes,
        }
        return TrainPrior.model_validate(said)

    return made


def weights(path):
    return load_prior(path).prior.network.state_dict()


@pytest.mark.parametrize("at", [1, 3, 4])
def test_a_stopped_training_ends_with_the_weights_of_one_that_was_not(config, at):
    whole = weights(train_prior(config("whole")))

    def stop(status):
        if status.step == at:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_prior(config("stopped"), stop)
    ended = weights(train_prior(config("stopped")))
    assert all(torch.equal(ended[name], value) for name, value in whole.items())


def test_ctrl_c_in_the_middle_of_a_step_takes_effect_after_it(config, monkeypatch):
    call, calls = HybridLoss.forward, []

    def interrupted(self, network, *noisy):
        calls.append(network.training)
        if sum(calls) == 3 and network.training:
            os.kill(os.getpid(), signal.SIGINT)
        return call(self, network, *noisy)

    whole = weights(train_prior(config("whole")))
    monkeypatch.setattr(HybridLoss, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_prior(config("stopped"))
    monkeypatch.undo()
    ended = weights(train_prior(config("stopped")))
    assert all(torch.equal(ended[name], value) for name, value in whole.items())


def test_ctrl_c_at_a_terminal_reaches_the_workers_too_and_still_saves(config, tmp_path):
    file = tmp_path / "train.yml"
    file.write_text(resolved(config(steps=100_000, workers=2, accumulate=4)))
    words = [sys.executable, "-m", "repaint", "train", "prior", str(file)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=env, start_new_session=True) as process:
        while not Path(tmp_path, "out", "checkpoint.pt").exists():
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "repaint: stopped; what is done is kept, the same command goes on from there"


def test_a_training_in_several_passes_a_step_sees_as_many_windows(config):
    seen = []
    train_prior(config(accumulate=3, steps=2), lambda status: seen.append(status.step))
    assert seen[-1] == 2
    assert load_prior(str(config().output) + "/prior.safetensors").size == 8


def test_a_compiled_training_makes_the_same_weights_under_the_same_names(config, monkeypatch):
    def compiled(network, **said):
        forward = network.forward
        network._compiled_call_impl = lambda *seen: calls.append(network.training) or forward(*seen)

    calls = []
    whole = weights(train_prior(config("whole")))
    monkeypatch.setattr(torch.nn.Module, "compile", compiled)
    same = weights(train_prior(config("compiled", compile=True)))
    assert sum(calls) == 6  # once a step
    assert all(torch.equal(same[name], value) for name, value in whole.items())


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries are left as they are")
def test_memory_that_is_freed_is_kept_for_the_next_who_asks():
    script = """
import resource, torch
from repaint.train.heap import keep_freed_memory
def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(keep_freed_memory(), min(pages() for _ in range(50)))
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert said[0] == "False" or int(said[1]) < 1000  # 64 MiB are 16,384 pages


def test_exported_weights_are_a_prior_that_fills_holes(config):
    prior = load_prior(train_prior(config()))
    assert (prior.size, prior.classes, prior.multiple_of) == (8, 0, 1)
    assert prior.prior(torch.randn(1, 3, 8, 8), 500).var_mix is not None


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(config, monkeypatch):
    call = HybridLoss.forward
    made = []

    def spoilt(self, network, *noisy):
        loss, simple = call(self, network, *noisy)
        made.append(network.training)
        return (loss * math.nan, simple * math.nan) if sum(made) == 4 else (loss, simple)

    monkeypatch.setattr(HybridLoss, "forward", spoilt)
    with pytest.raises(RunError, match="step 4: the loss is nan; the last good checkpoint is in"):
        train_prior(config())
    monkeypatch.undo()
    begun = []
    train_prior(config(), lambda status: begun.append(status.step))
    assert begun[0] == 3


def test_a_gradient_that_is_no_number_stops_and_reaches_no_checkpoint(config, monkeypatch):
    made = []

    def spoilt(parameters, *args, **more):
        made.append(True)
        return torch.tensor(math.nan if len(made) == 3 else 1.0)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spoilt)
    with pytest.raises(RunError, match="step 3: the gradient is nan; the last good checkpoint is in"):
        train_prior(config(validate_every=2))
    state = torch.load(f"{config().output}/checkpoint.pt", weights_only=True)
    assert state["step"] == 2
    assert all(torch.isfinite(w).all() for w in state["objective"].values())
    monkeypatch.undo()
    train_prior(config())


def test_a_full_disk_leaves_the_checkpoint_before(config, monkeypatch):
    train_prior(config(steps=2))
    before = files.read_bytes(config().output + "/checkpoint.pt")

    write = files.write_bytes

    def full(path, data):
        if path.endswith("checkpoint.pt"):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    monkeypatch.setattr(files, "write_bytes", full)
    with pytest.raises(RunError, match=r"checkpoint.pt: cannot be written: No space left on device; .* is kept"):
        train_prior(config(steps=4))
    monkeypatch.undo()
    assert files.read_bytes(config().output + "/checkpoint.pt") == before


def test_a_checkpoint_of_other_settings_is_refused(config):
    train_prior(config(steps=2))
    with pytest.raises(RunError, match=r"is of other settings \(batch_size: 2 there, 3 here\)"):
        train_prior(config(batch_size=3))


def test_window_is_a_function_of_seed_and_place_alone(photos):
    sources = [Source(folder=photos, scales=(1.0, 0.5))]
    make = Window(8, flip=True, grey_share=0.5)
    windows = Pictures(sources, make, seed=3, count=20, cache_mb=0)
    again = Pictures(sources, make, seed=3, count=5)
    forwards = [windows[i][0][0] for i in range(5)]
    backwards = [again[i][0][0] for i in reversed(range(5))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forwards, backwards, strict=True))
    assert len({w.sum().item() for w in forwards}) > 1
    assert all(w.shape == (3, 8, 8) and w.abs().max() <= 1 for w in forwards)


def test_a_faded_share_of_windows_is_shown_paler_or_tinted_and_the_others_as_they_are(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    sources = [Source(folder=str(tmp_path), scales=(1.0,))]
    plain, some, all_of_them = (
        torch.stack([Pictures(sources, Window(32, faded_share=share), seed=0, count=40)[i][0][0] for i in range(40)])
        for share in (0, 0.5, 1)
    )
    as_it_is = [torch.equal(a, b) for a, b in zip(plain, some, strict=True)]
    assert 8 < sum(as_it_is) < 32
    assert not any(torch.equal(a, b) for a, b in zip(plain, all_of_them, strict=True))
    assert all_of_them.abs().max() <= 1
    assert all_of_them.std() < plain.std()


def test_windows_too_small_to_be_faded_are_refused(config):
    with pytest.raises(ValidationError, match="windows are faded from 32 px on, size is 8"):
        config(faded_share=0.2)


@pytest.mark.parametrize("workers", [0, 2])
def test_files_that_are_no_images_are_skipped_named_once_and_remembered(config, photos, workers):
    Path(photos, "bad.png").write_text("not a picture")
    remarks = []
    train_prior(config(workers=workers, steps=12), lambda status: remarks.append(status.remark))
    said = [r for r in remarks if r]
    assert len(said) == 1
    assert said[0].startswith(f"{photos}/bad.png: skipped, cannot be read as an image: begins with b'not a pi'")
    told = json.loads(Path(config().output, "data.json").read_text())
    assert list(told["skipped"]) == [f"{photos}/bad.png"]
    assert told["sources"][0]["names"] == ["a.png", "b.jpg", "bad.png", "more/c.webp"]


def test_images_are_read_upright_and_16_bits_as_they_look(tmp_path):
    ramp = (np.arange(16)[None] * np.ones((8, 1)) * 4000).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    assert np.abs(pixels_of(str(tmp_path / "deep.png"))[..., 0].astype(int) - np.round(ramp / 257)).max() <= 1
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=turned)
    assert pixels_of(str(tmp_path / "turned.jpg")).shape == (40, 20, 3)


def test_what_a_worker_cannot_read_is_one_line(config, tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.png").write_bytes(b"nothing")
    with pytest.raises(RunError) as e:
        train_prior(
            config(data=[{"folder": str(tmp_path / "none")}], validation=[{"folder": f"{tmp_path}/photos"}], workers=1)
        )
    assert str(e.value).startswith("data: 20 images in a row cannot be read; the last: ")
    assert "\n" not in str(e.value)


def test_heads_must_divide_what_they_share(config):
    with pytest.raises(ValidationError, match="head_channels: found 64; must divide the 96 channels"):
        config(network={**NETWORK, "channels": 96, "head_channels": 64})


def test_a_class_that_only_held_out_images_have_is_named(config, tmp_path):
    for folder in ("data/cat", "held/dog"):
        Path(tmp_path, folder).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(tmp_path / folder / "a.png")
    said = {"data": [{"folder": f"{tmp_path}/data"}], "validation": [{"folder": f"{tmp_path}/held"}]}
    with pytest.raises(RunError, match=r"validation: dog/a[.]png is of class dog, which data has not"):
        train_prior(config(**said, class_cond=True))


def test_a_class_is_the_first_folder_on_the_way_to_an_image(config, tmp_path):
    for name, level in (("dark/a.png", 0), ("light/x/b.png", 255)):
        (tmp_path / "classes" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(tmp_path / "classes" / name)
    sources = [{"folder": str(tmp_path / "classes")}]
    shown = PriorTask(config(data=sources, class_cond=True)).data(
        [Source(folder=str(tmp_path / "classes"))], seed=0, count=10, training=True
    )
    assert all((x.mean() > 0) == bool(label) for (x, label), _ in (shown[i] for i in range(10)))
    prior = load_prior(train_prior(config(data=sources, class_cond=True)))
    assert prior.classes == 2


def test_an_image_without_a_class_is_named(config):
    with pytest.raises(RunError, match=r"data: a.png lies in no subfolder; class_cond: true takes a class's name from"):
        train_prior(config(class_cond=True))


def test_a_training_may_begin_with_the_weights_of_another(config):
    first = train_prior(config("first"))
    begun = PriorTask(config("second", start_from=first)).objective().network.state_dict()
    assert all(torch.equal(begun[name], value) for name, value in weights(first).items())
    _, metadata = read_state(Path(train_prior(config("second", start_from=first, steps=1))))
    assert metadata["start_from"] == "prior.safetensors"


def test_weights_of_another_network_cannot_be_begun_with(config):
    first = train_prior(config("first", steps=1))
    other = {**NETWORK, "res_blocks": 2}
    with pytest.raises(RunError, match=r"start_from: .*prior.safetensors is of another network: \S+ is .* there, "):
        train_prior(config("second", start_from=first, network=other))


def test_figures_of_every_look_are_written_as_a_table(config):
    train_prior(config())
    lines = Path(config().output, "metrics.csv").read_text().splitlines()
    assert lines[0] == "step,training,loss"
    assert [line.partition(",")[0] for line in lines[1:]] == ["2", "4", "6"]


def test_curves_and_pictures_go_to_tensorboard_once_each_after_a_resume(config):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_prior(config(tensorboard=True, steps=4))
    train_prior(config(tensorboard=True, steps=8))
    seen = EventAccumulator(str(Path(config().output, "tensorboard"))).Reload()
    assert [point.step for point in seen.Scalars("held-out/loss")] == [2, 4, 6, 8]
    assert [picture.step for picture in seen.Images("samples")] == [2, 4, 6, 8]


def test_tensorboard_that_is_not_installed_is_one_line(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(RunError, match=r"tensorboard: true needs TensorBoard; pip install '\.\[train\]'"):
        train_prior(config(tensorboard=True))


@pytest.mark.parametrize("spoil", ["no folder", "empty folder", "nothing but text"])
def test_data_that_cannot_be_used_is_one_clear_line(tmp_path, spoil):
    folder = tmp_path / "d"
    if spoil != "no folder":
        folder.mkdir()
    if spoil == "nothing but text":
        (folder / "a.png").write_text("x")
    with pytest.raises(RunError, match=r"is not a folder|holds no images|cannot be read") as e:
        Pictures([Source(folder=str(folder))], Window(8), seed=0, count=1)[0]
    assert "\n" not in str(e.value)


def test_learning_rate_rises_stays_and_falls_to_nothing(config):
    c = config(steps=100, warm_up=10, decay_from=0.5)
    rates = [rate_at(step, c) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:50] == [pytest.approx(1)] * 41
    assert all(a >= b for a, b in pairwise(rates[50:]))
    assert rates[100] == pytest.approx(0, abs=1e-9)


def test_command_trains_and_names_the_weights(config, tmp_path):
    file = tmp_path / "train.yml"
    file.write_text(resolved(config(steps=2)))
    said = called("train", "prior", file, "--set", "steps=3")
    assert said.code == 0
    assert said.lines[0].startswith("repaint: step 1/3, loss ")
    assert said.lines[-1] == f"repaint: wrote {tmp_path}/out/prior.safetensors"


def test_command_without_data_is_exit_2_and_one_line(config, tmp_path):
    file = tmp_path / "train.yml"
    file.write_text(resolved(config()))
    said = called("train", "prior", file, "--set", "data.0.folder=nowhere")
    assert (said.code, said.error) == (2, "data: nowhere is not a folder")


def test_a_resumed_training_remembers_how_good_the_best_was(config):
    train_prior(config(steps=2))
    kept = torch.load(config().output + "/checkpoint.pt", weights_only=True)
    assert kept["best"] == kept["history"][-1]["loss"]
