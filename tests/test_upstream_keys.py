"""Which keys of published configs count, which are ignored, and which get a clear answer."""

import re

import pytest
import torch
import yaml

from repaint.config import Document
from repaint.diffusion import time_travel
from repaint.errors import ConfigError
from repaint.upstream import imported, is_published

from . import published, tiny
from .command import called
from .published import FACE, SET


def said_of(text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        imported(Document(text, "old.yml").override(overrides))
    return str(caught.value).splitlines()


def line_of(key: str) -> int:
    (number,) = [i for i, line in enumerate(FACE.splitlines(), 1) if line.strip().startswith(f"{key}:")]
    return number


# ---- which files are meant


def test_config_of_ours_is_not_taken_for_a_published_one():
    ours = {"images": "a", "masks": "b", "output": "c", "stages": [{"inpaint": {}}]}
    assert is_published(yaml.safe_load(FACE))
    assert not is_published(ours)
    for data in (None, 5, "eval", ["eval"], {}, {"train": 1}):
        assert not is_published({"model_path": "a", "schedule_jump_params": {}, "data": data})
    for key in ("model_path", "schedule_jump_params", "data"):
        assert not is_published({k: v for k, v in yaml.safe_load(FACE).items() if k != key})


# ---- keys that are used


def test_face_example_is_this_run():
    config = imported(Document(FACE, "old.yml")).config
    inpaint = config.stages[0].inpaint
    assert (config.images, config.masks, config.limit, config.offset) == ("FOLDER/gts", "FOLDER/gt_keep_masks", 8, 0)
    assert (config.pair, config.seeds, config.seed, config.hole) == ("order", "position", 0, "black")
    assert (config.device, config.precision, config.output) == ("auto", "float32", "FOLDER/log/face_example")
    assert config.folders.results == "FOLDER/log/face_example/inpainted"
    assert config.folders.masks == "FOLDER/log/face_example/gt_keep_mask"
    assert (inpaint.prior, inpaint.fit, inpaint.soft_masks, inpaint.clip) == ("FOLDER/unet.pt", "crop", True, True)
    assert (inpaint.label, inpaint.classifier) == (None, None)
    assert (inpaint.architecture.image_size, inpaint.architecture.num_head_channels) == (16, 32)
    repaint = inpaint.sampler.repaint
    assert (repaint.t_T, repaint.jump_length, repaint.jump_n_sample, repaint.timestep_respacing) == (6, 2, 2, "6")


@pytest.mark.parametrize("length", [6, 10])
def test_jump_as_long_as_the_walk_never_happens_as_published(length):
    longer = FACE.replace("  jump_length: 2", f"  jump_length: {length}\n  jump2_length: 2\n  jump2_n_sample: 2")
    repaint = imported(Document(longer, "old.yml")).config.stages[0].inpaint.sampler.repaint
    only_inner = time_travel(6, 2, 1, jump2_length=2, jump2_n_sample=2, n_sample=repaint.n_sample)
    assert repaint.times(6) == only_inner
    assert len(only_inner) > 7


@pytest.mark.parametrize(
    ("overrides", "attribute", "value"),
    [
        (["seed=3"], "seed", 3),
        (["device=cpu"], "device", "cpu"),
        (["use_fp16=true"], "precision", "float16"),
        (["processes=2"], "processes", 2),
        ([f"{SET}.batch_size=4"], "batch_size", 4),
        ([f"{SET}.offset=2"], "offset", 2),
        ([f"{SET}.max_len=null"], "limit", None),
        ([f"{SET}.paths={{srs: here}}"], "output", "here"),
        ([f"{SET}.paths={{srs: /a/x, lrs: b/y}}"], "output", "/a/x"),
    ],
)
def test_key_becomes_a_setting_of_the_run(overrides, attribute, value):
    assert getattr(imported(Document(FACE, "old.yml").override(overrides)).config, attribute) == value


def test_respacing_left_empty_is_the_whole_chain():
    config = imported(Document(FACE, "old.yml").override(["timestep_respacing=''"])).config
    assert config.stages[0].inpaint.sampler.repaint.states() == 1000


def test_classifier_counts_only_with_a_scale_above_0():
    text = FACE.replace("classifier_scale: 4.0", "classifier_scale: 2\nclassifier_path: judge.pt\ncond_y: 7")
    inpaint = imported(Document(text, "old.yml")).config.stages[0].inpaint
    assert (inpaint.label, inpaint.classifier.weights, inpaint.classifier.scale) == (7, "judge.pt", 2.0)
    assert inpaint.classifier.architecture.told() == {"num_res_blocks": 2}
    without = imported(Document(text, "old.yml").override(["classifier_scale=0"])).config.stages[0].inpaint
    assert without.classifier is None


# ---- keys that are not


def test_keys_that_change_nothing_are_listed():
    assert set(imported(Document(FACE, "old.yml")).ignored) == {
        *("dropout", "use_checkpoint", "classifier_use_fp16", "lr_kernel_n_std", "num_samples", "show_progress"),
        *("use_kl", "rescale_learned_sigmas", "name", "latex_name", "method_name", "n_jobs", "print_estimated_vars"),
        *("classifier_scale (no classifier)", "classifier_depth (no classifier)"),
        *("data.eval.drop_last", "data.eval.return_dataloader", "data.eval.ds_conf"),
        *(
            f"{key} (read from the weights)"
            for key in (
                *("attention_resolutions", "channel_mult", "classifier_width", "classifier_attention_resolutions"),
                *("classifier_use_scale_shift_norm", "classifier_resblock_updown", "classifier_pool"),
            )
        ),
    }


@pytest.mark.parametrize(
    ("line", "listed"),
    [
        ("clip_denoise: false", "clip_denoise (unknown; did you mean 'clip_denoised'?)"),
        ("timestep_respaceing: '9'", "timestep_respaceing (unknown; did you mean 'timestep_respacing'?)"),
        ("xyzzy: 1", "xyzzy (unknown)"),
    ],
)
def test_key_that_is_not_known_is_listed_with_what_it_may_mean(line, listed):
    assert listed in imported(Document(f"{FACE}\n{line}\n", "old.yml")).ignored


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("t_T=20", "t_T: unknown key; it belongs to schedule_jump_params.t_T"),
        ("gt_path=x", f"gt_path: unknown key; it belongs to {SET}.gt_path"),
        ("clip_denoise=false", "clip_denoise: unknown key; did you mean 'clip_denoised'?"),
        ("xyzzy=1", "xyzzy: unknown key"),
    ],
)
def test_override_that_would_change_nothing_is_refused(override, said):
    (line,) = said_of(FACE, override)
    assert line == f"--set {override.partition('=')[0]}: {said}"


@pytest.mark.parametrize(
    ("override", "listed"),
    [
        (f"{SET}.max_length=1", "data.eval.max_length (unknown; did you mean 'max_len'?)"),
        (f"{SET}.paths.gst=x", "data.eval.paths.gst (unknown; did you mean 'gts'?)"),
        ("data.train.x=1", "data.train"),
        ("debug.num_timesteps=5", "debug"),
        ("use_value_logger=true", "use_value_logger"),
    ],
)
def test_override_of_a_key_that_changed_nothing_there_is_listed(override, listed):
    assert listed in imported(Document(FACE, "old.yml").override([override])).ignored


CRASHED = {
    "use_ddim: true": "crashed in the published code (it has no DDIM loop); must be false",
    "inpa_inj_sched_prev: false": "made the published code ignore the photo; must be true",
    "inpa_inj_sched_prev_cumnoise: true": "crashed in the published code; must be false",
    "rescale_timesteps: true": "crashed in the published code; must be false",
    "learn_sigma: false": "crashed in the published code; new configs take such weights; must be true",
    "predict_xstart: true": "is not supported; must be false",
    "mask_loader: false": "was not implemented in the published code; must be true",
    "random_crop: true": "was not implemented in the published code; must be false",
    "return_dict: false": "was not implemented in the published code; must be true",
    "random_flip: true": "would flip photos but not masks; must be false",
    "deterministic: false": "would shuffle the photos; must be true",
}


@pytest.mark.parametrize("setting", CRASHED)
def test_key_that_crashed_or_misled_there_says_so(setting):
    key, value = setting.split(": ")
    text = re.sub(rf"\b{key}: \w+", setting, FACE)
    (line,) = said_of(text)
    place = f"{SET}.{key}" if FACE.splitlines()[line_of(key) - 1].startswith(" ") else key
    assert line == f"old.yml:{line_of(key)}: {place}: found {value}, which {CRASHED[setting]}"


@pytest.mark.parametrize("setting", ["respace_interpolate=true", "inpa_inj_time_shift=2", f"{SET}.class_cond=true"])
def test_hidden_key_that_crashed_there_says_so(setting):
    (line,) = said_of(FACE, setting)
    key, value = setting.split("=")
    assert line.startswith(f"--set {key}: {key}: found {value}, which ")


WRONG = {
    "words for a number": ("  t_T: 6", "  t_T: many", "schedule_jump_params.t_T: found 'many'; must be a whole number"),
    "mistyped parameter": (
        "  jump_length: 2",
        "  jump_lenght: 2",
        "schedule_jump_params: jump_length is missing; it must be given",
    ),
    "unknown parameter": (
        "  n_sample: 1",
        "  n_samples: 1",
        "schedule_jump_params.n_samples: unknown key; did you mean 'n_sample'?",
    ),
    "no weights": ("model_path: FOLDER/unet.pt", "model_path: null", "model_path: found nothing; must be text"),
    "unknown schedule": ("noise_schedule: linear", "noise_schedule: x", "noise_schedule: found 'x'; must be one of *"),
    "heads in words": ("num_heads: 4", "num_heads: four", "num_heads: found 'four'; must be a whole number"),
    "scale in words": ("classifier_scale: 4.0", "classifier_scale: x", "classifier_scale: found 'x'; must be a number"),
    "two sizes": ("      image_size: 16", "      image_size: 8", f"{SET}.image_size: found 8; must be the model's *16"),
    "no photos": ("      gt_path: FOLDER/gts", "      gt: x", f"{SET}: gt_path is missing; it must be given"),
    "batch of none": ("      batch_size: 1", "      batch_size: 0", f"{SET}.batch_size: found 0; must be at least 1*"),
    "none of the images": ("      max_len: 8", "      max_len: 0", f"{SET}.max_len: found 0; must be greater than *"),
    "no folder for results": ("        srs: FOLDER", "        sr: FOLDER", f"{SET}.paths: srs is missing; it is *"),
    "folder that is a number": (
        "        lrs: FOLDER/log/face_example/gt_masked",
        "        lrs: 5",
        f"{SET}.paths.lrs: found 5; must be text",
    ),
    "mask folder that is a number": (
        "        gt_keep_masks: FOLDER/log/face_example/gt_keep_mask",
        "        gt_keep_masks: 5",
        f"{SET}.paths.gt_keep_masks: found 5; must be text",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_value_that_cannot_be_is_one_line_with_the_old_key(case):
    old, new, expected = WRONG[case]
    assert FACE.count(f"\n{old}") == 1
    (line,) = said_of(FACE.replace(f"\n{old}", f"\n{new}"))
    where, _, words = line.partition(": ")
    assert re.fullmatch(".*".join(map(re.escape, expected.split("*"))), words)
    assert re.fullmatch(r"old\.yml:\d+", where)
    named = words.partition(":")[0].rpartition(".")[2]
    assert FACE.replace(f"\n{old}", f"\n{new}").splitlines()[int(where[8:]) - 1].strip().startswith(f"{named}:")


def test_two_folders_that_are_one_are_named_by_the_old_keys():
    folder = yaml.safe_load(FACE)["data"]["eval"].popitem()[1]["paths"]["srs"]
    (line,) = said_of(FACE, f"{SET}.paths.gts={folder}")
    assert line.endswith(f"paths: found one folder, {folder}, as srs and gts; each needs its own")


def test_output_is_where_the_files_beside_the_results_go():
    assert imported(Document(FACE, "old.yml").override([f"{SET}.paths.output=o"])).config.output == "o"


def test_class_that_is_not_said_is_asked_for_by_its_key():
    text = FACE.replace("class_cond: false", "class_cond: true", 1)
    (line,) = said_of(text)
    assert line.startswith("old.yml:2: class_cond: needs a class, which the published code drew at random; ")
    assert line.endswith("say cond_y: CLASS, or cond_y: random")
    (line,) = said_of(FACE, "classifier_path=judge.pt")
    assert "say cond_y: CLASS, or cond_y: random" in line


@pytest.mark.parametrize(("sets", "found"), [("{}", "0"), ("{a: {}, b: {}}", "2"), ("[a]", r"\['a'\]"), ("5", "5")])
def test_there_must_be_one_data_set(sets, found):
    text = FACE[: FACE.index("data:")] + f"data: {{eval: {sets}}}\n"
    (line,) = said_of(text)
    assert re.fullmatch(rf"old\.yml:\d+: data\.eval: found {found} data sets; must be exactly one", line)


# ---- at the command line


def test_ignored_keys_are_said_in_one_line(tmp_path):
    published.photos(tmp_path, names=("a.png",))
    torch.save(tiny.oracle_unet().state_dict(), tmp_path / "unet.pt")
    config = published.config(tmp_path, clip_denoise=True)
    code, _, lines = called("run", config)
    assert code == 0
    (line,) = [line for line in lines if "; ignored: " in line]
    assert line.startswith(f"repaint: {config}: a config of the published RePaint code; ignored: attention_resolutions")
    assert "clip_denoise (unknown; did you mean 'clip_denoised'?)" in line


def test_weights_on_the_authors_machine_are_one_line_with_the_way_to_fetch_them(tmp_path):
    published.photos(tmp_path, names=("a.png",))
    said = called("run", published.config(tmp_path, model_path="/cluster/data/celeba256_250000.pt"))
    assert said.code == 2
    assert said.error.startswith("/cluster/data/celeba256_250000.pt: no such weights file; fetch it with: ")
    assert "repaint weights get celebahq-256" in said.error


def test_photos_and_masks_must_be_as_many(tmp_path):
    published.photos(tmp_path)
    (tmp_path / "gt_keep_masks" / "3.png").unlink()
    torch.save(tiny.oracle_unet().state_dict(), tmp_path / "unet.pt")
    said = called("run", published.config(tmp_path))
    assert said.code == 2
    assert re.search(r"gts has 4, \S+gt_keep_masks has 3$", said.error)


def test_walk_longer_than_the_chain_is_one_line(tmp_path):
    published.photos(tmp_path, names=("a.png",))
    torch.save(tiny.oracle_unet().state_dict(), tmp_path / "unet.pt")
    said = called("run", published.config(tmp_path, timestep_respacing="5"))
    assert said.code == 2
    assert said.error == "t_T: found 6; must be at most the 5 states of timestep_respacing"
    said = called("run", published.config(tmp_path, timestep_respacing="5000"))
    assert said.code == 2
    assert said.error.startswith("timestep_respacing: ")


def test_class_that_the_weights_do_not_know_is_named_by_its_key(tmp_path):
    published.photos(tmp_path, names=("a.png",))
    torch.save(tiny.oracle_unet().state_dict(), tmp_path / "unet.pt")
    said = called("run", published.config(tmp_path, class_cond=True, cond_y=7))
    assert said.code == 2
    assert re.fullmatch(r"\S+old\.yml:\d+: cond_y: \S+ knows no classes; leave cond_y out", said.error)


def test_override_of_an_old_key_is_named_in_its_error(tmp_path):
    said = called("run", published.config(tmp_path), "--set", "schedule_jump_params.t_T=x")
    assert said.code == 2
    assert said.error == ("--set schedule_jump_params.t_T: schedule_jump_params.t_T: found 'x'; must be a whole number")
