"""From picture files to arrays as the published loader does, with guided-diffusion's centre crop."""

import numpy as np
from PIL import Image


def prepared(picture: Image.Image, size: int) -> np.ndarray:
    """(size, size, 3) uint8: halved by box filter while twice too large, bicubic to the short side, centre."""
    picture = picture.convert("RGB")
    while min(picture.size) >= 2 * size:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    scale = size / min(picture.size)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
    top, left = (picture.height - size) // 2, (picture.width - size) // 2
    return np.asarray(picture)[top : top + size, left : left + size]


def image(picture: Image.Image, size: int) -> np.ndarray:
    """(1, 3, size, size) float32 in [-1, 1]."""
    return np.ascontiguousarray(prepared(picture, size).transpose(2, 0, 1))[None].astype(np.float32) / 127.5 - 1


def mask(picture: Image.Image, size: int) -> np.ndarray:
    """(1, 3, size, size) float32 in [0, 1], 1 = keep; between at edges that resizing has softened."""
    return np.ascontiguousarray(prepared(picture, size).transpose(2, 0, 1))[None].astype(np.float32) / 255


def hole_black(gt: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """What the published code writes to `paths.lrs`."""
    return gt * keep - (1 - keep)
