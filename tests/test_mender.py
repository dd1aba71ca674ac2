"""The mender: thin holes are filled in one call, everything else keeps its bits; how it is trained, saved and read."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import save_file
from torch import Generator, Tensor

from repaint.archs import mend_net, scratch_net
from repaint.archs.mend_net import MendNetConfig
from repaint.errors import WeightsError
from repaint.holes import thicker_than
from repaint.image import Photo
from repaint.stages import mending
from repaint.stages.inpaint import Inpaint, InpaintStage
from repaint.stages.mending import AROUND_PX, CELL_PX, Mender, shown_to_mender
from repaint.weights.load import load_prior
from repaint.weights.menders import load_mender

from . import tiny

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
    together = mender(batch=2)(rgb, keep, thin)
    torch.testing.assert_close(together, mender(batch=1)(rgb, keep, thin))
    first = thin.clone()
    first[..., CELL_PX:] = False  # of the other cell nothing is asked
    alone = mender()(rgb, keep, first)
    torch.testing.assert_close(alone[..., :CELL_PX], together[..., :CELL_PX])
    assert (alone != together).any()


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


def test_a_mender_that_is_taken_for_a_prior_is_called_a_mender():
    with pytest.raises(WeightsError, match="found a mender of ours"):
        load_prior("mender")
    with pytest.raises(WeightsError, match="found a scratch detector of ours"):
        load_prior("scratches")
