"""Train a DDPM prior: draw windows, add noise, ask for it, step; now and then look and save."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader

from .. import files
from ..archs.unet import UNet, UNetConfig, build
from ..diffusion import NetworkPrior, Noise, p_step
from ..errors import RunError
from ..image import Photo, write_photo
from ..weights.load import SCHEDULES
from .checkpoint import export, interrupts_wait, load, save
from .data import Windows
from .loss import HybridLoss
from .settings import TrainPrior

MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
VALIDATION_BATCHES = 8
SAMPLES, SAMPLE_STEPS = 16, 50


@dataclass(frozen=True)
class Status:
    """Where a training stands.

    Attributes:
        loss: the simple part, a running mean.
        validation: loss on held-out windows, when it has just been measured.
    """

    step: int
    steps: int
    loss: float
    images_per_s: float
    images_per_step: int
    validation: float | None = None


def train_prior(config: TrainPrior, watch: Callable[[Status], None] = lambda status: None) -> str:
    """Train, going on from the checkpoint in `config.output` if there is one; the path of the exported weights.

    A step's randomness is a function of the seed and the step, so a training that was stopped ends, on a CPU, with the
    very weights of one that was not.

    Raises:
        RunError: if data or checkpoint cannot be used, nothing can be written, or the loss is no longer a number.
    """
    accelerator = Accelerator(cpu=config.device == "cpu", mixed_precision=MIXED[config.precision])
    device, rank, world = accelerator.device, accelerator.process_index, accelerator.num_processes
    torch.manual_seed(config.seed)
    ema = build(architecture(config)).to(device).to(memory_format=torch.channels_last)
    network = copy.deepcopy(ema)
    ema.eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.99)
    )
    step, best, seconds, history = 0, math.inf, 0.0, []
    if state := load(config.output, config, device):
        network.load_state_dict(state["network"])
        ema.load_state_dict(state["ema"])
        optimiser.load_state_dict(state["optimiser"])
        step, best, seconds, history = state["step"], state["best"], state["seconds"], state["history"]
    wrapped, optimiser = accelerator.prepare(network, optimiser)
    loss_of = HybridLoss(SCHEDULES[config.noise_schedule](), config.weighting, device)
    held_out = _validation(config, device)
    batches = _batches(config, step, rank, world)
    began = time.monotonic()
    mean = 0.0

    def status(**more) -> Status:
        images = config.batch_size * config.accumulate * world
        rate = (step - first) * images / max(1e-9, time.monotonic() - began)
        return Status(step, config.steps, mean, rate, images, **more)

    def keep() -> None:
        if accelerator.is_main_process:
            save(
                config.output,
                {
                    "network": network.state_dict(),
                    "ema": ema.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "step": step,
                    "best": best,
                    "seconds": seconds + time.monotonic() - began,
                    "history": history,
                },
                config,
            )

    first = step
    with interrupts_wait() as interrupted:
        while step < config.steps and not _time_is_up(config, began):
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * rate_at(step, config)
            torch.manual_seed(step_seed(config.seed, step, rank))
            now = 0.0
            for _ in range(config.accumulate):
                x_0 = next(batches).to(device, memory_format=torch.channels_last)
                index = torch.randint(loss_of.T, (len(x_0),), device=device)
                with accelerator.autocast():
                    loss, simple = loss_of(wrapped, x_0, index, torch.randn_like(x_0))
                accelerator.backward(loss.mean() / config.accumulate)
                now += simple.mean().item() / config.accumulate
            if not math.isfinite(now):
                raise RunError(f"step {step + 1}: the loss is {now}; the last good checkpoint is in {config.output}")
            accelerator.clip_grad_norm_(wrapped.parameters(), config.clip_norm)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            step += 1
            _follow(ema, network, min(config.ema, (1 + step) / (10 + step)))
            mean = now if step == first + 1 else mean + 0.02 * (now - mean)
            watch(status())
            if step % config.validate_every == 0 or step == config.steps:
                validation = _measured(ema, loss_of, held_out)
                history.append([step, mean, validation])
                is_best, best = validation <= best, min(validation, best)
                keep()
                if is_best and accelerator.is_main_process:
                    _export(config, ema, step, history, "best")
                watch(status(validation=validation))
            if interrupted():
                keep()
                raise KeyboardInterrupt
        keep()
    accelerator.wait_for_everyone()
    path = _export(config, ema, step, history, "prior")
    write_photo(files.join(config.output, "samples.png"), Photo(sampled(ema, config, device)))
    return path


def architecture(config: TrainPrior) -> UNetConfig:
    n = config.network
    return UNetConfig(
        channels=n.channels,
        level_channels=tuple(n.channels * m for m in n.multipliers),
        res_blocks=n.res_blocks,
        attention=n.attention_at,
        head_channels=n.head_channels,
        resblock_updown=n.resblock_updown,
        dropout=n.dropout,
    )


def rate_at(step: int, config: TrainPrior) -> float:
    """The learning rate as a share of its highest: up over the warm-up, then level, then down a cosine to 0."""
    rising = min(1.0, (step + 1) / max(1, config.warm_up))
    start = config.decay_from * config.steps
    fallen = max(0.0, (step - start) / max(1.0, config.steps - start))
    return rising * 0.5 * (1 + math.cos(math.pi * min(1.0, fallen)))


def step_seed(seed: int, step: int, rank: int) -> int:
    return (seed << 40) + (step << 10) + rank


@torch.no_grad()
def sampled(network: UNet, config: TrainPrior, device: torch.device) -> Tensor:
    """(3, h, w) in [0, 1]: a square of ancestral samples, of fixed noise."""
    prior = NetworkPrior(network, SCHEDULES[config.noise_schedule]()).respaced(SAMPLE_STEPS)
    noise = Noise(range(SAMPLES))
    x_t = noise.like(torch.zeros(SAMPLES, 3, config.size, config.size, device=device))
    for t in range(prior.schedule.T, 0, -1):
        x_t = p_step(prior.schedule, x_t, t, prior(x_t, t), noise.like(x_t))
    side = math.isqrt(SAMPLES)
    rows = [torch.cat(list(row), dim=2) for row in x_t.split(side)]
    return ((torch.cat(rows, dim=1) + 1) / 2).clamp(0, 1).float().cpu()


def _batches(config: TrainPrior, step: int, rank: int, world: int) -> Iterator[Tensor]:
    """The batches of this process, from `step` on."""
    per_step = config.batch_size * config.accumulate * world
    windows = Windows(
        config.data,
        config.size,
        config.seed,
        count=config.steps * per_step,
        flip=config.flip,
        grey_share=config.grey_share,
        cache_mb=config.cache_mb,
    )
    first = step * config.accumulate
    order = (
        [(i * world + rank) * config.batch_size + b for b in range(config.batch_size)]
        for i in range(first, config.steps * config.accumulate)
    )
    return iter(DataLoader(windows, batch_sampler=_Listed(order), num_workers=config.workers))


class _Listed:
    """Batches of indices, given one after the other."""

    def __init__(self, batches: Iterator[list[int]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return self._batches


def _validation(config: TrainPrior, device: torch.device) -> list[Tensor]:
    """Held-out windows, the same at every look; of the training folders if no others are named."""
    count = VALIDATION_BATCHES * config.batch_size
    windows = Windows(config.validation or config.data, config.size, config.seed + 1, count=count)
    loader = DataLoader(windows, batch_size=config.batch_size)
    return [x.to(device) for x in islice(loader, VALIDATION_BATCHES)]


@torch.no_grad()
def _measured(ema: UNet, loss_of: HybridLoss, held_out: list[Tensor]) -> float:
    """The simple loss on held-out windows, over noise levels evenly spread; of fixed noise."""
    losses = []
    for i, x in enumerate(held_out):
        g = torch.Generator().manual_seed(i)
        index = (
            torch.linspace(0, loss_of.T - 1, len(x)).round().long()[torch.randperm(len(x), generator=g)].to(x.device)
        )
        eps = torch.randn(x.shape, generator=g).to(x.device)
        losses.append(loss_of(ema, x, index, eps)[1].mean().item())
    return sum(losses) / len(losses)


@torch.no_grad()
def _follow(ema: UNet, network: UNet, decay: float) -> None:
    for average, current in zip(ema.parameters(), network.parameters(), strict=True):
        average.lerp_(current, 1 - decay)


def _export(config: TrainPrior, ema: UNet, step: int, history: list[list[float]], name: str) -> str:
    n = config.network
    said = {
        "image_size": config.size,
        "num_head_channels": n.head_channels,
        "use_new_attention_order": False,
        "noise_schedule": config.noise_schedule,
        "diffusion_steps": 1000,
    }
    metadata = {
        "architecture": json.dumps(said),
        "licence": config.licence,
        "data": ", ".join(source.folder for source in config.data),
        "steps": str(step),
        "images": str(step * config.batch_size * config.accumulate),
        "validation_loss": f"{history[-1][2]:.5f}" if history else "not measured",
    }
    path = files.join(config.output, f"{name}.safetensors")
    export(path, ema.state_dict(), metadata)
    return path


def _time_is_up(config: TrainPrior, began: float) -> bool:
    return config.max_minutes is not None and time.monotonic() - began > 60 * config.max_minutes
