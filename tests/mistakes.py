"""Deliberate mistakes, of the kind people make here, for `mutants.py`."""

# ruff: noqa: E501 (the texts are as long as they are)

from __future__ import annotations

# (file below repaint/, file below tests/ that must fail): (what, text that occurs once in the file, what it becomes)
MISTAKES: dict[tuple[str, str], tuple[tuple[str, str, str], ...]] = {
    ("stages/inpaint.py", "test_spacing.py"): (
        (
            "later passes begin at a share of the states, not of the way",
            "round(1 + (self.t_T - 1) * share**0.5)",
            "round(share * self.t_T)",
        ),
        ("quadratic spacing is even", 'return f"quad{self.t_T}"', "return self.t_T"),
    ),
    ("stages/toning.py", "test_fill_tone.py"): (
        (
            "tints of a photo are not kept",
            "return Tone(like, smoothly_filled(strays, enough)[0])",
            "return Tone(like, 0 * strays[0])",
        ),
    ),
    ("jobs/reading.py", "test_run_many.py"): (
        ("photos are read ahead however large", "self._held < self._most or", "True or"),
    ),
    ("jobs/outputs.py", "test_run_many.py"): (
        ("a file of others is ours", 'removeprefix("report/") in ours', 'removeprefix("report/") not in ours'),
    ),
    ("train/loop.py", "test_train_safely.py"): (
        (
            "the checkpoint says there is a best that is not written yet",
            '            exported("best")  # before the checkpoint says that it is there\n        keep()\n',
            '            keep()\n            exported("best")\n        keep()\n',
        ),
    ),
    ("stages/detecting.py", "test_second_look.py"): (
        (
            "the second look is not turned back",
            "look(x.rot90(2, (-2, -1))).rot90(2, (-2, -1))",
            "look(x.rot90(2, (-2, -1)))",
        ),
        ("a second look where nothing was seen", "if (found < least).all():", "if False:"),
    ),
    ("diffusion/schedule.py", "test_schedule.py"): (
        (
            "strides multiplied, not summed",
            "for _ in range(count):\n            kept.append(start + round(at))",
            "for at in (k * stride for k in range(count)):\n            kept.append(start + round(at))",
        ),
        (
            "respaced network told the respaced timestep",
            "tuple(self.network_t[t] for t in kept)",
            "tuple(max(0, i - 1) for i in range(len(kept)))",
        ),
        ("posterior variance of state 1 not clipped", "t = max(t, 2)", "t = max(t, 1)"),
    ),
    ("diffusion/schedule.py", "test_repaint.py"): (
        ("network_t off by one", "(0, *range(len(beta)))", "(*range(len(beta) + 1),)"),
    ),
    ("diffusion/time_travel.py", "test_time_travel.py"): (
        ("inner jumps not refilled", "inner.refill()", "pass"),
        (
            "one anchor too many",
            "range(0, self.T - self.length, self.length)",
            "range(0, self.T - self.length + 1, self.length)",
        ),
        (
            "start_resampling compared with a state",
            "t - 1 <= start_resampling - jump.length",
            "t <= start_resampling - jump.length",
        ),
        ("n_sample after the jumps' test of the top", "if t < T - 1 and", "if t < T and"),
    ),
    ("diffusion/process.py", "test_process.py"): (
        ("q_step with the beta of the state it leaves", "schedule.beta(t + 1)", "schedule.beta(max(t, 1))"),
        ("alpha_bar of t, not t - 1, in the mean", "on_x_0 = math.sqrt(bar_before)", "on_x_0 = math.sqrt(bar)"),
        (
            "variance mixed on a linear scale",
            "std = (0.5 * (denoised.var_mix * (high - low) + low)).exp()",
            "std = (denoised.var_mix * (math.exp(high) - math.exp(low)) + math.exp(low)).sqrt()",
        ),
        ("guidance shifts by the deviation, not the variance", "std**2 * denoised.score", "std * denoised.score"),
        ("noise added at the last step", "return mean if t == 1 else mean + std * noise", "return mean + std * noise"),
    ),
    ("diffusion/process.py", "test_repaint.py"): (
        (
            "q_step with the beta of the state it leaves, seen by the spy",
            "schedule.beta(t + 1)",
            "schedule.beta(max(t, 1))",
        ),
    ),
    ("diffusion/repaint.py", "test_repaint.py"): (
        (
            "known part noised as of t - 1",
            "q_sample(schedule, known, t, noise.like(known))",
            "q_sample(schedule, known, s, noise.like(known))",
        ),
        (
            "noise of the known part drawn before the posterior's",
            "        step_noise = noise.like(x_t)\n        if not fresh:\n            x_t = keep * q_sample(schedule, known, t, noise.like(known)) + (1 - keep) * x_t\n",
            "        if not fresh:\n            x_t = keep * q_sample(schedule, known, t, noise.like(known)) + (1 - keep) * x_t\n        step_noise = noise.like(x_t)\n",
        ),
        ("known part put in at the first step too", "fresh = start is None", "fresh = False"),
        (
            "mask inverted",
            "keep * q_sample(schedule, known, t, noise.like(known)) + (1 - keep) * x_t",
            "(1 - keep) * q_sample(schedule, known, t, noise.like(known)) + keep * x_t",
        ),
        ("no_grad forgotten", "@torch.no_grad()\n", ""),
    ),
    ("diffusion/noise.py", "test_process.py"): (
        (
            "noise shared between images",
            "manual_seed(seed) for seed in seeds",
            "manual_seed(seeds[0]) for seed in seeds",
        ),
    ),
    ("diffusion/prior.py", "test_repaint.py"): (
        ("(v + 1) / 2 forgotten", "var_mix=(rest[0] + 1) / 2", "var_mix=rest[0]"),
        ("x_0 not clipped", "return guess.clamp(-1, 1) if self.clip else guess", "return guess"),
    ),
    ("diffusion/prior.py", "test_process.py"): (
        ("probabilities' gradient, not their logarithms'", "F.log_softmax(", "F.softmax("),
        (
            "network told the state",
            "told = torch.tensor([self.schedule.network_t[t]], device=x_t.device)\n        answer",
            "told = torch.tensor([t], device=x_t.device)\n        answer",
        ),
    ),
    ("archs/blocks.py", "test_networks.py"): (
        (
            "attention orders swapped",
            "shape = (B, N, 3, heads, -1) if new_order else",
            "shape = (B, N, 3, heads, -1) if not new_order else",
        ),
        ("scale and shift swapped", "scale, shift = told.chunk(2, dim=1)", "shift, scale = told.chunk(2, dim=1)"),
        ("sine before cosine", "[angles.cos(), angles.sin()]", "[angles.sin(), angles.cos()]"),
        (
            "resampling before the activation",
            "resampled(self.in_layers[:2](x), self.resample)",
            "self.in_layers[:2](resampled(x, self.resample))",
        ),
    ),
    ("archs/unet.py", "test_networks.py"): (
        (
            "skips joined the other way round",
            "torch.cat([h, skips.pop()], dim=1)",
            "torch.cat([skips.pop(), h], dim=1)",
        ),
        ("heads_upsample ignored", "attention(c.heads_upsample or c.heads)", "attention(c.heads)"),
    ),
    ("weights/files.py", "test_weights_load.py"): (
        ("pickles run", "weights_only=True", "weights_only=False"),
        ("'module.' left on", 'k.removeprefix("module.")', "k"),
    ),
    ("weights/networks.py", "test_weights_load.py"): (
        ("spare tensors passed over", "if missing or spare:", "if missing:"),
    ),
    ("weights/load.py", "test_weights_load.py"): (
        (
            "catalogue and metadata win over the config",
            "**_architecture_in(metadata, path), **(architecture or {})}\n    config = detected(lambda state: unet",
            "**(architecture or {}), **_architecture_in(metadata, path)}\n    config = detected(lambda state: unet",
        ),
    ),
    ("weights/networks.py", "test_weights_networks.py"): (
        ("another file under a known name passed over", "if entry is None or", "if entry or"),
    ),
    ("weights/detectors.py", "test_weights_networks.py"): (
        ("published detector shown 0..1", "self.network(2 * x - 1)", "self.network(x)"),
    ),
    ("weights/spandrel.py", "test_weights_networks.py"): (
        ("extra architectures for everybody", "registry = MAIN_REGISTRY.copy()", "registry = MAIN_REGISTRY"),
    ),
    ("weights/diffusers.py", "test_weights_load.py"): (
        ("diffusers' fixed_large ignored", '1.0 if scheduler.get("variance_type") == "fixed_large" else 0.0', "0.0"),
    ),
    ("diffusion/windowed.py", "test_windows.py"): (
        (
            "windows not feathered to a sum of 1",
            "share = self._weights[0] / self._cut(self._total, place)",
            "share = self._weights[0]",
        ),
        (
            "windows without a hole run",
            "[corners(hole, self.size, self.overlap) for hole in self.hole]",
            "[corners(torch.ones_like(hole), self.size, self.overlap) for hole in self.hole]",
        ),
    ),
    ("diffusion/windowed.py", "test_conditioned.py"): (
        (
            "windows told what is known of the canvas",
            "    if not isinstance(denoiser, Conditioned):\n",
            "    if True:\n",
        ),
    ),
    ("diffusion/conditioned.py", "test_conditioned.py"): (
        ("the covariance without its scale", "return (1 - bar) / math.sqrt(bar) * back", "return back"),
        ("what is missed in holes counts", "K * torch.where(K > 0, known - alone, 0)", "known - alone"),
        (
            "a clipped guess tells nothing",
            "replace(prior, clip=False,",
            "replace(prior, clip=True,",
        ),
        ("a negative variance is believed", "steep > 0.5 * ridge * _dot(along, along)", "steep.abs() > 0"),
        ("directions are not conjugate", "along = left + size / before.where(before > 0, 1) * along", "along = left"),
    ),
    ("archs/hourglass.py", "test_scratch_net.py"): (
        (
            "a further level says something at first",
            'ends = key.startswith("narrow.") or ".branch.5." in key',
            'ends = ".branch.5." in key',
        ),
    ),
    ("archs/scratch_net.py", "test_scratch_net.py"): (
        (
            "weights with a hole are filled up with zeros",
            "if not is_whole(known, build(detect(state))):",
            "if not known:",
        ),
    ),
    ("jobs/pairing.py", "test_pairing.py"): (
        ("a folder of masks for other photos is taken", "if not finds or len(alone) == len(images):", "if not finds:"),
    ),
    ("train/scratches.py", "test_train_scratches.py"): (
        ("quarters of a mosaic upright", "torch.cat([left, right], 2)", "torch.cat([left, right], 1)"),
        ("negatives are not printed", "hard = Damaged(1 - hard.image, hard.damage)", "pass"),
    ),
    ("stages/margins.py", "test_margins.py"): (
        ("light rims are left, too", " + DARKER < ", " - 1 < "),
        ("short strips are rims", "end - start >= LONG * len(along)", "end > start"),
        ("what goes deeper is a rim", " & ~marks[wide : 2 * wide].any(0)", ""),
    ),
    ("stages/together.py", "test_together.py"): (
        ("hints count for nothing", "if self.hinted:", "if False:"),
        (
            "a coarse mark is as wide as its pixels",
            "torch.minimum(torch.maximum(gaps, thick), coarse), coarse",
            "coarse, coarse",
        ),
        ("a flake is hollow", "torch.minimum(torch.maximum(gaps, thick), coarse)", "torch.zeros_like(coarse)"),
        (
            "nothing thick is found by small looks",
            "found = torch.maximum(found, hint(outlined(pair, found), found))",
            "found = found",
        ),
    ),
    ("stages/detecting.py", "test_hysteresis.py"): (
        ("one sure pixel is enough for a mark", "share=self.sure)", "share=0.0)"),
        (
            "a large mark needs a share of sure pixels",
            "max(MANY_PX, math.ceil(self.many * hole.numel()))",
            "hole.numel()",
        ),
    ),
    ("stages/detecting.py", "test_scratches_in_faces.py"): (
        ("teeth are part of a scratch", "hole &= ~_slopes(protect, hole, probability)", "pass"),
        ("rims reach into eyes", "wide[place] &= hole[place]", "pass"),
    ),
    ("stages/detecting.py", "test_flakes.py"): (
        ("what is dear is part of a flake", "(more & ~_spared(protect, more))", "more"),
    ),
    ("stages/flakes.py", "test_flakes.py"): (
        ("a mark runs over the picture", "if flake.sum() <= MOST * here.sum():", "if True:"),
        ("a mark of many tones is taken for a flake", "if alike[here].mean() < EVEN:", "if False:"),
        (
            "a sky may lie anywhere",
            "if min(top, left, tones.shape[0] - bottom, tones.shape[1] - right) > 0:",
            "if False:",
        ),
        ("a mark with an edge is a sky", "alike[ring].mean() > OPEN", "True"),
        ("a sky lies in a flake", "(marked & ~skies) | flakes", "(marked | flakes) & ~skies"),
    ),
    ("stages/rims.py", "test_rims.py"): (
        ("light rims cancel dark ones", "[apart * of_mark, of", "[apart, of"),
        ("a rim is faint from its mark's pixels on", "before = mark", "before = torch.zeros_like(mark)"),
        ("halos are left", "share.abs() >", "share >"),
        ("what the picture shows is rim", "max(FAINT, CHANCE * error.item())", "FAINT"),
    ),
    ("stages/mending.py", "test_mender.py"): (
        (
            "thick holes of large photos are left",
            "thicker_than(keep, self.thickest_px * enlarged(keep), corners",
            "thicker_than(keep, self.thickest_px, corners",
        ),
        ("all is mended at full size", "while times > 1:", "while times > 99:"),
    ),
    ("image/exif.py", "test_image_exif.py"): (
        ("resolutions not swapped with the sides", "if swapped and across", "if not swapped and across"),
        ("size told in four bytes where two were", "short = self._get", "short = not self._get"),
    ),
    ("detect_files.py", "test_detect_command.py"): (
        (
            "a probability of others is written over",
            'for ending in (".png", *beside)',
            'for ending in (".png", *beside[:1])',
        ),
    ),
    ("tiling.py", "test_windows.py"): (
        (
            "windows' answers not blended",
            "ramp = (distance / max(overlap, 1)).clamp(max=1)",
            "ramp = torch.ones(window)",
        ),
    ),
    ("stages/filling.py", "test_inpaint_stage.py"): (
        (
            "known pixels not put back",
            "rgb[there] = torch.where(weight >= 1, rgb[there], weight * rgb[there] + (1 - weight) * fill)",
            "rgb[there] = fill",
        ),
        (
            "known pixels put back by arithmetic",
            "torch.where(weight >= 1, rgb[there], weight * rgb[there] + (1 - weight) * fill)",
            "((weight + 0.1) * rgb[there] - 0.1 * rgb[there] + (1 - weight) * fill)",
        ),
        (
            "feather reaches beyond the grown ring",
            "feathered(keep >= 1, self.settings.feather_px)",
            "feathered(keep >= 1, 2 * self.settings.feather_px)",
        ),
        (
            "seeds shared by a batch",
            "Noise([(job.seed + job.nth * STREAM) % 2**63 for job in group])",
            "Noise([group[0].seed for job in group])",
        ),
        (
            "images of a batch shown together",
            'image_by_image(asked) if at.type == "cpu" else asked',
            "asked",
        ),
        ("crop put back one row too low", "slice(job.top, job.top + h)", "slice(job.top + 1, job.top + 1 + h)"),
        ("random label not drawn from the noise", "noise.integers(self.classes)  # before", "# before"),
        ("photos of several classes share windows", "alone = self.classes and any(", "alone = False and any("),
    ),
    ("image/writing.py", "test_image_written.py"): (
        ("rounding truncated", "(values.clamp(0, 1) * full).round()", "(values.clamp(0, 1) * full)"),
    ),
    ("stages/native.py", "test_inpaint_stage.py"): (
        ("passes counted without their windows", "return self.windows(size) * network_calls", "return network_calls"),
    ),
    ("stages/native.py", "test_native.py"): (
        ("finer levels begin with noise", "walk.refine if found else 1.0", "1.0"),
        ("large holes never filled where they are small", "shrink = max(1.0, min(", "shrink = min(1.0, min("),
        ("no hole is large", "thick = thicker_than(keep, THIN * size)", "thick = thicker_than(keep, 1000 * size)"),
        ("coarse fill thrown away", "resized(guess, h, w).clamp(-1, 1))", "0 * resized(guess, h, w).clamp(-1, 1))"),
        ("thin holes filled twice", "shrunk_mask(~thick[None],", "shrunk_mask(keep[None],"),
        ("thin holes unknown to the coarse levels", "known, keep = torch.where(thin, guess, known), keep | thin", ""),
    ),
}
