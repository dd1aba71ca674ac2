"""The trainer: draw, ask for the loss, step; now and then look and save. Read it from top to bottom."""

from __future__ import annotations

import contextlib
import copy
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .. import files
from ..errors import RunError
from ..image import Photo, write_photo
from ..locks import alone_in
from ..weights.files import read_state
from ..weights.networks import file_of
from ..weights.store import DEFAULT_DIR
from .checkpoint import export, interrupts_wait, load, save
from .data import Item, Pictures, together
from .heap import keep_freed_memory
from .notes import Board, write_manifest, write_metrics
from .processes import accelerator_of
from .settings import Source, Training

VALIDATION_BATCHES = 8

Shown = tuple[Tensor, ...]


class Task(Protocol):
    """What is trained."""

    @property
    def name(self) -> str:
        """Of the exported file."""
        ...

    def objective(self) -> nn.Module:
        """A module that holds the network in training and says how wrong it is of a batch.

        Called with what is shown, it answers the loss, a number to be made small, and figures to be followed by name,
        of which the first stands in the progress line. Its `network` alone is averaged and exported, and begins with
        `start_from` if the settings say so; a critic, or a fixed network of features, may live beside it.
        """
        ...

    def data(self, sources: Sequence[Source], *, seed: int, count: int, training: bool) -> Pictures: ...

    def measured(self, network: nn.Module, shown: Sequence[Shown]) -> dict[str, float]:
        """Figures on held-out batches; by the first, the lower the better, the best weights are known."""
        ...

    def picture(self, network: nn.Module, shown: Sequence[Shown]) -> Tensor:
        """(3, h, w) in [0, 1]: what the network can do, for the eye."""
        ...

    def says(self, measured: Mapping[str, float]) -> dict[str, str]:
        """What the exported file says of itself beside data, licence, steps and figures; of figures just measured."""
        ...


@dataclass(frozen=True)
class Status:
    """Where a training stands.

    Attributes:
        loss: the first figure of the objective, a running mean.
        measured: figures on held-out images, when they have just been measured.
        remark: a line for the user.
    """

    step: int
    steps: int
    loss: float
    images_per_s: float
    images_per_step: int
    measured: dict[str, float] = field(default_factory=dict)
    remark: str = ""


Watch = Callable[[Status], None]


def train(config: Training, task: Task, watch: Watch = lambda status: None) -> str:
    """Train, going on from the checkpoint in `config.output` if there is one; the path of the exported weights.

    A step's randomness is a function of the seed and the step, so a training that was stopped ends, on a CPU, with the
    very weights of one that was not.

    Raises:
        RunError: if data, checkpoint or precision cannot be used, nothing can be written, or the loss is no number.
    """
    accelerator = accelerator_of(config)
    with alone_in(config.output, "training") if accelerator.is_main_process else contextlib.nullcontext():
        return _train(config, task, watch, accelerator)


def _train(config: Training, task: Task, watch: Watch, accelerator: Accelerator) -> str:
    device, rank, world = accelerator.device, accelerator.process_index, accelerator.num_processes
    is_main = accelerator.is_main_process
    if device.type == "cpu":
        keep_freed_memory()
    torch.backends.cudnn.benchmark = True  # all batches are of one shape
    torch.manual_seed(config.seed)
    objective: Any = task.objective()
    objective.to(device).to(memory_format=torch.channels_last).train()
    network = objective.network
    ema = copy.deepcopy(network).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(
        (p for p in objective.parameters() if p.requires_grad),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(0.9, 0.99),
    )
    step, best, seconds, mean, history, skipped = 0, math.inf, 0.0, 0.0, [], {}
    state = load(config.output, config)
    if state:
        objective.load_state_dict(state["objective"])
        ema.load_state_dict(state["ema"])
        optimiser.load_state_dict(state["optimiser"])
        step, best, seconds, mean = state["step"], state["best"], state["seconds"], state.get("mean", 0.0)
        history, skipped = state["history"], state["skipped"]
    if config.compile:
        network.compile(dynamic=False)
    wrapped, optimiser = accelerator.prepare(objective, optimiser)
    if state and accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(state["scaler"])
    del state
    pictures = task.data(
        config.data, seed=config.seed, count=config.steps * config.accumulate * config.batch_size * world, training=True
    )
    batches = _batches(pictures, config, step, rank, world, pinned=device.type == "cuda")
    held_out = _held_out(config, task, device)
    board = Board(config, step) if config.tensorboard and is_main else None
    began, first = time.monotonic(), step
    if not is_main:
        watch = _silent

    def anywhere(here: bool) -> bool:
        """Whether it is so in any of the processes, which have to stop together."""
        if world == 1:
            return here
        flag: Any = accelerator.reduce(torch.tensor(float(here), device=device), "sum")
        return flag.item() > 0

    def status(**more) -> Status:
        images = config.batch_size * config.accumulate * world
        rate = (step - first) * images / max(1e-9, time.monotonic() - began)
        return Status(step, config.steps, mean, rate, images, **more)

    def skip(unreadable: Mapping[str, str]) -> None:
        for path in unreadable.keys() - skipped.keys():
            skipped[path] = unreadable[path]
            watch(status(remark=f"{path}: skipped, cannot be read as an image: {unreadable[path]}"))

    def keep() -> None:
        for found in gather_object([skipped]):
            skip(found)
        if is_main:
            save(
                config.output,
                {
                    "objective": objective.state_dict(),
                    "ema": ema.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "scaler": accelerator.scaler.state_dict() if accelerator.scaler else {},
                    "step": step,
                    "best": best,
                    "mean": mean,
                    "seconds": seconds + time.monotonic() - began,
                    "history": history,
                    "skipped": skipped,
                },
                config,
            )

    def exported(name: str) -> str:
        path = files.join(config.output, f"{name}.safetensors")
        if is_main:
            export(path, ema.state_dict(), {**_common(config, step, world, history), **task.says(history[-1])})
        return path

    def look() -> dict[str, float]:
        nonlocal best
        measured = task.measured(ema, held_out)
        history.append({"step": step, "training": mean, **measured})
        score = next(iter(measured.values()))
        is_best = score <= best
        if is_best:
            best = score
            exported("best")  # before the checkpoint says that it is there
        keep()
        if is_main:
            write_metrics(config.output, history)
        if board:
            board.look(step, measured, task.picture(ema, held_out))
        return measured

    if is_main:
        write_manifest(config, pictures, skipped)
    with interrupts_wait() as interrupted:
        while step < config.steps and not anywhere(_time_is_up(config, began)):
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * rate_at(step, config)
            torch.manual_seed(step_seed(config.seed, step, rank))
            now: dict[str, Any] = {}  # stays on the device until all of the step is asked for
            for _ in range(config.accumulate):
                shown, unreadable = _next(batches)
                skip(unreadable)
                with accelerator.autocast():
                    loss, figures = wrapped(*_moved(shown, device))
                accelerator.backward(loss / config.accumulate)
                for name, value in figures.items():
                    now[name] = now.get(name, 0.0) + value / config.accumulate
            norm = accelerator.clip_grad_norm_(wrapped.parameters(), config.clip_norm)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            _follow(ema, network, min(config.ema, (2 + step) / (11 + step)))
            now = {name: value.item() for name, value in now.items()}
            current = next(iter(now.values()))
            # What is no number has reached the weights by now, but no checkpoint.
            if anywhere(not all(math.isfinite(value) for value in now.values())):
                raise RunError(
                    f"step {step + 1}: the loss is {current}; the last good checkpoint is in {config.output}"
                )
            if accelerator.scaler is None and norm is not None and not math.isfinite(norm):
                raise RunError(
                    f"step {step + 1}: the gradient is {float(norm)}; the last good checkpoint is in {config.output}"
                )
            step += 1
            mean = current if step == 1 else mean + 0.02 * (current - mean)
            watch(status())
            if board:
                board.step(step, {**now, "learning_rate": optimiser.param_groups[0]["lr"]})
            if step % config.validate_every == 0 or step == config.steps:
                watch(status(measured=look()))
            if anywhere(interrupted()):
                keep()
                raise KeyboardInterrupt
        if step < config.steps:
            watch(status(remark=f"time is up (max_minutes: {config.max_minutes:g}); started again, it goes on"))
        if not history or history[-1]["step"] != step:
            watch(status(measured=look()))
    accelerator.wait_for_everyone()
    if is_main:
        write_manifest(config, pictures, skipped)
        write_photo(files.join(config.output, "samples.png"), Photo(task.picture(ema, held_out)))
    return exported(task.name)


def begin_from(
    name: str,
    network: nn.Module,
    detect: Callable[[Mapping[str, Tensor]], object] | None = None,
    fitted: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict,
) -> None:
    """Give a network the weights of a file: a name of `repaint weights list`, or a path.

    Args:
        detect: says what is wrong with weights of another kind of network.
        fitted: makes of them what this network needs.

    Raises:
        RunError, WeightsError: if they cannot be read, or are of another network.
    """
    state, _ = read_state(file_of(name, DEFAULT_DIR))
    try:
        if detect is not None:
            detect(state)
    except ValueError as e:
        raise RunError(f"start_from: {name}: {e}") from None
    begin_with(fitted(state), network, name)


def begin_with(state: Mapping[str, Tensor], network: nn.Module, name: str) -> None:
    """Give a network the weights of another training.

    Raises:
        RunError: if they are of another network.
    """
    here, there = ({k: tuple(v.shape) for k, v in s.items()} for s in (network.state_dict(), state))
    for key in [*here, *there]:
        if here.get(key) != there.get(key):
            found, wanted = (d.get(key, "missing") for d in (there, here))
            raise RunError(f"start_from: {name} is of another network: {key} is {found} there, {wanted} in this one")
    network.load_state_dict(state)


def rate_at(step: int, config: Training) -> float:
    """The learning rate as a share of its highest: up over the warm-up, then level, then down a cosine to 0."""
    rising = min(1.0, (step + 1) / max(1, config.warm_up))
    start = config.decay_from * config.steps
    fallen = max(0.0, (step - start) / max(1.0, config.steps - start))
    return rising * 0.5 * (1 + math.cos(math.pi * min(1.0, fallen)))


def step_seed(seed: int, step: int, rank: int) -> int:
    return (seed << 40) + (step << 10) + rank


def _batches(pictures: Pictures, config: Training, step: int, rank: int, world: int, *, pinned: bool) -> Iterator[Item]:
    """The batches of this process, from `step` on; pinned, they reach a GPU while it works."""
    order = (
        [(i * world + rank) * config.batch_size + b for b in range(config.batch_size)]
        for i in range(step * config.accumulate, config.steps * config.accumulate)
    )
    return iter(
        DataLoader(
            pictures,
            batch_sampler=_Listed(order),
            num_workers=config.workers,
            collate_fn=together,
            worker_init_fn=_left_to_the_main_process,
            pin_memory=pinned,
        )
    )


def _next(batches: Iterator[Item]) -> Item:
    try:
        return next(batches)
    except RunError as e:  # of a worker: its traceback is in the words
        raise RunError(str(e).rpartition("RunError: ")[2].strip()) from None


def _left_to_the_main_process(worker: int) -> None:
    """Ctrl-C goes to all processes of a terminal; workers end when the training does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _silent(status: Status) -> None:
    pass


class _Listed:
    """Batches of indices, given one after the other."""

    def __init__(self, batches: Iterator[list[int]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return self._batches


def _held_out(config: Training, task: Task, device: torch.device) -> list[Shown]:
    """Held-out batches, the same at every look; of the training folders if no others are named."""
    pictures = task.data(
        config.validation or config.data,
        seed=config.seed + 1,
        count=VALIDATION_BATCHES * config.batch_size,
        training=False,
    )
    return [
        _moved(shown, device) for shown, _ in DataLoader(pictures, batch_size=config.batch_size, collate_fn=together)
    ]


def _moved(shown: Shown, device: torch.device) -> Shown:
    """On the device; from pinned memory while it still works on what it was given before."""
    return tuple(
        x.to(device, non_blocking=True, memory_format=torch.channels_last if x.ndim == 4 else torch.preserve_format)
        for x in shown
    )


@torch.no_grad()
def _follow(ema: nn.Module, network: nn.Module, decay: float) -> None:
    pair = tuple(ema.parameters()), tuple(network.parameters())
    torch._foreach_lerp_(*pair, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
    for average, current in zip(ema.buffers(), network.buffers(), strict=True):
        average.copy_(current)


def _common(config: Training, step: int, world: int, history: list[dict[str, float]]) -> dict[str, str]:
    figures = dict(history[-1]) if history else {}
    figures.pop("step", None)
    training = {"training_loss": f"{figures.pop('training'):.5f}"} if figures else {}
    return {
        "licence": config.licence,
        "data": ", ".join(dict.fromkeys("/".join(PurePosixPath(source.folder).parts[-2:]) for source in config.data)),
        "steps": str(step),
        "images": str(step * world * config.batch_size * config.accumulate),
        **({"start_from": PurePosixPath(config.start_from).name} if config.start_from else {}),
        **training,
        **{f"validation_{name}": f"{value:.5f}" for name, value in figures.items()},
    }


def _time_is_up(config: Training, began: float) -> bool:
    return config.max_minutes is not None and time.monotonic() - began > 60 * config.max_minutes
