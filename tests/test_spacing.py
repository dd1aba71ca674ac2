"""States of a chain that lie ever closer to one another towards the image."""

from __future__ import annotations

import pytest
import torch

from repaint.diffusion import Noise, linear_schedule, network_calls, repaint, time_travel
from repaint.image import Photo
from repaint.stages.filling import Filler
from repaint.stages.inpaint import PRESETS, Inpaint, Repaint
from repaint.weights.load import load_prior

from . import tiny

WALK = {"t_T": 4, "jump_length": 2, "jump_n_sample": 2}


@pytest.mark.parametrize("spacing", ["even", "quadratic"])
@pytest.mark.parametrize("t_T", [10, 25, 250])
def test_a_share_of_the_way_to_noise_is_about_the_same_noise_however_states_are_spaced(spacing, t_T):
    walk = Repaint(t_T=t_T, jump_length=1, jump_n_sample=1, spacing=spacing)
    told = linear_schedule().respaced(walk.states()).network_t
    assert walk.begin(1.0) == t_T
    for share in (0.2, 0.3, 0.5):
        begin = walk.begin(share)
        around = told[max(1, begin - 1)], told[min(t_T, begin + 1)]
        assert around[0] <= share * 1000 <= around[1]


def test_a_stage_fills_from_the_states_it_says(tmp_path):
    weights = tiny.checkpoint(tmp_path / "prior.safetensors", num_channels=32, channel_mult="1,1")
    loaded = load_prior(str(weights))
    g = torch.Generator().manual_seed(0)
    keep = torch.ones(1, loaded.size, loaded.size, dtype=torch.bool)
    keep[:, 4:11, 5:12] = False
    photo = Photo(torch.rand(3, loaded.size, loaded.size, generator=g), keep=keep)
    filled = {}
    for spacing, states in (("even", 4), ("quadratic", "quad4")):
        chain = {**WALK, "spacing": spacing}
        stage = Inpaint.model_validate({"prior": str(weights), "sampler": {"repaint": chain}}).build("cpu")
        *_, done = stage([photo], [7])
        filled[spacing] = done.photos[0].rgb
        known = (photo.rgb * 2 - 1)[None]
        *_, last = repaint(loaded.prior.respaced(states), known, keep[None], time_travel(4, 2, 2), Noise([7]))
        expected = ((last.x_t[0] + 1) / 2).clamp(0, 1)
        torch.testing.assert_close(filled[spacing], torch.where(keep, photo.rgb, expected), atol=1e-5, rtol=0)
    assert not torch.equal(filled["even"], filled["quadratic"])


@pytest.mark.parametrize(
    ("said", "refine", "thin"),
    [
        ({}, 0.2, 0.3),
        ({"sampler": "balanced"}, 0.15, 0.1),
        ({"sampler": {"repaint": {"spacing": "quadratic"}}}, 0.05, 0.1),
        ({"sampler": "paper"}, 0.2, 0.3),
        ({"sampler": "fast", "thin": 1.0, "refine": 0.5}, 0.5, 1.0),
    ],
)
def test_later_passes_begin_where_the_spacing_lets_them_unless_said_otherwise(said, refine, thin):
    filler = Filler(Inpaint.model_validate(said), lambda *told: None, 64, 0, torch.device("cpu"), 1)  # pyright: ignore[reportArgumentType]
    assert (filler.walk.refine, filler.walk.thin) == (refine, thin)


def test_presets_cost_what_the_readme_says():
    calls = {name: network_calls(walk.times(walk.begin(1.0))) for name, walk in PRESETS.items()}
    assert calls == {"fast": 12, "balanced": 25, "quality": 25, "paper": 2410}


def test_another_spacing_beside_it_is_refused():
    with pytest.raises(ValueError, match="spacing: quadratic takes t_T states, leave timestep_respacing out"):
        Repaint(spacing="quadratic", timestep_respacing="250")
