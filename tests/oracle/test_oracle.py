"""The oracle against closed forms and published numbers, so that a disagreement with it means something."""

import math
from collections.abc import Iterator
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from . import attention, files, networks, sampler

TINY = {"image_size": 16, "num_channels": 64, "num_res_blocks": 1, "channel_mult": "1,2", "attention_resolutions": "8"}
TINY_CLASSIFIER = {
    "image_size": 16,
    "classifier_width": 64,
    "classifier_depth": 1,
    "classifier_attention_resolutions": "8",
    "channel_mult": "1,2",
    "num_head_channels": 32,
    "num_classes": 5,
}


@pytest.fixture(autouse=True)
def _same_inputs_every_time() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Networks this small wait longer for a second thread than they gain by it, on busy cores a hundredfold."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Schedules


@pytest.mark.parametrize(
    ("t_T", "length", "passes", "start", "calls", "moves"),
    [
        (250, 10, 10, 1e8, 2410, 4570),
        (250, 10, 5, 1e8, 1210, None),
        (250, 10, 2, 1e8, 490, None),
        (250, 10, 1, 1e8, 250, 250),
        (250, 1, 10, 1e8, 2491, 4732),
        (100, 10, 10, 1e8, 910, None),
        (100, 10, 5, 1e8, 460, None),
        (100, 10, 2, 1e8, 190, None),
        (50, 5, 5, 1e8, 230, None),
        (50, 5, 2, 1e8, 95, None),
        (25, 5, 5, 1e8, 105, None),
        (250, 10, 10, 100, 1150, 2050),
    ],
)
def test_jump_schedule_has_the_published_numbers(t_T, length, passes, start, calls, moves):
    times = sampler.jump_schedule(t_T, jump_length=length, jump_n_sample=passes, start_resampling=start)
    assert sum(b < a for a, b in pairwise(times)) == calls
    assert moves is None or len(times) - 1 == moves
    assert (times[0], times[-1]) == (t_T - 1, -1)
    assert all(abs(a - b) == 1 for a, b in pairwise(times))


def test_paper_schedule_jumps_from_230_but_not_from_240():
    times = sampler.jump_schedule(250, jump_length=10, jump_n_sample=10)
    turns = {b for a, b, c in zip(times, times[1:], times[2:], strict=False) if a > b < c}
    assert turns == set(range(0, 240, 10))


def test_n_sample_goes_one_step_back_and_forth_at_every_level_below_the_top():
    assert sampler.jump_schedule(5, n_sample=2) == [4, 3, 2, 3, 2, 1, 2, 1, 0, 1, 0, -1]


def test_outer_jump_refills_the_inner_one():
    times = sampler.jump_schedule(6, jump_length=3, jump_n_sample=2, jump2_length=2, jump2_n_sample=2)
    inner = [2, 3, 4, 3, 2, 1, 0, 1, 2, 1, 0]  # from 2 down to 0 with a jump of 2 at both
    assert times == [5, 4, 3, *inner, 1, 2, 3, *inner, -1]


def test_respacing_keeps_the_published_timesteps():
    kept = sampler.space_timesteps(1000, "250")
    assert (kept[:4], kept[-2:], len(set(kept))) == ([0, 4, 8, 12], [995, 999], 250)
    assert sampler.space_timesteps(1000, "ddim50") == list(range(0, 1000, 20))
    assert sampler.space_timesteps(300, "10,15,20")[9:12] == [99, 100, 107]
    assert sampler.space_timesteps(10, "") == list(range(10))


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_respaced_chain_has_the_noise_levels_of_the_full_one(schedule):
    full = sampler.betas(schedule, 1000)
    kept = sampler.space_timesteps(1000, "37")
    respaced = sampler.respaced_betas(full, kept)
    np.testing.assert_allclose(np.cumprod(1 - respaced), np.cumprod(1 - full)[kept], rtol=1e-9)
    assert full.dtype == respaced.dtype == np.float64


# Networks


@pytest.mark.parametrize("flags", list(product([False, True], repeat=3)))
def test_every_parameter_matters(flags):
    scale_shift, updown, new_order = flags
    net = networks.unet(
        **TINY,
        num_head_channels=-1,
        num_heads_upsample=2,
        use_scale_shift_norm=scale_shift,
        resblock_updown=updown,
        use_new_attention_order=new_order,
        class_cond=True,
        num_classes=3,
    )
    net = networks.randomised(net, 0)
    out = net(torch.randn(2, 3, 16, 16), torch.tensor([7, 900]), torch.tensor([0, 2]))
    assert out.shape == (2, 6, 16, 16)
    assert 0.2 < out.std() < 5
    out.square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-7] == []


def test_class_and_variance_switches_change_the_ends_only():
    plain = networks.unet(**TINY, learn_sigma=False).state_dict()
    full = networks.unet(**TINY, class_cond=True).state_dict()
    assert full["label_emb.weight"].shape == (1000, 256)
    assert {k for k in full if k not in plain} == {"label_emb.weight"}
    assert {k for k in plain if plain[k].shape != full[k].shape} == {"out.2.weight", "out.2.bias"}


def test_attention_orders_agree_for_one_head_and_differ_for_two():
    x, t = torch.randn(1, 3, 16, 16), torch.tensor([10])
    for heads, same in ((1, True), (2, False)):
        legacy = networks.unet(**TINY, num_head_channels=-1, num_heads=heads)
        new = networks.unet(**TINY, num_head_channels=-1, num_heads=heads, use_new_attention_order=True)
        with torch.no_grad():
            a, b = networks.randomised(legacy, 1)(x, t), networks.randomised(new, 1)(x, t)
        assert torch.allclose(a, b, atol=1e-4) == same


def test_head_channels_are_another_way_to_count_heads():
    x, t = torch.randn(1, 3, 16, 16), torch.tensor([10])
    by_count = networks.randomised(networks.unet(**TINY, num_head_channels=-1, num_heads=4), 2)
    by_width = networks.randomised(networks.unet(**TINY, num_head_channels=32), 2)
    with torch.no_grad():
        torch.testing.assert_close(by_count(x, t), by_width(x, t))


def test_attention_over_equal_keys_is_a_mean():
    q, k, v = torch.randn(2, 4, 9), torch.ones(2, 4, 9), torch.randn(2, 4, 9)
    torch.testing.assert_close(attention.attention(q, k, v), v.mean(dim=2, keepdim=True).expand(2, 4, 9))


def test_pool_without_queries_is_a_mean_over_the_last_third_of_qkv():
    pool = networks.randomised(networks.AttentionPool(4, 64, 2, 5), 0)
    pool.qkv_proj.weight.data[:64] = 0
    pool.qkv_proj.bias.data[:64] = 0
    x = torch.randn(1, 64, 4, 4)
    with torch.no_grad():
        tokens = torch.cat([x.flatten(2).mean(dim=2, keepdim=True), x.flatten(2)], dim=2) + pool.positional_embedding
        v = pool.qkv_proj(tokens)[:, 128:]
        torch.testing.assert_close(pool(x), pool.c_proj(v.mean(dim=2, keepdim=True))[:, :, 0])


def test_scale_comes_before_shift():
    """At scale -1 the first convolution is wiped out and the shift alone goes on."""
    block = networks.randomised(networks.ResBlock(64, 64, 8, scale_shift=True, dropout=0), 0)
    block.emb_layers[1].weight.data.zero_()
    block.emb_layers[1].bias.data = torch.cat([-torch.ones(64), torch.full((64,), 0.7)])
    x = torch.randn(1, 64, 4, 4)
    with torch.no_grad():
        h = block.out_layers[3](torch.nn.functional.silu(torch.full_like(x, 0.7)))
        torch.testing.assert_close(block(x, torch.zeros(1, 8)), x + h)


def test_published_sizes():
    """Dhariwal & Nichol 2021, Table 10 and model card: 554M and 54M at 256 px; OpenAI's files have these keys."""
    with torch.device("meta"):
        net, judge = networks.unet(class_cond=True), networks.classifier()
    assert round(sum(p.numel() for p in net.parameters()) / 1e6) == 554
    assert round(sum(p.numel() for p in judge.parameters()) / 1e6) == 54
    keys = set(net.state_dict())
    assert len(net.input_blocks) == len(net.output_blocks) == 18
    expected = "time_embed.2.weight input_blocks.0.0.weight input_blocks.3.0.in_layers.2.weight "
    expected += "input_blocks.10.1.qkv.weight middle_block.1.proj_out.bias middle_block.2.out_layers.3.weight "
    expected += "input_blocks.7.0.skip_connection.weight output_blocks.2.2.emb_layers.1.bias out.0.weight"
    assert set(expected.split()) <= keys
    assert not any(key.startswith("input_blocks.9.1") for key in keys)
    assert judge.state_dict()["out.2.positional_embedding"].shape == (512, 65)


def test_updown_by_convolution_has_the_published_names():
    keys = set(networks.unet(**TINY, resblock_updown=False).state_dict())
    assert {"input_blocks.2.0.op.weight", "output_blocks.1.2.conv.weight"} <= keys
    assert not any(key.startswith("input_blocks.2.0.in_layers") for key in keys)


def test_fractional_multipliers_round_down():
    with torch.device("meta"):
        net = networks.unet(image_size=512, num_channels=192)
    assert net.state_dict()["input_blocks.0.0.weight"].shape[0] == 96


def test_classifier_gives_logits_that_depend_on_every_parameter():
    judge = networks.randomised(networks.classifier(**TINY_CLASSIFIER), 3)
    logits = judge(torch.randn(2, 3, 16, 16), torch.tensor([1, 500]))
    assert logits.shape == (2, 5)
    logits.log_softmax(dim=1)[:, 0].sum().backward()
    assert [name for name, p in judge.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-7] == []


# Sampler


class Spy:
    """Answers eps = 0 and the smaller variance; remembers what it was shown and told."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, Tensor]] = []

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.seen.append((int(t), x))
        return torch.cat([torch.zeros_like(x), -torch.ones_like(x)], dim=1)


def short(n: int, jump_length: int = 1, jump_n_sample: int = 1) -> dict:
    jumps = {"t_T": n, "n_sample": 1, "jump_length": jump_length, "jump_n_sample": jump_n_sample}
    return {"timestep_respacing": str(n), "schedule_jump_params": jumps}


def test_network_is_shown_the_noise_level_it_is_told():
    spy = Spy()
    black = torch.zeros(1, 3, 32, 32)
    sampler.inpaint(spy, black, torch.ones_like(black), conf=short(20, 5, 2), seed=0)
    alpha_bar = np.cumprod(1 - sampler.betas("linear", 1000))
    assert [t for t, _ in spy.seen][:2] == [999, 946]
    for t, x_t in spy.seen[1:]:
        assert float(x_t.std()) == pytest.approx(math.sqrt(1 - alpha_bar[t]), rel=0.06)


def test_draws_come_in_the_published_order():
    """x_T; posterior of the first call; posterior, then known part, of the second; and each step up takes one."""
    spy = Spy()
    gt = torch.rand(1, 3, 8, 8) - 0.5
    conf = short(4, 2, 2)  # 3 2 1 0 1 2 1 0 -1
    sampler.inpaint(spy, gt, torch.ones_like(gt), conf=conf, seed=5)
    stream = sampler.draws(gt.shape, 5)
    drawn = [next(stream) for _ in range(30)]
    torch.testing.assert_close(spy.seen[0][1], drawn[0])
    assert [t for t, _ in spy.seen] == [999, 666, 333, 666, 333, 0]
    alpha_bar = np.cumprod(1 - sampler.betas("linear", 1000))
    draw_of_the_known_part = {1: 3, 2: 5, 3: 9, 4: 11, 5: 13}  # by network call; draws 6 and 7 are the two steps up
    for call, draw in draw_of_the_known_part.items():
        t, x_t = spy.seen[call]
        known = math.sqrt(alpha_bar[t]) * gt + math.sqrt(1 - alpha_bar[t]) * drawn[draw]
        torch.testing.assert_close(x_t, known, atol=1e-5, rtol=0)


def test_first_step_down_uses_the_second_draw():
    spy = Spy()
    nothing = torch.zeros(1, 3, 8, 8)
    sampler.inpaint(spy, nothing, nothing, conf=short(4), seed=5)
    stream = sampler.draws(nothing.shape, 5)
    x_T, posterior_noise = next(stream), next(stream)
    alpha_bar = np.cumprod(1 - sampler.betas("linear", 1000))
    a, b = alpha_bar[999], alpha_bar[666]
    x_0 = (x_T / math.sqrt(a)).clamp(-1, 1)
    mean = (1 - a / b) * math.sqrt(b) / (1 - a) * x_0 + (1 - b) * math.sqrt(a / b) / (1 - a) * x_T
    variance = (1 - a / b) * (1 - b) / (1 - a)
    torch.testing.assert_close(spy.seen[1][1], mean + math.sqrt(variance) * posterior_noise, atol=1e-5, rtol=1e-5)


class Gaussian:
    """The perfect network for pixels drawn as mean + common * one normal per image + own * one normal per pixel.

    Eps is exact and so is the variance, where pixels are independent (`common` 0).
    """

    def __init__(self, n: int, *, mean: float, common: float, own: float) -> None:
        kept = sampler.space_timesteps(1000, str(n))
        self.alpha_bar = np.cumprod(1 - sampler.betas("linear", 1000))
        self.before = dict(zip(kept[1:], kept, strict=False))
        self.mean, self.common, self.own = mean, common, own

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        a = self.alpha_bar[int(t)]
        off = x - math.sqrt(a) * self.mean
        flat = off.mean()
        shares = [v / (a * v + 1 - a) for v in (self.own**2, self.own**2 + x.numel() * self.common**2)]
        x_0 = self.mean + math.sqrt(a) * (shares[0] * (off - flat) + shares[1] * flat)
        eps = (x - math.sqrt(a) * x_0) / math.sqrt(1 - a)
        return torch.cat([eps, torch.full_like(x, 2 * self.frac(int(t)) - 1)], dim=1)

    def frac(self, t: int) -> float:
        if t not in self.before:
            return 0.0
        a, b = self.alpha_bar[t], self.alpha_bar[self.before[t]]
        beta = 1 - a / b
        smallest = beta * (1 - b) / (1 - a)
        unsure = 1 / (1 / self.own**2 + a / (1 - a))
        variance = smallest + (beta * math.sqrt(b) / (1 - a)) ** 2 * unsure
        return math.log(variance / smallest) / math.log(beta / smallest)


@pytest.mark.parametrize("conf", [short(50), short(50, 5, 3)], ids=["straight", "time travel"])
def test_samples_have_the_spread_of_the_data(conf):
    nothing = torch.zeros(1, 3, 64, 64)
    x = sampler.inpaint(
        Gaussian(50, mean=0.1, common=0, own=0.15), nothing, torch.zeros_like(nothing), conf=conf, seed=1
    )
    assert float(x.mean()) == pytest.approx(0.1, abs=0.006)
    assert float(x.std()) == pytest.approx(0.15, rel=0.03)


def test_time_travel_comes_back_to_the_noise_level_it_left():
    model, seen = Gaussian(6, mean=0, common=0, own=0.15), []

    def spy(x: Tensor, t: Tensor) -> Tensor:
        seen.append((model.alpha_bar[int(t)], float(x.std())))
        return model(x, t)

    nothing = torch.zeros(1, 3, 64, 64)
    sampler.inpaint(spy, nothing, nothing, conf=short(6, 2, 3), seed=4)
    assert len(seen) == 14
    for a, std in seen:
        assert std == pytest.approx(math.sqrt(a * 0.15**2 + 1 - a), rel=0.03)


@pytest.mark.parametrize("level", [-0.4, 0.1, 0.4])
def test_hole_takes_the_common_part_of_what_is_known(level):
    gt = level + 0.05 * torch.randn(1, 3, 16, 16)
    keep = torch.ones_like(gt)
    keep[..., 8:] = 0
    x = sampler.inpaint(Gaussian(50, mean=0, common=0.3, own=0.05), gt, keep, conf=short(50, 5, 10), seed=2)
    assert float(x[..., 8:].mean()) == pytest.approx(level, abs=0.03)


@pytest.mark.parametrize(("tilt", "scale"), [(4.0, 0.0), (4.0, 2.0), (-4.0, 1.0)])
def test_guidance_tilts_the_data(tilt, scale):
    """N(m, s^2) times exp(scale * tilt * x) is N(m + s^2 * scale * tilt, s^2), in the limit of small steps."""
    s = 0.15
    model = Gaussian(1000, mean=0.1, common=0, own=s)

    def judge(x: Tensor, t: Tensor) -> Tensor:
        a = model.alpha_bar[int(t)]
        expected_x_0 = math.sqrt(a) * s**2 / (a * s**2 + 1 - a) * x
        likelier = torch.full((1,), 1e5)  # by so much that log p of the first class is its logit minus this
        return torch.stack([tilt * expected_x_0.sum()[None], likelier], dim=1)

    nothing = torch.zeros(1, 3, 32, 32)
    conf = {**short(1000), "classifier_scale": scale}
    x = sampler.inpaint(model, nothing, nothing, conf=conf, seed=3, classifier=judge, y=0)
    assert float(x.mean()) == pytest.approx(0.1 + s**2 * scale * tilt, abs=0.012)
    assert float(x.std()) == pytest.approx(s, rel=0.05)


def test_two_randomised_networks_run_through_the_sampler():
    net = networks.randomised(networks.unet(**TINY, class_cond=True, num_classes=5), 4)
    judge = networks.randomised(networks.classifier(**TINY_CLASSIFIER), 5)
    gt, keep = torch.rand(1, 3, 16, 16) * 2 - 1, torch.rand(1, 1, 16, 16)
    conf = {**short(6, 2, 2), "class_cond": True, "classifier_scale": 1.0}
    run = {label: sampler.inpaint(net, gt, keep, conf=conf, seed=6, classifier=judge, y=label) for label in (0, 1)}
    again = sampler.inpaint(net, gt, keep, conf=conf, seed=6, classifier=judge, y=0)
    assert run[0].isfinite().all()
    assert torch.equal(run[0], again)
    assert not torch.allclose(run[0], run[1], atol=1e-2)
    with pytest.raises(ValueError, match="need y"):
        sampler.inpaint(net, gt, keep, conf=conf, seed=6, classifier=judge)


# Files


def test_truncation_lowers_63_of_256_grey_levels():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    back = sampler.to_uint8(torch.from_numpy(files.image(Image.fromarray(grey), 16)))
    lower = grey.astype(int) - back[..., 0]
    assert set(np.unique(lower)) == {0, 1}
    assert lower.sum() == 63


@pytest.mark.parametrize(("width", "height"), [(16, 16), (31, 16), (16, 41), (100, 70), (7, 9)])
def test_pictures_of_any_shape_come_out_square_and_centred(width, height):
    ramp = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8), (height, width))
    x = files.image(Image.fromarray(np.ascontiguousarray(ramp)), 16)
    assert (x.shape, x.dtype) == ((1, 3, 16, 16), np.float32)
    assert float(x.mean()) == pytest.approx(0, abs=0.06)


def test_mask_keeps_white_and_softens_only_where_resized():
    hard = np.zeros((32, 32), np.uint8)
    hard[:, 15:] = 255
    assert set(np.unique(files.mask(Image.fromarray(hard), 32))) == {0, 1}
    soft = files.mask(Image.fromarray(hard), 16)
    assert soft[0, 0, 0, 6] == 0 < soft[0, 0, 0, 7] < soft[0, 0, 0, 8] == 1
    black = files.hole_black(np.ones_like(soft), np.zeros_like(soft))
    assert (black == -1).all()
