"""Training an enhancer: the pairs, the losses that do not meddle with one another, and what is exported."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import spandrel
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from skimage import data

from repaint import RunError
from repaint.archs import compact, face_net
from repaint.config import resolved
from repaint.train import critics
from repaint.train.critics import CONVS, PatchCritic, VGGDistance
from repaint.train.data import Picture
from repaint.train.enhancer import EnhancerObjective, EnhancerTask, charbonnier, enlarged, train_enhancer
from repaint.train.enhancer_settings import TrainEnhancer
from repaint.train.pairs import Pair, poor_copy
from repaint.train.settings import Source

from .command import called

COMPACT = {"compact": {"features": 8, "convs": 1}, "scale": 2, "size": 64}
FACE = {"face": {"channels": 8, "multipliers": [1, 2], "blocks": 1}, "size": 32}
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
UNET = {"unet": {"encoder": "resnet10t", "channels": 8}, "size": 32}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def cat():
    """(3, 160, 160) in [0, 1], and the same as a picture of a folder."""
    pixels = np.ascontiguousarray(data.chelsea()[60:220, 140:300])
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255, pixels


def picture(pixels, scales=(1.0,)):
    return Picture(pixels, "cat.png", Source(folder="x", scales=scales))


@pytest.fixture
def config(tmp_path, cat):
    (tmp_path / "photos").mkdir()
    for name, part in (("a.png", cat[1][:80]), ("b.png", cat[1][80:])):
        Image.fromarray(part).save(tmp_path / "photos" / name)

    def made(output="out", **changes):
        said = {
            "output": str(tmp_path / output),
            "data": [{"folder": str(tmp_path / "photos"), "scales": [1]}],
            "steps": 4,
            "validate_every": 2,
            "batch_size": 2,
            "workers": 0,
            "device": "cpu",
            "warm_up": 1,
            **changes,
        }
        return TrainEnhancer.model_validate(said)

    return made


@pytest.fixture
def vgg(tmp_path):
    """A file in the layout of torchvision's VGG19, of a few channels."""
    state = {}
    for c_in, place in zip((3, *[8] * 15), CONVS, strict=True):
        state[f"features.{place}.weight"] = torch.randn(8, c_in, 3, 3, generator=seeded(place)) / 5
        state[f"features.{place}.bias"] = torch.zeros(8)
    save_file(state, str(tmp_path / "vgg19.safetensors"))
    return str(tmp_path / "vgg19.safetensors")


# ---- the training


@pytest.mark.parametrize("said", [{**COMPACT, "gan": 0.1}, FACE], ids=["compact with a critic", "face"])
def test_a_stopped_training_ends_with_the_weights_of_one_that_was_not(config, said):
    whole = load_file(train_enhancer(config("whole", **said)))
    kept = torch.load(Path(config("whole", **said).output, "checkpoint.pt"), weights_only=True)["objective"]

    def stop(status):
        if status.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_enhancer(config("stopped", **said), stop)
    ended = load_file(train_enhancer(config("stopped", **said)))
    again = torch.load(Path(config("stopped", **said).output, "checkpoint.pt"), weights_only=True)["objective"]
    assert all(torch.equal(ended[name], value) for name, value in whole.items())
    assert all(torch.equal(again[name], value) for name, value in kept.items())
    assert any(name.startswith("critic.") for name in kept) == ("gan" in said)


def test_exported_upscaler_has_the_published_names_and_loads_in_spandrel(config):
    path = train_enhancer(config(**COMPACT))
    assert Path(path).name == "upscale-x2.safetensors"
    state = load_file(path)
    assert compact.detect(state) == compact.CompactConfig(8, 1, 2)
    theirs = spandrel.ModelLoader().load_from_state_dict(dict(state))
    assert (theirs.architecture.id, theirs.scale) == ("Compact", 2)
    with safe_open(path, "pt") as file:
        said = file.metadata()
    assert json.loads(said["architecture"]) == {"name": "compact", "scale": 2, "features": 8, "convs": 1}
    assert json.loads(said["losses"]) == {"charbonnier": 1.0}


def test_exported_face_restorer_loads_in_ours(config):
    path = train_enhancer(config(**FACE))
    assert Path(path).name == "face.safetensors"
    state = load_file(path)
    face_net.build(face_net.detect(state)).load_state_dict(state)


def test_a_training_may_begin_with_the_weights_of_another(config):
    first = train_enhancer(config("first", **COMPACT))
    begun = EnhancerTask(config("second", **COMPACT, start_from=first, gan=0.1)).objective().network.state_dict()
    assert all(torch.equal(begun[name], value.float()) for name, value in load_file(first).items())
    with pytest.raises(RunError, match=r"start_from: .*upscale-x2.safetensors: not a face restorer of ours"):
        EnhancerTask(config("third", **FACE, start_from=first)).objective()


def test_command_trains_and_names_the_weights(config, tmp_path):
    file = tmp_path / "train.yml"
    file.write_text(resolved(config(**COMPACT)))
    said = called("train", "enhancer", file, "--set", "steps=2")
    assert (said.code, said.lines[-1]) == (0, f"repaint: wrote {tmp_path}/out/upscale-x2.safetensors")


WRONG = {
    "no network": ({}, "found no network; must be one of compact, face, unet"),
    "two networks": ({**COMPACT, **FACE}, "found compact and face; must be one of"),
    "a face at twice its size": ({**FACE, "scale": 2}, "found scale: 2 with face; only compact enlarges"),
    "a window too small": ({**COMPACT, "size": 48}, "found size: 48; must be a multiple of 2, and at least 64"),
    "an odd window": ({**COMPACT, "size": 97}, "found size: 97; must be a multiple of 2"),
    "a weight without features": ({**FACE, "perceptual": 0.1}, "found perceptual: 0.1 without vgg"),
    "features without a weight": ({**FACE, "vgg": "x.pth"}, "found perceptual: 0 with vgg"),
}


@pytest.mark.parametrize(("said", "words"), WRONG.values(), ids=WRONG)
def test_settings_that_cannot_be_trained_are_refused(config, said, words):
    with pytest.raises(ValidationError, match=words):
        config(**said)


# ---- what is measured and shown


@pytest.mark.parametrize("said", [COMPACT, FACE], ids=["x2", "face"])
def test_a_network_that_says_nothing_is_nearest_enlargement(config, said):
    task = EnhancerTask(config(**said))
    pictures = task.data(task.config.data, seed=1, count=2, training=False)
    poor, good = (torch.stack(part) for part in zip(*(pictures[i][0] for i in range(2)), strict=True))
    network = task.objective().network.eval()
    figures = task.measured(network, [(poor, good)])
    assert list(figures) == ["l1", "psnr", "gained_db", "ssim"]
    scale = task.config.scale
    nearest = poor.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    assert figures["l1"] == pytest.approx((nearest - good).abs().mean().item(), rel=1e-4)
    assert (figures["gained_db"] == 0) == (scale == 1)
    height, width = good.shape[-2:]
    assert task.picture(network, [(poor, good)]).shape == (3, 3 * height, 2 * width)


def test_figures_of_one_who_knows_are_the_best(config):
    task = EnhancerTask(config(**FACE))
    good = torch.rand(2, 3, 32, 32)
    figures = task.measured(torch.nn.Identity(), [(good, good)])
    assert figures["l1"] == 0
    assert figures["ssim"] == pytest.approx(1)
    assert figures["psnr"] == pytest.approx(58.92, abs=0.01)  # that of rounding to levels


# ---- the pairs


@pytest.mark.parametrize("scales", [(1.0, 0.5), None], ids=["window", "whole"])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_pair_is_a_function_of_the_generator(cat, scale, scales):
    make = Pair(128, scale, strength=0.7, drift=0.5, flip=True, grey_share=0.3)
    one, other = (make(picture(cat[1], scales), seeded(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    poor, good = one
    assert (poor.shape, good.shape) == ((3, 128 // scale, 128 // scale), (3, 128, 128))
    assert all(x.min() >= 0 and x.max() <= 1 for x in one)


@pytest.mark.parametrize("scale", [2, 4])
def test_clean_pairs_show_the_same_place_shrunk(cat, scale):
    make = Pair(128, scale, clean_share=1)
    for seed in range(8):
        poor, good = make(picture(cat[1]), seeded(seed))
        shrunk = torch.nn.functional.avg_pool2d(good, scale)
        assert (poor - shrunk)[:, 2:-2, 2:-2].abs().mean() < 0.01
        assert (poor - shrunk.roll(1, 2))[:, 2:-2, 2:-2].abs().mean() > 0.015


def test_an_aligned_face_stays_where_it_is(cat):
    _, good = Pair(160)(picture(cat[1], None), seeded(0))
    torch.testing.assert_close(good, cat[0], atol=1e-6, rtol=0)


def test_clean_pictures_at_their_own_size_are_left_as_they_are(cat):
    torch.testing.assert_close(poor_copy(cat[0], seeded(0), strength=0), cat[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("scale", [1, 2])
def test_poor_copies_keep_their_colours_and_are_the_poorer_the_stronger(cat, scale):
    plain = torch.nn.functional.avg_pool2d(cat[0], scale)
    wrong = []
    for strength in (0.1, 0.5, 1.0):
        copies = [poor_copy(cat[0], seeded(seed), scale=scale, strength=strength) for seed in range(20)]
        wrong.append(sum((copy - plain).square().mean().item() for copy in copies))
        drift = torch.stack([(copy - plain).mean((1, 2)) for copy in copies]).mean(0)
        assert drift.abs().max() < 1.5 / 255
    assert wrong == sorted(wrong)
    assert wrong[0] < 0.3 * wrong[2]


def test_drift_of_colours_is_the_same_before_and_after(cat):
    moved = []
    for seed in range(10):
        poor, good = Pair(160, drift=1.0, clean_share=1)(picture(cat[1], None), seeded(seed))
        torch.testing.assert_close(poor, good, atol=0.51 / 255, rtol=0)
        moved.append((good - cat[0]).mean((1, 2)).abs().max().item())
    assert max(moved) > 5 / 255


# ---- the losses


def test_charbonnier_is_the_distance_but_smooth_at_0():
    x, y = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    assert charbonnier(x, x, 1e-3).item() == pytest.approx(0, abs=1e-9)
    assert charbonnier(x, y, 1e-3).item() == pytest.approx((x - y).abs().mean().item(), abs=1e-3)


def gradients(module):
    return [p.grad for p in module.parameters() if p.grad is not None and p.grad.any()]


def test_what_pleases_the_critic_does_not_teach_it():
    critic, made = PatchCritic(8), torch.rand(2, 3, 48, 48, requires_grad=True)
    critic.to_please(made).backward()
    assert gradients(critic) == []
    assert made.grad is not None
    assert made.grad.any()


def test_what_teaches_the_critic_does_not_reach_the_maker():
    critic, made = PatchCritic(8), torch.rand(2, 3, 48, 48, requires_grad=True)
    critic.to_tell(made, torch.rand(2, 3, 48, 48)).backward()
    assert made.grad is None
    assert len(gradients(critic)) > 0


def test_network_and_critic_learn_by_their_own_losses_alone(config):
    torch.manual_seed(0)
    objective = EnhancerObjective(EnhancerTask(config(**COMPACT)).objective().network, config(**COMPACT, gan=0.1))
    torch.nn.init.normal_(objective.network.body[-1].weight, std=0.1)
    poor, good = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 64, 64)
    objective(poor, good)[0].backward()
    both = {name: p.grad.clone() for name, p in objective.named_parameters()}
    objective.zero_grad()
    made = objective.network(poor)
    (charbonnier(made, good, 1e-3) + 0.1 * objective.critic.to_please(made)).backward()
    objective.critic.to_tell(made, good).backward()
    for name, p in objective.named_parameters():
        torch.testing.assert_close(p.grad, both[name], atol=1e-6, rtol=1e-5)


def test_a_critic_learns_to_tell_noise_from_pictures(cat):
    torch.manual_seed(0)
    critic = PatchCritic(8)
    optimiser = torch.optim.AdamW(critic.parameters(), 1e-3)
    true = cat[0][None]
    for _ in range(30):
        optimiser.zero_grad()
        critic.to_tell(torch.rand(1, 3, 96, 96), true).backward()
        optimiser.step()
    assert critic(true).mean() > critic(torch.rand(1, 3, 96, 96)).mean() + 0.5


def test_patch_is_as_wide_as_said():
    critic, x = PatchCritic(8), torch.rand(1, 3, 160, 160, requires_grad=True)
    for layer in critic.layers:
        if isinstance(layer, critics.Norm):  # looks everywhere, at the mean alone
            layer.forward = lambda h: h
    critic(x)[0, 0, 9, 9].backward()
    assert x.grad is not None
    seen = x.grad.abs().sum((0, 1)) > 0
    assert seen.any(0).sum() == seen.any(1).sum() == 46


def test_distance_in_features_is_0_for_the_same_and_its_weights_are_not_learned_nor_kept(config, vgg):
    distance = VGGDistance(vgg)
    x = torch.rand(1, 3, 32, 32)
    assert distance(x, x).item() == 0
    assert distance(x, x.flip(3)) > 0
    assert (list(distance.parameters()), distance.state_dict()) == ([], {})
    path = train_enhancer(config(**COMPACT, perceptual=0.1, vgg=vgg))
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["losses"]) == {"charbonnier": 1.0, "perceptual": 0.1}


def test_features_are_those_of_torchvision(tmp_path):
    from torchvision.models import vgg19

    torch.manual_seed(0)
    with torch.device("meta"):
        theirs = vgg19(weights=None).features
    state = {k: torch.randn(v.shape) * (2 / v[0].numel()) ** 0.5 for k, v in theirs.state_dict().items()}
    theirs.load_state_dict(state, assign=True)
    save_file({f"features.{k}": v for k, v in state.items()}, str(tmp_path / "vgg.safetensors"))
    x = torch.rand(1, 3, 32, 32)
    ours = VGGDistance(str(tmp_path / "vgg.safetensors")).features(x)
    h, expected = (x - torch.tensor(critics.IMAGENET_MEAN)[:, None, None]), []
    h = h / torch.tensor(critics.IMAGENET_STD)[:, None, None]
    for i, layer in enumerate(theirs.requires_grad_(False)):
        if isinstance(layer, torch.nn.ReLU):
            layer.inplace = False
        h = layer(h)
        expected += [h] if i in critics.LOOKED_AT else []
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_vgg_that_is_not_there_or_is_another_network_is_one_line(config, tmp_path):
    with pytest.raises(RunError, match=r"vgg: nowhere.pth: no such file; must be torchvision's weights of VGG19"):
        EnhancerTask(config(**FACE, perceptual=0.1, vgg="nowhere.pth")).objective()
    save_file({"x": torch.zeros(1)}, str(tmp_path / "x.safetensors"))
    with pytest.raises(RunError, match=r"vgg: .*x.safetensors: has no features.0.weight; must be"):
        EnhancerTask(config(**FACE, perceptual=0.1, vgg=str(tmp_path / "x.safetensors"))).objective()


def test_plain_enlargement_is_bicubic_and_within_range():
    x = (torch.rand(1, 3, 8, 8) > 0.5).float()
    assert enlarged(x, 1) is x
    y = enlarged(x, 4)
    assert y.shape == (1, 3, 32, 32)
    assert (y.min(), y.max()) == (0, 1)
