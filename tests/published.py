"""Config files of the published RePaint code, over tiny networks, and what that code would make of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from PIL import Image

from . import tiny
from .command import pixels
from .oracle import files, sampler

FACE = """\
attention_resolutions: '8'
class_cond: false
diffusion_steps: 1000
learn_sigma: true
noise_schedule: linear
num_channels: 64
num_head_channels: 32
num_heads: 4
num_heads_upsample: -1
num_res_blocks: 1
channel_mult: '1,2'
dropout: 0.0
use_checkpoint: false
use_new_attention_order: false
resblock_updown: true
use_fp16: false
use_scale_shift_norm: true
classifier_scale: 4.0
classifier_use_fp16: false
classifier_width: 128
classifier_depth: 2
classifier_attention_resolutions: 32,16,8
classifier_use_scale_shift_norm: true
classifier_resblock_updown: true
classifier_pool: attention
lr_kernel_n_std: 2
num_samples: 100
show_progress: true
timestep_respacing: '6'
use_kl: false
predict_xstart: false
rescale_timesteps: false
rescale_learned_sigmas: false
clip_denoised: true
use_ddim: false
image_size: 16
model_path: FOLDER/unet.pt
name: face_example
latex_name: RePaint
method_name: Resampling
inpa_inj_sched_prev: true
n_jobs: 1
print_estimated_vars: true
inpa_inj_sched_prev_cumnoise: false
schedule_jump_params:
  t_T: 6
  n_sample: 1
  jump_length: 2
  jump_n_sample: 2
data:
  eval:
    paper_face_mask:
      mask_loader: true
      gt_path: FOLDER/gts
      mask_path: FOLDER/gt_keep_masks
      image_size: 16
      class_cond: false
      deterministic: true
      random_crop: false
      random_flip: false
      return_dict: true
      drop_last: false
      batch_size: 1
      return_dataloader: true
      offset: 0
      max_len: 8
      ds_conf:
        name: fix_wide_256
      paths:
        srs: FOLDER/log/face_example/inpainted
        lrs: FOLDER/log/face_example/gt_masked
        gts: FOLDER/log/face_example/gt
        gt_keep_masks: FOLDER/log/face_example/gt_keep_mask
"""
SET = "data.eval.paper_face_mask"
FOLDERS = ("inpainted", "gt_masked", "gt", "gt_keep_mask")
SIZES = {"a.png": (16, 16), "b.jpg": (52, 40), "c.png": (17, 23), "d.png": (33, 70)}  # file -> width, height


def config(folder: Path, **changed: Any) -> Path:
    """The file `old.yml` of `folder`: the face example, its top-level keys changed (... leaves one out)."""
    said = {**yaml.safe_load(FACE.replace("FOLDER", str(folder))), **changed}
    path = folder / "old.yml"
    path.write_text(yaml.safe_dump({key: value for key, value in said.items() if value is not ...}, sort_keys=False))
    return path


def photos(folder: Path, names: tuple[str, ...] = tuple(SIZES)) -> None:
    """Photos of several sizes and formats in `gts`, masks of other names in `gt_keep_masks`."""
    for name in ("gts", "gt_keep_masks"):
        (folder / name).mkdir()
    for i, name in enumerate(names):
        width, height = SIZES[name]
        coarse = Image.fromarray(pixels(5, 5, seed=i)).resize((width, height), Image.Resampling.BICUBIC)
        coarse.save(folder / "gts" / name, quality=95)
        keep = np.full((height, width), 255, np.uint8)
        keep[height // 5 : height // 2, width // 4 : width // 2 + 3] = 0
        Image.fromarray(keep).save(folder / "gt_keep_masks" / f"{i}.png")


class Files(NamedTuple):
    """What the published code writes of one image, (H, W, 3) uint8 each, and the mask it used, 1 = keep."""

    inpainted: np.ndarray
    gt_masked: np.ndarray
    gt: np.ndarray
    gt_keep_mask: np.ndarray
    prepared: np.ndarray
    keep: np.ndarray


def made(old: Path, unet: torch.nn.Module, classifier: torch.nn.Module | None = None) -> Iterator[tuple[str, Files]]:
    """Names of results, and what the published code makes of them, by the plain implementation of tests/oracle."""
    conf = yaml.safe_load(old.read_text())
    (data,) = conf["data"]["eval"].values()
    pairs = zip(sorted(Path(data["gt_path"]).iterdir()), sorted(Path(data["mask_path"]).iterdir()), strict=True)
    for i, (photo, mask) in enumerate(pairs):
        gt, keep = files.image(Image.open(photo), tiny.SIZE), files.mask(Image.open(mask), tiny.SIZE)
        x = sampler.inpaint(
            unet,
            torch.from_numpy(gt),
            torch.from_numpy(keep),
            conf=conf,
            seed=conf.get("seed", 0) + i,
            classifier=classifier,
            y=conf.get("cond_y"),
        )
        written = (x, *(torch.from_numpy(a) for a in (files.hole_black(gt, keep), gt, keep * 2 - 1)))
        prepared = files.prepared(Image.open(photo), tiny.SIZE)
        yield f"{photo.stem}.png", Files(*map(sampler.to_uint8, written), prepared, keep[0].transpose(1, 2, 0))
