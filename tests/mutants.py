"""Deliberate mistakes, of the kind people make here, and the test file that must notice each.

    python tests/mutants.py           all of them
    python tests/mutants.py 3 17      numbers 3 and 17
    python tests/mutants.py noise     those whose description or file contains the word

Each is made in a copy of the checkout; only the named test file runs. Exit code 1 if one
survives, or is STALE: its text is no longer in the code.
"""

# ruff: noqa: E501 (the texts are as long as they are)

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Mutant(NamedTuple):
    """A mistake.

    Attributes:
        what: in words.
        file: below `repaint/`.
        old: text that occurs exactly once in the file.
        test: the file below `tests/` that must fail.
    """

    what: str
    file: str
    old: str
    new: str
    test: str


MUTANTS = (
    # --- schedules and walks ---
    Mutant(
        "strides multiplied, not summed",
        "diffusion/schedule.py",
        "for _ in range(count):\n            kept.append(start + round(at))",
        "for at in (k * stride for k in range(count)):\n            kept.append(start + round(at))",
        "test_schedule.py",
    ),
    Mutant(
        "respaced network told the respaced timestep",
        "diffusion/schedule.py",
        "tuple(self.network_t[t] for t in kept)",
        "tuple(max(0, i - 1) for i in range(len(kept)))",
        "test_schedule.py",
    ),
    Mutant(
        "network_t off by one",
        "diffusion/schedule.py",
        "(0, *range(len(beta)))",
        "(*range(len(beta) + 1),)",
        "test_repaint.py",
    ),
    Mutant(
        "posterior variance of state 1 not clipped",
        "diffusion/schedule.py",
        "t = max(t, 2)",
        "t = max(t, 1)",
        "test_schedule.py",
    ),
    Mutant("inner jumps not refilled", "diffusion/time_travel.py", "inner.refill()", "pass", "test_time_travel.py"),
    Mutant(
        "one anchor too many",
        "diffusion/time_travel.py",
        "range(0, self.T - self.length, self.length)",
        "range(0, self.T - self.length + 1, self.length)",
        "test_time_travel.py",
    ),
    Mutant(
        "start_resampling compared with a state",
        "diffusion/time_travel.py",
        "t - 1 <= start_resampling - jump.length",
        "t <= start_resampling - jump.length",
        "test_time_travel.py",
    ),
    Mutant(
        "n_sample after the jumps' test of the top",
        "diffusion/time_travel.py",
        "if t < T - 1 and",
        "if t < T and",
        "test_time_travel.py",
    ),
    # --- steps and sampler ---
    Mutant(
        "q_step with the beta of the state it leaves",
        "diffusion/process.py",
        "schedule.beta(t + 1)",
        "schedule.beta(max(t, 1))",
        "test_process.py",
    ),
    Mutant(
        "q_step with the beta of the state it leaves, seen by the spy",
        "diffusion/process.py",
        "schedule.beta(t + 1)",
        "schedule.beta(max(t, 1))",
        "test_repaint.py",
    ),
    Mutant(
        "alpha_bar of t, not t - 1, in the mean",
        "diffusion/process.py",
        "on_x_0 = math.sqrt(bar_before)",
        "on_x_0 = math.sqrt(bar)",
        "test_process.py",
    ),
    Mutant(
        "variance mixed on a linear scale",
        "diffusion/process.py",
        "std = (0.5 * (denoised.var_mix * (high - low) + low)).exp()",
        "std = (denoised.var_mix * (math.exp(high) - math.exp(low)) + math.exp(low)).sqrt()",
        "test_process.py",
    ),
    Mutant(
        "guidance shifts by the deviation, not the variance",
        "diffusion/process.py",
        "std**2 * denoised.score",
        "std * denoised.score",
        "test_process.py",
    ),
    Mutant(
        "noise added at the last step",
        "diffusion/process.py",
        "return mean if t == 1 else mean + std * noise",
        "return mean + std * noise",
        "test_process.py",
    ),
    Mutant(
        "known part noised as of t - 1",
        "diffusion/repaint.py",
        "q_sample(schedule, known, t, noise.like(known))",
        "q_sample(schedule, known, s, noise.like(known))",
        "test_repaint.py",
    ),
    Mutant(
        "noise of the known part drawn before the posterior's",
        "diffusion/repaint.py",
        "        step_noise = noise.like(x_t)\n        if not fresh:\n            x_t = keep * q_sample(schedule, known, t, noise.like(known)) + (1 - keep) * x_t\n",
        "        if not fresh:\n            x_t = keep * q_sample(schedule, known, t, noise.like(known)) + (1 - keep) * x_t\n        step_noise = noise.like(x_t)\n",
        "test_repaint.py",
    ),
    Mutant(
        "known part put in at the first step too",
        "diffusion/repaint.py",
        "fresh = start is None",
        "fresh = False",
        "test_repaint.py",
    ),
    Mutant(
        "mask inverted",
        "diffusion/repaint.py",
        "keep * q_sample(schedule, known, t, noise.like(known)) + (1 - keep) * x_t",
        "(1 - keep) * q_sample(schedule, known, t, noise.like(known)) + keep * x_t",
        "test_repaint.py",
    ),
    Mutant("no_grad forgotten", "diffusion/repaint.py", "@torch.no_grad()\n", "", "test_repaint.py"),
    Mutant(
        "noise shared between images",
        "diffusion/noise.py",
        "manual_seed(seed) for seed in seeds",
        "manual_seed(seeds[0]) for seed in seeds",
        "test_process.py",
    ),
    # --- priors ---
    Mutant(
        "(v + 1) / 2 forgotten", "diffusion/prior.py", "var_mix=(rest[0] + 1) / 2", "var_mix=rest[0]", "test_repaint.py"
    ),
    Mutant(
        "x_0 not clipped",
        "diffusion/prior.py",
        "return guess.clamp(-1, 1) if self.clip else guess",
        "return guess",
        "test_repaint.py",
    ),
    Mutant(
        "probabilities' gradient, not their logarithms'",
        "diffusion/prior.py",
        "F.log_softmax(",
        "F.softmax(",
        "test_process.py",
    ),
    Mutant(
        "network told the state",
        "diffusion/prior.py",
        "told = torch.tensor([self.schedule.network_t[t]], device=x_t.device)\n        answer",
        "told = torch.tensor([t], device=x_t.device)\n        answer",
        "test_process.py",
    ),
    # --- networks ---
    Mutant(
        "attention orders swapped",
        "archs/blocks.py",
        "shape = (B, N, 3, heads, -1) if new_order else",
        "shape = (B, N, 3, heads, -1) if not new_order else",
        "test_networks.py",
    ),
    Mutant(
        "scale and shift swapped",
        "archs/blocks.py",
        "scale, shift = told.chunk(2, dim=1)",
        "shift, scale = told.chunk(2, dim=1)",
        "test_networks.py",
    ),
    Mutant(
        "sine before cosine",
        "archs/blocks.py",
        "[angles.cos(), angles.sin()]",
        "[angles.sin(), angles.cos()]",
        "test_networks.py",
    ),
    Mutant(
        "skips joined the other way round",
        "archs/unet.py",
        "torch.cat([h, skips.pop()], dim=1)",
        "torch.cat([skips.pop(), h], dim=1)",
        "test_networks.py",
    ),
    Mutant(
        "heads_upsample ignored",
        "archs/unet.py",
        "attention(c.heads_upsample or c.heads)",
        "attention(c.heads)",
        "test_networks.py",
    ),
    Mutant(
        "resampling before the activation",
        "archs/blocks.py",
        "resampled(self.in_layers[:2](x), self.resample)",
        "self.in_layers[:2](resampled(x, self.resample))",
        "test_networks.py",
    ),
    # --- weights ---
    Mutant("pickles run", "weights/files.py", "weights_only=True", "weights_only=False", "test_weights_load.py"),
    Mutant("'module.' left on", "weights/files.py", 'k.removeprefix("module.")', "k", "test_weights_load.py"),
    Mutant(
        "spare tensors passed over", "weights/load.py", "if missing or spare:", "if missing:", "test_weights_load.py"
    ),
    Mutant(
        "catalogue and metadata win over the config",
        "weights/load.py",
        "told = {**told, **_architecture_in(metadata, path), **(architecture or {})}\n    config = _detected(unet",
        "told = {**(architecture or {}), **told, **_architecture_in(metadata, path)}\n    config = _detected(unet",
        "test_weights_load.py",
    ),
    Mutant(
        "diffusers' fixed_large ignored",
        "weights/diffusers.py",
        '1.0 if scheduler.get("variance_type") == "fixed_large" else 0.0',
        "0.0",
        "test_weights_load.py",
    ),
    # --- windows ---
    Mutant(
        "windows not feathered to a sum of 1",
        "diffusion/windowed.py",
        "share = self._weights[0] / self._cut(self._total, place)",
        "share = self._weights[0]",
        "test_windows.py",
    ),
    Mutant(
        "windows' answers not blended",
        "tiling.py",
        "ramp = (distance / max(overlap, 1)).clamp(max=1)",
        "ramp = torch.ones(window)",
        "test_windows.py",
    ),
    Mutant(
        "windows without a hole run",
        "diffusion/windowed.py",
        "in corners(self.hole[b], self.size, self.overlap)",
        "in corners(torch.ones_like(self.hole[b]), self.size, self.overlap)",
        "test_windows.py",
    ),
    # --- the inpaint stage ---
    Mutant(
        "known pixels not put back",
        "stages/filling.py",
        "torch.where(weight >= 1, old, weight * old + (1 - weight) * fill)",
        "fill",
        "test_inpaint_stage.py",
    ),
    Mutant(
        "known pixels put back by arithmetic",
        "stages/filling.py",
        "known, keep = photo.rgb[:, top:bottom, left:right] * 2 - 1,",
        "known, keep = photo.rgb[:, top:bottom, left:right] * 2.001 - 1,",
        "test_inpaint_stage.py",
    ),
    Mutant(
        "rounding truncated",
        "image/writing.py",
        "(values.clamp(0, 1) * full).round()",
        "(values.clamp(0, 1) * full)",
        "test_image.py",
    ),
    Mutant(
        "feather reaches beyond the grown ring",
        "stages/filling.py",
        "feathered(photo.keep >= 1, self.settings.feather_px)",
        "feathered(photo.keep >= 1, 2 * self.settings.feather_px)",
        "test_inpaint_stage.py",
    ),
    Mutant(
        "seeds shared by a batch",
        "stages/filling.py",
        "Noise([job.seed for job in group])",
        "Noise([group[0].seed for job in group])",
        "test_inpaint_stage.py",
    ),
    Mutant(
        "passes counted without their windows",
        "stages/native.py",
        "return self.windows(size) * network_calls",
        "return network_calls",
        "test_inpaint_stage.py",
    ),
    Mutant(
        "images of a batch shown together",
        "stages/filling.py",
        'one_by_one = image_by_image if at.type == "cpu" else lambda network: network',
        "one_by_one = lambda network: network",
        "test_inpaint_stage.py",
    ),
    Mutant(
        "crop put back one row too low",
        "stages/filling.py",
        "rows, columns = slice(job.top, job.top + fill.shape[1])",
        "rows, columns = slice(job.top + 1, job.top + 1 + fill.shape[1])",
        "test_inpaint_stage.py",
    ),
    Mutant(
        "random label drawn after the noise",
        "stages/filling.py",
        "denoiser = self.denoiser(self._labels(noise, len(group)))",
        "noise.like(torch.zeros(len(group), 3, self.size, self.size))\n        denoiser = self.denoiser(self._labels(noise, len(group)))",
        "test_inpaint_stage.py",
    ),
    Mutant(
        "photos of several classes share windows",
        "stages/filling.py",
        "alone = self.classes and any(",
        "alone = False and any(",
        "test_inpaint_stage.py",
    ),
)


def fails(folder: Path, test: str) -> bool:
    """Whether the test file notices."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", f"tests/{test}"]
    here = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=here, capture_output=True, text=True, timeout=600)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{test} did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 1


def chosen(words: list[str]) -> list[int]:
    return [
        i
        for i, mutant in enumerate(MUTANTS)
        if not words or any(w == str(i) or (not w.isdigit() and w in f"{mutant.what} {mutant.file}") for w in words)
    ]


def main(words: list[str]) -> int:
    survived = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for part in ("repaint", "tests"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        for i in chosen(words):
            what, file, old, new, test = MUTANTS[i]
            path = folder / "repaint" / file
            before = path.read_text()
            found = "STALE" if before.count(old) != 1 else "caught"  # the code has changed: so must the table
            if found == "caught":
                path.write_text(before.replace(old, new))
                found = "caught" if fails(folder, test) else "SURVIVED"
                path.write_text(before)
            survived += found != "caught"
            print(f"{i:3} {found:8} {what} ({test})", flush=True)
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
