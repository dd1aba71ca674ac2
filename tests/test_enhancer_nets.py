"""Networks that enhance: the compact super-resolver against spandrel's, and our face restorer."""

from __future__ import annotations

import pytest
import spandrel
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repaint.archs import compact, face_net, scratch_net
from repaint.archs.blocks import in_precision, zeroed
from repaint.archs.compact import CompactConfig
from repaint.archs.face_net import FaceNetConfig

from . import tiny

TINY = CompactConfig(8, convs=2, scale=2)
TINY_FACE = FaceNetConfig(8, (1, 2, 2), blocks=1)
COMPACTS = [CompactConfig(f, n, s, c) for f, n in [(8, 0), (8, 3), (24, 1)] for s in (1, 2, 4) for c in (1, 3)]
FACES = [FaceNetConfig(), TINY_FACE, FaceNetConfig(8, (3,)), FaceNetConfig(16, (1, 1, 2, 3), 3)]
BOTH = pytest.mark.parametrize("config", [TINY, TINY_FACE], ids=["compact", "face"])


def built(config: CompactConfig | FaceNetConfig) -> nn.Module:
    torch.manual_seed(0)
    return (compact.build(config) if isinstance(config, CompactConfig) else face_net.build(config)).eval()


def moved(config: CompactConfig | FaceNetConfig) -> nn.Module:
    """A network whose last layer is no longer 0."""
    network = built(config)
    for p in network.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.05)
    return network


def face(*size: int) -> Tensor:
    return tiny.drawn(*size).sigmoid()


# ---- both


@BOTH
@torch.no_grad()
def test_picture_is_treated_alike_alone_and_beside_another(config):
    network, x = moved(config), torch.cat([face(1, 3, 16, 24), torch.zeros(1, 3, 16, 24)])
    torch.testing.assert_close(network(x), torch.cat([network(x[:1]), network(x[1:])]), atol=1e-5, rtol=1e-5)


@BOTH
@torch.no_grad()
def test_channels_last_memory_changes_nothing(config):
    network, x = moved(config), face(2, 3, 16, 24)
    expected = network(x)
    torch.testing.assert_close(network.to(memory_format=torch.channels_last)(x), expected, atol=1e-5, rtol=1e-5)


@BOTH
def test_gradient_reaches_every_parameter_once_the_last_layer_has_moved(config):
    network = moved(config).train()
    network(face(1, 3, 16, 16)).square().mean().backward()
    assert [k for k, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@BOTH
def test_only_the_last_layer_begins_at_zero_so_training_starts_at_once(config):
    network = built(config).train()
    network(face(1, 3, 16, 16)).square().mean().backward()
    last = [p for p in list(network.parameters())[-2:] if p.grad is not None]
    assert all(p.grad.any() and not p.any() for p in last)
    assert len(last) == 2


@BOTH
@torch.no_grad()
def test_state_dict_makes_the_same_network_again(config):
    network, x = moved(config), face(1, 3, 16, 16)
    with torch.device("meta"):
        again = built(config)
    again.load_state_dict(network.state_dict(), strict=True, assign=True)
    assert torch.equal(again(x), network(x))


@pytest.mark.parametrize("config", [*COMPACTS, *FACES], ids=str)
def test_architecture_is_read_from_shapes(config):
    with torch.device("meta"):
        state = built(config).state_dict()
    assert (compact if isinstance(config, CompactConfig) else face_net).detect(state) == config


# ---- compact


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (16, 33)])
@pytest.mark.parametrize("scale", [1, 2, 4])
@torch.no_grad()
def test_new_upscaler_repeats_pixels_of_a_picture_of_any_size(scale, size):
    x = face(1, 3, *size)
    expected = x.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    assert torch.equal(built(CompactConfig(8, 1, scale))(x), expected)


@torch.no_grad()
def test_signal_of_a_new_upscaler_does_not_fade_on_its_way():
    layers = list(built(CompactConfig(32, convs=24)).body)[:-1]
    h = first = layers[0](face(1, 3, 24, 24))
    for layer in layers[1:]:
        h = layer(h)
    assert 0.1 < h.std(dim=(2, 3)).mean() / first.std(dim=(2, 3)).mean() < 10  # 0.02 as torch begins


@pytest.mark.parametrize("config", [CompactConfig(16, 3, scale) for scale in (1, 2, 4)], ids=str)
@torch.no_grad()
def test_spandrel_recognises_the_upscaler_and_says_the_same(config):
    network, x = moved(config), face(1, 3, 17, 9)
    theirs = spandrel.ModelLoader().load_from_state_dict(dict(network.state_dict()))
    assert theirs.architecture.id == "Compact"
    assert (theirs.scale, theirs.input_channels, theirs.output_channels) == (config.scale, 3, 3)
    torch.testing.assert_close(network(x), theirs.model(x), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("config", "parameters"), [(CompactConfig(), 621_424), (CompactConfig(convs=32), 1_213_296)], ids=["16", "32"]
)
def test_upscaler_has_as_many_parameters_as_the_published_one(config, parameters):
    """realesr-animevideov3 and realesr-general-x4v3."""
    with torch.device("meta"):
        assert sum(p.numel() for p in built(config).parameters()) == parameters


NOT_COMPACT = {
    "nothing": ({}, "no body.0.weight, body.1.weight, body.2.weight"),
    "a face restorer": (built(TINY_FACE).state_dict(), "no body.0.weight"),
    "an RRDB upscaler": ({"body.0.rdb1.conv1.weight": torch.zeros(8, 8, 3, 3)}, "no body.0.weight"),
    "a body without slopes": ({f"body.{i}.weight": torch.zeros(3, 3, 3, 3) for i in range(3)}, "body.1 are no"),
    "a last layer of no scale": (
        {**built(TINY).state_dict(), "body.6.weight": torch.zeros(15, 8, 3, 3)},
        r"body.6, makes 15 channels, must .* make 3 \* scale",
    ),
    "a body cut short": ({k: v for k, v in built(TINY).state_dict().items() if "6" not in k}, "body.5, makes 8"),
}


@pytest.mark.parametrize(("state", "words"), NOT_COMPACT.values(), ids=NOT_COMPACT)
def test_other_networks_are_not_taken_for_a_compact_one(state, words):
    with pytest.raises(ValueError, match=f"not a compact super-resolver .*{words}"):
        compact.detect(state)


# ---- face


@pytest.mark.parametrize("size", [(16, 16), (32, 64), (128, 128)])
@torch.no_grad()
def test_new_restorer_returns_the_face_it_is_given(size):
    x = face(1, 3, *size)
    assert torch.equal(built(FaceNetConfig())(x), x)


@torch.no_grad()
def test_restored_face_is_clamped_outside_training_alone():
    network, x = moved(TINY_FACE), face(1, 3, 16, 16)
    nn.init.constant_(network.last[-1].bias, 0.6)
    inside, free = network(x), network.train()(x)
    assert free.max() > 1
    torch.testing.assert_close(inside, free.clamp(0, 1))


@torch.no_grad()
def test_lowest_level_looks_at_the_whole_face():
    """A change in one corner is felt in the opposite one, through attention alone."""
    attention = face_net.Attention(8)
    attention.norm = nn.Identity()
    x = tiny.drawn(1, 8, 8, 8)
    changed = x.clone()
    changed[..., 0, 0] += 3
    felt = (attention(changed) - attention(x))[..., -1, -1]
    assert (felt.abs() > 1e-4).any()


@torch.no_grad()
def test_attention_is_added_to_what_it_looks_at():
    attention, x = face_net.Attention(8), tiny.drawn(1, 8, 4, 6)
    zeroed(attention.out)
    assert torch.equal(attention(x), x)


@torch.no_grad()
def test_black_and_white_are_minus_one_and_one_inside():
    network, shown = built(TINY_FACE), []
    network.stem.register_forward_pre_hook(lambda _, args: shown.append(args[0]))
    network(torch.tensor([0.0, 0.5, 1.0, 0.5]).expand(1, 3, 4, 4))
    assert shown[0][0, 2, 0].tolist() == [-1, 0, 1, 0]


@torch.no_grad()
def test_attention_does_not_care_where_a_pixel_is():
    attention, x = face_net.Attention(8), tiny.drawn(1, 8, 4, 6)
    torch.testing.assert_close(attention(x.flip(2, 3)), attention(x).flip(2, 3), atol=1e-5, rtol=1e-5)


def test_half_precision_says_nearly_the_same_in_the_precision_of_the_face():
    network, x = moved(TINY_FACE), face(1, 3, 32, 32)
    with torch.no_grad():
        exact, half = network(x), in_precision(network, torch.bfloat16)(x)
    assert half.dtype == torch.float32
    assert 0 < F.mse_loss(half, exact).sqrt() < 0.05 * (exact - x).std()


def test_default_restorer_has_between_three_and_five_million_parameters():
    with torch.device("meta"):
        assert sum(p.numel() for p in built(FaceNetConfig()).parameters()) == 4_261_123


def test_face_of_another_multiple_is_refused_with_its_size():
    with pytest.raises(ValueError, match="multiples of 16 px, got 100 x 112"):
        built(FaceNetConfig())(face(1, 3, 112, 100))


NOT_A_FACE_NET = {
    "nothing": ({}, "no convolution stem.weight, down.0.0.branch.2.weight, last.2.weight"),
    "an upscaler": (built(TINY).state_dict(), "no convolution stem.weight"),
    "a scratch detector": (
        scratch_net.build(scratch_net.ScratchNetConfig(8, (1, 2))).state_dict(),
        r"no attention \(middle.0.qkv.weight\)",
    ),
    "a grey face restorer": (
        {**built(TINY_FACE).state_dict(), "stem.weight": torch.zeros(8, 1, 3, 3)},
        "sees 1 channels, must see RGB",
    ),
    "uneven levels": (
        {**built(TINY_FACE).state_dict(), "stem.weight": torch.zeros(16, 3, 3, 3)},
        r"levels of \[8, 16, 16\] channels are not multiples of 16",
    ),
}


@pytest.mark.parametrize(("state", "words"), NOT_A_FACE_NET.values(), ids=NOT_A_FACE_NET)
def test_other_networks_are_not_taken_for_a_face_restorer(state, words):
    with pytest.raises(ValueError, match=f"not a face restorer of ours: .*{words}"):
        face_net.detect(state)
