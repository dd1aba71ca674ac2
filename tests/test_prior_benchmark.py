"""The prior's benchmark: its figures in known cases, and the script on a tiny prior."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import alexnet
from typer.testing import CliRunner

from benchmarks import fills, memory, noise_levels, pictures, prior
from benchmarks.results import Key, Store, figure_table
from repaint.diffusion import NetworkPrior, linear_schedule
from repaint.errors import RunError, WeightsError
from repaint.stages.mending import Mender
from repaint.weights.load import load_prior
from repaint.weights.menders import load_mender

from . import tiny
from .command import read

SIZE = 32


def picture(seed: int = 0, size: int = SIZE) -> np.ndarray:
    """Smooth colours with some grain."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    return (np.asarray(coarse) * 0.9 + rng.integers(0, 25, (size, size, 3))).astype(np.uint8)


def left_half() -> np.ndarray:
    keep = np.ones((SIZE, SIZE), bool)
    keep[:, SIZE // 2 :] = False
    return keep


# ---- figures


def test_identical_pictures_have_the_best_figures_there_are():
    (found,) = fills.figures([picture()], [picture()], [left_half()])
    assert found["psnr"] == pytest.approx(58.9, abs=0.05)
    assert found["ssim"] == pytest.approx(1)
    assert found["haarpsi"] == pytest.approx(1, abs=1e-4)
    assert found["fsim"] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("off", [1, 5, 40])
def test_psnr_is_that_of_the_error_inside_the_hole_alone(off):
    truth, keep = picture() // 2, left_half()
    assert fills.psnr_in_hole(truth, np.where(keep[..., None], 0, truth + off), keep) == pytest.approx(
        20 * np.log10(255 / off)
    )


@pytest.mark.parametrize("name", sorted(fills.FIGURES.keys() - {"lpips"}))
def test_every_figure_calls_a_slight_error_better_than_a_gross_one(name):
    truth, keep = picture(), left_half()
    slight, gross = (
        fills.put_back(((1 - k) * truth + k * picture(1)).astype(np.uint8), truth, keep) for k in (0.1, 0.9)
    )
    better, worse = fills.figures([truth, truth], [slight, gross], [keep, keep])
    assert fills.FIGURES[name].sign * (better[name] - worse[name]) > 0


@pytest.mark.parametrize("name", fills.CLASSICAL)
def test_classical_fill_continues_a_plain_colour_and_never_looks_into_the_hole(name):
    plain = np.full((SIZE, SIZE, 3), (200, 100, 50), np.uint8)
    keep = np.ones((SIZE, SIZE), bool)
    keep[10:20, 5:25] = False
    dark, bright = (fills.CLASSICAL[name](fills.put_back(np.full_like(plain, n), plain, keep), keep) for n in (0, 255))
    assert (dark == bright).all()
    assert np.abs(dark.astype(int) - plain).max() <= 4


def test_known_pixels_are_put_back():
    keep = left_half()
    whole = fills.put_back(picture(1), picture(0), keep)
    assert (whole[keep] == picture(0)[keep]).all()
    assert (whole[~keep] == picture(1)[~keep]).all()


def test_lpips_is_that_of_torchmetrics(tmp_path, monkeypatch):
    lpips = pytest.importorskip("torchmetrics.functional.image.lpips")
    with torch.device("meta"):  # the rest of AlexNet is large, and not needed
        features = alexnet(weights=None).features
    state = {name: 0.05 * tiny.drawn(*weight.shape) for name, weight in features.state_dict().items()}
    features.load_state_dict(state, assign=True)
    save_file({f"features.{name}": weight for name, weight in state.items()}, tmp_path / "alexnet.safetensors")
    monkeypatch.setattr(lpips, "_get_tv_model_features", lambda *_: features)
    theirs = lpips._LPIPS(net="alex", pnet_rand=True)
    x, y = tiny.drawn(2, 2, 3, 64, 64).sigmoid()
    found = fills.Lpips(tmp_path / "alexnet.safetensors")(x, y)
    assert found.min() > 1e-3
    torch.testing.assert_close(found, theirs(x, y, normalize=True).flatten())


def test_lpips_refuses_the_weights_of_another_network(tmp_path):
    with pytest.raises(
        WeightsError, match=r"features\.0\.bias is missing; must be the weights of torchvision's AlexNet"
    ):
        fills.Lpips(tiny.checkpoint(tmp_path / "prior.safetensors"))


def test_interval_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [fills.interval(rng.normal(size=40)) for _ in range(300)]
    assert 0.9 < np.mean([low < 0 < high for _, low, high in found]) < 0.98


def test_win_rate_counts_better_pictures_and_half_the_ties():
    assert fills.win_rate([3, 2, 1, 1], [1, 1, 1, 2], 1) == fills.win_rate([1, 1, 1, 2], [3, 2, 1, 1], -1) == 0.625


# ---- pictures


def test_window_does_not_depend_on_how_many_are_asked_for(folders):
    few, many = (pictures.windows(folders / "photos", SIZE, n, seed=1) for n in (2, 6))
    assert [p.name for p in few] == [p.name for p in many[:2]]
    assert len({p.name for p in many}) == 6


def test_window_at_half_scale_is_the_mean_of_four_pixels(folders):
    half = pictures.windows(folders / "photos", SIZE, 3, seed=0)[2]
    stem, top, left, scale = half.name.split("-")
    assert scale == "2"
    top, left = int(top), int(left)
    photo = read(folders / "photos" / f"{stem}.png").astype(float)
    four = [photo[top + y : top + 2 * SIZE : 2, left + x : left + 2 * SIZE : 2] for y in (0, 1) for x in (0, 1)]
    np.testing.assert_allclose(half.pixels, np.mean(four, axis=0), atol=0.51)


def test_photo_smaller_than_a_window_is_refused(folders):
    with pytest.raises(RunError, match=r"0\.png: is 80 x 80 px; a window needs 128 x 128"):
        pictures.windows(folders / "photos", 128, 1, seed=0)


def test_nearest_training_picture_is_found_mirrored_too():
    asked = picture(3)
    among = [pictures.Picture(str(i), picture(i)) for i in range(3)] + [pictures.Picture("it", asked[:, ::-1])]
    (found,) = memory.nearest([asked], iter(among))
    assert (found.picture.name, found.distance) == ("it, mirrored", pytest.approx(0, abs=1e-3))


# ---- the script


@pytest.fixture
def folders(tmp_path):
    for kind, size in (("faces", 2 * SIZE), ("photos", 80)):
        (tmp_path / kind).mkdir()
        for i in range(2):
            Image.fromarray(picture(i, size)).save(tmp_path / kind / f"{i}.png")
    return tmp_path


def called(folders, *words: str) -> str:
    options = {"--faces": folders / "faces", "--photos": folders / "photos", "--prior": folders / "prior.safetensors"}
    settings = ["--size", str(SIZE), "--count", "2", "--t-T", "3", "--jump-length", "1", "--jump-n-sample", "2"]
    app = prior.app
    if not (folders / "prior.safetensors").exists():
        tiny.checkpoint(folders / "prior.safetensors")
    given = [str(word) for option in options.items() for word in option]
    done = CliRunner().invoke(app, ["--out", str(folders / "out"), *given, *settings, *words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_script_fills_measures_and_goes_on_where_it_stopped(folders):
    whole = called(folders, "--masks", "wide,half", "--pictures")
    for words in ("faces wide (2)", "photos half (2)", "3/1/2, 5 calls", "PSNR in the hole", "biharmonic"):
        assert words in whole
    out = folders / "out" / f"{SIZE}px-seed0"
    assert len(read(out / "faces-wide.png")) > 2 * 2 * SIZE

    written = {path: path.stat().st_mtime_ns for path in out.rglob("*.png") if path.parent != out}
    assert len(written) == 4 * 2 * 2 * 2
    lost = next(path for path in written if "prior" in str(path))
    before = read(lost).astype(int)
    lost.unlink()
    lines = (out / "figures.jsonl").read_text().splitlines(keepends=True)
    (out / "figures.jsonl").write_text("".join(lines[:-1]) + lines[-1][:20])  # killed while it wrote

    assert called(folders, "--masks", "wide,half") == whole
    assert np.abs(read(lost) - before).max() <= 1  # by itself, not in a batch
    assert {p for p, when in written.items() if p.stat().st_mtime_ns != when} == {lost}
    assert called(folders, "--table-only") == whole


def test_methods_are_told_apart_by_all_that_makes_their_fills(folders):
    def names(*words: str) -> set[str]:
        called(folders, "--masks", "half", "--count", "1", "--fill-only", *words)
        made = {path.parent.parent for path in (folders / "out").rglob("*.png")} - before
        before.update(made)
        return {path.name for path in made}

    before = set()
    (plain,) = names()
    mender = load_mender("mender").sha256[:6]
    for words, said in (
        (["--precision", "bfloat16"], "bfloat16"),
        (["--device-noise"], "device noise"),
        (["--mender", "mender"], mender),
    ):
        (name,) = names(*words)
        assert said in name.replace("-", " ")
        assert said not in plain
    assert plain.endswith("-3-1-2-5-calls")


@pytest.mark.parametrize("mix", [0.0, 0.25])
def test_variance_asked_for_takes_the_place_of_the_learned_one(mix):
    learned = NetworkPrior(tiny.our_unet(tiny.oracle_unet()), linear_schedule())
    x_t = tiny.drawn(2, 3, tiny.SIZE, tiny.SIZE)
    before, after = learned(x_t, 500), prior.with_variance(learned, mix)(x_t, 500)
    assert (after.x_0 == before.x_0).all()
    assert before.var_mix is not None
    assert before.var_mix.std() > 0
    assert after.var_mix is None if mix == 0 else (after.var_mix == mix).all()


def test_known_pixels_of_every_kept_fill_are_exact(folders):
    called(folders, "--masks", "half", "--count", "1")
    out = folders / "out" / f"{SIZE}px-seed0"
    truth = pictures.faces(folders / "faces", SIZE, 1)[0].pixels
    found = list(out.glob("*/faces-half/0.png"))
    assert len(found) == 4
    for path in found:
        assert (read(path)[:, : SIZE // 2] == truth[:, : SIZE // 2]).all()


def test_prior_that_cannot_be_compared_is_refused(folders):
    classes = load_prior(str(tiny.checkpoint(folders / "classes.safetensors", **tiny.CLASSES)))
    plain = load_prior(str(tiny.checkpoint(folders / "plain.safetensors")))
    assert prior.common_size({"plain": plain}, None) == tiny.SIZE
    with pytest.raises(RunError, match="classes: is a prior of 5 classes; must be unconditional"):
        prior.common_size({"plain": plain, "classes": classes}, None)
    with pytest.raises(RunError, match="--size 33: plain takes multiples of 2"):
        prior.common_size({"plain": plain}, 33)


def test_later_lines_of_figures_replace_earlier_ones(tmp_path):
    key = Key("faces wide", "Telea", "0")
    lines = [{**key._asdict(), "psnr": n} for n in (1.0, 2.0)]
    (tmp_path / "figures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert Store(tmp_path).of("faces wide", "Telea", "psnr") == {"0": 2.0}


def test_samples_are_set_beside_their_nearest_training_pictures(folders, monkeypatch):
    monkeypatch.setattr(prior, "SAMPLE_STEPS", 3)
    words = ["--samples", folders / "s", "--sample-count", "3", "--train-windows", "6"]
    train = ["--train-faces", folders / "faces", "--train-photos", folders / "photos"]
    table = called(folders, *map(str, words + train))
    assert "| held-out faces | 2 | 0.0 | 0.0 | 0.0 |" in table  # they are the training pictures here
    assert "| samples | 3 |" in table
    assert read(folders / "s" / "nearest.png").shape == (3 * (3 * SIZE + 2), 2 * (3 * SIZE + 2), 3)
    assert (folders / "s" / "samples.png").exists()


def test_table_compares_only_pictures_that_every_method_has_filled(tmp_path):
    store = Store(tmp_path)
    found = {("Telea", "0"): 20.0, ("Telea", "1"): 90.0, ("ours", "0"): 30.0}
    store.keep_figures({Key("faces wide", method, name): {"psnr": db} for (method, name), db in found.items()})
    table = figure_table(store, ["faces wide"], ["ours", "Telea", "unused"], "psnr")
    assert table.splitlines()[-1] == "| faces wide (1) | **30.0** ± 0.0 | 20.0 ± 0.0 | – |"


@pytest.mark.parametrize(("blind", "followed"), [(False, 1.0), (True, 0.0)])
def test_a_network_that_cannot_see_means_does_not_follow_them(blind, followed):
    def network(x: Tensor, t: Tensor) -> Tensor:
        return x - x.mean((2, 3), keepdim=True) if blind else x

    found = noise_levels.followed_by(NetworkPrior(network, linear_schedule()), torch.Size((8, 3, 16, 16)), seed=0)
    assert found == pytest.approx([followed] * 3, abs=1e-4)


def test_with_a_mender_the_prior_is_asked_for_what_is_thick_alone_and_knows_the_rest():
    keep = np.ones((64, 64), bool)
    keep[10] = False
    keep[30:60, 30:60] = False
    case = prior.Case("faces x", pictures.Picture("a", picture(size=64)), keep, 0)
    asked: list[prior.Case] = []

    def black(cases):
        asked.extend(cases)
        return [np.zeros((64, 64, 3), np.uint8) for _ in cases]

    mender = Mender(lambda shown: torch.full_like(shown[:, :3], 0.4), 8, torch.device("cpu"))
    (both,) = prior.mended(mender, black)([case])
    (of_prior,) = asked
    thin = ~keep & of_prior.keep
    assert (thin == (np.arange(64) == 10)[:, None]).all()
    assert (both[thin] == 102).all()
    assert (of_prior.picture.pixels[thin] == 102).all()
    assert (both[~of_prior.keep] == 0).all()
    lines = prior.Case("faces x", case.picture, np.repeat((np.arange(64) % 2 == 0)[:, None], 64, 1), 0)
    prior.mended(mender, black)([lines])
    assert len(asked) == 1
