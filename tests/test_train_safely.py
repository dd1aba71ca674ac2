"""What a training keeps, and from whom: no second one beside it, no best weights that are not there."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

import pytest
import torch

from repaint import RunError
from repaint.locks import alone_in
from repaint.train import loop
from repaint.train.prior import PriorTask, train_prior
from repaint.train.processes import accelerator_of

from .test_train_prior import config, photos  # noqa: F401


def test_a_second_training_in_the_same_folder_is_refused(config):  # noqa: F811
    c = config()
    with alone_in(c.output), pytest.raises(RunError, match="another training is writing there"):
        train_prior(c)
    assert Path(train_prior(c)).exists()


def test_best_weights_that_could_not_be_written_are_written_by_the_next_start(config, monkeypatch):  # noqa: F811
    c, export, worse = config(), loop.export, count(1)
    monkeypatch.setattr(PriorTask, "measured", lambda *_: {"loss": float(next(worse))})

    def failing(path, *more):
        if "best" in path:
            raise RunError("no room")
        return export(path, *more)

    with monkeypatch.context() as full:
        full.setattr(loop, "export", failing)
        with pytest.raises(RunError, match="no room"):
            train_prior(c)
    train_prior(c)
    assert (Path(c.output) / "best.safetensors").exists()


def test_a_process_that_has_trained_trains_again_in_another_precision_and_on_another_device(config, monkeypatch):  # noqa: F811
    train_prior(config())
    train_prior(config("more", precision="bfloat16"))
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
    assert accelerator_of(config(device="auto")).device.type == "meta"


def test_a_process_of_many_that_cannot_change_says_why(config, monkeypatch):  # noqa: F811
    accelerator_of(config())
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    with pytest.raises(RunError, match=r"^device: cpu, precision: bfloat16: [^\n]* already been initialized"):
        accelerator_of(config(precision="bfloat16"))


def test_what_another_process_cannot_read_is_told_and_remembered_too(config, monkeypatch):  # noqa: F811
    told = []
    monkeypatch.setattr(loop, "gather_object", lambda mine: [*mine, {"bad.png": "no image"}])
    c = config()
    train_prior(c, told.append)
    assert [s.remark for s in told if s.remark] == ["bad.png: skipped, cannot be read as an image: no image"]
    assert json.loads(Path(c.output, "data.json").read_text())["skipped"] == {"bad.png": "no image"}


@pytest.mark.parametrize("batch", [1, 2, 4, 8])
def test_held_out_windows_are_looked_at_over_all_levels_whatever_the_batch(config, batch):  # noqa: F811
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, x, t, *labels):
            seen.extend(t.tolist())
            return torch.zeros_like(x).repeat(1, 2, 1, 1)

    PriorTask(config()).measured(Spy(), [(x,) for x in torch.zeros(8, 3, 8, 8).split(batch)])
    assert sorted(seen) == torch.linspace(0, 999, 8).round().long().tolist()


def test_a_training_whose_time_is_up_says_so_and_goes_on_when_started_again(config):  # noqa: F811
    told = []
    short = config(max_minutes=1e-9)
    assert Path(train_prior(short, told.append)).exists()
    assert [s.remark for s in told if s.remark] == ["time is up (max_minutes: 1e-09); started again, it goes on"]
    told.clear()
    train_prior(config(), told.append)
    assert told[-1].step == told[-1].steps
    assert not any(s.remark for s in told)
