"""Which network it is and what runs it: built in, spandrel, realesrgan; two networks mixed to denoise more or less."""

from __future__ import annotations

import importlib.util
import re
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from repaint.errors import ConfigError, WeightsError
from repaint.image.writing import to_samples
from repaint.stages.enhancers import Enhancer, load_enhancer
from repaint.stages.progress import Precision
from repaint.stages.realesrgan import INSTALL
from repaint.stages.upscale import Upscale
from repaint.weights.files import read_state, sha256_of_state

from . import tiny
from .test_upscale_stage import upscaled
from .upscalers import compact_file, rrdb_file, saved

CPU = torch.device("cpu")
EXTRA = all(importlib.util.find_spec(name) for name in ("realesrgan", "basicsr"))
with_extra = pytest.mark.skipif(not EXTRA, reason=f"the extra is not installed: {INSTALL}")
SIZES = [(24, 32), (17, 9), (1, 30), (2, 1)]


def loaded(name: object, *, precision: Precision = "float32", **settings: object) -> Enhancer:
    told = Upscale.model_validate({"weights": str(name), **settings})
    return load_enhancer(str(name), told, CPU, precision)


def shown(*size: int) -> Tensor:
    return tiny.drawn(1, 3, *size).sigmoid()


@pytest.fixture(
    params=["compact x1", "compact x2", "compact x4", "rrdb x1", "rrdb x2", "rrdb x4"],
)
def network(request, tmp_path):
    """The file of a random network, and its factor."""
    kind, scale = request.param.split(" x")
    return (compact_file if kind == "compact" else rrdb_file)(tmp_path / "net.pth", int(scale), seed=3), int(scale)


# ---- backends


@pytest.mark.parametrize("size", SIZES)
def test_published_files_run_on_photos_of_any_size(network, size):
    file, scale = network
    enhancer = loaded(file)
    assert enhancer.scale == scale
    assert enhancer.network(shown(*size)).shape == (1, 3, size[0] * scale, size[1] * scale)
    assert enhancer.weights == {str(file): sha256_of_state(file)}
    assert enhancer.remarks == ()


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_built_in_networks_say_what_spandrel_says(tmp_path, scale):
    file, x = compact_file(tmp_path / "net.safetensors", scale, seed=3), shown(20, 30)
    ours, theirs = loaded(file).network(x), loaded(file, backend="spandrel").network(x)
    torch.testing.assert_close(ours.clamp(0, 1), theirs, atol=1e-6, rtol=0)


@with_extra
@pytest.mark.parametrize("size", SIZES)
def test_realesrgan_and_spandrel_agree_within_one_level(network, size):
    file, scale = network
    theirs, ours = (
        np.int32(to_samples(loaded(file, backend=b).network(shown(*size))[0], bits=8)) for b in ("realesrgan", "auto")
    )
    assert ours.shape == (size[0] * scale, size[1] * scale, 3)
    assert ours.std() > 1
    assert np.abs(theirs - ours).max() <= 1


@with_extra
@pytest.mark.parametrize("scale", [1.5, 2])
def test_whole_stage_is_the_same_with_both_backends(tmp_path, scale):
    file, photo = rrdb_file(tmp_path / "net.pth", 4), tiny.photo(40, 50)
    ours, theirs = (
        upscaled(Upscale(weights=str(file), scale=scale, backend=b, tile_px=32, overlap_px=8).build("cpu"), photo).rgb
        for b in ("spandrel", "realesrgan")
    )
    torch.testing.assert_close(ours, theirs, atol=1 / 255, rtol=0)


@with_extra
@pytest.mark.parametrize("scale", [2, 4])
def test_realesrgan_backend_says_what_the_package_says_on_its_own(tmp_path, scale):
    """`RealESRGANer.enhance`, which takes and gives 8 bits, blue first."""
    from repaint.stages.realesrgan import _imported, _network

    file = rrdb_file(tmp_path / "net.pth", scale)
    network, _ = _network(read_state(file)[0], file)
    upsampler = _imported("realesrgan.utils").RealESRGANer(scale, str(file), model=network, pre_pad=0, device=CPU)
    pixels = to_samples(shown(24, 32)[0], bits=8)
    theirs, _ = upsampler.enhance(pixels[..., ::-1])
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
    ours = to_samples(loaded(file, backend="realesrgan").network(x)[0], bits=8)
    assert np.abs(np.int32(theirs[..., ::-1]) - ours).max() <= 1


@with_extra
def test_what_realesrgan_needs_of_an_old_torchvision_does_not_stay():
    from repaint.stages.realesrgan import GONE, _imported

    _imported("realesrgan.utils")
    assert GONE not in sys.modules


def test_missing_extra_is_one_line_that_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "realesrgan.archs.srvgg_arch", None)
    file = compact_file(tmp_path / "net.pth", 2)
    with pytest.raises(ConfigError, match=rf"^backend: realesrgan .*: {re.escape(INSTALL)}; or say .*auto$"):
        Upscale(weights=str(file), backend="realesrgan").build("cpu")


def test_missing_spandrel_is_one_line_that_says_what_to_install(tmp_path, monkeypatch):
    file = rrdb_file(tmp_path / "net.pth", 2)
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(ConfigError, match=r"net\.pth: its network takes spandrel \(.*\): pip install spandrel$"):
        Upscale(weights=str(file)).build("cpu")


# ---- networks of another kind


def test_prior_is_not_taken_for_an_upscaler(tmp_path):
    file = tiny.checkpoint(tmp_path / "prior.safetensors")
    with pytest.raises(WeightsError, match="spandrel knows no such architecture"):
        Upscale(weights=str(file)).build("cpu")


def test_network_of_grey_images_is_refused(tmp_path):
    file = compact_file(tmp_path / "grey.pth", 2, channels=1)
    with pytest.raises(WeightsError, match="makes 1 channels of 1; must make RGB of RGB"):
        Upscale(weights=str(file)).build("cpu")


@with_extra
def test_network_that_realesrgan_does_not_have_is_refused(tmp_path):
    file = tiny.checkpoint(tmp_path / "prior.safetensors")
    with pytest.raises(WeightsError, match=r"realesrgan runs RRDBNet and SRVGGNetCompact, found .*; say backend: span"):
        Upscale(weights=str(file), backend="realesrgan").build("cpu")


@with_extra
def test_tensors_that_realesrgan_cannot_place_are_one_line(tmp_path):
    state, _ = read_state(rrdb_file(tmp_path / "whole.pth", 4))
    file = saved(tmp_path / "part.pth", {k: v for k, v in state.items() if k != "conv_hr.bias"})
    with pytest.raises(WeightsError, match=r"part\.pth: realesrgan cannot load it: [^\n]+$"):
        Upscale(weights=str(file), backend="realesrgan").build("cpu")


def test_missing_weights_are_told_with_how_to_get_them(tmp_path):
    with pytest.raises(WeightsError, match="repaint weights get RealESRGAN_x4plus"):
        Upscale(weights="RealESRGAN_x4plus", weights_dir=str(tmp_path)).build("cpu")


# ---- denoise


@pytest.fixture
def general(tmp_path):
    """The two files that are mixed."""
    return tuple(
        compact_file(tmp_path / f"realesr-general-{wdn}x4v3.pth", 4, seed=i) for i, wdn in enumerate(["", "wdn-"], 1)
    )


@pytest.mark.parametrize("backend", ["auto", "spandrel", pytest.param("realesrgan", marks=with_extra)])
def test_denoise_mixes_the_weights_of_both_networks(general, tmp_path, backend):
    a, b = (read_state(file)[0] for file in general)
    expected = saved(tmp_path / "mixed.pth", {k: 0.3 * a[k] + 0.7 * b[k] for k in a})
    mixed = loaded(general[0], denoise=0.3, backend=backend)
    x = shown(9, 14)
    torch.testing.assert_close(mixed.network(x), loaded(expected, backend=backend).network(x), atol=1e-6, rtol=0)
    assert mixed.weights == {str(file): sha256_of_state(file) for file in general}


def test_denoise_goes_from_the_network_that_keeps_noise_to_the_one_that_does_not(general):
    x = shown(9, 14)
    assert torch.equal(loaded(general[0], denoise=0).network(x), loaded(general[1]).network(x))
    assert torch.equal(loaded(general[0], denoise=1).network(x), loaded(general[0]).network(x))


def test_without_its_partner_a_network_is_not_mixed_but_used_alone(general):
    general[1].unlink()
    assert list(loaded(general[0], denoise=1).weights) == [str(general[0])]
    with pytest.raises(WeightsError, match=r"realesr-general-wdn-x4v3\.pth: no such weights file"):
        loaded(general[0], denoise=0.5)


def test_partner_of_other_shapes_is_refused(general):
    rrdb_file(general[1], 4)
    with pytest.raises(WeightsError, match=r"wdn-x4v3\.pth: is of other shapes than the network it is to be mixed wi"):
        loaded(general[0], denoise=0.5)


# ---- precision


@pytest.mark.parametrize("backend", ["auto", "spandrel"])
def test_half_precision_says_nearly_the_same(tmp_path, backend):
    file, x = compact_file(tmp_path / "net.pth", 2, seed=3), shown(20, 30)
    exact, half = (loaded(file, backend=backend, precision=p).network(x) for p in ("float32", "bfloat16"))
    assert half.dtype == torch.float32
    assert 0 < (half - exact).abs().max() < 0.01


def test_float16_on_a_cpu_is_float32_and_told(tmp_path):
    stage = Upscale(weights=str(compact_file(tmp_path / "net.pth", 2))).build("cpu", "float16")
    assert stage.remarks == ("precision: float16 is slower than float32 on a CPU: using float32",)
    assert upscaled(stage, tiny.photo(8, 8)).rgb.shape == (3, 16, 16)
