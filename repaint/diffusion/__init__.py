"""Diffusion: schedules, steps, priors and samplers, on tensors alone."""

from .conditioned import Conditioned, conditioned
from .noise import Noise
from .prior import Guided, NetworkPrior, image_by_image
from .process import Denoised, Denoiser, p_step, q_sample, q_step
from .repaint import Sample, repaint
from .schedule import Schedule, State, cosine_schedule, from_betas, linear_schedule, spaced
from .time_travel import network_calls, time_travel
from .windowed import Packed, Windowed

__all__ = [
    "Conditioned",
    "Denoised",
    "Denoiser",
    "Guided",
    "NetworkPrior",
    "Noise",
    "Packed",
    "Sample",
    "Schedule",
    "State",
    "Windowed",
    "conditioned",
    "cosine_schedule",
    "from_betas",
    "image_by_image",
    "linear_schedule",
    "network_calls",
    "p_step",
    "q_sample",
    "q_step",
    "repaint",
    "spaced",
    "time_travel",
]
