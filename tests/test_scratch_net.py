"""Scratch detectors: ours, and that of Bringing Old Photos Back to Life; what they see, keep and are read from."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repaint import RunError
from repaint.archs import bopbtl, compact, face_net, hourglass, scratch_net
from repaint.archs.blocks import in_precision
from repaint.archs.bopbtl import BopbtlConfig
from repaint.archs.hourglass import halved, mirrored_to
from repaint.archs.scratch_net import ScratchNetConfig
from repaint.train.loop import begin_with

from . import tiny

TINY = ScratchNetConfig(8, (1, 2, 2))
TINY_BOPBTL = BopbtlConfig(8, 2)
CONFIGS = [
    *[ScratchNetConfig(), TINY, ScratchNetConfig(8, (2,)), ScratchNetConfig(16, (1, 1, 3), 2)],
    *[
        ScratchNetConfig(8, (1, 2, 4, 6, 8, 8), 3),
        ScratchNetConfig(8, (1, 2), 1, patch=2),
        ScratchNetConfig(8, (1, 2), 1, patch=2, hinted=True),
        BopbtlConfig(),
        TINY_BOPBTL,
        BopbtlConfig(4, 5),
    ],
]
LINE_OF_SIGHT_PX = 200


def built(config: ScratchNetConfig | BopbtlConfig) -> nn.Module:
    torch.manual_seed(0)
    is_ours = isinstance(config, ScratchNetConfig)
    return (scratch_net.build(config) if is_ours else bopbtl.build(config)).eval()


def detected(state: dict[str, Tensor], like: object) -> object:
    return (scratch_net if isinstance(like, ScratchNetConfig) else bopbtl).detect(state)


def rows_seen(network: nn.Module, height: int) -> list[int]:
    """The rows of a narrow photo that a logit in its middle row depends on."""
    x = tiny.drawn(1, 1, height, 32).double().requires_grad_()
    (gradient,) = torch.autograd.grad(network.double()(x)[0, 0, height // 2, 16], x)
    return (gradient[0, 0] != 0).any(dim=1).nonzero().flatten().tolist()


@pytest.fixture
def without_norms(monkeypatch):
    """Norms look at everything; what is left sees as far as the convolutions do."""
    monkeypatch.setattr(hourglass, "Norm", lambda channels: nn.Identity())


def as_laid_out(state: Mapping[str, Tensor], x: Tensor, depth: int) -> Tensor:
    """What Bringing-Old-Photos' detector says, told by the names of its weights alone."""

    def conv(h: Tensor, name: str) -> Tensor:
        weight = state[f"{name}.weight"]
        pad = weight.shape[-1] // 2
        return F.conv2d(F.pad(h, (pad,) * 4, mode="reflect"), weight, state[f"{name}.bias"])

    def normed(h: Tensor, block: str, at: int) -> Tensor:
        name = f"{block}.{at + 1}"
        mean, var, weight, bias = (
            state[f"{name}.{p}"][:, None, None] for p in ("running_mean", "running_var", "weight", "bias")
        )
        h = (conv(h, f"{block}.{at}") - mean) / (var + 1e-5).sqrt() * weight + bias
        return torch.where(h > 0, h, 0.2 * h)

    h, bridges = conv(x, "first.1"), []
    h = torch.where(h > 0, h, 0.2 * h)
    for i in range(depth):
        bridges.append(h)
        h = F.pad(normed(h, f"down_sample.{i}", 1), (1, 1, 1, 1), mode="reflect")
        h = (h[..., :-2] + 2 * h[..., 1:-1] + h[..., 2:])[..., ::2] / 4
        h = (h[..., :-2, :] + 2 * h[..., 1:-1, :] + h[..., 2:, :])[..., ::2, :] / 4
        h = normed(normed(h, f"down_path.{i}.block", 1), f"down_path.{i}.block", 5)
    for i in range(depth):
        h = F.interpolate(h, scale_factor=2, mode="bilinear", align_corners=False)
        h = torch.cat([conv(h, f"up_path.{i}.up.2"), bridges.pop()], dim=1)
        h = normed(normed(h, f"up_path.{i}.conv_block.block", 1), f"up_path.{i}.conv_block.block", 5)
    return conv(h, "last.1")


# ---- any photo


@pytest.mark.parametrize("config", [TINY, TINY_BOPBTL], ids=["ours", "bopbtl"])
@pytest.mark.parametrize("size", [(1, 1), (1, 70), (3, 2), (16, 32), (33, 57)])
@torch.no_grad()
def test_every_pixel_of_a_photo_of_any_size_gets_a_logit(config, size):
    logits = built(config)(tiny.drawn(1, 1, *size))
    assert logits.shape == (1, 1, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("config", [TINY, TINY_BOPBTL], ids=["ours", "bopbtl"])
@torch.no_grad()
def test_photo_is_judged_alike_alone_and_beside_another(config):
    network, x = built(config), torch.cat([tiny.drawn(1, 1, 40, 56), torch.zeros(1, 1, 40, 56)])
    torch.testing.assert_close(network(x), torch.cat([network(x[:1]), network(x[1:])]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", [TINY, TINY_BOPBTL], ids=["ours", "bopbtl"])
@torch.no_grad()
def test_channels_last_memory_changes_nothing(config):
    network, x = built(config), tiny.drawn(2, 1, 32, 48)
    expected = network(x)
    torch.testing.assert_close(network.to(memory_format=torch.channels_last)(x), expected, atol=1e-5, rtol=1e-5)


def test_side_is_mirrored_as_often_as_it_takes():
    x = torch.tensor([[1.0, 2.0]])
    assert mirrored_to(x, 7).tolist() == [[1, 2, 2, 1, 1, 2, 2]] * 7
    assert mirrored_to(x, 2, least=3).tolist() == [[1, 2, 2, 1]] * 4


def test_photo_that_fits_is_not_copied():
    x = torch.rand(1, 1, 32, 48)
    assert mirrored_to(x, 16) is x


@torch.no_grad()
def test_constant_photo_gets_a_constant_logit_away_from_its_border():
    logits = built(ScratchNetConfig())(torch.full((1, 1, 368, 368), 0.7))[0, 0]
    middle = logits[160:208, 160:208]
    assert middle.max() - middle.min() < 1e-4
    assert logits.max() - logits.min() > 1e-2


# ---- what it sees


@pytest.mark.usefixtures("without_norms")
def test_logit_depends_on_200_px_around_it():
    rows = rows_seen(built(ScratchNetConfig()), 368)
    assert rows[-1] - rows[0] + 1 >= LINE_OF_SIGHT_PX
    assert rows == list(range(rows[0], rows[-1] + 1))
    assert 0 < rows[0] < rows[-1] < 367  # the photo was wide enough to tell


@pytest.mark.usefixtures("without_norms")
def test_full_size_level_alone_sees_its_own_convolutions_and_no_halving():
    network = built(TINY)
    nn.init.zeros_(network.narrow[0].weight)
    pad = 1 + 2 + 2 + 1  # stem, down, up, last
    assert rows_seen(network, 64) == list(range(32 - pad, 32 + pad + 1))


@torch.no_grad()
def test_every_level_is_shown_the_one_above_halved():
    network, above, shown = built(TINY), [], []
    for upper, lower in pairwise(network.down):
        upper.register_forward_hook(lambda _, __, out: above.append(halved(out)))
        lower.register_forward_pre_hook(lambda _, args: shown.append(args[0]))
    network(tiny.drawn(1, 1, 32, 32))
    assert len(shown) == 2
    assert all(map(torch.equal, shown, above))


@torch.no_grad()
def test_black_and_white_are_minus_one_and_one_inside():
    network, shown = built(TINY), []
    network.stem.register_forward_pre_hook(lambda _, args: shown.append(args[0]))
    network(torch.tensor([0.0, 0.5, 1.0, 0.5]).expand(1, 1, 4, 4))
    assert shown[0][0, 0, 0].tolist() == [-1, 0, 1, 0]


def test_halving_takes_away_what_would_alias():
    i = torch.arange(12)
    checks = ((i + i[:, None]) % 2).float()[None, None]
    stripes = (i % 2).float().expand(1, 1, 12, 12)
    for finest in (checks, stripes):
        torch.testing.assert_close(halved(finest)[..., 1:-1, 1:-1], torch.full((1, 1, 4, 4), 0.5))


def test_halving_shifts_nothing_and_is_binomial():
    ramp = torch.arange(12.0).expand(1, 1, 12, 12)
    torch.testing.assert_close(halved(ramp)[0, 0, 2, 1:-1], torch.tensor([2.5, 4.5, 6.5, 8.5]))
    spike = torch.zeros(1, 1, 1, 12).index_fill(3, torch.tensor(5), 8.0).expand(1, 1, 12, 12)
    assert halved(spike)[0, 0, 2].tolist() == [0, 0, 3, 1, 0, 0]


def test_halving_keeps_a_constant_up_to_the_border():
    torch.testing.assert_close(halved(torch.ones(1, 3, 6, 8)), torch.ones(1, 3, 3, 4))


# ---- training


@pytest.mark.parametrize("config", [TINY, TINY_BOPBTL], ids=["ours", "bopbtl"])
def test_gradient_reaches_every_parameter(config):
    network = built(config)
    network(tiny.drawn(1, 1, 32, 32)).square().mean().backward()
    assert [k for k, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_half_precision_says_nearly_the_same_in_the_precision_of_the_photo():
    network, x = built(TINY), tiny.drawn(1, 1, 32, 32)
    with torch.no_grad():
        exact, half = network(x), in_precision(network, torch.bfloat16)(x)
    assert half.dtype == torch.float32
    assert 0 < (half - exact).std() < 0.05 * exact.std()


# ---- weights


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_architecture_is_read_from_shapes(config):
    with torch.device("meta"):
        assert detected(built(config).state_dict(), config) == config


@pytest.mark.parametrize("config", [TINY, TINY_BOPBTL], ids=["ours", "bopbtl"])
@torch.no_grad()
def test_state_dict_makes_the_same_network_again(config):
    network, x = built(config), tiny.drawn(1, 1, 32, 32)
    with torch.device("meta"):
        again = built(config)
    again.load_state_dict(network.state_dict(), strict=True, assign=True)
    assert torch.equal(again(x), network(x))


def test_default_detector_has_about_two_million_parameters():
    with torch.device("meta"):
        assert sum(p.numel() for p in built(ScratchNetConfig()).parameters()) == 1_748_833


def test_published_detector_has_the_published_size_and_names():
    """As listed in the checkpoint: 37.63 M parameters under 156 names."""
    with torch.device("meta"):
        network = built(BopbtlConfig())
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == 37.63
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {f"{end}.1.{p}" for end in ("first", "last") for p in ("weight", "bias")}
    for i in range(4):
        convs = (f"down_sample.{i}.1", *(f"{b}.{j}" for b in blocks(i) for j in (1, 5)), f"up_path.{i}.up.2")
        norms = (f"down_sample.{i}.2", *(f"{b}.{j}" for b in blocks(i) for j in (2, 6)))
        expected |= {f"down_sample.{i}.4.filt", *(f"{c}.{p}" for c in convs for p in ("weight", "bias"))}
        expected |= {f"{n}.{p}" for n in norms for p in norm}
    assert network.state_dict().keys() == expected
    assert len(expected) == 156


def blocks(i: int) -> tuple[str, str]:
    return f"down_path.{i}.block", f"up_path.{i}.conv_block.block"


def test_published_detector_has_the_layers_its_layout_says():
    with torch.device("meta"):
        network = built(BopbtlConfig())
    kinds = Counter(type(m).__name__ for m in network.modules())
    assert (kinds["Conv2d"], kinds["BatchNorm2d"], kinds["Blur"], kinds["Upsample"]) == (26, 20, 4, 4)
    assert {m.negative_slope for m in network.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}


@torch.no_grad()
def test_published_detector_says_what_its_layout_says():
    network, x = built(TINY_BOPBTL), tiny.drawn(2, 1, 32, 24)
    for k, v in network.state_dict().items():
        if v.is_floating_point() and not k.endswith("filt"):
            around = 1.0 if k.endswith("running_var") or (k.endswith("weight") and v.ndim == 1) else 0.0
            v.copy_(around + 0.1 * tiny.drawn(*v.shape, seed=len(k)))
    expected = as_laid_out(network.state_dict(), x, TINY_BOPBTL.depth)
    assert expected.std() > 1e-3
    torch.testing.assert_close(network(x), expected, atol=1e-5, rtol=1e-4)


def test_published_blur_is_binomial_and_mirrors_at_the_border():
    spike = torch.zeros(1, 2, 8, 8)
    spike[0, 1, 1] = 1  # a row that the first output row sees twice: once mirrored
    out = bopbtl.Blur(2)(spike)
    assert out.shape == (1, 2, 4, 4)
    torch.testing.assert_close(out[0, 1, :, 2], torch.tensor([0.5, 0.25, 0, 0]))
    assert not out[0, 0].any()


def test_blur_of_the_checkpoint_is_the_one_used():
    network = built(TINY_BOPBTL)
    state = network.state_dict()
    x = tiny.drawn(1, 1, 32, 32)
    before = network(x)
    network.load_state_dict({k: v * 2 if k.endswith("filt") else v for k, v in state.items()})
    assert not torch.allclose(network(x), before)


OTHERS = {
    "nothing": ({}, "no convolution stem.weight, down.0.0", "no first.1.weight, down_sample.0.4.filt"),
    "an upscaler": (compact.build(compact.CompactConfig(8, 1)).state_dict(), "stem.weight", "first.1.weight"),
    "a face restorer": (
        face_net.build(face_net.FaceNetConfig(8, (1, 1), 1)).state_dict(),
        "sees 3 channels and last.2.weight makes 3",
        "first.1.weight",
    ),
    "a checkpoint not looked into": ({"model_state": torch.zeros(1)}, "stem.weight", "look inside model_state"),
}


@pytest.mark.parametrize(("state", "not_ours", "not_bopbtl"), OTHERS.values(), ids=OTHERS)
def test_other_networks_are_refused_by_what_they_lack(state, not_ours, not_bopbtl):
    with pytest.raises(ValueError, match=f"not a scratch detector of ours: .*{not_ours}"):
        scratch_net.detect(state)
    with pytest.raises(ValueError, match=f"not the detector of Bringing-Old-Photos: .*{not_bopbtl}"):
        bopbtl.detect(state)


def test_detectors_are_not_taken_for_each_other():
    with pytest.raises(ValueError, match=r"no first\.1\.weight"):
        bopbtl.detect(built(TINY).state_dict())
    with pytest.raises(ValueError, match=r"no convolution stem\.weight"):
        scratch_net.detect(built(TINY_BOPBTL).state_dict())


@pytest.mark.parametrize("config", [ScratchNetConfig(12), ScratchNetConfig(8, ()), ScratchNetConfig(8, (1, 2), 0)])
def test_widths_that_cannot_be_are_refused(config):
    with pytest.raises(ValueError, match="a multiple of 8 channels"):
        scratch_net.build(config)


SMALL = ScratchNetConfig(8, (1, 2), patch=2)


@pytest.mark.parametrize(
    "larger",
    [{"hinted": True}, {"blocks": 3}, {"multipliers": (1, 2, 2, 3)}, {"hinted": True, "blocks": 2}],
)
def test_one_that_grows_says_what_it_said_before_and_learns(larger):
    small, grown = (scratch_net.build(c) for c in (SMALL, dataclasses.replace(SMALL, **larger)))
    grown.load_state_dict(scratch_net.grown_into(grown, small.state_dict()))
    luma, hint = torch.rand(2, 2, 1, 32, 32)
    shown = [luma, torch.cat([luma, hint], 1)] if grown.config.hinted else [luma]
    for x in shown:
        torch.testing.assert_close(grown(x), small(luma))
    optimiser = torch.optim.SGD(grown.parameters(), lr=0.1)
    before = {k: v.clone() for k, v in grown.state_dict().items()}
    for _ in range(3):  # a zero first has to let gradients through
        optimiser.zero_grad()
        grown(shown[-1]).square().sum().backward()
        optimiser.step()
    still = [k for k, v in grown.state_dict().items() if torch.equal(v, before[k])]
    assert not still


def test_weights_of_the_same_network_are_grown_to_themselves():
    network = scratch_net.build(SMALL)
    state = network.state_dict()
    again = scratch_net.grown_into(network, state)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[k], state[k]) for k in state)


def test_weights_with_a_hole_are_not_grown_but_refused():
    network = scratch_net.build(dataclasses.replace(SMALL, blocks=2))
    state = scratch_net.build(SMALL).state_dict()
    del state["up.0.0.branch.5.weight"]
    with pytest.raises(RunError, match="is missing there"):
        begin_with(scratch_net.grown_into(network, state), network, "some")
