"""Training a mender: what its windows show and hide, that it learns, and that a stop changes nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from repaint import RunError
from repaint.archs import mend_net
from repaint.config import resolved
from repaint.holes import smoothly_filled, thicker_than
from repaint.stages.mending import shown_to_mender
from repaint.train.data import Picture
from repaint.train.mender import HoledWindow, MenderTask, regular, train_mender
from repaint.train.mender_settings import TrainMender
from repaint.train.settings import Source
from repaint.weights.menders import load_mender

from .command import called
from .test_mender import NETWORK, TINY, opinionated, seeded


@pytest.fixture
def config(tmp_path):
    (tmp_path / "photos").mkdir()
    for name, seed in (("a.png", 0), ("b.jpg", 1)):
        pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 48)).save(tmp_path / "photos" / name)

    def made(output="out", **changes):
        said = {
            "output": str(tmp_path / output),
            "data": [{"folder": str(tmp_path / "photos"), "scales": [1, 0.75]}],
            "size": 32,
            "network": NETWORK,
            "steps": 4,
            "validate_every": 2,
            "batch_size": 2,
            "workers": 0,
            "device": "cpu",
            "warm_up": 1,
            **changes,
        }
        return TrainMender.model_validate(said)

    return made


def test_a_stopped_training_ends_with_the_weights_of_one_that_was_not(config):
    whole = load_file(train_mender(config("whole")))

    def stop(status):
        if status.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_mender(config("stopped"), stop)
    ended = load_file(train_mender(config("stopped")))
    assert all(torch.equal(ended[name], value) for name, value in whole.items())


def test_exported_weights_are_a_mender(config):
    path = train_mender(config())
    assert load_mender(path).network.config == TINY
    with safe_open(path, "pt") as file:
        said = file.metadata()
    assert json.loads(said["architecture"]) == {"name": "mend_net", **NETWORK}


def test_weights_of_another_network_cannot_be_begun_with(config):
    first = train_mender(config("first"))
    begun = MenderTask(config("second", start_from=first)).objective().network.state_dict()
    assert all(torch.equal(begun[name], value) for name, value in load_file(first).items())
    with pytest.raises(RunError, match="is of another network"):
        MenderTask(config("third", start_from=first, network={**NETWORK, "channels": 16})).objective()


@pytest.mark.parametrize("larger", [{"blocks": 3}, {"multipliers": (1, 2, 2)}, {"multipliers": (1, 2, 3), "blocks": 2}])
def test_one_that_grows_says_what_it_said_before(larger):
    small, grown = opinionated(), mend_net.build(dataclasses.replace(TINY, **larger)).eval()
    grown.load_state_dict(mend_net.grown_into(grown, small.state_dict()))
    shown = torch.rand(2, 4, 32, 48)
    torch.testing.assert_close(grown(shown), small(shown))


def test_a_mender_learns_stripes(config):
    learner = MenderTask(config()).objective()
    optimiser = torch.optim.AdamW(learner.parameters(), 3e-3)
    stripes = (torch.arange(32) % 8 < 4).float().expand(4, 3, 32, 32).contiguous()
    losses = []
    for step in range(60):
        keep = torch.ones(4, 1, 32, 32, dtype=torch.bool)
        top = 4 + step % 20
        keep[:, :, top : top + 4] = False
        loss, _ = learner(shown_to_mender(stripes, keep), stripes, (~keep).float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_a_window_shows_nothing_of_what_it_hides_and_asks_for_thin_parts_alone():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    picture = Picture(pixels, "a.png", Source(folder="x", scales=(1.0,)))
    asked = 0
    for seed in range(20):
        shown, image, counts = HoledWindow(64, aged_share=0, thickest_px=6)(picture, seeded(seed))
        keep = shown[3:] >= 1
        assert torch.equal(shown[:3], smoothly_filled(torch.where(keep, image, 0.5)[None], keep[None])[0])
        assert not (counts.bool() & keep).any()
        assert torch.equal(counts.bool(), ~keep & ~thicker_than(keep, 6, corners=False))
        asked += int(counts.sum())
    assert asked > 0


def test_regular_holes_are_lines_and_grids_at_equal_distances_and_the_masks_of_the_paper_are_among_them():
    seen = set()
    for seed in range(400):
        keep = regular(12, seeded(seed))[0]
        assert keep.any()
        assert not keep.all()
        period = next(p for p in (2, 3, 4) if torch.equal(keep, keep.roll((p, p), (0, 1))) and 12 % p == 0)
        seen.add((period, round(float(keep.float().mean()), 3)))
    lines, grids = {(2, 0.5)}, {(2, 0.25), (2, 0.75)}
    thirds = {(3, 0.333), (3, 0.667), (3, 0.111), (3, 0.889)}
    quarters = {(4, 0.25), (4, 0.75), (4, 0.062), (4, 0.938)}
    assert seen == lines | grids | thirds | quarters


def test_a_share_of_windows_has_regular_holes():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    picture = Picture(pixels, "a.png", Source(folder="x", scales=(1.0,)))
    for share in (0.0, 1.0):
        made = HoledWindow(64, aged_share=0, regular_share=share)
        keeps = [made(picture, seeded(seed))[0][3] >= 1 for seed in range(10)]
        is_regular = [torch.equal(keep[:48, :48], keep[12:60, 12:60]) for keep in keeps]
        assert all(is_regular) if share else not any(is_regular)


def test_command_trains_and_names_the_weights(config, tmp_path):
    file = tmp_path / "train.yml"
    file.write_text(resolved(config(steps=2)))
    said = called("train", "mender", file)
    assert said.code == 0
    assert said.lines[-1] == f"repaint: wrote {tmp_path}/out/mender.safetensors"
