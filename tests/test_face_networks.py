"""What finds, parses and restores faces: which network is used, and what it is shown and told."""

import math
import sys
import warnings

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from repaint.archs import face_finder, face_net
from repaint.archs.face_finder import FaceFinderConfig
from repaint.archs.face_net import FaceNetConfig
from repaint.diffusion import Noise, linear_schedule
from repaint.errors import ConfigError, WeightsError
from repaint.faces import TEMPLATE, Face, oval
from repaint.image import Photo
from repaint.stages import face_restorers, facing
from repaint.stages.face_restorers import denoised, load_restorer
from repaint.stages.faces import FacePrior, Faces
from repaint.weights.face_parts import load_face_parser, load_retinaface
from repaint.weights.networks import LoadedNetwork

from . import tiny

CPU = torch.device("cpu")
MOBILE, RESNET = "detection_mobilenet0.25", "detection_Resnet50"


@pytest.fixture(scope="module")
def facexlib():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import facexlib.detection.retinaface as found
    return found


def retinaface(facexlib, path):
    """Random weights in the published form, that see a face wherever an anchor of 16 px stands, and nothing else."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = facexlib.RetinaFace("mobile0.25", device=CPU)
    heads = zip(network.ClassHead, network.BboxHead, network.LandmarkHead, strict=True)
    shape = (TEMPLATE - TEMPLATE.mean(0)) / 512  # of a face, in sides of its anchor
    with torch.no_grad():
        for level, (sure, box, points) in enumerate(heads):
            for head in (sure, box, points):
                head.conv1x1.weight.zero_()
                head.conv1x1.bias.zero_()
            sure.conv1x1.bias.copy_(torch.tensor([9.0, -9.0, 9.0, -9.0]))  # no face, face; of the anchors of both sizes
            points.conv1x1.bias.copy_((shape / 0.1).flatten().repeat(2))
            if level == 0:
                sure.conv1x1.bias[:2] *= -1
    torch.save({f"module.{k}": v for k, v in network.state_dict().items()}, path)
    return path


def face_finder_file(path):
    torch.manual_seed(0)
    save_file(face_finder.build(FaceFinderConfig((8, 8, 8, 8), 1)).state_dict(), path)
    return str(path)


def face_net_file(path, change=0.1):
    """A restorer that makes faces brighter by about `change`."""
    torch.manual_seed(0)
    network = face_net.build(FaceNetConfig(8, (1, 2), 1))
    nn.init.constant_(network.last[-1].bias, change)
    save_file(network.state_dict(), path)
    return str(path)


# ---- finders


def test_retinaface_in_its_published_form_says_where_its_anchors_are(facexlib, tmp_path):
    retinaface(facexlib, tmp_path / f"{MOBILE}_Final.pth")
    faces = load_retinaface(MOBILE, weights_dir=str(tmp_path)).network(torch.rand(3, 24, 32))
    middles = sorted(tuple(face.landmarks.mean(0).round().tolist()) for face in faces)
    assert middles == sorted((x, y) for x in (4.0, 12.0, 20.0, 28.0) for y in (4.0, 12.0, 20.0))
    assert all(face.score > 0.999 for face in faces)
    assert faces[0].px == pytest.approx(16, rel=1e-3)


def test_landmarks_of_a_photo_that_was_shrunk_are_those_of_the_photo(facexlib, tmp_path, monkeypatch):
    retinaface(facexlib, tmp_path / f"{MOBILE}_Final.pth")
    find = load_retinaface(MOBILE, weights_dir=str(tmp_path)).network
    monkeypatch.setattr("repaint.weights.face_parts.RETINA_MOST_PX", 32 * 32)
    faces = find(torch.rand(3, 64, 64))
    assert faces[0].px == pytest.approx(32, rel=1e-3)
    assert {round(face.landmarks[:, 0].mean().item()) for face in faces} == {8, 24, 40, 56}


class ShownBgr(nn.Module):
    def detect_faces(self, image, sure):
        assert sure == 0.97
        self.seen = image
        return torch.zeros(0, 15).numpy()


def test_retinaface_is_shown_levels_blue_first():
    from repaint.weights.face_parts import RetinaFaces

    spy = ShownBgr()
    assert RetinaFaces(spy)(torch.tensor([1.0, 0.5, 0.0])[:, None, None].expand(3, 4, 6)) == []
    assert spy.seen.shape == (4, 6, 3)
    assert spy.seen[0, 0].tolist() == [0.0, 127.5, 255.0]


def test_other_weights_under_the_name_of_a_finder_are_refused(facexlib, tmp_path):
    tiny.checkpoint(tmp_path / f"{MOBILE}_Final.pth")
    with pytest.raises(WeightsError, match="not a RetinaFace; found a guided-diffusion network"):
        load_retinaface(MOBILE, weights_dir=str(tmp_path))


@pytest.mark.parametrize("there", [[MOBILE], [RESNET, MOBILE]])
def test_retinaface_is_used_when_it_is_there_and_the_best_of_them(there, tmp_path, monkeypatch):
    for name in there:
        (tmp_path / f"{name}_Final.pth").write_bytes(b"x")
    given = LoadedNetwork(lambda image: [], "abc", {}, ())
    monkeypatch.setattr(facing, "load_retinaface", lambda name, weights_dir, device: given)
    for choice in ("auto", "retinaface"):
        finder = facing.finder_of(Faces(weights_dir=str(tmp_path), finder=choice), CPU)
        assert finder.weights == {there[0]: "abc"}
        assert finder.remarks == (f"faces are found by {there[0]}",)


def test_embedded_finder_is_used_where_no_other_is_and_that_is_said(tmp_path, monkeypatch):
    name = face_finder_file(tmp_path / "f.safetensors")
    monkeypatch.setattr(facing, "EMBEDDED_FINDER", name)
    finder = facing.finder_of(Faces(weights_dir=str(tmp_path)), CPU)
    assert finder.remarks == (f"faces are found by {name}",)
    assert list(finder.weights) == [name]
    assert facing.finder_of(Faces(weights_dir=str(tmp_path), finder="embedded"), CPU).remarks == ()
    assert all(face.px >= 48 for face in finder.find(torch.rand(3, 90, 70)))


def test_without_any_finder_photos_stay_as_they_are_and_a_line_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(facing, "EMBEDDED_FINDER", str(tmp_path / "gone.safetensors"))
    stage = Faces(weights_dir=str(tmp_path)).build("cpu")
    assert stage.remarks == (
        f"faces are left as they are: no finder is there; repaint weights get {RESNET} --dir {tmp_path}",
    )
    photos = [tiny.photo(20, 20), tiny.photo(16, 30)]
    (only,) = stage(photos, [0, 1])
    assert only.photos == photos
    assert stage.find(photos[0]) == []
    assert stage.weights == {}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"finder": "retinaface"}, f"{RESNET}: weights are not at .*; fetch them with: repaint weights get {RESNET}"),
        ({"mask": "parsing"}, "parsing_bisenet: weights are not at .*; fetch them with"),
    ],
)
def test_networks_that_are_asked_for_and_missing_are_an_error(said, words, tmp_path, monkeypatch):
    monkeypatch.setattr(facing, "EMBEDDED_FINDER", face_finder_file(tmp_path / "f.safetensors"))
    net = face_net_file(tmp_path / "n.safetensors")
    with pytest.raises(WeightsError, match=words):
        Faces(weights_dir=str(tmp_path), restorer=net, **said).build("cpu")


def test_without_facexlib_its_weights_are_not_used_and_that_is_said(tmp_path, monkeypatch):
    (tmp_path / f"{MOBILE}_Final.pth").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "facexlib", None)
    name = face_finder_file(tmp_path / "f.safetensors")
    monkeypatch.setattr(facing, "EMBEDDED_FINDER", name)
    finder = facing.finder_of(Faces(weights_dir=str(tmp_path)), CPU)
    assert list(finder.weights) == [name]
    assert f"{MOBILE} takes facexlib" in finder.remarks[1]
    with pytest.raises(ConfigError, match=r"finder: .* takes facexlib .*: pip install facexlib"):
        facing.finder_of(Faces(weights_dir=str(tmp_path), finder="retinaface"), CPU)


# ---- parsers


@pytest.mark.parametrize(
    ("name", "kinds"), [("parsing_bisenet", {*range(1, 14), 17}), ("parsing_parsenet", {*range(1, 14), 15})]
)
def test_parser_in_its_published_form_tells_a_mask(name, kinds, facexlib, tmp_path):
    from facexlib.parsing import BiSeNet, ParseNet

    torch.manual_seed(0)
    network = BiSeNet(19) if "bisenet" in name else ParseNet(512, 512, parsing_ch=19)
    torch.save(network.state_dict(), tmp_path / f"{name}.pth")
    parser = load_face_parser(name, weights_dir=str(tmp_path)).network
    assert set(parser.kinds.tolist()) == kinds
    inside = parser(torch.rand(1, 3, 64, 64))
    assert inside.shape == (1, 64, 64)
    assert inside.dtype == torch.bool


def test_mask_is_softened_from_what_the_parser_sees_of_the_restored_face(tmp_path, monkeypatch):
    (tmp_path / "parsing_parsenet.pth").write_bytes(b"x")
    seen = []

    def parse(face):
        seen.append(face)
        return torch.ones(1, 512, 512, dtype=torch.bool)

    given = LoadedNetwork(parse, "abc", {}, ())
    monkeypatch.setattr(facing, "load_face_parser", lambda name, weights_dir, device: given)
    mask, weights, remarks = facing.mask_of(Faces(weights_dir=str(tmp_path)), 128, CPU)
    assert mask(torch.full((1, 3, 128, 128), 0.3))[0, 256, 256] == pytest.approx(1)
    assert seen[0].shape == (1, 3, 512, 512)
    assert weights == {"parsing_parsenet": "abc"}
    assert "not for commercial use" in remarks[1]
    mask, weights, remarks = facing.mask_of(Faces(weights_dir=str(tmp_path), mask="oval"), 128, CPU)
    assert torch.equal(mask(seen[0]), oval(128))
    assert (weights, remarks) == ({}, ())


# ---- restorers


def answers(restorer, face, seed=0):
    return list(restorer.restored(face, Noise([seed])))


def test_restorer_of_ours_is_shown_the_face_as_it_is(tmp_path):
    name = face_net_file(tmp_path / "n.safetensors")
    restorer = load_restorer(Faces(restorer=name), CPU, "float32")
    assert (restorer.size, restorer.calls, list(restorer.weights)) == (128, 1, [name])
    (after,) = answers(restorer, torch.full((1, 3, 128, 128), 0.4))
    torch.testing.assert_close(after, torch.full((1, 3, 128, 128), 0.5))


def test_whole_stage_runs_with_networks_of_ours(tmp_path, monkeypatch):
    monkeypatch.setattr(facing, "EMBEDDED_FINDER", face_finder_file(tmp_path / "f.safetensors"))
    face = Face(TEMPLATE / 8 + 10)
    monkeypatch.setattr(facing, "found", lambda network, image, most_px, smallest_px: [face])
    net = face_net_file(tmp_path / "n.safetensors")
    stage = Faces(restorer=net, keep_colors=False, strength=1, weights_dir=str(tmp_path)).build("cpu", "bfloat16")
    *_, last = stage([Photo(torch.full((3, 90, 90), 0.4))], [0])
    torch.testing.assert_close(last.photos[0].rgb[:, 40, 42], torch.full((3,), 0.5), atol=0.01, rtol=0)
    assert len(stage.weights) == 2


class Spied(nn.Module):
    def forward(self, x, **told):
        self.seen, self.told = x, told
        return x / 2, None


class Descriptor:
    supports_bfloat16, supports_half = True, False

    def __init__(self):
        self.model = Spied()

    def __call__(self, x):
        raise AssertionError("descriptors of faces do not normalise")


def test_published_restorers_see_and_say_faces_from_minus_one_to_one(monkeypatch):
    descriptor = Descriptor()
    monkeypatch.setattr(face_restorers, "kind_of", lambda name, weights_dir: None)
    given = LoadedNetwork(descriptor, "abc", {}, ())
    monkeypatch.setattr(face_restorers, "load_spandrel", lambda name, purpose, weights_dir, device, extra: given)
    settings = Faces(restorer="GFPGANv1.4", fidelity=0.7)
    restorer = load_restorer(settings, CPU, "float16")
    assert restorer.size == 512
    assert "StyleGAN2" in restorer.remarks[0]
    assert restorer.remarks[1] == "precision: GFPGANv1.4 does not compute in float16: using float32"
    (after,) = answers(restorer, torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1))
    assert descriptor.model.seen.flatten().tolist() == [-1, 0, 1]
    assert descriptor.model.told == {"return_rgb": False, "randomize_noise": False, "weight": 0.7}
    assert after.flatten().tolist() == [0.25, 0.5, 0.75]


def test_restoreformer_in_its_published_form_runs(tmp_path):
    from spandrel.architectures.RestoreFormer import RestoreFormer

    torch.manual_seed(0)
    sizes = {"n_embed": 16, "embed_dim": 32, "z_channels": 32, "ch": 32, "ch_mult": (1, 1, 1), "num_res_blocks": 1}
    torch.save({"params": RestoreFormer(**sizes).state_dict()}, tmp_path / "RestoreFormer.pth")
    settings = Faces(restorer="RestoreFormer", weights_dir=str(tmp_path))
    restorer = load_restorer(settings, CPU, "float32")
    (after,) = answers(restorer, torch.rand(1, 3, 64, 64))
    assert after.shape == (1, 3, 64, 64)
    assert restorer.size == 512


def test_weights_that_restore_no_faces_are_refused(tmp_path):
    path = tiny.checkpoint(tmp_path / "prior.safetensors")
    with pytest.raises(WeightsError, match="found a guided-diffusion network"):
        load_restorer(Faces(restorer=str(path)), CPU, "float32")


# ---- the prior


def test_prior_restores_a_face_by_its_seed_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(face_restorers, "COARSE_PX", 4)
    prior = FacePrior(weights=str(tiny.checkpoint(tmp_path / "prior.safetensors")), t_T=20, noise=0.25)
    restorer = load_restorer(Faces(restorer="prior", prior=prior), CPU, "float32")
    assert (restorer.size, restorer.calls) == (tiny.SIZE, 5)
    face = torch.rand(1, 3, tiny.SIZE, tiny.SIZE)
    first, again, other = (answers(restorer, face, seed)[-1] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(answers(restorer, face)) == 5
    torch.testing.assert_close(face_restorers.coarse(first), face_restorers.coarse(face), atol=0.05, rtol=0)


def test_noise_that_hides_nothing_lets_a_perfect_prior_see_the_face():
    """The perfect prior of images that are all grey makes a face grey, but for what 16 px show of it."""
    spy = tiny.Spy(linear_schedule().respaced(20))
    face = 0.5 + 0.2 * tiny.drawn(1, 3, 64, 64)
    *_, last = denoised(spy, 6, face, Noise([0]))
    torch.testing.assert_close(last, face_restorers.coarse(face - 0.5) + 0.5, atol=0.05, rtol=0)


def test_prior_is_shown_the_noise_it_is_told_of():
    spy = tiny.Spy(linear_schedule().respaced(20))
    list(denoised(spy, 8, torch.full((1, 3, 64, 64), 0.5), Noise([0])))
    assert list(spy.seen) == [8, 7, 6, 5, 4, 3, 2, 1]
    for t, (std,) in spy.seen.items():
        assert std == pytest.approx(math.sqrt(1 - spy.schedule.bar(t)), rel=0.05)


def test_prior_of_classes_is_refused(tmp_path):
    path = tiny.checkpoint(tmp_path / "prior.safetensors", **tiny.CLASSES)
    settings = Faces(restorer="prior", prior=FacePrior(weights=str(path)))
    with pytest.raises(ConfigError, match=r"prior\.weights: .* must be told a class"):
        load_restorer(settings, CPU, "float32")
