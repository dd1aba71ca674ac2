"""Training a scratch detector: what it is shown, its loss, its figures, and what it exports."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Generator

from repaint import RunError
from repaint.archs import scratch_net
from repaint.config import resolved
from repaint.degrade import LEVEL, Damaged, lookalikes
from repaint.degrade.lookalikes import LOOKALIKES
from repaint.degrade.painting import FAINT
from repaint.train import scratches
from repaint.train.data import Picture
from repaint.train.scratches import (
    AgedWindow,
    ScratchTask,
    dice_loss,
    focal_loss,
    looks,
    smaller,
    train_scratches,
    truth_of,
)
from repaint.train.scratches_settings import TrainScratches
from repaint.train.settings import Source
from repaint.train.stamps import read_stamps

from .command import called

NETWORK = {"channels": 8, "multipliers": [1, 2], "blocks": 1}
GREY = Picture(np.full((48, 64, 3), 128, np.uint8), "grey.png", Source(folder="x", scales=(1.0,)))


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    for name, seed in (("a.png", 0), ("b.jpg", 1)):
        pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 48)).save(tmp_path / "photos" / name)
    return str(tmp_path / "photos")


@pytest.fixture
def stamps(tmp_path):
    (tmp_path / "stamps" / "hair").mkdir(parents=True)
    stamp = np.zeros((400, 300), np.uint8)
    stamp[190:210] = 255
    Image.fromarray(stamp).save(tmp_path / "stamps" / "hair" / "a.png")
    return str(tmp_path / "stamps")


@pytest.fixture
def config(photos, tmp_path):
    def made(output="out", **changes):
        said = {
            "output": str(tmp_path / output),
            "data": [{"folder": photos, "scales": [1, 0.75]}],
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
        return TrainScratches.model_validate(said)

    return made


# --- the training ---


@pytest.mark.parametrize("at", [1, 3])
def test_a_stopped_training_ends_with_the_weights_of_one_that_was_not(config, stamps, at):
    whole = load_file(train_scratches(config("whole", stamps=stamps)))

    def stop(status):
        if status.step == at:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_scratches(config("stopped", stamps=stamps), stop)
    ended = load_file(train_scratches(config("stopped", stamps=stamps)))
    assert all(torch.equal(ended[name], value) for name, value in whole.items())


def test_exported_weights_are_a_detector_and_say_their_threshold(config):
    path = train_scratches(config())
    state = load_file(path)
    network = scratch_net.build(scratch_net.detect(state))
    network.load_state_dict(state)
    assert network(torch.rand(1, 1, 33, 40)).shape == (1, 1, 33, 40)
    with safe_open(path, "pt") as file:
        said = file.metadata()
    assert 0 <= float(said["threshold"]) < 1
    assert json.loads(said["architecture"]) == {"name": "scratch_net", "patch": 2, "hinted": True, **NETWORK}


def test_a_new_detector_thinks_that_little_is_damaged(config):
    network = ScratchTask(config()).objective().network
    p = torch.sigmoid(network(torch.rand(2, 1, 32, 32)))
    assert 0.005 < p.mean().item() < 0.05


def test_a_detector_learns_what_a_scratch_is(config):
    bright = ScratchTask(config()).objective()
    optimiser = torch.optim.AdamW(bright.parameters(), 1e-2)
    luma, losses = torch.full((2, 1, 32, 32), 0.3), []
    luma[..., 10:12], truth = 0.9, torch.zeros(2, 1, 32, 32)
    truth[..., 10:12] = 1
    for _ in range(40):
        loss, _ = bright(luma, truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_a_training_may_begin_with_the_weights_of_another(config):
    first = train_scratches(config("first"))
    begun = ScratchTask(config("second", start_from=first)).objective().network.state_dict()
    assert all(torch.equal(begun[name], value) for name, value in load_file(first).items())
    larger = ScratchTask(config("larger", start_from=first, network={**NETWORK, "blocks": 2})).objective().network
    assert all(torch.equal(larger.state_dict()[name], value) for name, value in load_file(first).items())
    with pytest.raises(RunError, match=r"start_from: .*scratches.safetensors is of another network: .* there, "):
        ScratchTask(config("third", start_from=first, network={**NETWORK, "channels": 16})).objective()


def test_weights_of_something_else_cannot_be_begun_with(config, tmp_path):
    torch.save({"weight": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(RunError, match=r"start_from: .*other.pt: not a scratch detector of ours: "):
        ScratchTask(config(start_from=str(tmp_path / "other.pt"))).objective()


def test_command_trains_and_names_the_weights(config, tmp_path):
    file = tmp_path / "train.yml"
    file.write_text(resolved(config(steps=2)))
    said = called("train", "scratches", file, "--set", "steps=3")
    assert said.code == 0
    assert said.lines[-1] == f"repaint: wrote {tmp_path}/out/scratches.safetensors"
    assert Path(tmp_path, "out", "metrics.csv").read_text().startswith("step,training,error,best_f1,")


# --- what it is shown ---


def test_a_window_is_luma_and_what_each_pixel_is():
    for seed in range(20):
        luma, truth = AgedWindow(32, lookalikes=0.5)(GREY, seeded(seed))
        assert luma.shape == truth.shape == (1, 32, 32)
        assert luma.min() >= 0
        assert luma.max() <= 1
        assert set(truth.unique().tolist()) <= {-1.0, 0.0, 1.0}


def test_no_lookalike_is_damage():
    clean = AgedWindow(48, clean_share=1, lookalikes=1)
    assert not any((clean(GREY, seeded(seed))[1] > 0).any() for seed in range(40))


def test_new_photographs_are_as_they_are_but_for_their_damage(monkeypatch):
    monkeypatch.setattr(scratches, "DAMAGED", {"stains": 0.0, "white_borders": 0.0})
    shown = [AgedWindow(64, lookalikes=1, new_share=1)(GREY, seeded(seed)) for seed in range(8)]
    for luma, truth in shown:
        assert (luma[truth == 0] - 128 / 255).abs().max() < 1e-5
    assert any((truth > 0).any() for _, truth in shown)


def test_stains_and_borders_are_drawn_and_are_no_damage(monkeypatch):
    monkeypatch.setattr(scratches, "DAMAGED", {"stains": 1.0, "white_borders": 1.0})
    make = AgedWindow(48, clean_share=1)
    shown = [make(GREY, seeded(seed)) for seed in range(10)]
    assert not any((truth > 0).any() for _, truth in shown)
    assert all(truth[0, 0, 24] == 0 and luma[0, 0, 24] > 0.6 for luma, truth in shown)


def test_what_is_called_damage_can_be_seen(monkeypatch):
    monkeypatch.setattr(scratches, "weathered", lambda image, g, strength: image)
    monkeypatch.setattr(scratches, "scanned", lambda canvas, g, strength: canvas)
    monkeypatch.setattr(scratches, "DAMAGED", {"stains": 0.0, "white_borders": 0.0})
    seen = 0
    for seed in range(20):
        luma, truth = AgedWindow(48)(GREY, seeded(seed))
        off = (luma - 128 / 255).abs()
        assert (off[truth > 0] > FAINT - 1e-4).all()
        assert (off[truth == 0] < 1e-4).all()
        seen += int((truth > 0).sum())
    assert seen > 0


def test_what_is_thick_and_shows_the_picture_below_may_be_called_a_stain():
    below = torch.full((3, 128, 128), 0.5)
    damage = torch.zeros(1, 128, 128, dtype=torch.bool)
    damage[:, 20:22], damage[:, 60:100, 10:40], damage[:, 60:100, 70:100] = True, True, True
    change = torch.zeros(1, 128, 128)
    change[:, 20:22], change[:, 60:100, 10:40], change[:, 60:100, 70:100] = 0.15, 0.15, 0.4
    truth = truth_of(Damaged(below + change, damage), below)[0]
    assert (truth[20:22] == 1).all()  # faint and thin
    assert (truth[65:95, 15:35] == -1).all()  # faint and thick
    assert (truth[60:100, 70:100] == 1).all()
    assert (truth[~damage[0]] == 0).all()


def test_windows_aged_at_half_their_size_have_damage_in_squares():
    make = AgedWindow(64, enlarged=1)
    shown = [make(GREY, seeded(seed)) for seed in range(10)]
    assert all(luma.shape == truth.shape == (1, 64, 64) for luma, truth in shown)
    for _, truth in shown:
        assert torch.equal(truth, truth[:, ::2, ::2].repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_a_mosaic_is_four_windows_of_half_the_size():
    make, small = AgedWindow(96, mosaic=1, clean_share=0), AgedWindow(48, clean_share=0)
    g = seeded(3)
    light, truth = make(GREY, g)
    assert light.shape == truth.shape == (1, 96, 96)
    g = seeded(3)
    torch.rand((), generator=g)  # whether it is one
    for rows, columns in ((0, 0), (0, 48), (48, 0), (48, 48)):
        alone = small(GREY, g)
        for whole, quarter in zip((light, truth), alone, strict=True):
            assert torch.equal(whole[:, rows : rows + 48, columns : columns + 48], quarter)


@pytest.mark.parametrize(("size", "half"), [(62, "31"), (97, "48.5")])
def test_windows_too_small_for_a_mosaic_are_refused(size, half):
    settings = {"output": "out", "data": [{"folder": "photos"}], "size": size, "sizes": 1, "mosaic": 0.5}
    with pytest.raises(ValueError, match=f"windows of {size} px cannot be made of four of {half} px"):
        TrainScratches.model_validate(settings)


def test_damage_of_a_negative_is_dark_in_its_print(monkeypatch):
    monkeypatch.setattr(scratches, "DAMAGED", {"stains": 0.0, "white_borders": 0.0})
    bright = Picture(np.full((48, 64, 3), 160, np.uint8), "bright.png", Source(folder="x", scales=(1.0,)))
    lighter = {}
    for share in (0, 1):
        shown = [
            AgedWindow(64, new_share=1, clean_share=0, negative_share=share)(bright, seeded(seed)) for seed in range(12)
        ]
        assert all((luma[truth == 0] - 160 / 255).abs().max() < 1e-5 for luma, truth in shown)
        lighter[share] = torch.cat([luma[truth > 0] > 160 / 255 for luma, truth in shown]).float().mean().item()
    assert lighter[0] > 0.6
    assert lighter[1] < 0.4


# --- looking at several sizes ---


def test_each_size_is_a_hint_for_the_next_and_hints_have_no_gradient():
    network = scratch_net.build(scratch_net.ScratchNetConfig(8, (1, 2), patch=2, hinted=True))
    luma, shown = torch.rand(2, 1, 32, 32, generator=seeded(0)), []
    network.register_forward_pre_hook(lambda module, args: shown.append(args[0]))
    found = looks(network, luma, 3)
    assert [tuple(x.shape) for x in shown] == [(2, 1, 8, 8), (2, 2, 16, 16), (2, 2, 32, 32)]
    assert torch.equal(shown[2][:, :1], luma)
    assert not any(x.requires_grad for x in shown)
    for hint, before in zip(shown[1:], found, strict=False):
        torch.testing.assert_close(hint[:, 1:], scratch_net.hint(torch.sigmoid(before), hint))


def test_one_that_takes_no_hints_looks_once():
    network = scratch_net.build(scratch_net.ScratchNetConfig(8, (1, 2)))
    luma = torch.rand(1, 1, 32, 32)
    (once,) = looks(network, luma, 3)
    assert torch.equal(once, network(luma))


def test_of_a_smaller_size_damage_is_what_is_damaged_by_half():
    truth = torch.zeros(1, 1, 4, 8)
    truth[..., :2, :2] = 1  # all
    truth[..., 0, 2:4] = 1  # half
    truth[..., 0, 4] = 1  # a quarter
    truth[..., 2, 0] = -1
    expected = [[1, 1, -1, 0], [-1, 0, 0, 0]]
    assert smaller(truth, 2)[0, 0].tolist() == expected
    assert smaller(truth, 1) is truth


@pytest.mark.parametrize("kind", LOOKALIKES)
def test_a_lookalike_covers_some_of_a_picture_and_not_all(kind):
    covers = [LOOKALIKES[kind](64, 80, 0.25, seeded(seed)) for seed in range(20)]
    assert all(c.shape == (1, 64, 80) and c.min() >= 0 and c.max() <= 1 for c in covers)
    shares = [(c > 0.5).float().mean().item() for c in covers]
    assert 0 < sum(shares) / len(shares) < 0.5


def test_lookalikes_change_a_picture_as_the_generator_says():
    image = torch.rand(3, 40, 50, generator=seeded(0))
    before, drawn = image.clone(), lookalikes(image, seeded(1))
    assert torch.equal(image, before)
    assert torch.equal(drawn, lookalikes(image, seeded(1)))
    assert (drawn - image).abs().max() > LEVEL
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_stamps_are_read_shrunk_white_as_damage(stamps):
    (stamp,) = read_stamps(stamps)
    assert stamp.shape == (1, 256, 192)
    assert stamp.dtype == torch.float32
    assert (stamp[0, 128].min().item(), stamp[0, 0].max().item()) == (1, 0)


def test_a_folder_without_stamps_is_named(tmp_path):
    with pytest.raises(RunError, match=r"stamps: .* holds no images .*; leave it out to draw damage alone"):
        read_stamps(str(tmp_path))
    (tmp_path / "bad.png").write_text("x")
    with pytest.raises(RunError, match=r"stamps: .*bad.png: cannot be read as an image"):
        read_stamps(str(tmp_path))


# --- the loss ---


def losses(logits, truth):
    return focal_loss(logits, truth, gamma=2, alpha=0.5), dice_loss(logits, truth)


def random_truth(seed=0):
    return torch.randint(-1, 2, (2, 1, 8, 8), generator=seeded(seed)).float()


def test_loss_of_one_who_is_sure_and_right_is_0():
    truth = random_truth()
    for loss in losses(40 * truth - 20, truth):
        assert loss.item() == pytest.approx(0, abs=1e-5)


def test_focal_loss_without_focus_is_the_cross_entropy():
    logits, truth = torch.randn(2, 1, 8, 8), random_truth().abs()
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="sum")
    torch.testing.assert_close(focal_loss(logits, truth, gamma=0, alpha=0.5), each / 2 / truth.sum())


def test_what_is_unsaid_has_no_gradient():
    logits, truth = torch.randn(2, 1, 8, 8, requires_grad=True), random_truth()
    focal, dice = losses(logits, truth)
    (gradient,) = torch.autograd.grad(focal + dice, logits)
    assert not gradient[truth < 0].any()
    assert gradient[truth >= 0].all()


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_loss_and_gradient_of_windows_without_damage_are_finite(value):
    logits = torch.full((2, 1, 8, 8), -60.0, requires_grad=True)
    for loss in losses(logits, torch.full((2, 1, 8, 8), value)):
        assert loss.item() == pytest.approx(0, abs=1e-6)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert gradient.isfinite().all()
