"""Priors that cannot be used for pictures are refused when they are loaded, not photo by photo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from repaint.errors import ConfigError, WeightsError
from repaint.stages.inpaint import Inpaint
from repaint.weights.files import sha256_of_state
from repaint.weights.load import load_prior

from . import tiny

ARCHITECTURE = {"image_size": 16, "num_head_channels": 32}


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return tiny.oracle_unet().state_dict()


def saved(folder: Path, state: dict[str, torch.Tensor], name: str = "w.safetensors") -> str:
    save_file({k: v.contiguous() for k, v in state.items()}, folder / name)
    return str(folder / name)


def test_a_network_that_is_shown_more_than_a_picture_is_refused(tmp_path, state):
    first = state["input_blocks.0.0.weight"]
    path = saved(tmp_path, {**state, "input_blocks.0.0.weight": torch.cat([first, first], 1)})
    with pytest.raises(WeightsError, match="is shown 6 channels; a prior of pictures is shown 3"):
        load_prior(path, architecture=ARCHITECTURE)


def test_a_size_that_cannot_be_halved_as_often_as_needed_is_refused(tmp_path, state):
    with pytest.raises(WeightsError, match="image_size: found 17; must be a multiple of 2"):
        load_prior(saved(tmp_path, state), architecture={**ARCHITECTURE, "image_size": 17})


def test_guessed_heads_are_remarked_upon(tmp_path, state):
    path = saved(tmp_path, state)
    assert any(
        "64 channels an attention head are guessed" in r
        for r in load_prior(path, architecture={"image_size": 16}).remarks
    )
    assert load_prior(path, architecture=ARCHITECTURE).remarks == ()


def test_another_file_under_a_known_name_is_remarked_upon(tmp_path, state):
    path = saved(tmp_path, state, "base-64.safetensors")
    assert any("its sha256 is" in remark for remark in load_prior(path, architecture=ARCHITECTURE).remarks)


def test_a_classifier_of_other_classes_than_the_prior_s_is_refused(tmp_path):
    prior = tiny.checkpoint(tmp_path / "p.safetensors", **tiny.CLASSES)
    told = {**tiny.CLASSIFIER, "num_classes": 9}
    classifier = tmp_path / "c.pt"
    torch.save(tiny.oracle_classifier(num_classes=9).state_dict(), classifier)
    said = {"weights": str(classifier), "architecture": {"num_head_channels": told["num_head_channels"]}}
    with pytest.raises(ConfigError, match=r"classifier: knows 9 classes, .* 5; both must mean the same"):
        Inpaint.model_validate({"prior": str(prior), "label": 7, "classifier": said}).build("cpu")


def test_more_states_than_there_are_are_refused_by_the_key_that_asked(tmp_path):
    prior = tiny.checkpoint(tmp_path / "p.safetensors")
    for walk, key in (({"t_T": 200}, "t_T"), ({"t_T": 20, "timestep_respacing": "200"}, "timestep_respacing")):
        said = {"prior": str(prior), "sampler": {"repaint": walk}, "architecture": {"diffusion_steps": 100}}
        with pytest.raises(ConfigError, match=f"^{key}: "):
            Inpaint.model_validate(said).build("cpu")


@pytest.fixture
def diffusers_folder(tmp_path) -> Path:
    from diffusers import DDPMScheduler, UNet2DModel

    torch.manual_seed(0)
    UNet2DModel(**tiny.DIFFUSERS).save_pretrained(tmp_path / "unet")
    DDPMScheduler().save_pretrained(tmp_path / "scheduler")
    return tmp_path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"_class_name": "ScoreSdeVeScheduler"}, "its scheduler is a ScoreSdeVeScheduler; known are DDPMScheduler"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr is set"),
    ],
)
def test_chains_of_another_kind_are_refused(diffusers_folder, change, words):
    file = diffusers_folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(WeightsError, match=words):
        load_prior(str(diffusers_folder))


def test_a_prior_of_latents_is_refused(diffusers_folder):
    (diffusers_folder / "vqvae").mkdir()
    with pytest.raises(WeightsError, match="is a prior of latents"):
        load_prior(str(diffusers_folder))


def test_hash_of_a_folder_is_of_its_model_alone(diffusers_folder):
    first = sha256_of_state(diffusers_folder)
    (diffusers_folder / ".git").mkdir()
    for name in ("notes.txt", ".git/index", ".git/config.json", "unet/.config.json"):
        (diffusers_folder / name).write_text("seen by nobody")
    assert sha256_of_state(diffusers_folder) == first
    scheduler = diffusers_folder / "scheduler"
    told = (scheduler / "scheduler_config.json").read_text()
    (scheduler / "scheduler_config.json").write_text(told.replace("0.02", "0.01"))
    changed = sha256_of_state(diffusers_folder)
    (scheduler / "scheduler_config.json").write_text(told)
    scheduler.rename(diffusers_folder / "other")
    assert len({first, changed, sha256_of_state(diffusers_folder)}) == 3
