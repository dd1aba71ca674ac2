from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from repaint.errors import WeightsError
from repaint.weights import store
from repaint.weights.catalog import CATALOG, Embedded, HuggingFace, Url, find
from repaint.weights.store import fetch, path_of, sha256_of

ROOT = Path(__file__).parents[1]


def test_names_and_files_are_unique():
    assert len({entry.name for entry in CATALOG}) == len(CATALOG)
    assert len({entry.file for entry in CATALOG}) == len(CATALOG)


@pytest.mark.parametrize("entry", CATALOG, ids=lambda e: e.name)
def test_entry_tells_licence_page_purpose_and_a_well_formed_hash(entry):
    assert entry.licence
    assert entry.purpose
    assert entry.page
    assert entry.sha256 is None or re.fullmatch("[0-9a-f]{64}", entry.sha256)
    assert "\n" not in entry.purpose + entry.licence
    assert entry.size
    assert not (entry.commercial and re.search(r"research only|NC|not stated", entry.licence))
    assert {hash(entry)}  # usable as a key, hints and all


@pytest.mark.parametrize("entry", [e for e in CATALOG if e.kind in ("prior", "classifier")], ids=lambda e: e.name)
def test_weights_that_do_not_describe_themselves_have_hints(entry):
    described = isinstance(entry.source, HuggingFace)
    assert described or {"image_size", "num_head_channels", "use_new_attention_order"} <= entry.hints.keys()
    with pytest.raises(TypeError):
        entry.hints["image_size"] = 1


@pytest.mark.parametrize("entry", [e for e in CATALOG if e.embedded], ids=lambda e: e.name)
def test_embedded_file_is_there_and_is_what_the_catalogue_says(entry, tmp_path):
    path = fetch(entry, tmp_path)
    assert path == path_of(entry)
    assert sha256_of(path) == entry.sha256
    assert path.stat().st_size == entry.size_bytes
    with open(path, "rb") as f:
        metadata = json.loads(f.read(int.from_bytes(f.read(8), "little")))["__metadata__"]
    architecture = json.loads(metadata["architecture"])
    assert entry.hints.items() <= architecture.items()
    assert metadata["licence"] == entry.licence


def test_every_embedded_file_has_an_entry():
    lying = {path.name for path in (ROOT / "repaint" / "weights" / "embedded").glob("*.safetensors")}
    assert lying == {entry.file for entry in CATALOG if entry.embedded}


def test_damaged_package_is_said_and_not_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_EMBEDDED", tmp_path)
    entry = replace(find("base-64"), source=Embedded())
    with pytest.raises(WeightsError, match="install repaint again"):
        fetch(entry, tmp_path)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("celebahq256", "celebahq-256"), ("gfpganv1.4", "GFPGANv1.4"), ("restoreformer", "RestoreFormer")],
)
def test_unknown_name_is_told_the_closest_in_any_case_and_where_all_are(asked, meant):
    assert find("places-256").name == "places-256"
    with pytest.raises(WeightsError, match=rf"'{asked}'.*did you mean '{meant}'\?.*repaint weights list"):
        find(asked)


RELEASED = [e for e in CATALOG if isinstance(e.source, Url) and "/releases/download/" in e.source.url]


@pytest.mark.parametrize("entry", RELEASED, ids=lambda e: e.name)
def test_released_file_keeps_its_name_and_lies_with_its_project(entry):
    """facexlib and realesrgan look for their own names; a name of another file would be a wrong address."""
    assert entry.source.url.startswith("https://github.com/")
    assert entry.source.url.endswith(f"/{entry.file}")
    assert entry.file.startswith(entry.name)


@pytest.mark.parametrize("name", [e.name for e in CATALOG if e.kind == "face-parts" and not e.embedded])
def test_facexlib_asks_for_the_addresses_of_the_catalogue(name):
    """Then it finds what lies there already, and fetches nothing on its own."""
    spec = importlib.util.find_spec("facexlib")  # not imported, which takes seconds
    code = "".join(path.read_text() for path in Path(spec.origin).parent.glob("*/__init__.py"))
    assert f"'{find(name).source.url}'" in code


def test_what_no_command_can_fetch_is_told_how_to_get_and_where_to_put(tmp_path):
    entry = find("bopbtl-scratches")
    with pytest.raises(WeightsError, match=r"by hand from https://\S+ to .*FT_Epoch_latest\.pt: .*gone.*\.zip"):
        fetch(entry, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / entry.file).write_bytes(b"weights")
    assert fetch(entry, tmp_path) == tmp_path / entry.file


def test_catalogue_and_store_do_without_heavy_libraries():
    code = (
        "import sys, repaint.weights.store; "
        "print([m for m in ('torch', 'numpy', 'gdown', 'huggingface_hub', 'filelock') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
