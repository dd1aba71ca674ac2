"""Training enhancers of another kind: U-Nets over encoders of timm's; and training in many processes."""

import os
import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from skimage import data
from torch.nn import functional as F

from repaint import RunError
from repaint.archs import timm_unet
from repaint.config import resolved
from repaint.errors import ConfigError
from repaint.image import Photo
from repaint.stages.upscale import Upscale
from repaint.stages.upscaling import with_colours_of
from repaint.train.enhancer import EnhancerTask, train_enhancer
from repaint.train.enhancer_settings import TrainEnhancer

COMPACT = {"compact": {"features": 8, "convs": 1}, "scale": 2, "size": 64}
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
UNET = {"unet": {"encoder": "resnet10t", "channels": 8}, "size": 32}


@pytest.fixture
def config(tmp_path):
    (tmp_path / "photos").mkdir()
    Image.fromarray(data.chelsea()[60:220, 140:300]).save(tmp_path / "photos" / "a.png")

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


# ---- an encoder of timm's


def test_unet_over_an_encoder_loads_back_from_what_its_file_says(config):
    pytest.importorskip("timm", reason="timm is in the extra `train`")
    path = train_enhancer(config(**UNET, steps=2))
    with safe_open(path, "pt") as file:
        said = timm_unet.detect(file.metadata())
    assert said == timm_unet.TimmUNetConfig("resnet10t", 8)
    network = timm_unet.build(said)
    network.load_state_dict(load_file(path))
    assert network.eval()(torch.rand(1, 3, 64, 32)).shape == (1, 3, 64, 32)
    with pytest.raises(ValueError, match="multiples of 32 px, got 40 x 32"):
        network(torch.rand(1, 3, 32, 40))


def test_unet_cleans_photos_of_any_size_in_the_upscale_stage(config):
    pytest.importorskip("timm", reason="timm is in the extra `train`")
    path = train_enhancer(config(**UNET, steps=2))
    photo = Photo(torch.rand(3, 37, 50, generator=torch.Generator().manual_seed(0)))
    stage = Upscale(weights=path, scale=1).build("cpu")
    *_, progress = stage([photo], [0])
    assert progress.photos[0].rgb.shape == (3, 37, 50)
    network = timm_unet.build(timm_unet.TimmUNetConfig("resnet10t", 8)).eval()
    network.load_state_dict(load_file(path))
    padded = F.pad(photo.rgb[None], (0, 14, 0, 27), mode="replicate")
    with torch.no_grad():
        said = with_colours_of(photo.rgb, network(padded)[0, :, :37, :50]).clamp(0, 1)
    torch.testing.assert_close(progress.photos[0].rgb, said)


def test_unet_without_its_encoder_s_package_is_one_line(config, monkeypatch):
    pytest.importorskip("timm", reason="timm is in the extra `train`")
    path = train_enhancer(config(**UNET, steps=1))
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"needs timm; pip install '\.\[train\]'"):
        Upscale(weights=path, scale=1).build("cpu")


def test_new_unet_returns_what_it_is_given():
    pytest.importorskip("timm", reason="timm is in the extra `train`")
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(timm_unet.build(timm_unet.TimmUNetConfig("resnet10t", 8)).eval()(x), x)


def test_an_encoder_that_timm_has_not_is_one_line(config):
    pytest.importorskip("timm", reason="timm is in the extra `train`")
    said = {**UNET, "unet": {"encoder": "resnet10x"}}
    with pytest.raises(RunError, match=r"unet: encoder: timm has no resnet10x; "):
        EnhancerTask(config(**said)).objective()
    with pytest.raises(RunError, match=r"size: 48; resnet10t takes multiples of 32"):
        EnhancerTask(config(**{**UNET, "size": 48})).objective()


def test_without_timm_the_line_says_which_extra(config, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(RunError, match=r"unet: needs timm; pip install '\.\[train\]'"):
        EnhancerTask(config(**UNET)).objective()


def test_file_that_names_no_encoder_is_refused():
    for metadata in ({}, {"architecture": "{"}, {"architecture": '{"name": "compact"}'}):
        with pytest.raises(ValueError, match="not a U-Net over an encoder of timm's"):
            timm_unet.detect(metadata)


# ---- many processes


def test_two_processes_learn_what_one_does(config, tmp_path):
    alone = load_file(train_enhancer(config("alone", **COMPACT, batch_size=4, steps=3)))
    file = tmp_path / "train.yml"
    file.write_text(resolved(config("together", **COMPACT, batch_size=2, steps=3)))
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "repaint"]
    words = [*launch, "train", "enhancer", str(file), "--set", "device=cpu"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env={**os.environ, **ONE_THREAD})
    assert done.returncode == 0, done.stderr[-2000:]
    with safe_open(tmp_path / "together" / "upscale-x2.safetensors", "pt") as exported:
        assert exported.metadata()["images"] == "12"
        assert exported.metadata()["steps"] == "3"
    assert done.stderr.count("repaint: wrote ") == 1
    together = load_file(tmp_path / "together" / "upscale-x2.safetensors")
    for name, value in alone.items():
        torch.testing.assert_close(together[name].float(), value.float(), atol=1e-3, rtol=0)
