"""Detectors, upscalers and face restorers from files: what loads, and in which words the rest is refused."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import spandrel
import torch
from safetensors.torch import save_file
from spandrel.architectures import RestoreFormer
from torch import Tensor, nn

from repaint.archs import bopbtl, compact, face_net, scratch_net
from repaint.errors import WeightsError
from repaint.weights import catalog
from repaint.weights.detectors import load_detector
from repaint.weights.enhancers import kind_of, load_face_restorer, load_upscaler
from repaint.weights.spandrel import load_spandrel

from . import tiny

State = dict[str, Tensor]
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "a scratch detector of ours": lambda: scratch_net.build(scratch_net.ScratchNetConfig(8, (1, 2))),
    "the scratch detector of Bringing-Old-Photos": lambda: bopbtl.build(bopbtl.BopbtlConfig(8, 2)),
    "a compact super-resolver": lambda: compact.build(compact.CompactConfig(8, 1, 2)),
    "a face restorer of ours": lambda: face_net.build(face_net.FaceNetConfig(8, (1, 2), 1)),
}
DETECTOR, PUBLISHED, UPSCALER, RESTORER = NETWORKS
LOADERS = {
    DETECTOR: load_detector,
    PUBLISHED: load_detector,
    UPSCALER: load_upscaler,
    RESTORER: load_face_restorer,
}
EACH = pytest.mark.parametrize("what", NETWORKS)


def built(what: str) -> nn.Module:
    """A network of that kind in which no weight is 0."""
    torch.manual_seed(0)
    network = NETWORKS[what]().eval()
    for tensor in network.parameters():
        nn.init.normal_(tensor, std=0.1)
    return network


def saved(path: Path, content: Any, metadata: dict[str, str] | None = None) -> str:
    if path.suffix == ".safetensors":
        save_file({k: v.contiguous() for k, v in content.items()}, path, metadata)
    else:
        torch.save(content, path)
    return str(path)


def picture(what: str) -> Tensor:
    return tiny.drawn(1, 1 if what in (DETECTOR, PUBLISHED) else 3, 16, 24).sigmoid()


@torch.no_grad()
def expected(what: str) -> Tensor:
    x = picture(what)
    return built(what)(2 * x - 1 if what == PUBLISHED else x)


def the_line(load: Callable[..., object], name: str | Path, *more: Any, **settings: Any) -> str:
    """The message with which weights are refused: one line."""
    with pytest.raises(WeightsError) as caught:
        load(str(name), *more, **settings)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


# ---- what loads

FORMATS: dict[str, Callable[[State], Any]] = {
    "plain.safetensors": lambda s: s,
    "half.safetensors": lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
    "plain.pth": lambda s: s,
    "params.pth": lambda s: {"params": s},
    "params_ema.pth": lambda s: {"params_ema": s, "params": {k: torch.zeros_like(v) for k, v in s.items()}},
    "model_state.pt": lambda s: {"epoch": 7, "model_state": s, "optimizer_state": {"state": {}, "lr": 1e-4}},
}


@EACH
@pytest.mark.parametrize("name", FORMATS)
@torch.no_grad()
def test_network_of_a_file_of_any_format_says_what_the_saved_one_says(tmp_path, what, name):
    path = saved(tmp_path / name, FORMATS[name](built(what).state_dict()))
    loaded = LOADERS[what](path)
    assert (loaded.network.training, loaded.metadata, loaded.remarks) == (False, {}, ())
    assert {(p.dtype, p.requires_grad) for p in loaded.network.parameters()} == {(torch.float32, False)}
    assert loaded.sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    tolerance = 2e-2 if name.startswith("half") else 1e-5
    torch.testing.assert_close(loaded.network(picture(what)), expected(what), atol=tolerance, rtol=tolerance)


@EACH
def test_file_says_of_itself_what_it_was_given(tmp_path, what):
    told = {"architecture": "{}", "licence": "CC0-1.0", "threshold": "0.25"}
    assert LOADERS[what](saved(tmp_path / "w.safetensors", built(what).state_dict(), told)).metadata == told


@pytest.mark.parametrize(("what", "silent"), [(DETECTOR, 0.5), (PUBLISHED, 0.4)])
def test_threshold_of_a_detector_is_the_files_or_the_published_one(tmp_path, what, silent):
    state = built(what).state_dict()
    assert load_detector(saved(tmp_path / "silent.pt", {"model_state": state})).threshold == silent
    assert load_detector(saved(tmp_path / "w.safetensors", state, {"threshold": "0.3125"})).threshold == 0.3125


@pytest.mark.parametrize("threshold", ["", "high", "0", "1", "-0.5", "nan", "40 %"])
def test_threshold_that_is_no_probability_is_refused(tmp_path, threshold):
    path = saved(tmp_path / "w.safetensors", built(DETECTOR).state_dict(), {"threshold": threshold})
    assert f"is {threshold!r}; must be a number between 0 and 1" in the_line(load_detector, path)


HALVES = ("float32", "bfloat16")


@torch.no_grad()
def test_our_detector_computes_in_the_precision_that_is_asked_for_and_the_published_one_says_it_does_not(tmp_path):
    exact, half = (load_detector(saved(tmp_path / "w.pt", built(DETECTOR).state_dict()), precision=p) for p in HALVES)
    said = [loaded.network(picture(DETECTOR)) for loaded in (exact, half)]
    assert 0 < (said[0] - said[1]).std() < 0.05 * said[0].std()
    published = load_detector(saved(tmp_path / "p.pt", built(PUBLISHED).state_dict()), precision="bfloat16")
    assert "computes in float32, not in bfloat16" in published.remarks[0]
    torch.testing.assert_close(published.network(picture(PUBLISHED)), expected(PUBLISHED))


def test_name_of_the_catalogue_is_looked_for_in_the_folder_and_another_file_there_is_remarked_upon(tmp_path):
    entry = catalog.find("realesr-general-x4v3")
    assert "fetch them with: repaint weights get realesr" in the_line(load_upscaler, entry.name, weights_dir=tmp_path)
    path = saved(tmp_path / entry.file, {"params": built(UPSCALER).state_dict()})
    for name in (entry.name, path):
        loaded = load_upscaler(name, weights_dir=str(tmp_path))
        assert len(loaded.remarks) == 1
        assert f"is {loaded.sha256}, that of {entry.name} is {entry.sha256}" in loaded.remarks[0]


@pytest.mark.parametrize(
    ("name", "words"),
    [("scraches.pt", "no such weights file"), ("gone/FT_Epoch_latest.pt", "fetch it with: repaint weights get bopbtl")],
)
def test_weights_that_are_not_there_are_said(tmp_path, name, words):
    assert words in the_line(load_detector, tmp_path / name)


# ---- what is refused


OTHERS = {  # what is looked for: what is there
    load_detector: (UPSCALER, RESTORER),
    load_upscaler: (DETECTOR, PUBLISHED, RESTORER),
    load_face_restorer: (DETECTOR, PUBLISHED, UPSCALER),
}
FOR = {DETECTOR: "scratches", PUBLISHED: "scratches", UPSCALER: "upscale", RESTORER: "faces"}


@pytest.mark.parametrize(("load", "what"), [(load, what) for load, others in OTHERS.items() for what in others])
def test_network_of_another_kind_is_named_with_what_it_is_for(tmp_path, load, what):
    path = saved(tmp_path / "w.pth", {"params": built(what).state_dict()})
    assert the_line(load, path).endswith(f"; found {what} (for {FOR[what]})")


@pytest.mark.parametrize("load", OTHERS)
@pytest.mark.parametrize(
    ("oracle", "found"), [(tiny.oracle_unet, "a prior for inpaint"), (tiny.oracle_classifier, "or its classifier")]
)
def test_prior_is_not_taken_for_an_enhancer(tmp_path, load, oracle, found):
    assert found in the_line(load, saved(tmp_path / "w.pt", oracle().state_dict()))


@EACH
def test_each_tensor_that_is_missing_too_many_or_of_another_shape_is_noticed(tmp_path, what):
    state, path = built(what).state_dict(), tmp_path / "w.pt"
    assert "1 unexpected (step)" in the_line(LOADERS[what], saved(path, {**state, "step": torch.zeros(1)}))
    for key in list(state)[::5]:
        the_line(LOADERS[what], saved(path, {k: v for k, v in state.items() if k != key}))
        if state[key].ndim:
            the_line(LOADERS[what], saved(path, {**state, key: torch.cat([state[key]] * 3)}))
            the_line(LOADERS[what], saved(path, {**state, key: state[key][0]}))


SPANDREL = partial(load_spandrel, purpose=("SR", "Restoration", "FaceSR", "Inpainting"))
ALL_LOADERS = pytest.mark.parametrize("load", [*OTHERS, kind_of, SPANDREL], ids=lambda f: getattr(f, "__name__", "any"))


@ALL_LOADERS
@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
def test_pickle_that_would_run_a_program_is_refused_and_does_not(tmp_path, load, name):
    marker = tmp_path / "was-here"
    content = {"params": built(UPSCALER).state_dict(), "extra": tiny.Malicious(marker)}
    torch.save(content, tmp_path / name, _use_new_zipfile_serialization=name.startswith("zip"))
    assert "refused: unpickling it would run" in the_line(load, tmp_path / name)
    assert not marker.exists()


@ALL_LOADERS
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_file_that_is_cut_short_says_so(tmp_path, load, name):
    path = Path(saved(tmp_path / name, built(UPSCALER).state_dict()))
    path.write_bytes(path.read_bytes()[:-100])
    assert the_line(load, path).endswith("fetch it again")


# ---- through spandrel


def rrdbnet(seen: int = 3) -> State:
    """An ESRGAN under the names of Real-ESRGAN's files: 8 features, one block; `seen` is 12 for x2 and 3 for x4."""
    shapes = {"conv_first": (8, seen)} | dict.fromkeys(("conv_body", "conv_up1", "conv_up2", "conv_hr"), (8, 8))
    for dense in (1, 2, 3):
        made = {i: (32 if i < 5 else 8, 8 + 32 * (i - 1)) for i in range(1, 6)}
        shapes |= {f"body.0.rdb{dense}.conv{i}": shape for i, shape in made.items()}
    shapes["conv_last"] = (3, 8)
    weights = {f"{k}.weight": 0.1 * tiny.drawn(*shape, 3, 3) for k, shape in shapes.items()}
    return weights | {f"{k}.bias": torch.zeros(shape[0]) for k, shape in shapes.items()}


def restoreformer() -> State:
    return RestoreFormer.RestoreFormer(
        n_embed=8, embed_dim=32, ch=32, ch_mult=(1, 1), num_res_blocks=1, z_channels=32
    ).state_dict()


@pytest.mark.parametrize(("seen", "scale"), [(3, 4), (12, 2)])
@torch.no_grad()
def test_released_upscaler_loads_and_enlarges(tmp_path, seen, scale):
    loaded = load_spandrel(saved(tmp_path / "w.pth", {"params_ema": rrdbnet(seen)}), "SR")
    descriptor = loaded.network
    assert (descriptor.architecture.id, descriptor.scale, descriptor.purpose) == ("ESRGAN", scale, "SR")
    assert (descriptor.model.training, loaded.remarks) == (False, ())
    assert {(p.dtype, p.requires_grad) for p in descriptor.model.parameters()} == {(torch.float32, False)}
    assert descriptor(tiny.drawn(1, 3, 8, 12).sigmoid()).shape == (1, 3, 8 * scale, 12 * scale)


@torch.no_grad()
def test_compact_upscaler_is_the_same_by_either_way(tmp_path):
    path = saved(tmp_path / "w.safetensors", built(UPSCALER).state_dict(), {"licence": "CC0-1.0"})
    ours, theirs = load_upscaler(path), load_spandrel(path, "SR")
    assert (ours.sha256, ours.metadata) == (theirs.sha256, theirs.metadata)
    x = picture(UPSCALER)
    torch.testing.assert_close(ours.network(x).clamp(0, 1), theirs.network(x), atol=1e-5, rtol=1e-5)


def test_face_restorer_is_taken_for_faces_alone(tmp_path):
    path = saved(tmp_path / "RestoreFormer.pth", {"params": restoreformer()})
    assert load_spandrel(path, "FaceSR").network.architecture.id == "RestoreFormer"
    line = the_line(load_spandrel, path, ("SR", "Restoration"))
    assert line.endswith("is RestoreFormer, for FaceSR; must be for SR or Restoration")


def test_upscaler_is_not_taken_for_a_face_restorer(tmp_path):
    line = the_line(load_spandrel, saved(tmp_path / "w.pth", {"params_ema": rrdbnet()}), "FaceSR")
    assert line.endswith("is ESRGAN, for SR; must be for FaceSR")


@pytest.mark.parametrize("what", [DETECTOR, PUBLISHED, RESTORER])
def test_networks_that_spandrel_does_not_know_are_named(tmp_path, what):
    line = the_line(SPANDREL, saved(tmp_path / "w.pt", built(what).state_dict()))
    assert line.endswith(f"spandrel knows no such architecture; found {what} (for {FOR[what]})")


def test_what_spandrel_recognises_and_cannot_load_is_one_line(tmp_path):
    state = rrdbnet()
    for key in list(state)[1::4]:
        path = saved(tmp_path / "w.pth", {k: v for k, v in state.items() if k != key})
        assert "spandrel " in the_line(SPANDREL, path)
        path = saved(tmp_path / "w.pth", {**state, key: torch.zeros(5)})
        assert "spandrel cannot load it: " in the_line(SPANDREL, path)


CODEFORMER = {"position_emb": torch.zeros(256, 512), "quantize.embedding.weight": torch.zeros(8, 4)}


def test_extra_architectures_are_taken_only_when_asked_for_and_only_then(tmp_path, monkeypatch):
    class Extra(spandrel.Architecture):
        def __init__(self) -> None:
            super().__init__(id="CodeFormer", detect=lambda state: "position_emb" in state)

        def load(self, state_dict: Any) -> spandrel.ImageModelDescriptor:
            network = compact.build(compact.CompactConfig(8, 1, 1))
            fixed: Any = {"architecture": self, "purpose": "FaceSR", "tags": [], "scale": 1}
            halves: Any = {"supports_half": False, "supports_bfloat16": False}
            state = network.state_dict()
            return spandrel.ImageModelDescriptor(network, state, **fixed, **halves, input_channels=3, output_channels=3)

    path = saved(tmp_path / "codeformer.pth", {"params_ema": CODEFORMER})
    found = "found CodeFormer (for faces, with spandrel_extra_arches)"
    monkeypatch.setitem(sys.modules, "spandrel_extra_arches", None)
    assert found in the_line(load_spandrel, path, "FaceSR")
    lacking = the_line(load_spandrel, path, "FaceSR", extra=True)
    assert re.fullmatch(r"CodeFormer and its like need an extra \(.*\): pip install '\.\[codeformer\]'", lacking)
    registry = [spandrel.ArchSupport.from_architecture(Extra())]
    monkeypatch.setitem(sys.modules, "spandrel_extra_arches", SimpleNamespace(EXTRA_REGISTRY=registry))
    loaded = load_spandrel(path, "FaceSR", extra=True)
    assert loaded.network.architecture.id == "CodeFormer"
    assert "that of codeformer is" in loaded.remarks[0]
    assert found in the_line(load_spandrel, path, "FaceSR")  # still


def test_extra_architectures_are_not_needed_for_a_network_without_them(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel_extra_arches", None)
    path = saved(tmp_path / "up.pth", {"params": built(UPSCALER).state_dict()})
    assert (
        load_spandrel(path, "SR", extra=True).network.architecture.id
        == load_spandrel(path, "SR").network.architecture.id
    )


KINDS = {UPSCALER: "compact", RESTORER: "face"}


@pytest.mark.parametrize(
    ("state", "ours"),
    [
        *[(lambda what=what: built(what).state_dict(), KINDS.get(what)) for what in NETWORKS],
        *[(rrdbnet, None), (restoreformer, None), (lambda: CODEFORMER, None)],
    ],
)
def test_ours_are_told_from_those_of_others(tmp_path, state, ours):
    assert kind_of(saved(tmp_path / "w.pt", {"params": state()})) == ours


def test_spandrel_is_imported_only_when_it_is_needed():
    code = "import sys, repaint.weights.spandrel; print('spandrel' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
