"""The mender: thin holes are filled in one call, everything else keeps its bits; how it is trained, saved and read."""

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
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor

from repaint import RunError
from repaint.archs import mend_net, scratch_net
from repaint.archs.mend_net import MendNetConfig
from repaint.config import resolved
from repaint.errors import WeightsError
from repaint.holes import smoothly_filled, thicker_than
from repaint.image import Photo
from repaint.stages import mending
from repaint.stages.inpaint import Inpaint, InpaintStage
from repaint.stages.mending import AROUND_PX, CELL_PX, Mender, shown_to_mender
from repaint.train.data import Picture
from repaint.train.mender import HoledWindow, MenderTask, regular, train_mender
from repaint.train.mender_settings import TrainMender
from repaint.train.settings import Source
from repaint.weights.menders import load_mender

from . import tiny
from .command import called

NETWORK = {"channels": 8, "multipliers": [1, 2], "blocks": 1, "patch": 2}
TINY = MendNetConfig(8, (1, 2), 1, 2)


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def opinionated(config: MendNetConfig = TINY) -> mend_net.MendNet:
    """A new network says nothing; this one does."""
    torch.manual_seed(0)
    network = mend_net.build(config).eval()
    for p in network.last.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return network


def holed(height: int, width: int, *holes: tuple[int, int, int, int]) -> Tensor:
    keep = torch.ones(1, height, width, dtype=torch.bool)
    for top, left, bottom, right in holes:
        keep[:, top:bottom, left:right] = False
    return keep


# ---- the network


@pytest.mark.parametrize("config", [TINY, MendNetConfig(16, (1, 2, 2), 2, 1)])
def test_the_shapes_of_a_mender_tell_its_configuration(config):
    assert mend_net.detect(mend_net.build(config).state_dict()) == config


def test_a_detector_is_no_mender():
    with pytest.raises(ValueError, match=r"not a mender of ours: stem\.weight sees 4 channels"):
        mend_net.detect(scratch_net.build(scratch_net.ScratchNetConfig(8, (1, 2), 1, 2)).state_dict())


def test_a_new_mender_leaves_the_smooth_fill():
    image, keep = torch.rand(1, 3, 30, 37, generator=seeded(0)), holed(30, 37, (5, 5, 8, 30))
    shown = shown_to_mender(image, keep[None])
    assert torch.equal(mend_net.build(TINY).eval()(shown), shown[:, :3].clamp(0, 1))


def test_known_pixels_come_out_as_they_are():
    image, keep = torch.rand(1, 3, 33, 41, generator=seeded(0)), holed(33, 41, (5, 5, 8, 30))[None]
    filled = opinionated()(shown_to_mender(image, keep))
    assert torch.equal(filled[keep.expand(-1, 3, -1, -1)], image[keep.expand(-1, 3, -1, -1)])
    assert (filled != shown_to_mender(image, keep)[:, :3])[~keep.expand(-1, 3, -1, -1)].any()


# ---- holes


@pytest.mark.parametrize(("px", "is_thick"), [(4, True), (8, True), (12, False), (40, False)])
def test_thickness_tells_a_scratch_from_a_patch(px, is_thick):
    keep = holed(60, 80, (10, 5, 13, 75), (30, 30, 40, 60))  # 3 px, and 10 px thick
    thick = thicker_than(keep, px)
    assert not thick[:, 10:13].any()
    assert thick[:, 35, 45].item() is is_thick
    assert not (thick & keep).any()


# ---- photos


def mender(network=None, thickest_px: float = 6, batch: int = 1) -> Mender:
    return Mender(network or opinionated(), thickest_px, torch.device("cpu"), batch)


def test_only_what_is_thin_changes():
    keep = holed(70, 150, (5, 5, 8, 140), (30, 30, 60, 60))
    rgb = torch.rand(3, 70, 150, generator=seeded(1))
    mend = mender()
    thin = mend.thin(keep)
    assert torch.equal(thin, ~holed(70, 150, (5, 5, 8, 140)))
    filled = mend(rgb, keep, thin)
    untouched = (~thin).expand(3, -1, -1)
    assert torch.equal(filled[untouched], rgb[untouched])
    assert (filled != rgb)[:, 5:8, 5:140].float().mean() > 0.9


def test_what_stands_in_a_hole_is_never_seen():
    keep = holed(70, 150, (5, 5, 8, 140), (30, 30, 60, 60))
    rgb = torch.rand(3, 70, 150, generator=seeded(1))
    other = torch.where(keep, rgb, 1 - rgb)
    mend = mender()
    thin = mend.thin(keep)
    assert torch.equal(mend(rgb, keep, thin)[:, 5:8, 5:140], mend(other, keep, thin)[:, 5:8, 5:140])


def test_cells_without_a_hole_cost_nothing():
    calls = []

    def network(x):
        calls.append(tuple(x.shape))
        return x[:, :3]

    side = CELL_PX + 2 * AROUND_PX
    keep = holed(3 * CELL_PX, 3 * CELL_PX, (10, 10, 12, 12), (10, CELL_PX - 5, 12, CELL_PX + 5))
    mend = mender(network)
    mend(torch.rand(3, *keep.shape[1:]), keep, mend.thin(keep))
    assert calls == [(1, 4, side, side)] * 2


def test_each_cell_is_mended_as_if_it_were_alone():
    keep = holed(CELL_PX, CELL_PX + 40, (20, 20, 23, CELL_PX + 30))
    rgb = torch.rand(3, *keep.shape[1:], generator=seeded(2))
    thin = mender().thin(keep)
    assert torch.equal(mender(batch=1)(rgb, keep, thin), mender(batch=1)(rgb, keep, thin))
    torch.testing.assert_close(mender(batch=2)(rgb, keep, thin), mender(batch=1)(rgb, keep, thin))


@pytest.mark.parametrize(("side", "times"), [(20, 1), (63, 1), (64, 2), (127, 2), (128, 4)])
def test_holes_of_large_photos_are_mended_though_they_are_thicker(monkeypatch, side, times):
    monkeypatch.setattr(mending, "ORDINARY_PX", 32)
    assert mending.enlarged(holed(side, side)) == times
    assert mending.enlarged(holed(4 * side, side // 4)) == times
    thick = 4 * times  # as thick as can be, and a pixel more would be too much
    mend = mender(thickest_px=4)
    assert mend.thin(holed(4 * side, side // 4, (10, 0, 10 + thick, side))).any()
    assert not mend.thin(holed(4 * side, side // 4, (10, 0, 14 + 2 * thick, side))).any()


def test_what_is_thick_in_a_large_photo_is_mended_at_a_smaller_size(monkeypatch):
    monkeypatch.setattr(mending, "ORDINARY_PX", 32)
    seen = []

    def smooth(x):
        seen.append((x[:, 3:] < 1).sum().item())
        return x[:, :3]

    y, x = torch.arange(90.0)[:, None] / 180, torch.arange(100.0) / 200
    rgb = torch.stack([y + x, y.expand(90, 100), x.expand(90, 100)])  # a ramp, which a smooth fill all but knows
    keep = holed(90, 100, (5, 5, 8, 95), (30, 20, 38, 80))
    damaged = torch.where(keep, rgb, 1.0)
    mend = mender(smooth, thickest_px=4)
    thin = mend.thin(keep)
    assert torch.equal(thin, ~keep)
    filled = mend(damaged, keep, thin)
    assert torch.equal(filled[keep.expand(3, -1, -1)], rgb[keep.expand(3, -1, -1)])
    assert (filled - rgb).abs().max() < 0.05
    assert seen == [4 * 30 + 44, 3 * 90]  # at half the size all holes; at its own what was left


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (5, 300)])
def test_any_size_can_be_mended(size):
    keep = torch.ones(1, *size, dtype=torch.bool)
    keep[..., ::2] = False
    rgb = torch.rand(3, *size, generator=seeded(3))
    assert mender()(rgb, keep, ~keep).isfinite().all()


# ---- the stage


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("mender") / "m.safetensors"
    save_file(opinionated().state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def build(tmp_path_factory, saved):
    prior = tiny.checkpoint(tmp_path_factory.mktemp("prior") / "p.safetensors", num_channels=32, channel_mult="1,1")

    def made(**more) -> InpaintStage:
        sampler = {"repaint": {"t_T": 4, "jump_length": 2, "jump_n_sample": 2}}
        told = {"prior": str(prior), "sampler": sampler, "mender": saved, "mend_px": 4, **more}
        return Inpaint.model_validate(told).build("cpu")

    return made


def filled(stage: InpaintStage, photo: Photo) -> tuple[Tensor, int]:
    *_, progress = stage([photo], [0])
    return progress.photos[0].rgb, progress.calls[0]


def test_thin_holes_cost_no_call_of_the_prior_and_thick_ones_are_sampled(build):
    thin = tiny.photo(40, 41, (5, 2, 7, 38))
    both = tiny.photo(40, 41, (5, 2, 7, 38), (15, 10, 35, 30))
    alone, calls = filled(build(), thin)
    assert calls == 0
    assert not torch.equal(alone[:, 5:7], thin.rgb[:, 5:7])
    together, calls = filled(build(), both)
    assert calls > 0
    pure, more = filled(build(mender=None), both)
    assert more > calls
    known = both.keep.expand(3, -1, -1)
    assert torch.equal(together[known], both.rgb[known])
    assert torch.equal(pure[known], both.rgb[known])


def test_a_mask_comes_out_as_it_went_in(build):
    photo = tiny.photo(40, 41, (5, 2, 7, 38))
    *_, progress = build()([photo], [0])
    assert torch.equal(progress.photos[0].keep, photo.keep)


def test_a_grey_photo_is_mended_in_grey(build):
    photo = tiny.photo(40, 41, (5, 2, 7, 38))
    grey = dataclasses.replace(photo, rgb=photo.rgb[:1].expand(3, -1, -1).contiguous())
    rgb, _ = filled(build(), grey)
    assert torch.equal(rgb[0], rgb[1])
    assert torch.equal(rgb[0], rgb[2])


def test_what_is_feathered_blends_in_the_mended_fill(build):
    photo = tiny.photo(40, 41, (5, 2, 7, 38))
    sharp, _ = filled(build(grow_px=2, mend_px=8), photo)
    soft, _ = filled(build(grow_px=2, feather_px=2, mend_px=8), photo)
    assert torch.equal(sharp[:, :3], photo.rgb[:, :3])
    assert torch.equal(sharp[:, 5:7, 4:36], soft[:, 5:7, 4:36])
    assert not torch.equal(sharp[:, 3:5], soft[:, 3:5])


def test_what_stands_in_a_hole_does_not_return_where_mended_and_sampled_holes_meet(build):
    photo = tiny.photo(60, 60, (20, 10, 40, 30), (29, 30, 31, 55))
    other = dataclasses.replace(photo, rgb=torch.where(photo.keep, photo.rgb, 1 - photo.rgb))
    stage = build(grow_px=3, feather_px=3, mend_px=8)
    assert torch.equal(*(filled(stage, shown)[0] for shown in (photo, other)))


def test_the_run_says_which_mender_it_was(build, saved):
    assert saved in build().weights
    assert saved not in build(mender=None).weights
    assert saved not in build(fit="crop").weights


def test_weights_of_something_else_are_no_mender(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file(scratch_net.build(scratch_net.ScratchNetConfig(8, (1, 2))).state_dict(), path)
    with pytest.raises(WeightsError, match="not a mender of ours"):
        load_mender(str(path))


# ---- the training


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
        assert torch.equal(counts.bool(), ~keep & ~thicker_than(keep, 6))
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
