"""What happens to a photograph as a whole: in its chemistry, in the camera, and in the file. Px are px of the file."""

from __future__ import annotations

import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor

from .drawing import cloud, happens, number, pick, pixels, uniform
from .painting import Overall, overall

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
BEST_QUALITY, WORST_QUALITY = 95, 15  # of a JPEG
TONES = (  # what black and what white become
    ((0.02, 0.02, 0.02), (1.00, 1.00, 1.00)),  # grey
    ((0.13, 0.09, 0.06), (0.98, 0.92, 0.78)),  # sepia
    ((0.16, 0.08, 0.05), (0.97, 0.87, 0.74)),  # red brown, albumen
    ((0.17, 0.14, 0.07), (0.88, 0.83, 0.60)),  # olive, an old varnish
    ((0.08, 0.08, 0.10), (0.93, 0.94, 0.93)),  # cold, silver mirrored
)


@overall
def toning(image: Tensor, strength: float, generator: Generator) -> Tensor:
    """Monochrome, in grey or one of the tones of old processes."""
    # Plates were blind to red: each emulsion sees colours in its own way.
    seen = torch.tensor(LUMA) * uniform(generator, 0.6, 1.4, 3)
    grey = _weighted(image, seen / seen.sum())
    black, white = (torch.tensor(colour)[:, None, None] for colour in pick(generator, TONES))
    return image.lerp(black + grey * (white - black), strength)


@overall
def yellowing(image: Tensor, strength: float, generator: Generator) -> Tensor:
    """Paper and varnish gone yellow or brown, unevenly: blue is lost most, red least."""
    height, width = image.shape[1:]
    faint = image.lerp(_grey(image), 0.5 * strength)
    lost = torch.tensor([0.03, 0.16, 0.45]) * uniform(generator, 0.8, 1.2, 3)
    uneven = 1 + 0.15 * cloud(generator, height, width, max(height, width) / 2, octaves=2)
    return faint * (1 - strength * lost[:, None, None] * uneven)


@overall
def fading(image: Tensor, strength: float, generator: Generator) -> Tensor:
    """Black turns grey and everything pales, more in some places than in others."""
    height, width = image.shape[1:]
    uneven = (1 + 0.3 * cloud(generator, height, width, max(height, width) / 2, octaves=2)).clamp(0.4, 1.6)
    paper = number(generator, 0.7, 0.95)
    return image.lerp(torch.full_like(image, paper), strength * number(generator, 0.3, 0.55) * uneven)


@overall
def grain(image: Tensor, strength: float, generator: Generator) -> Tensor:
    """The silver of the film: lumps of about a pixel or two, strongest in the mid-tones, hardly coloured."""
    height, width = image.shape[1:]
    silver = torch.randn(1, height, width, generator=generator)
    tint = 0.2 * torch.randn(3, height, width, generator=generator)
    lumps = _gaussian(silver + tint, *[number(generator, 0.5, 1)] * 2)
    lumps = lumps / lumps.std()
    grey = _grey(image)
    return image + lumps * strength * number(generator, 0.05, 0.11) * (0.25 + 3 * grey * (1 - grey))


@overall
def noise(image: Tensor, strength: float, generator: Generator) -> Tensor:
    """The noise of a sensor or a scanner: of each pixel and channel alone; even, or growing with the light."""
    values = torch.randn(image.shape, generator=generator)
    growth = image if happens(generator, 0.3) else 0.6
    return image + values * strength * number(generator, 0.1, 0.2) * growth


@overall
def blur(image: Tensor, strength: float, generator: Generator) -> Tensor:
    """Out of focus, at times more one way than the other: sigma up to 3.5 px."""
    sigma = 0.3 + strength * number(generator, 1, 3.2)
    aspect = number(generator, 0.6, 1) if happens(generator, 0.4) else 1.0
    sigmas = (sigma, sigma * aspect)
    return _gaussian(image, *pick(generator, (sigmas, sigmas[::-1])))


@overall
def down_up(image: Tensor, strength: float, generator: Generator) -> Tensor:
    """Stored small and enlarged again: down to a quarter of each side."""
    size = image.shape[1:]
    factor = 1 + 3 * strength * number(generator, 0.5, 1)
    small = tuple(max(8, round(side / factor)) for side in size)
    down, up = pick(generator, ("bilinear", "bicubic")), pick(generator, ("bilinear", "bicubic", "nearest-exact"))
    shrunk = F.interpolate(image[None], small, mode=down, antialias=True)
    return F.interpolate(shrunk, size, mode=up)[0]


@overall
def jpeg(image: Tensor, strength: float, generator: Generator) -> Tensor:
    """Saved as JPEG, at a quality from 95 (strength near 0) to 15, with full or with halved colour."""
    quality = round(BEST_QUALITY - (BEST_QUALITY - WORST_QUALITY) * strength)
    levels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "JPEG", quality=quality, subsampling=pick(generator, (0, 2)))
    read = np.array(Image.open(file).convert("RGB"))
    return torch.from_numpy(read).permute(2, 0, 1).contiguous().float() / 255


@overall
def halftone(image: Tensor, strength: float, generator: Generator) -> Tensor:
    """Printed in dots, as in a newspaper: one screen, or one for each ink."""
    pitch, sharp = number(generator, 2.5, 5), number(generator, 2, 6)
    turns = [math.radians(15), math.radians(75), math.radians(0)] if happens(generator, 0.5) else [math.radians(45)]
    y, x = pixels(*image.shape[1:]) * (math.tau / pitch)
    screens = []
    for turn in turns:
        u, v = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
        screens.append(0.5 + (u.cos() + v.cos()) / 4)
    dots = ((image - torch.stack(screens)) * sharp + 0.5).clamp(0, 1)
    return image.lerp(dots, 0.75 * strength)


@overall
def contrast(image: Tensor, strength: float, generator: Generator) -> Tensor:
    """Exposure and development drifted: another gamma, a harder or a softer print, lighter or darker."""
    gamma = math.exp(strength * number(generator, -0.6, 0.6))
    gain = math.exp(strength * number(generator, -0.6, 0.5))
    shift = strength * number(generator, -0.1, 0.1)
    mean = image.mean()
    return (image.clamp(0, 1) ** gamma - mean) * gain + mean + shift


@overall
def colour(image: Tensor, strength: float, generator: Generator) -> Tensor:
    """Dyes drifted: each channel in gain and offset, and the saturation as a whole."""
    gain = (strength * uniform(generator, -0.25, 0.15, 3, 1, 1)).exp()
    offset = strength * uniform(generator, -0.05, 0.08, 3, 1, 1)
    return image.lerp(_grey(image), strength * number(generator, -0.3, 0.8)) * gain + offset


def _grey(image: Tensor) -> Tensor:
    return _weighted(image, torch.tensor(LUMA))


def _weighted(image: Tensor, weights: Tensor) -> Tensor:
    return (image * weights[:, None, None]).sum(0, keepdim=True)


def _gaussian(image: Tensor, sigma_y: float, sigma_x: float) -> Tensor:
    """Blurred along both axes, the border mirrored. Shifted copies are summed: a convolution takes 4 times as long."""
    for sigma, dim in ((sigma_y, 1), (sigma_x, 2)):
        reach = math.ceil(3 * sigma)
        kernel = torch.arange(-reach, reach + 1).div(sigma).square().mul(-0.5).exp()
        padded = F.pad(image, (0, 0, reach, reach) if dim == 1 else (reach, reach, 0, 0), mode="reflect")
        blurred = torch.zeros_like(image)
        for i, weight in enumerate((kernel / kernel.sum()).tolist()):
            blurred.add_(padded.narrow(dim, i, image.shape[dim]), alpha=weight)
        image = blurred
    return image


OVERALL: dict[str, Overall] = {
    "toning": toning,
    "yellowing": yellowing,
    "fading": fading,
    "grain": grain,
    "noise": noise,
    "blur": blur,
    "down_up": down_up,
    "jpeg": jpeg,
    "halftone": halftone,
    "contrast": contrast,
    "colour": colour,
}
