"""What the shapes of a guided-diffusion checkpoint say of its architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class EncoderLayout:
    """The downward half of a network; the U-Net and the classifier share it."""

    level_channels: tuple[int, ...]
    res_blocks: int
    attention: tuple[int, ...]  # downsampling factors
    scale_shift: bool
    resblock_updown: bool


def is_guided_diffusion(state: State) -> bool:
    return all(
        k in state for k in ("time_embed.0.weight", "input_blocks.0.0.weight", "input_blocks.1.0.in_layers.2.weight")
    )


def encoder_layout(state: State, res_blocks: int) -> EncoderLayout:
    """The layout of `input_blocks`, when each level has `res_blocks` residual blocks.

    Raises:
        ValueError: if the blocks do not fall into such levels.
    """
    total = 1 + max(int(k.split(".")[1]) for k in state if k.startswith("input_blocks."))
    period = res_blocks + 1
    if res_blocks < 1 or total % period:
        raise ValueError(f"{total} input blocks do not make levels of {res_blocks} residual blocks")
    widths: list[int] = []
    attention: list[int] = []
    for level in range(total // period):
        inside = range(1 + level * period, 1 + level * period + res_blocks)
        outs = {state[f"input_blocks.{i}.0.in_layers.2.weight"].shape[0] for i in inside if _is_res(state, i)}
        attended = {f"input_blocks.{i}.1.qkv.weight" in state for i in inside}
        down = 1 + level * period + res_blocks
        if len(outs) != 1 or len(attended) != 1 or f"input_blocks.{down}.1.qkv.weight" in state:
            raise ValueError(f"input blocks {inside.start}..{down} are not a level of {res_blocks} residual blocks")
        widths.append(outs.pop())
        if attended.pop():
            attention.append(2**level)
    first = "input_blocks.1.0"
    width = state[f"{first}.in_layers.2.weight"].shape[0]
    return EncoderLayout(
        level_channels=tuple(widths),
        res_blocks=res_blocks,
        attention=tuple(attention),
        scale_shift=state[f"{first}.emb_layers.1.weight"].shape[0] == 2 * width,
        resblock_updown=f"input_blocks.{period}.0.op.weight" not in state,
    )


def _is_res(state: State, i: int) -> bool:
    return f"input_blocks.{i}.0.in_layers.2.weight" in state


def _makes_colours(state: State) -> bool:
    """Whether three numbers a pixel come out of four that went in."""
    first, last = state.get("stem.weight"), state.get("last.2.weight")
    return first is not None and last is not None and 3 * first.shape[1] == 4 * last.shape[0]


def looks_like(state: State) -> str:
    """A few words on what a state dict seems to be, for error messages."""
    known = {  # the first that is there
        "time_embed.0.weight": "a guided-diffusion network (a prior for inpaint, or its classifier)",
        "middle.0.qkv.weight": "a face restorer of ours (for faces)",
        "down.0.0.branch.2.weight": "a mender of ours (for `mender` of inpaint)"
        if _makes_colours(state)
        else "a scratch detector of ours (for scratches)",
        "first.1.weight": "the scratch detector of Bringing-Old-Photos (for scratches)",
        "body.1.weight": "a compact super-resolver (for upscale)",
        "conv_first.weight": "an ESRGAN-like upscaler (for upscale)",
        "stylegan_decoder.constant_input.weight": "GFPGAN (for faces)",
        "position_emb": "CodeFormer (for faces, with spandrel_extra_arches)",
        "quantize.embedding.weight": "RestoreFormer (for faces)",
        "down_blocks.0.resnets.0.conv1.weight": "a diffusers UNet2DModel (point at its folder, not the file)",
        "model.diffusion_model.input_blocks.0.0.weight": "a Stable Diffusion checkpoint",
    }
    for key, words in known.items():
        if key in state:
            return words
    keys = list(state)
    shown = ", ".join(f"{k} {tuple(state[k].shape)}" for k in keys[:3])
    return f"{len(keys)} tensors: {shown}{', ...' if len(keys) > 3 else ''}" if keys else "no tensors at all"
