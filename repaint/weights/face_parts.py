"""What finds faces and tells their parts apart: our finder, and the networks that facexlib knows.

Those of facexlib are read by us, from where our catalogue puts them: facexlib itself would download them unasked.
"""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..archs import face_finder
from ..archs.face_finder import FaceFinder
from ..archs.shapes import State, looks_like
from ..errors import WeightsError
from ..faces import Face
from ..tiling import resized
from .files import read_state, sha256_of_state
from .networks import LoadedNetwork, doubts, file_of, loaded
from .store import DEFAULT_DIR

RETINA_SURE = 0.97  # as facexlib's FaceRestoreHelper has it
RETINA_MOST_PX = 1_500_000  # shown at once; a 12-megapixel photo would take it gigabytes
PARSER_PX = 512

Ready = TypeVar("Ready")


def load_face_finder(
    name: str, *, weights_dir: str = DEFAULT_DIR, device: torch.device | str = "cpu"
) -> LoadedNetwork[FaceFinder]:
    """The face finder of ours of that name.

    Args:
        name: in the catalogue, or a path.

    Raises:
        WeightsError: if the weights are missing, damaged, refused, or of another architecture.
    """
    found = loaded(name, face_finder.detect, face_finder.build, weights_dir)
    found.network.to(device)
    return found


@dataclass(frozen=True, eq=False)
class RetinaFaces:
    """RetinaFace (Deng et al. 2020), as facexlib has it: the faces of photos (3, H, W) in [0, 1], the surest first.

    Photos of more than 1.5 megapixels are shrunk to that many first.
    """

    network: Any  # facexlib's class says little of its types

    @torch.no_grad()
    def __call__(self, image: Tensor) -> list[Face]:
        H, W = image.shape[1:]
        scale = min(1.0, math.sqrt(RETINA_MOST_PX / (H * W)))
        h, w = (max(1, round(side * scale)) for side in (H, W))
        small = resized(image[None], h, w)[0].clamp(0, 1)
        levels_bgr = 255 * small.flip(0).permute(1, 2, 0).cpu().numpy()
        rows = torch.from_numpy(self.network.detect_faces(levels_bgr, RETINA_SURE))  # box, score, five x, y
        landmarks = rows[:, 5:].reshape(-1, 5, 2) * torch.tensor([W / w, H / h])
        seen = zip(rows[:, 4].tolist(), landmarks.float(), strict=True)
        return [Face(points, score) for score, points in seen if (points - points[0]).abs().max() > 0.5]


@dataclass(frozen=True, eq=False)
class FaceParser:
    """(1, 512, 512) bool of an aligned face (1, 3, 512, 512) in [0, 1]: its skin, features and hair.

    Attributes:
        network: answers logits (1, 19, 512, 512) of kinds of parts, and more.
        mean, std: (3, 1, 1), of the pixels that it was trained with.
        kinds: of those parts that count.
    """

    network: nn.Module
    mean: Tensor
    std: Tensor
    kinds: Tensor

    @torch.no_grad()
    def __call__(self, face: Tensor) -> Tensor:
        logits = self.network((face - self.mean) / self.std)[0]
        return torch.isin(logits.argmax(1), self.kinds)


def load_retinaface(
    name: str, *, weights_dir: str = DEFAULT_DIR, device: torch.device | str = "cpu"
) -> LoadedNetwork[RetinaFaces]:
    """The RetinaFace of that name: of a ResNet-50 or a MobileNet of width 0.25, as the shapes say.

    Raises:
        ImportError: if facexlib is not installed.
        WeightsError: as `load_face_finder`.
    """
    from facexlib.detection.retinaface import RetinaFace

    def build(state: State) -> nn.Module:
        which = {"body.layer4.0.conv1.weight": "resnet50", "body.stage1.0.0.weight": "mobile0.25"}
        found = next((kind for key, kind in which.items() if key in state), None)
        if found is None:
            raise ValueError("not a RetinaFace")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision's, of how facexlib asks for a network without weights
            return RetinaFace(network_name=found, device=torch.device(device))

    return _loaded(name, build, RetinaFaces, weights_dir, device)


def load_face_parser(
    name: str, *, weights_dir: str = DEFAULT_DIR, device: torch.device | str = "cpu"
) -> LoadedNetwork[FaceParser]:
    """The face parser of that name: BiSeNet or ParseNet, as the shapes say.

    Raises:
        ImportError: if facexlib is not installed.
        WeightsError: as `load_face_finder`.
    """
    from facexlib.parsing import BiSeNet, ParseNet

    def build(state: State) -> nn.Module:
        if "cp.resnet.conv1.weight" in state:
            return BiSeNet(num_class=19)
        if "encoder.0.conv2d.weight" in state:
            return ParseNet(in_size=PARSER_PX, out_size=PARSER_PX, parsing_ch=19)
        raise ValueError("not a face parser")

    def ready(network: nn.Module) -> FaceParser:
        if isinstance(network, BiSeNet):  # without neck, necklace, clothes and hat
            pixels, kinds = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), [*range(1, 14), 17]
        else:
            pixels, kinds = ([0.5] * 3, [0.5] * 3), [*range(1, 14), 15]
        mean, std = (torch.tensor(x, device=device)[:, None, None] for x in pixels)
        return FaceParser(network, mean, std, torch.tensor(kinds, device=device))

    return _loaded(name, build, ready, weights_dir, device)


def _loaded(
    name: str,
    build: Callable[[State], nn.Module],
    ready: Callable[[nn.Module], Ready],
    weights_dir: str,
    device: torch.device | str,
) -> LoadedNetwork[Ready]:
    """What `ready` makes of the network of that name."""
    path = file_of(name, weights_dir)
    state, metadata = read_state(path)
    network = _filled(build, state, path)
    sha256 = sha256_of_state(path)
    return LoadedNetwork(ready(network.to(device)), sha256, metadata, doubts(name, path, sha256))


def _filled(build: Callable[[State], nn.Module], state: State, path: Path) -> nn.Module:
    """The network with the weights of `state`, as torch fills them: old files do not count the batches of their norms.

    Raises:
        WeightsError: if they are of another network.
    """
    try:
        network = build(state)
        network.load_state_dict(dict(state))
    except (ValueError, RuntimeError) as e:
        reason = textwrap.shorten(" ".join(str(e).split()), 200)
        raise WeightsError(f"{path}: {reason}; found {looks_like(state)}") from None
    return network.float().eval().requires_grad_(False)
