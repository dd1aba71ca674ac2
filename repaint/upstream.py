"""Config files of the published RePaint code, as they are: one pure function to a `RunConfig`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .config import Document, did_you_mean, explained, shown
from .errors import ConfigError
from .jobs import RunConfig

SHAPES_TELL = ("num_channels", "num_res_blocks", "use_scale_shift_norm", "resblock_updown", "learn_sigma", "class_cond")
HEADS = ("num_head_channels", "num_heads", "num_heads_upsample", "use_new_attention_order")

CANNOT_BE = {  # key -> the only value that works, and what becomes of others
    "use_ddim": (False, "crashed in the published code (it has no DDIM loop)"),
    "inpa_inj_sched_prev": (True, "made the published code ignore the photo"),
    "inpa_inj_sched_prev_cumnoise": (False, "crashed in the published code"),
    "rescale_timesteps": (False, "crashed in the published code"),
    "respace_interpolate": (False, "crashed in the published code"),
    "learn_sigma": (True, "crashed in the published code; new configs take such weights"),
    "predict_xstart": (False, "is not supported"),
    "inpa_inj_time_shift": (1, "is not supported"),
}
CANNOT_BE_IN_DATA = {
    "mask_loader": (True, "was not implemented in the published code"),
    "random_crop": (False, "was not implemented in the published code"),
    "return_dict": (True, "was not implemented in the published code"),
    "class_cond": (False, "was not implemented in the published code"),
    "random_flip": (False, "would flip photos but not masks"),
    "deterministic": (True, "would shuffle the photos"),
}
OF_CLASSIFIER = ("classifier_path", "classifier_scale", "classifier_depth")
USED = {
    *("model_path", "image_size", "timestep_respacing", "diffusion_steps", "noise_schedule", "clip_denoised"),
    *("schedule_jump_params", "data", "seed", "cond_y", "device", "use_fp16", "processes"),
    *OF_CLASSIFIER,
    *SHAPES_TELL,
    *HEADS,
    *CANNOT_BE,
}
USED_IN_DATA = {"gt_path", "mask_path", "image_size", "batch_size", "max_len", "offset", "paths", *CANNOT_BE_IN_DATA}
READ_FROM_SHAPES = {
    *(
        "attention_resolutions",
        "channel_mult",
        "classifier_width",
        "classifier_pool",
        "classifier_attention_resolutions",
    ),
    *("classifier_use_scale_shift_norm", "classifier_resblock_updown"),
}
NO_MEANING = {
    *("lr_kernel_n_std", "num_samples", "n_jobs", "print_estimated_vars", "latex_name", "method_name", "name"),
    *("show_progress", "use_kl", "rescale_learned_sigmas", "dropout", "use_checkpoint", "classifier_use_fp16"),
    *("use_value_logger", "value_logger", "debug"),
}
NO_MEANING_IN_DATA = {"drop_last", "return_dataloader", "ds_conf"}
FOLDERS = ("srs", "lrs", "gts", "gt_keep_masks", "output")


@dataclass(frozen=True)
class Imported:
    """A published config in our words, and the keys of it that change nothing."""

    config: RunConfig
    ignored: tuple[str, ...]


def read_config(file: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The run that a config file describes: ours, or one of the published RePaint code.

    Args:
        overrides: `key.0.key=value` each, the value in YAML, as `--set` takes them.

    Raises:
        ConfigError: for what cannot be; says the file, the line and the key.
    """
    document = Document.read(file).override(overrides)
    return imported(document).config if is_published(document.data) else document.check(RunConfig)


def is_published(data: Mapping[str, Any]) -> bool:
    """Whether this is a config file of the published RePaint code."""
    sets = data.get("data")
    return "model_path" in data and "schedule_jump_params" in data and isinstance(sets, Mapping) and "eval" in sets


def imported(document: Document) -> Imported:
    """The run that the published code would make of this file, with an optional `seed` (default 0).

    Images and masks are paired by sorted order and prepared as there; the four folders of `paths` are written; the
    i-th image (0-based, sorted) draws from the seed `seed` + i. Known pixels are put back at the end, unlike there.

    Raises:
        ConfigError: for keys that crashed or misled there, and for what cannot be.
    """
    try:
        return _imported(document, document.data)
    except _Wrong as wrong:
        raise ConfigError(f"{document.where(wrong.path)}: {'.'.join(map(str, wrong.path))}: {wrong.words}") from None


class _Wrong(Exception):
    def __init__(self, path: tuple[str | int, ...], words: str) -> None:
        self.path, self.words = path, words


def _imported(document: Document, old: dict[str, Any]) -> Imported:
    for key in old.keys() - USED - NO_MEANING - READ_FROM_SHAPES:
        if document.where((key,)).startswith("--set"):  # in the file it is told of; nobody sets what changes nothing
            raise _Wrong((key,), _unknown_here(key, old))
    sets = old["data"]["eval"]
    if not isinstance(sets, dict) or len(sets) != 1:
        found = len(sets) if isinstance(sets, dict) else repr(sets)
        raise _Wrong(("data", "eval"), f"found {found} data sets; must be exactly one")
    name, data = next(iter(sets.items()))
    here = ("data", "eval", name)
    if not isinstance(data, dict):
        raise _Wrong(here, f"found {data!r}; must be a mapping with gt_path, mask_path and paths")
    _refuse(old, CANNOT_BE, ())
    _refuse(data, CANNOT_BE_IN_DATA, here)
    for key in ("gt_path", "mask_path", "paths"):
        if not data.get(key):
            raise _Wrong(here, f"{key} is missing; it must be given")
    paths = data["paths"]
    if not isinstance(paths, dict) or not paths.get("srs"):
        raise _Wrong((*here, "paths"), "srs is missing; it is where results go")
    size = old.get("image_size")
    if data.get("image_size", size) != size:
        raise _Wrong((*here, "image_size"), f"found {data['image_size']}; must be the model's image_size, {size}")
    jumps = old["schedule_jump_params"]
    if not isinstance(jumps, dict):
        raise _Wrong(
            ("schedule_jump_params",), f"found {jumps!r}; must be a mapping with t_T, jump_length, jump_n_sample"
        )
    for key in ("t_T", "jump_length", "jump_n_sample"):
        if key not in jumps:
            raise _Wrong(("schedule_jump_params",), f"{key} is missing; it must be given")

    inpaint = {
        "prior": old["model_path"],
        "architecture": {
            **{k: old[k] for k in (*SHAPES_TELL, *HEADS) if old.get(k) is not None},
            "image_size": size,
            "noise_schedule": old.get("noise_schedule", "linear"),
            "diffusion_steps": old.get("diffusion_steps", 1000),
        },
        "sampler": {
            "repaint": {
                **_within(jumps),
                "timestep_respacing": old.get("timestep_respacing") or old.get("diffusion_steps"),
            }
        },
        "clip": old.get("clip_denoised", True),
        "fit": "crop",
        "soft_masks": True,
        **_guidance(old),
    }
    config = {
        "images": data["gt_path"],
        "masks": data["mask_path"],
        "output": paths.get("output") or _parent([paths.get(key) for key in OLD_FOLDERS.values()], paths["srs"]),
        "stages": [{"inpaint": inpaint}],
        "seed": old.get("seed", 0),
        "limit": data.get("max_len"),
        "offset": data.get("offset") or 0,
        "batch_size": data.get("batch_size", 1),
        "pair": "order",
        "seeds": "position",
        "precision": "float16" if old.get("use_fp16") else "float32",
        "device": old.get("device") or "auto",
        "processes": old.get("processes") or "auto",
        "folders": {
            "results": paths["srs"],
            "masked": paths.get("lrs"),
            "originals": paths.get("gts"),
            "masks": paths.get("gt_keep_masks"),
        },
    }
    try:
        run = RunConfig.model_validate(config)
    except ValidationError:
        raise ConfigError("\n".join(_in_old_words(document, config))) from None
    return Imported(run, tuple(_ignored(old, data)))


def _within(jumps: Mapping[str, Any]) -> dict[str, Any]:
    """Of jumps as long as the chain there are none, as published."""
    t_T, within = jumps["t_T"], dict(jumps)
    for n in ("", "2", "3"):
        length = jumps.get(f"jump{n}_length")
        if isinstance(t_T, int) and isinstance(length, int) and length >= t_T > 1:
            within |= {f"jump{n}_length": t_T - 1, f"jump{n}_n_sample": 1}
    return within


def _guidance(old: Mapping[str, Any]) -> dict[str, Any]:
    scale = old.get("classifier_scale") or 0
    if not isinstance(scale, (int, float)):
        raise _Wrong(("classifier_scale",), f"found {scale!r}; must be a number")
    guided = bool(old.get("classifier_path")) and scale > 0
    if not guided and not old.get("class_cond"):
        return {}
    if old.get("cond_y") is None:
        raise _Wrong(
            ("class_cond",) if "class_cond" in old else ("classifier_path",),
            "needs a class, which the published code drew at random; say cond_y: CLASS, or cond_y: random",
        )
    said: dict[str, Any] = {"label": old["cond_y"]}
    if guided:
        depth = {"num_res_blocks": old["classifier_depth"]} if old.get("classifier_depth") else {}
        said["classifier"] = {
            "weights": old["classifier_path"],
            "scale": float(scale),
            "architecture": depth,
        }
    return said


def _refuse(said: Mapping[str, Any], table: Mapping[str, tuple[Any, str]], at: tuple[str, ...]) -> None:
    for key, (works, otherwise) in table.items():
        if key in said and said[key] is not None and said[key] != works:
            raise _Wrong((*at, key), f"found {shown(said[key])}, which {otherwise}; must be {shown(works)}")


def _ignored(old: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[str]:
    """The keys that change nothing, with why where it is not plain."""
    guided = "classifier" in _guidance(old)
    for key in old:
        if key in NO_MEANING:
            yield key
        elif key in OF_CLASSIFIER and not guided:
            yield f"{key} (no classifier)"
        elif key == "cond_y" and not guided and not old.get("class_cond"):
            yield f"{key} (no class_cond, no classifier)"
        elif key in READ_FROM_SHAPES:
            yield f"{key} (read from the weights)"
        elif key not in USED:
            yield f"{key} ({_unknown(key, USED)})"
    for key in old["data"]:
        if key != "eval":
            yield f"data.{key}"
    for key in data:
        if key in NO_MEANING_IN_DATA:
            yield f"data.eval.{key}"
        elif key not in USED_IN_DATA:
            yield f"data.eval.{key} ({_unknown(key, USED_IN_DATA)})"
    for key in data["paths"]:
        if key not in FOLDERS:
            yield f"data.eval.paths.{key} ({_unknown(key, FOLDERS)})"


def _unknown_here(key: str, old: Mapping[str, Any]) -> str:
    """The words for a key at the top that has no meaning there."""
    place = next((path for path in _paths(old, ()) if len(path) > 1 and path[-1] == key), None)
    if place:
        return f"unknown key; it belongs to {'.'.join(map(str, place))}"
    return _unknown(key, USED).replace("unknown", "unknown key", 1)


def _unknown(key: str, known: Iterable[str]) -> str:
    hint = did_you_mean(key, sorted(known))
    return f"unknown{hint}" if "did you mean" in hint else "unknown"


def _parent(folders: list[Any], results: str) -> str:
    """The folder that holds all four, for what goes beside them; that of the results if it is none of its own."""
    try:
        parent = os.path.commonpath([f for f in folders if f])
    except (ValueError, TypeError):
        return results
    return parent if os.path.normpath(parent) not in (".", "/", "..") and parent not in folders else results


def in_old_words(document: Document, error: ConfigError) -> ConfigError:
    """What a run of an imported config was refused with, at the line of the old key it is about."""
    words = str(error)
    if not words.startswith("label: "):
        return error
    return ConfigError(f"{document.where(('cond_y',))}: {words.replace('label', 'cond_y')}")


def _in_old_words(document: Document, config: dict[str, Any]) -> Iterator[str]:
    """The errors of the new config, at the lines of the old keys they come from."""
    for loc, words in explained(RunConfig, config):
        if not loc:  # of the run as a whole: two of its folders are one
            key, words = "paths", _with_old_folders(words)
        else:
            key = _old_name(loc)
        path = next((p for p in _paths(document.data, ()) if p[-1] == key), (key,))
        yield f"{document.where(path)}: {'.'.join(map(str, path))}: {words}"


def _with_old_folders(words: str) -> str:
    for key in OLD_FOLDERS:
        words = words.replace(f"folders.{key}", OLD_FOLDERS[key])
    return words


def _old_name(loc: tuple[str | int, ...]) -> str:
    match loc:
        case ("folders", key):
            return OLD_FOLDERS[str(key)]
        case (*_, "classifier", "architecture", "num_res_blocks"):
            return "classifier_depth"
        case _:
            return OLD_NAMES.get(str(loc[-1]), str(loc[-1]))


OLD_NAMES = {
    "images": "gt_path",
    "masks": "mask_path",
    "prior": "model_path",
    "limit": "max_len",
    "label": "cond_y",
    "clip": "clip_denoised",
    "scale": "classifier_scale",
    "weights": "classifier_path",
}
OLD_FOLDERS = {"results": "srs", "masked": "lrs", "originals": "gts", "masks": "gt_keep_masks"}


def _paths(node: Any, at: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield (*at, key)
            yield from _paths(value, (*at, key))
