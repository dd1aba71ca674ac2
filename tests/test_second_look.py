"""The second look of a detector, upside down, where the first has seen anything."""

from __future__ import annotations

import dataclasses

import torch
from safetensors.torch import save_file
from torch import Tensor

from repaint.archs import scratch_net
from repaint.image import luma
from repaint.stages.detecting import twice
from repaint.stages.scratches import Scratches

from . import tiny


def test_where_anything_is_seen_the_mean_of_two_looks_counts_one_of_them_upside_down(tmp_path):
    torch.manual_seed(0)
    network = scratch_net.build(scratch_net.ScratchNetConfig(8, (1, 2))).eval()
    path, photo = tmp_path / "w.safetensors", dataclasses.replace(tiny.photo(37, 50), keep=None)
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, path)
    x = luma(photo.rgb)[None]
    with torch.no_grad():
        once = torch.sigmoid(network(x))
        upside_down = torch.sigmoid(network(x.flip(-2, -1))).flip(-2, -1)
    assert not torch.allclose(once, upside_down, atol=1e-3)
    stage = Scratches(weights=str(path), smallest_px=None, protect_faces=False, save_probability=True).build("cpu")
    *_, progress = stage([photo])
    torch.testing.assert_close(progress.probabilities[0], (once + upside_down)[0] / 2)
    assert progress.calls == (1,)  # a tile is a call, however often it is looked at


def test_where_nothing_is_seen_there_is_no_second_look():
    shown = []

    def look(x: Tensor) -> Tensor:
        shown.append(x)
        return x * 0.5

    nothing, something = torch.full((1, 1, 5, 7), 0.39), torch.linspace(0, 1, 35).reshape(1, 1, 5, 7)
    both = twice(look, 0.2)
    assert torch.equal(both(nothing), 0.5 * nothing)
    assert len(shown) == 1
    torch.testing.assert_close(both(something), 0.5 * something)  # the turned one is turned back
    assert torch.equal(shown[2], shown[1].flip(-2, -1))
