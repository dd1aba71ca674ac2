"""Weights from files and folders: what loads, and in which words the rest is refused."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from repaint.diffusion import linear_schedule
from repaint.errors import WeightsError
from repaint.weights.load import is_present, load_classifier, load_prior

from . import tiny

ARCHITECTURE = {"image_size": 16, "num_head_channels": 32}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a test went to the network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return tiny.oracle_unet().state_dict()


def says(loaded, t: int = 500) -> torch.Tensor:
    prior, x = loaded.prior, tiny.drawn(1, 3, loaded.size, loaded.size)
    return prior(x, t).x_0


def the_line(name: Path | str, **more: Any) -> str:
    """The message with which weights are refused: one line."""
    with pytest.raises(WeightsError) as caught:
        load_prior(str(name), **{"architecture": ARCHITECTURE, **more})
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


# --- what loads ---


def test_embedded_prior_loads_by_name_and_removes_noise():
    loaded = load_prior("base-64")
    assert (loaded.size, loaded.multiple_of, loaded.classes, loaded.remarks) == (64, 8, 0, ())
    assert loaded.prior.schedule.T == 1000
    assert is_present("base-64", "nowhere")
    row = torch.linspace(-0.8, 0.8, 64).expand(1, 3, 64, 64)
    bar = loaded.prior.schedule.bar(200)
    noisy = bar**0.5 * row + (1 - bar) ** 0.5 * tiny.drawn(1, 3, 64, 64)
    assert (loaded.prior(noisy, 200).x_0 - row).abs().mean() < 0.3 * (noisy / bar**0.5 - row).abs().mean()


@pytest.mark.parametrize("ending", [".safetensors", ".pt", ".pth", ".ckpt", ".bin"])
def test_any_file_of_the_same_tensors_is_the_same_prior(tmp_path, state, ending):
    path = tiny.saved(tmp_path / f"w{ending}", state, ARCHITECTURE)
    loaded = load_prior(str(path), architecture=ARCHITECTURE)
    expected = tiny.our_unet(tiny.oracle_unet())(tiny.drawn(1, 3, 16, 16), torch.tensor([499]))
    torch.testing.assert_close(loaded.prior.network(tiny.drawn(1, 3, 16, 16), torch.tensor([499])), expected)
    assert not any(p.requires_grad for p in loaded.prior.network.parameters())
    assert (loaded.size, loaded.multiple_of, loaded.classes) == (16, 2, 0)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda s: {"state_dict": s},
        lambda s: {"model": {"state_dict": s}, "step": 3},
        lambda s: {"params_ema": s, "params": {"other": torch.zeros(1)}},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}, "epoch": 7},
    ],
    ids=["state_dict", "model.state_dict", "params_ema", "module.", "both"],
)
def test_what_trainers_wrap_around_weights_is_taken_off(tmp_path, state, wrapped):
    torch.save(wrapped(state), tmp_path / "w.pt")
    plain = tiny.saved(tmp_path / "plain.pt", state, {})
    loaded = [load_prior(str(p), architecture=ARCHITECTURE) for p in (tmp_path / "w.pt", plain)]
    assert torch.equal(says(loaded[0]), says(loaded[1]))


def test_half_precision_file_loads_in_single(tmp_path, state):
    path = tiny.saved(tmp_path / "w.safetensors", {k: v.half() for k, v in state.items()}, ARCHITECTURE)
    network = load_prior(str(path)).prior.network
    assert {p.dtype for p in network.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_prior_says_nearly_the_same(tmp_path, precision):
    path = str(tiny.checkpoint(tmp_path / "w.safetensors"))
    exact, half = says(load_prior(path), 100), says(load_prior(path, precision=precision), 100)
    assert half.dtype == torch.float32
    assert 0 < (half - exact).abs().mean() < 0.02


def test_metadata_says_what_shapes_cannot_and_the_config_overrules_it(tmp_path):
    changed = {"num_head_channels": -1, "num_heads": 2, "use_new_attention_order": True}
    path = str(tiny.checkpoint(tmp_path / "w.safetensors", **changed))
    config = load_prior(path).prior.network.config
    assert (config.head_channels, config.heads, config.new_attention_order) == (None, 2, True)
    config = load_prior(path, architecture={"num_heads": 4, "image_size": 32}).prior.network.config
    assert (config.heads, config.new_attention_order) == (4, True)
    assert load_prior(path, architecture={"image_size": 32}).size == 32


def test_config_that_contradicts_the_weights_is_remarked_upon(tmp_path):
    path = str(tiny.checkpoint(tmp_path / "w.safetensors"))
    told = {"num_channels": 128, "learn_sigma": True, "class_cond": True}
    remarks = load_prior(path, architecture=told).remarks
    assert remarks == (
        "num_channels: 128 was asked for, the weights say 64; the weights are right",
        "class_cond: True was asked for, the weights say False; the weights are right",
    )


def test_schedule_is_the_one_that_is_told(tmp_path):
    path = str(tiny.checkpoint(tmp_path / "w.safetensors"))
    assert torch.equal(load_prior(path).prior.schedule.alpha_bar, linear_schedule().alpha_bar)
    schedule = load_prior(path, architecture={"noise_schedule": "cosine", "diffusion_steps": 400}).prior.schedule
    assert schedule.T == 400
    assert schedule.bar(200) == pytest.approx(0.49, abs=0.01)


def test_weights_without_learned_variance_take_beta_as_the_published_code_does(tmp_path):
    path = str(tiny.checkpoint(tmp_path / "w.safetensors", learn_sigma=False))
    assert load_prior(path).prior(tiny.drawn(1, 3, 16, 16), 5).var_mix.unique() == 1


def test_hash_is_of_the_file(tmp_path):
    one, two = (tiny.checkpoint(tmp_path / f"{seed}.safetensors", seed=seed) for seed in (0, 1))
    shutil.copy(one, tmp_path / "copy.safetensors")
    hashes = [load_prior(str(p)).sha256 for p in (one, two, tmp_path / "copy.safetensors")]
    assert hashes[0] == hashes[2] != hashes[1]


def test_classifier_loads_and_says_logits(tmp_path):
    path = tiny.saved(tmp_path / "c.pt", tiny.oracle_classifier().state_dict(), {})
    network, _ = load_classifier(str(path), architecture={"num_head_channels": 32})
    assert network(tiny.drawn(1, 3, 16, 16), torch.tensor([1])).shape == (1, 5)


# --- what is refused, each in one line ---


def zipped_and_legacy(path: Path, content: object) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=path.name.startswith("zip"))


@pytest.mark.parametrize("name", ["zip.pt", "legacy.pt"])
def test_pickle_that_would_run_a_program_is_refused_and_does_not(tmp_path, state, name):
    marker = tmp_path / "was-here"
    zipped_and_legacy(tmp_path / name, {"state_dict": state, "extra": tiny.Malicious(marker)})
    line = the_line(tmp_path / name)
    assert "refused: unpickling it would run" in line
    assert "system" in line
    assert not marker.exists()


def test_malicious_pickle_in_a_diffusers_folder_does_not_run(tmp_path, diffusers_folder):
    marker, folder = tmp_path / "was-here", tmp_path / "folder"
    shutil.copytree(diffusers_folder("root", ".bin"), folder)
    torch.save({"conv_in.weight": tiny.Malicious(marker)}, folder / "diffusion_pytorch_model.bin")
    assert "diffusers cannot load it" in the_line(folder)
    assert not marker.exists()


@pytest.mark.parametrize("share", [0.001, 0.5, 0.99])
@pytest.mark.parametrize("name", ["zip.pt", "legacy.pt", "w.safetensors"])
def test_file_that_is_cut_short_says_so(tmp_path, state, name, share):
    path = tmp_path / name
    if path.suffix == ".pt":
        zipped_and_legacy(path, state)
    else:
        save_file(state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    line = the_line(path)
    assert "cut short" in line
    assert line.endswith("fetch it again")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("w.pt", b"", "is empty; fetch it again"),
        ("w.safetensors", b"", "is empty; fetch it again"),
        ("w.pt", b"<!DOCTYPE html><html>quota exceeded</html>", "no PyTorch file"),
        ("w.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 22\n", "no PyTorch file"),
        ("w.safetensors", b"<!DOCTYPE html><html>quota exceeded</html>", "no safetensors file"),
        ("w.pt", bytes(range(256)) * 9, "no PyTorch file"),
        ("w.pt", b"PK\x03\x04" + bytes(99), "no PyTorch file"),
    ],
)
def test_file_that_holds_no_weights_says_so(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    assert words in the_line(tmp_path / name)


@pytest.mark.parametrize("content", [{}, [1, 2], torch.zeros(3), {"step": 3}, {"state_dict": {"a": 1}}, 7, None])
def test_file_of_other_things_than_tensors_says_so(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    assert "holds no state dict of tensors" in the_line(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("here/w.pt", "no such weights file"),
        ("here/celeba256_250000.pt", "get celebahq-256 (to data/pretrained/celeba256_250000.pt)"),
        ("bace-64", "did you mean 'base-64'?"),
        ("celebahq-256", "fetch them with: repaint weights get celebahq-256"),
        (".", "is a folder without a diffusers model"),
    ],
)
def test_weights_that_are_not_there_say_how_to_get_them(tmp_path, name, words):
    (tmp_path / "here").mkdir()
    path = name if "/" not in name and name != "." else tmp_path / name
    assert words in the_line(path, weights_dir=str(tmp_path))


ELSEWHERE = {
    "an ESRGAN-like upscaler": {"conv_first.weight": (64, 3, 3, 3), "body.0.rdb1.conv1.weight": (32, 64, 3, 3)},
    "the scratch detector of Bringing-Old-Photos": {"first.1.weight": (64, 1, 7, 7)},
    "a diffusers UNet2DModel (point at its folder": {"down_blocks.0.resnets.0.conv1.weight": (8, 8, 3, 3)},
    "a Stable Diffusion checkpoint": {"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3)},
    "2 tensors: foo (1,), bar (2, 3)": {"foo": (1,), "bar": (2, 3)},
}


@pytest.mark.parametrize("found", ELSEWHERE)
def test_weights_of_another_architecture_are_named(tmp_path, found):
    torch.save({k: torch.zeros(shape) for k, shape in ELSEWHERE[found].items()}, tmp_path / "w.pt")
    line = the_line(tmp_path / "w.pt")
    assert "not a guided-diffusion U-Net" in line
    assert found in line


def test_each_tensor_that_is_missing_is_noticed(tmp_path, state):
    """For some keys the shapes then describe another network; it does not fit either."""
    named = 0
    keys = list(state)[::2]
    for key in keys:
        torch.save({k: v for k, v in state.items() if k != key}, tmp_path / "w.pt")
        named += key in the_line(tmp_path / "w.pt")
    assert named > 0.8 * len(keys)


def test_each_tensor_of_another_shape_is_noticed(tmp_path, state):
    for wrong in (lambda v: v[0], lambda v: v[: len(v) // 2], lambda v: torch.cat([v, v[:1]]), lambda v: v[None]):
        for key in list(state)[::7]:
            torch.save({**state, key: wrong(state[key])}, tmp_path / "w.pt")
            the_line(tmp_path / "w.pt")


def test_tensor_of_another_shape_is_named_with_both_shapes(tmp_path, state):
    torch.save({**state, "out.0.bias": torch.zeros(65)}, tmp_path / "w.pt")
    assert the_line(tmp_path / "w.pt").endswith("out.0.bias is (65,), must be (64,)")


def test_tensor_too_many_is_named(tmp_path, state):
    torch.save({**state, "optimizer.step": torch.zeros(1)}, tmp_path / "w.pt")
    assert the_line(tmp_path / "w.pt").endswith("1 unexpected (optimizer.step)")


def test_what_shapes_cannot_tell_must_be_told(tmp_path, state):
    path = tiny.saved(tmp_path / "w.pt", state, {})
    assert "say architecture: {image_size: 256}" in the_line(path, architecture={"num_head_channels": 32})
    assert "num_head_channels 48 does not divide" in the_line(path, architecture={"num_head_channels": 48})
    assert "noise_schedule 'sqrt' is unknown; known are linear, cosine" in the_line(
        path, architecture={**ARCHITECTURE, "noise_schedule": "sqrt"}
    )
    assert "linear schedule of 5 diffusion_steps" in the_line(path, architecture={**ARCHITECTURE, "diffusion_steps": 5})


@pytest.mark.parametrize("architecture", ["not json", "[1]", "7"])
def test_metadata_that_is_not_a_mapping_is_refused(tmp_path, state, architecture):
    save_file(state, tmp_path / "w.safetensors", {"architecture": architecture})
    assert "the architecture in its metadata is not" in the_line(tmp_path / "w.safetensors")


def test_classifiers_are_refused_in_the_same_words(tmp_path, state):
    prior = tiny.saved(tmp_path / "prior.pt", state, {})
    broken = {k: v for k, v in tiny.oracle_classifier().state_dict().items() if k != "out.2.c_proj.bias"}
    torch.save(broken, tmp_path / "broken.pt")
    for path, words in ((prior, "not a guided-diffusion classifier"), (tmp_path / "broken.pt", "out.2.c_proj.bias")):
        with pytest.raises(WeightsError, match=words) as caught:
            load_classifier(str(path), architecture={"num_head_channels": 32})
        assert "\n" not in str(caught.value)


# --- diffusers folders ---


@pytest.fixture(scope="module")
def diffusers_folder(tmp_path_factory):
    """A function: a folder of a tiny UNet2DModel, laid out 'root' or 'pipeline', in .safetensors or .bin."""
    from diffusers import DDPMScheduler, UNet2DModel

    torch.manual_seed(0)
    network = UNet2DModel(**tiny.DIFFUSERS)

    def made(layout: str, ending: str, **scheduler: Any) -> Path:
        folder = tmp_path_factory.mktemp("diffusers")
        unet, schedule = (folder / "unet", folder / "scheduler") if layout == "pipeline" else (folder, folder)
        network.save_pretrained(unet, safe_serialization=ending == ".safetensors")
        DDPMScheduler(**scheduler).save_pretrained(schedule)
        assert (unet / f"diffusion_pytorch_model{ending}").exists()
        return folder

    made.network = network.eval()
    return made


@pytest.mark.parametrize("layout", ["root", "pipeline"])
@pytest.mark.parametrize("ending", [".safetensors", ".bin"])
def test_diffusers_folder_says_what_its_network_says(diffusers_folder, layout, ending):
    loaded = load_prior(str(diffusers_folder(layout, ending)))
    assert (loaded.size, loaded.multiple_of, loaded.classes, loaded.remarks) == (16, 2, 0, ())
    x_t, t = tiny.drawn(2, 3, 16, 16), 300
    with torch.no_grad():
        eps = diffusers_folder.network(x_t, t - 1).sample
    bar = loaded.prior.schedule.bar(t)
    expected = ((x_t - (1 - bar) ** 0.5 * eps) / bar**0.5).clamp(-1, 1)
    said = loaded.prior(x_t, t)
    torch.testing.assert_close(said.x_0, expected, atol=1e-4, rtol=1e-4)
    assert said.var_mix is None
    assert torch.equal(loaded.prior.schedule.alpha_bar, linear_schedule().alpha_bar)


@pytest.mark.parametrize(
    "scheduler",
    [
        {"beta_schedule": "squaredcos_cap_v2"},
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        {"beta_schedule": "linear", "beta_end": 0.01, "num_train_timesteps": 500},
        {"trained_betas": [0.1, 0.2, 0.3]},
    ],
    ids=str,
)
def test_diffusers_schedule_is_the_schedulers(diffusers_folder, scheduler):
    from diffusers import DDPMScheduler

    expected = DDPMScheduler(**scheduler).alphas_cumprod.double()
    schedule = load_prior(str(diffusers_folder("root", ".safetensors", **scheduler))).prior.schedule
    torch.testing.assert_close(schedule.alpha_bar[1:], expected, rtol=1e-3, atol=1e-7)


def test_diffusers_prediction_variance_and_clipping_are_the_schedulers(diffusers_folder):
    folder = diffusers_folder(
        "root", ".safetensors", prediction_type="v_prediction", variance_type="fixed_large", clip_sample=False
    )
    prior = load_prior(str(folder)).prior
    assert (prior.predicts, prior.fixed_var_mix, prior.clip) == ("v", 1, False)


def test_diffusers_folder_without_a_scheduler_is_taken_for_ddpm_and_says_so(diffusers_folder):
    folder = diffusers_folder("root", ".safetensors")
    (folder / "scheduler_config.json").unlink()
    loaded = load_prior(str(folder))
    assert len(loaded.remarks) == 1
    assert "no scheduler_config.json" in loaded.remarks[0]


@pytest.mark.parametrize("layout", ["root", "pipeline"])
def test_broken_diffusers_folders_are_refused(diffusers_folder, layout):
    folder = diffusers_folder(layout, ".safetensors")
    schedule = next(folder.rglob("scheduler_config.json"))
    told = json.loads(schedule.read_text())
    for change, words in (
        ({"prediction_type": "flow"}, "prediction_type 'flow'; must be one of epsilon, sample, v_prediction"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule 'sigmoid'; known are linear"),
    ):
        schedule.write_text(json.dumps({**told, **change}))
        assert words in the_line(folder)
    schedule.write_text("{")
    assert "is not JSON" in the_line(folder)
    schedule.write_text(json.dumps(told))
    weights = next(folder.rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:2000])
    assert "diffusers cannot load it" in the_line(folder)
    weights.unlink()
    assert "diffusers cannot load it" in the_line(folder)
