"""How the code is built: floors, file sizes, public names, what is imported when."""

import ast
import importlib
import importlib.metadata
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import repaint

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "repaint"
MODULES = sorted(PACKAGE.rglob("*.py"))

FLOORS = (  # lowest first; a module imports from floors below its own, and inside its own package
    {"errors"},
    {"files"},
    {"config", "image", "locks"},
    {"tiling"},
    {"masks", "holes", "filters", "colour", "archs", "degrade"},
    {"faces"},
    {"diffusion"},
    {"weights"},
    {"stages"},
    {"report", "train"},
    {"jobs"},
    {"upstream"},
    {"single", "mask_files", "detect_files", "terminal"},
    {"restoring"},
    {"web"},
    {"doctor"},
    {"answers"},
    {"cli_run"},
    {"cli_train", "cli_detect", "cli_restore", "cli_web"},
    {"cli"},
    {"__main__"},
)
MAX_LINES = 400


def tracked() -> list[Path]:
    """The files of the repository, as git knows them or would."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def part_of(module: Path) -> str:
    """'errors' for repaint/errors.py, 'weights' for repaint/weights/store.py."""
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def parts_imported(module: Path) -> Iterator[tuple[int, str]]:
    """Line and part of every import of this package in a module, also inside functions and for types alone."""
    package = ["repaint", *module.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            full = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module or "").split(".")] if node.module else base
            full = [[*base, alias.name] for alias in node.names]
        else:
            continue
        yield from ((node.lineno, names[1]) for names in full if names[0] == "repaint" and len(names) > 1)


def test_every_module_has_a_floor():
    assert {part_of(module) for module in MODULES} - {"__init__"} == set().union(*FLOORS)


@pytest.mark.parametrize(
    "module", [m for m in MODULES if m != PACKAGE / "__init__.py"], ids=lambda m: str(m.relative_to(PACKAGE))
)
def test_module_imports_only_from_floors_below_and_its_own_package(module):
    floor_of = {part: height for height, floor in enumerate(FLOORS) for part in floor}
    own = part_of(module)
    wrong = [
        f"line {line}: {part}"
        for line, part in parts_imported(module)
        if part != own and not floor_of[part] < floor_of[own]
    ]
    assert not wrong


def test_imports_are_found_in_every_way_they_can_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    module = tmp_path / "weights" / "x.py"
    module.parent.mkdir()
    module.write_text(
        "import repaint.errors\nfrom repaint import masks\nfrom .. import files\nfrom ..config import a\n"
        "def f():\n    from ..jobs.running import run\n    from . import store\n"
        "import torch, os\nfrom repaint.cli import b\n"
    )
    assert list(parts_imported(module)) == [
        *[(1, "errors"), (2, "masks"), (3, "files"), (4, "config"), (9, "cli")],
        *[(6, "jobs"), (7, "weights")],
    ]


def test_no_file_of_code_is_longer_than_it_should_be():
    counted = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in tracked() if path.suffix == ".py"}
    assert {path: lines for path, lines in counted.items() if lines > MAX_LINES} == {}


def test_no_file_knows_the_machine_it_was_written_on():
    outside = re.compile(rb"/(work|home|root|Users)/\w|/tmp/[a-z]")
    text = [path for path in tracked() if path.suffix not in (".png", ".jpg", ".safetensors", ".npz")]
    found = {path.relative_to(ROOT): m.group() for path in text if (m := outside.search(path.read_bytes()))}
    assert found.keys() <= {Path("tests/test_structure.py")}


# ---- the outside


def test_public_names_are_these():
    assert set(repaint.__all__) == repaint._HOME.keys()
    assert list(repaint.__all__) == sorted(repaint.__all__) == dir(repaint)
    assert repaint.__all__ == [
        *["Color", "ConfigError", "Faces", "ImageError", "Inpaint", "Meta", "Photo", "Repaint", "RepaintError"],
        *["Report", "Restore", "RunConfig", "RunError", "RunStopped", "Sampler", "Scratches", "Status", "Upscale"],
        *["WeightsError", "load_classifier", "load_prior", "make_mask", "read_config", "read_mask", "read_photo"],
        *["restore", "run", "write_mask", "write_photo"],
    ]
    assert repaint.__version__ == importlib.metadata.version("repaint")


@pytest.mark.parametrize("name", repaint.__all__)
def test_public_name_is_there_documented_and_at_home(name):
    found = getattr(repaint, name)
    assert inspect.getdoc(found)
    assert found is getattr(importlib.import_module(f"repaint.{repaint._HOME[name]}"), name)


def test_type_checkers_see_the_same_public_names():
    (guarded,) = [n for n in ast.parse((PACKAGE / "__init__.py").read_text()).body if isinstance(n, ast.If)]
    seen = {a.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for a in node.names}
    assert seen == repaint._HOME


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="module 'repaint' has no attribute 'paint'"):
        repaint.paint  # noqa: B018


# ---- what is imported when

HEAVY = ("torch", "numpy", "PIL", "cv2", "pyvips", "diffusers", "transformers", "safetensors", "rich.progress")
UNKNOWN = "images: a\nmasks: b\noutput: c\nsed: 1\nstages: [inpaint: {}]\n"
OLD = """\
model_path: a.pt
image_size: 256
use_ddim: true
schedule_jump_params: {t_T: 250, n_sample: 1, jump_length: 10, jump_n_sample: 10}
data: {eval: {x: {gt_path: a, mask_path: b, paths: {srs: c}}}}
"""
RUNS = {
    "import repaint": None,
    "version": ["--version"],
    "help": ["--help"],
    **{
        f"help of {c}": [*c.split(), "--help"]
        for c in ("run", "inpaint", "masks", "detect", "weights", "schema", "weights get")
    },
    "schema": ["schema"],
    "unknown key": ["run", "unknown.yml"],
    "no such file": ["run", "gone.yml"],
    "wrong override": ["run", "unknown.yml", "--set", "stages.0.inpaint.sampler.repaint.t_T=x"],
    "published config": ["run", "old.yml"],
    "wrong option": ["inpaint", "a.png", "--mask", "b.png", "--out", "c.png", "--device", "gpu"],
}


@pytest.mark.parametrize("case", RUNS)
def test_help_and_config_errors_load_nothing_heavy(case, tmp_path):
    (tmp_path / "unknown.yml").write_text(UNKNOWN)
    (tmp_path / "old.yml").write_text(OLD)
    words = RUNS[case]
    act = "import repaint" if words is None else f"sys.argv[1:] = {words!r}; from repaint.cli import main; main()"
    tell = f"print(*[m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    code = f"import sys\ntry:\n    {act}\nfinally:\n    {tell}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == ""
    is_wrong = words is not None and words[0] in ("run", "inpaint") and "--help" not in words
    assert done.returncode == (2 if is_wrong else 0)
