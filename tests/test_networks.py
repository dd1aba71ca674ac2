"""Our networks against the oracle's for the same weights, and their architecture read from shapes alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from repaint.archs import classifier, unet
from repaint.archs.blocks import GroupNorm, in_precision, timestep_embedding
from repaint.diffusion import image_by_image

from . import tiny
from .oracle import networks

UNETS: dict[str, dict[str, Any]] = {
    "as published": {},
    "no scale-shift": {"use_scale_shift_norm": False},
    "no resblock_updown": {"resblock_updown": False},
    "neither": {"use_scale_shift_norm": False, "resblock_updown": False},
    "new attention order": {"use_new_attention_order": True},
    "num_heads": {"num_head_channels": -1, "num_heads": 2},
    "num_heads in new order": {"num_head_channels": -1, "num_heads": 2, "use_new_attention_order": True},
    "num_heads_upsample": {"num_head_channels": -1, "num_heads": 2, "num_heads_upsample": 4},
    "fixed variance": {"learn_sigma": False},
    "classes": tiny.CLASSES,
    "two blocks": {"num_res_blocks": 2},
    "three blocks, attention everywhere": {"num_res_blocks": 3, "attention_resolutions": "16,8", "channel_mult": "1,1"},
    "attention in the middle alone": {"attention_resolutions": "4"},
    "three levels": {"channel_mult": "1,1,2", "attention_resolutions": "16,4"},
    "three levels, convolutions": {"channel_mult": "1,1,2", "attention_resolutions": "4", "resblock_updown": False},
    "one level": {"channel_mult": "1", "attention_resolutions": "16"},
    "halved first level": {"channel_mult": "0.5,1"},
}
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "as published": {},
    "no scale-shift": {"classifier_use_scale_shift_norm": False},
    "no resblock_updown": {"classifier_resblock_updown": False},
    "two blocks": {"classifier_depth": 2},
    "three levels": {"channel_mult": "1,1,2", "classifier_attention_resolutions": "8,4"},
    "narrow heads": {"num_head_channels": 16},
}
TIMES = torch.tensor([3, 998])


@torch.no_grad()
def says(network: nn.Module, height: int = 16, width: int = 16) -> torch.Tensor:
    labels = (torch.tensor([4, 0]),) if hasattr(network, "label_emb") else ()
    return network(tiny.drawn(2, 3, height, width), TIMES, *labels)


@pytest.mark.parametrize("changed", UNETS.values(), ids=UNETS)
def test_unet_says_what_the_oracle_says(changed):
    theirs = tiny.oracle_unet(**changed)
    expected = says(theirs)
    assert expected.std() > 0.1
    torch.testing.assert_close(says(tiny.our_unet(theirs, **changed)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(8, 8), (24, 40), (10, 16)])
def test_unet_works_at_other_sizes_than_its_own(size):
    theirs = tiny.oracle_unet()
    torch.testing.assert_close(says(tiny.our_unet(theirs), *size), says(theirs, *size), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("changed", UNETS.values(), ids=UNETS)
def test_unet_architecture_is_read_from_shapes_and_heads(changed):
    told = {**tiny.UNET, **changed}
    config = unet.detect(tiny.oracle_unet(**changed).state_dict(), tiny.hints(**changed))
    mult = [float(m) for m in told["channel_mult"].split(",")]
    attention = {16 // int(side) for side in told["attention_resolutions"].split(",")}
    assert config.channels == told["num_channels"]
    assert config.level_channels == tuple(int(64 * m) for m in mult)
    assert config.res_blocks == told["num_res_blocks"]
    assert set(config.attention) == {factor for factor in attention if factor < 2 ** len(mult)}
    assert config.out_channels == (6 if told.get("learn_sigma", True) else 3)
    assert config.classes == told.get("num_classes", 0)
    assert config.scale_shift == told.get("use_scale_shift_norm", True)
    assert config.resblock_updown == told.get("resblock_updown", True) or len(mult) == 1


@pytest.mark.parametrize(
    ("size", "more", "level_channels", "attention"),
    [
        (256, {}, (256, 256, 512, 512, 1024, 1024), (8, 16, 32)),
        (512, {"class_cond": True}, (128, 256, 256, 512, 512, 1024, 1024), (16, 32, 64)),
        (64, {"num_channels": 192, "num_res_blocks": 3}, (192, 384, 576, 768), (2, 4, 8)),
    ],
)
def test_published_sizes_are_read_from_their_shapes(size, more, level_channels, attention):
    with torch.device("meta"):
        state = networks.unet(image_size=size, **more).state_dict()
        config = unet.detect(state)
        ours = unet.build(config).state_dict()
    assert (config.level_channels, config.attention, config.head_channels) == (level_channels, attention, 64)
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in state.items()}


def test_without_hints_heads_are_64_channels_wide():
    state = tiny.oracle_unet().state_dict()
    assert unet.detect(state).head_channels == 64
    assert unet.detect(state, {"num_heads": 2}).head_channels is None
    assert unet.detect(state, {"num_heads": 2}).heads == 2
    assert unet.detect(state, {"num_head_channels": -1}).heads == 4


def test_heads_that_do_not_divide_the_channels_are_refused():
    state = tiny.oracle_unet().state_dict()
    with pytest.raises(ValueError, match="num_head_channels 48 does not divide the 128 attention channels"):
        unet.detect(state, {"num_head_channels": 48})
    with pytest.raises(ValueError, match="num_heads 3 does not divide"):
        unet.detect(state, {"num_heads": 3})


def test_unet_must_be_told_classes_if_and_only_if_it_knows_them():
    x, t, y = tiny.drawn(1, 3, 16, 16), torch.tensor([5]), torch.tensor([0])
    with pytest.raises(ValueError, match="knows no classes"):
        tiny.our_unet(tiny.oracle_unet())(x, t, y)
    with pytest.raises(ValueError, match="must be told classes"):
        tiny.our_unet(tiny.oracle_unet(**tiny.CLASSES), **tiny.CLASSES)(x, t)


def test_one_timestep_serves_a_whole_batch():
    network, x = tiny.our_unet(tiny.oracle_unet()), tiny.drawn(2, 3, 16, 16)
    torch.testing.assert_close(network(x, torch.tensor([7])), network(x, torch.tensor([7, 7])))


@pytest.mark.parametrize("changed", CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_classifier_says_what_the_oracle_says(changed):
    theirs = tiny.oracle_classifier(**changed)
    ours = tiny.our_classifier(theirs, num_head_channels=changed.get("num_head_channels", 32))
    expected = says(theirs)
    assert expected.std() > 0.01
    torch.testing.assert_close(says(ours), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("changed", CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_classifier_architecture_is_read_from_shapes(changed):
    config = classifier.detect(tiny.oracle_classifier(**changed).state_dict(), {"num_head_channels": 32})
    levels = len(changed.get("channel_mult", "1,2").split(","))
    assert config.res_blocks == changed.get("classifier_depth", 1)
    assert len(config.level_channels) == levels
    assert config.pool_side == 16 // 2 ** (levels - 1)
    assert config.classes == 5
    assert config.scale_shift == changed.get("classifier_use_scale_shift_norm", True)
    assert config.resblock_updown == changed.get("classifier_resblock_updown", True)


def test_published_classifier_is_read_from_its_shapes():
    with torch.device("meta"):
        state = networks.classifier().state_dict()
        config = classifier.detect(state, {"num_res_blocks": 2})
        ours = classifier.build(config).state_dict()
    assert config.level_channels == (128, 128, 256, 256, 512, 512)
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in state.items()}


def test_classifier_passes_a_gradient_back_to_every_pixel():
    judge = tiny.our_classifier(tiny.oracle_classifier())
    x = tiny.drawn(1, 3, 16, 16).requires_grad_()
    (gradient,) = torch.autograd.grad(judge(x, torch.tensor([500]))[0, 3], x)
    assert gradient.isfinite().all()
    assert (gradient != 0).all()


def test_half_precision_says_nearly_the_same_in_the_precision_of_the_image():
    theirs = tiny.oracle_unet()
    exact, half = says(theirs), says(in_precision(tiny.our_unet(theirs), torch.bfloat16))
    assert half.dtype == torch.float32
    assert (half - exact).std() < 0.03 * exact.std()
    assert not torch.equal(half, exact)


def test_half_precision_leaves_norms_and_time_in_single():
    network = in_precision(tiny.our_unet(tiny.oracle_unet()), torch.bfloat16)
    kinds = {type(m): m.weight.dtype for m in network.modules() if isinstance(m, (nn.Linear, GroupNorm))}
    assert set(kinds.values()) == {torch.float32}


def test_image_by_image_gives_each_image_its_own_bits():
    network = image_by_image(tiny.our_unet(tiny.oracle_unet(**tiny.CLASSES), **tiny.CLASSES))
    x, t, y = tiny.drawn(3, 3, 16, 16), torch.tensor([500]), torch.tensor([0, 3, 1])
    together = network(x, t, y)
    assert all(torch.equal(together[i : i + 1], network(x[i : i + 1], t, y[i : i + 1])) for i in range(3))


def test_new_network_says_nothing_yet():
    """Its last layer begins at 0, as training wants it; so every branch's."""
    config = unet.detect(tiny.oracle_unet().state_dict(), tiny.hints())
    assert says(unet.build(config).eval()).abs().max() == 0


def test_time_embedding_is_the_oracles():
    for dim in (32, 33):
        torch.testing.assert_close(timestep_embedding(TIMES, dim), networks.timestep_embedding(TIMES, dim))


NOT_A_UNET = {
    "nothing": {},
    "a classifier": tiny.oracle_classifier().state_dict(),
    "an upscaler": {"conv_first.weight": torch.zeros(8, 3, 3, 3)},
}


@pytest.mark.parametrize("state", NOT_A_UNET.values(), ids=NOT_A_UNET)
def test_other_networks_are_not_taken_for_a_unet(state):
    with pytest.raises(ValueError, match="not a guided-diffusion U-Net"):
        unet.detect(state)


def test_other_networks_are_not_taken_for_a_classifier():
    with pytest.raises(ValueError, match="not a guided-diffusion classifier"):
        classifier.detect(tiny.oracle_unet().state_dict())
    state = {k: v for k, v in tiny.oracle_classifier().state_dict().items() if "positional" not in k}
    with pytest.raises(ValueError, match="without attention pool"):
        classifier.detect(state)
