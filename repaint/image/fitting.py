"""The paper's way to make photos and masks fit a prior: halve, resize, cut out the middle square."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .photo import Photo


def centre_cropped(photo: Photo, size: int) -> Photo:
    """The middle square of a photo, `size` px wide, 8 bits a channel, RGB, without alpha.

    As the published code prepares its images (and guided-diffusion before it): halved by averaging while the short
    side is at least twice `size`, bicubic to `size`, cut. A mask goes the same way and so becomes soft: float weights.
    What has been cut so stays as it is.
    """
    keep = photo.keep
    meta = dataclasses.replace(photo.meta, bits=8, grey=False)
    return Photo(
        rgb=_from_pixels(_middle(_to_image(photo.rgb), size)),
        keep=None if keep is None else centre_cropped_mask(keep, size),
        meta=meta,
    )


def centre_cropped_mask(keep: Tensor, size: int) -> Tensor:
    """The middle square (1, size, size) of a mask (1, H, W), which may be of another size than its photo."""
    return _from_pixels(_middle(_to_image(keep.float()), size))


def _to_image(planes: Tensor) -> Image.Image:
    pixels = (planes * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _from_pixels(image: Image.Image) -> Tensor:
    pixels = np.asarray(image).astype(np.float32) / 255
    return torch.from_numpy(pixels if pixels.ndim == 3 else pixels[:, :, None]).permute(2, 0, 1).contiguous()


def _middle(image: Image.Image, size: int) -> Image.Image:
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))
