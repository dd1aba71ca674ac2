"""The upscale stage on tiny networks: any factor, any size, and everything that is not colour follows."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from repaint.archs.compact import Compact
from repaint.image import Meta, Photo, luma, read_photo, write_photo
from repaint.image.writing import to_samples
from repaint.stages.progress import Progress
from repaint.stages.upscale import Upscale, UpscaleStage
from repaint.stages.upscaling import spread

from . import tiny
from .upscalers import compact_file

Build = Callable[..., UpscaleStage]


@pytest.fixture
def build(tmp_path) -> Build:
    """A function: the stage of a tiny network of the factor `by`, new or `seed`ed."""

    def made(by: int = 2, *, seed: int | None = None, bias: float = 0.0, **settings: Any) -> UpscaleStage:
        file = compact_file(tmp_path / f"{by}.safetensors", by, seed=seed, bias=bias)
        return Upscale(weights=str(file), **settings).build("cpu")

    return made


@pytest.fixture
def small_memory(monkeypatch) -> Callable[[int, Exception], list[tuple[int, int]]]:
    """A function: from now on tiles of more pixels raise the exception. Answers the sizes the networks are shown."""

    def limited(pixels: int, exception: Exception) -> list[tuple[int, int]]:
        shown, forward = [], Compact.forward

        def spied(self: Compact, x: torch.Tensor) -> torch.Tensor:
            shown.append(tuple(x.shape[-2:]))
            if x.shape[-2] * x.shape[-1] > pixels:
                raise exception
            return forward(self, x)

        monkeypatch.setattr(Compact, "forward", spied)
        return shown

    return limited


def steps(stage: UpscaleStage, *photos: Photo) -> list[Progress]:
    return list(stage(photos, [0] * len(photos)))


def upscaled(stage: UpscaleStage, photo: Photo) -> Photo:
    return steps(stage, photo)[-1].photos[0]


def smooth(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """(3, H, W) in [0.2, 0.8] without fine detail."""
    coarse = tiny.drawn(1, 3, max(1, height // 8), max(1, width // 8), seed=seed).sigmoid() * 0.6 + 0.2
    return F.interpolate(coarse, (height, width), mode="bilinear")[0]


# ---- sizes


@pytest.mark.parametrize("scale", [1, 1.5, 2, 3, 4.0])
@pytest.mark.parametrize("size", [(16, 16), (37, 21), (1, 50), (50, 1), (1, 1)])
@pytest.mark.parametrize("by", [1, 2, 4])
def test_photo_of_any_size_is_enlarged_by_any_factor(build, by, size, scale):
    photo = upscaled(build(by, seed=1, scale=scale), tiny.photo(*size))
    expected = [int(n * scale + 0.5) for n in size]
    assert list(photo.rgb.shape) == [3, *expected]
    assert photo.keep is not None
    assert list(photo.keep.shape) == [1, *expected]
    assert photo.rgb.dtype == torch.float32
    assert 0 <= photo.rgb.min() <= photo.rgb.max() <= 1


def test_twice_is_the_default():
    assert Upscale().factor(10, 20) == 2


@pytest.mark.parametrize(("size", "expected"), [((30, 20), (48, 32)), ((20, 30), (32, 48)), ((47, 3), (48, 3))])
def test_longer_side_becomes_longest_px(build, size, expected):
    assert upscaled(build(longest_px=48), tiny.photo(*size)).rgb.shape[-2:] == expected


def test_photo_longer_than_longest_px_is_left_as_it_is_and_that_is_said(build):
    small, right, long = tiny.photo(10, 24), tiny.photo(48, 10), tiny.photo(20, 50)
    last = steps(build(longest_px=48), small, right, long)[-1]
    assert last.photos[0].rgb.shape == (3, 20, 48)
    assert last.photos[1:] == [right, long]
    assert last.calls == (1, 0, 0)
    assert last.notes == ("is 50 px long, longest_px is 48: left as it is",)


def test_long_strip_is_enlarged(build):
    photo = upscaled(build(2, tile_px=128), Photo(torch.rand(3, 20, 20000)))
    assert photo.rgb.shape == (3, 40, 40000)


def test_factor_beyond_the_network_is_made_up_for_and_told_before_work(build):
    stage = build(2, scale=5)
    assert stage.remarks[-1].endswith("2.safetensors enlarges 2 times and 5 are wanted: the rest is bicubic")
    assert upscaled(stage, tiny.photo(8, 8)).rgb.shape == (3, 40, 40)


def test_factor_that_only_the_photo_tells_is_told_with_it(build):
    stage = build(2, longest_px=64)
    assert stage.remarks == ()
    last = steps(stage, tiny.photo(40, 32), tiny.photo(16, 16))[-1]
    assert [note.partition("enlarges ")[2] for note in last.notes] == ["2 times and 4 are wanted: the rest is bicubic"]


CANDIDATES = {
    (("scale", 1),): ("upscale-x2",),
    (("scale", 1.5),): ("upscale-x2",),
    (): ("upscale-x2",),
    (("scale", 2.1),): ("upscale-x4",),
    (("scale", 9),): ("upscale-x4",),
    (("longest_px", 2000),): ("upscale-x2", "upscale-x4"),
    (("scale", 4), ("weights", "own.pth")): ("own.pth",),
}


@pytest.mark.parametrize(("said", "names"), CANDIDATES.items(), ids=str)
def test_smallest_embedded_network_that_reaches_the_factor_is_used(said, names):
    assert Upscale.model_validate(dict(said)).candidates() == names


@pytest.mark.parametrize(("longest_px", "by"), [(30, 2), (40, 2), (41, 4), (200, 4)])
def test_network_is_chosen_for_each_photo(tmp_path, monkeypatch, longest_px, by):
    files = {n: str(compact_file(tmp_path / f"{n}.pth", n, bias=n / 20)) for n in (2, 4)}
    monkeypatch.setattr("repaint.stages.upscale.EMBEDDED", files)
    monkeypatch.setattr("repaint.stages.upscaling.with_colours_of", lambda x, y: y)
    stage = Upscale(longest_px=longest_px).build("cpu")
    assert list(stage.weights) == list(files.values())
    photo = upscaled(stage, Photo(torch.full((3, 20, 20), 0.5)))
    torch.testing.assert_close(photo.rgb, torch.full((3, longest_px, longest_px), 0.5 + by / 20))


WRONG = {
    "both sizes": ({"scale": 2, "longest_px": 100}, "a size is said by one of them"),
    "shrinking": ({"scale": 0.5}, "greater than or equal to 1"),
    "an overlap of more than half": ({"tile_px": 64, "overlap_px": 33}, "found 33; must be at most 32"),
    "the default overlap for a small tile": ({"tile_px": 48}, "found 32; must be at most 24"),
    "denoise without its network": ({"denoise": 0.5}, "found with the embedded network; must be with weights: real"),
    "denoise of another network": ({"denoise": 0, "weights": "a/RealESRGAN_x4plus.pth"}, "found with a/RealESRGAN"),
}


@pytest.mark.parametrize(("said", "words"), WRONG.values(), ids=WRONG)
def test_settings_that_cannot_be_meant_are_refused(said, words):
    with pytest.raises(ValidationError, match=words):
        Upscale.model_validate(said)


# ---- colours


def test_new_network_of_factor_1_changes_no_pixel(build):
    photo = tiny.photo(40, 70, bits=16)
    assert torch.equal(upscaled(build(1, scale=1), photo).rgb, photo.rgb)
    in_tiles = upscaled(build(1, scale=1, tile_px=32, overlap_px=8), photo).rgb
    assert np.array_equal(to_samples(in_tiles, bits=16), to_samples(photo.rgb, bits=16))


@pytest.mark.parametrize("by", [2, 4])
def test_new_network_repeats_pixels(build, by):
    photo = Photo(smooth(32, 48))
    repeated = photo.rgb.repeat_interleave(by, 1).repeat_interleave(by, 2)
    torch.testing.assert_close(upscaled(build(by, scale=by), photo).rgb, repeated, atol=1e-3, rtol=0)


def test_scale_1_with_a_larger_network_is_its_answer_shrunk(build):
    photo = Photo(smooth(40, 56))
    large = upscaled(build(4, seed=1, scale=4), photo).rgb
    clean = upscaled(build(4, seed=1, scale=1), photo).rgb
    shrunk = F.interpolate(large[None], (40, 56), mode="bicubic", antialias=True)[0]
    torch.testing.assert_close(clean, shrunk, atol=3e-3, rtol=0)
    assert (clean - photo.rgb).abs().max() > 0.01


@pytest.mark.parametrize("scale", [1, 2, 3.3])
def test_colours_stay_whatever_the_network_adds(build, scale):
    photo = Photo(smooth(80, 100))
    result = upscaled(build(2, bias=0.1, scale=scale), photo).rgb[None]
    drift = F.interpolate(result, (80, 100), mode="bicubic", antialias=True)[0] - photo.rgb
    assert drift.mean(dim=(1, 2)).abs().max() < 0.1 / 255
    assert F.avg_pool2d(drift[None], 20).abs().max() < 1 / 255


@pytest.mark.parametrize("meta", [Meta("png"), Meta("png", grey=True)], ids=["equal channels", "grey file"])
def test_grey_stays_grey_exactly(build, meta):
    grey = smooth(30, 40)[:1].expand(3, -1, -1).contiguous()
    result = upscaled(build(2, seed=1), Photo(grey, meta=meta)).rgb
    assert torch.equal(result, result[:1].expand(3, -1, -1))
    assert upscaled(build(2, seed=1), Photo(smooth(30, 40))).rgb.std(dim=0).mean() > 0.01


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_sepia_stays_sepia_whatever_the_network_adds(build, scale):
    grey = smooth(24, 30)[:1]
    sepia = (grey + torch.tensor([0.06, 0.01, -0.07])[:, None, None]).clamp(0, 1)
    made = upscaled(build(2, seed=1, scale=scale), Photo(sepia)).rgb
    tone = made - luma(made)
    assert (tone - (sepia - luma(sepia)).mean((1, 2), keepdim=True)).abs().max() < 0.02


def test_16_bits_are_kept_through_a_file(build, tmp_path):
    write_photo(tmp_path / "in.png", Photo(smooth(40, 64), meta=Meta("png", bits=16)))
    write_photo(tmp_path / "out.png", upscaled(build(2), read_photo(tmp_path / "in.png")))
    again = read_photo(tmp_path / "out.png")
    assert again.meta.bits == 16
    assert (again.rgb * 255).frac().mul(20).round().unique().numel() > 15  # between the levels of 8 bits


def test_strength_is_the_share_of_the_networks_answer(build):
    photo = Photo(smooth(24, 24))
    none, half, full = (upscaled(build(2, seed=1, strength=s), photo).rgb for s in (0, 0.5, 1))
    torch.testing.assert_close(half, (none + full) / 2)
    plain = F.interpolate(photo.rgb[None], (48, 48), mode="bicubic", antialias=True)[0].clamp(0, 1)
    assert torch.equal(none, plain)
    assert (full - none).abs().max() > 0.01


def test_strength_0_at_scale_1_returns_the_photo(build):
    photo = tiny.photo(20, 30)
    assert torch.equal(upscaled(build(2, seed=1, scale=1, strength=0), photo).rgb, photo.rgb)


def test_photo_given_is_not_changed(build):
    photo = tiny.photo(20, 30, (3, 3, 9, 9))
    rgb = photo.rgb.clone()
    upscaled(build(2, seed=1), dataclasses.replace(photo, alpha=torch.rand(1, 20, 30).round()))
    assert torch.equal(photo.rgb, rgb)


# ---- what is not colour


def disk(size: int) -> torch.Tensor:
    """(1, size, size) 1 within a disk, 0 outside."""
    y = torch.arange(size) - size / 2 + 0.5
    return ((y[:, None] ** 2 + y**2).sqrt() < size / 3)[None].float()


@pytest.mark.parametrize("scale", [1.5, 2, 4])
def test_hidden_black_does_not_darken_the_edge_of_what_is_seen(build, scale):
    alpha, red = disk(48), torch.tensor([0.9, 0.2, 0.1])[:, None, None]
    result = upscaled(build(4, scale=scale), Photo(red * alpha, alpha=alpha))
    assert result.alpha is not None
    seen = (result.alpha > 0).expand(3, -1, -1)
    torch.testing.assert_close(result.rgb[seen], red.expand_as(result.rgb)[seen], atol=0.5 / 255, rtol=0)


def test_alpha_is_enlarged_smoothly_and_not_by_the_network(build):
    alpha = disk(48)
    result = upscaled(build(2, seed=1, bias=0.2), Photo(smooth(48, 48), alpha=alpha)).alpha
    assert result is not None
    assert 0 <= result.min() <= result.max() <= 1
    assert ((result > 0.1) & (result < 0.9)).any()
    torch.testing.assert_close(F.avg_pool2d(result, 2), alpha, atol=0.2, rtol=0)


def test_colours_spread_from_the_nearest_that_are_seen():
    rgb = torch.zeros(3, 16, 16)
    rgb[0, :, :3], rgb[2, :, 13:] = 1, 1
    seen = rgb.sum(0, keepdim=True) > 0
    result = spread(rgb, seen)
    assert torch.equal(result[:, :, :3], rgb[:, :, :3])
    assert result[0, :, 3].min() == 1
    assert result[2, :, 12].min() == 1
    assert result.sum(0).min() > 0.99


def test_nothing_seen_leaves_the_colours():
    rgb = torch.rand(3, 5, 7)
    assert torch.equal(spread(rgb, torch.zeros(1, 5, 7, dtype=torch.bool)), rgb)


def test_mask_follows_the_photo(build):
    photo = tiny.photo(12, 20, (2, 3, 7, 9))
    assert photo.keep is not None
    result = upscaled(build(2), photo).keep
    assert result is not None
    assert torch.equal(result, photo.keep.repeat_interleave(2, 1).repeat_interleave(2, 2))
    assert upscaled(build(2), dataclasses.replace(photo, keep=photo.keep * 0.5)).keep.dtype == torch.float32


def test_photo_is_as_large_on_paper_as_it_was_and_the_rest_of_its_meta_stays(build):
    meta = Meta("jpeg", icc=b"icc", exif=b"Exif\0\0", dpi=(300.0, 200.0))
    result = upscaled(build(2, scale=1.5), dataclasses.replace(tiny.photo(37, 21), meta=meta))
    assert result.meta == dataclasses.replace(meta, dpi=(450.0, 300.0))


# ---- tiles and memory


@pytest.mark.parametrize("size", [(32, 32), (33, 100), (70, 20)])
def test_tiles_give_what_the_whole_gives(build, size):
    photo = Photo(smooth(*size))
    whole = upscaled(build(2, seed=1, tile_px=4096), photo).rgb
    tiles = upscaled(build(2, seed=1, tile_px=32, overlap_px=12), photo).rgb  # 3 convolutions see 3 px = 12 / 4
    torch.testing.assert_close(tiles, whole, atol=1e-5, rtol=0)


def test_tiles_are_counted_photo_by_photo(build):
    photos = [tiny.photo(32, 52), tiny.photo(20, 20)]
    seen = steps(build(2, tile_px=32, overlap_px=12), *photos)
    assert [(p.done, p.total, p.calls) for p in seen] == [
        *[(1, 3, (1, 0)), (2, 3, (2, 0)), (2, 3, (2, 0))],
        *[(3, 3, (2, 1)), (3, 3, (2, 1))],
    ]
    assert [p.rgb.shape[-1] for p in seen[1].photos] == [52, 20]
    assert [p.rgb.shape[-1] for p in seen[2].photos] == [104, 20]
    assert [p.rgb.shape[-1] for p in seen[-1].photos] == [104, 40]


def test_no_photos_no_work(build):
    assert [(p.done, p.total, p.calls, p.photos) for p in steps(build(2))] == [(0, 0, (), [])]


OUT_OF_MEMORY = {
    "GPU": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "CPU": RuntimeError("[enforce fail at alloc_cpu.cpp:116] DefaultCPUAllocator: can't allocate memory: you tried"),
    "CPU of Windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
    "Apple": RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
    "Python": MemoryError(),
}


@pytest.mark.parametrize("exception", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
def test_out_of_memory_takes_smaller_tiles_and_says_so_once(build, small_memory, exception):
    photo = Photo(smooth(150, 90))
    whole = upscaled(build(2, seed=1), photo).rgb
    shown = small_memory(70 * 70, exception)
    stage = build(2, seed=1)
    seen = steps(stage, photo, photo)
    torch.testing.assert_close(seen[-1].photos[1].rgb, whole, atol=1e-5, rtol=0)
    (first, second) = seen[-1].notes
    assert first.startswith("out of memory with tiles of 256 px: ")
    assert first.endswith("2.safetensors goes on with 128 px")
    assert second.endswith("goes on with 64 px")
    assert shown[:3] == [(150, 90), (128, 90), (64, 64)]
    assert max(h * w for h, w in shown[2:]) <= 64 * 64
    assert seen[-1].done == seen[-1].total == len(shown)
    assert steps(stage, photo)[-1].notes == ()


def test_one_tile_that_does_not_fit_loses_nothing_that_is_done(build, small_memory):
    """On a GPU that others use, memory may run short in the middle."""
    stage = build(2, seed=1, tile_px=64)
    photo = Photo(smooth(64, 160))
    whole = upscaled(stage, photo).rgb
    shown, work = [], stage([photo], [0])
    next(work)
    shown = small_memory(32 * 64, torch.OutOfMemoryError("out of memory"))
    *_, last = work
    torch.testing.assert_close(last.photos[0].rgb, whole, atol=1e-5, rtol=0)
    assert shown[0] == (64, 64)
    assert set(shown[1:]) == {(32, 32)}
    assert last.done == 1 + len(shown)


def test_memory_that_does_not_hold_the_smallest_tile_is_an_error(build, small_memory):
    small_memory(31 * 31, OUT_OF_MEMORY["CPU"])
    with pytest.raises(MemoryError, match=r"2\.safetensors does not fit even with tiles of 32 px"):
        steps(build(2), tiny.photo(80, 80))


def test_other_errors_are_not_taken_for_a_lack_of_memory(build, small_memory):
    small_memory(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        steps(build(2), tiny.photo(80, 80))


def test_settings_need_no_torch():
    code = "import sys, repaint.stages.upscale as u; u.Upscale(scale=3).candidates(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0
