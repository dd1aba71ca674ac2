from __future__ import annotations

import errno
import inspect
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from repaint.errors import WeightsError
from repaint.weights import store
from repaint.weights.catalog import Drive, HuggingFace
from repaint.weights.store import fetch, is_present

from .serving import BYTES, HALF, entry_at, in_folder, serving, sha256


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(store, "RETRY_AFTER_S", (0.0, 0.0))
    with serving() as server:
        yield server


@pytest.fixture
def entry(server):
    return entry_at(server.url)


def stand_in(monkeypatch, module, name, act):
    """Replace `module.name` by `act`, which is given the arguments as the real one would bind them."""
    real = inspect.signature(getattr(module, name))

    def called(*args, **kwargs):
        return act(real.bind(*args, **kwargs).arguments)

    monkeypatch.setattr(module, name, called)


@pytest.fixture
def on_drive(entry):
    return replace(entry, source=Drive("an-id"))


@pytest.fixture
def on_hub(entry):
    return replace(entry, file="folder", source=HuggingFace("some/repo", ("config.json", "w.bin")), sha256=None)


def test_drive_file_comes_through_gdown_quietly_resumable_and_checked(on_drive, tmp_path, monkeypatch):
    gdown = pytest.importorskip("gdown")
    reported = []

    def download(told):
        assert told["id"] == "an-id"
        assert told["quiet"]
        assert told["resume"]
        told["progress"](len(BYTES), None)
        Path(told["output"]).write_bytes(BYTES)

    stand_in(monkeypatch, gdown, "download", download)
    path = fetch(on_drive, tmp_path, report=lambda *said: reported.append(said))
    assert path.read_bytes() == BYTES
    assert in_folder(tmp_path) == ["w.pt"]
    assert reported == [(len(BYTES), None)]


def test_gdown_itself_keeps_what_came_and_resumes(server, on_drive, tmp_path, monkeypatch):
    gdown = pytest.importorskip("gdown")
    monkeypatch.setattr(store, "RETRY_AFTER_S", ())
    real = gdown.download
    stand_in(monkeypatch, gdown, "download", lambda told: real(**{**told, "id": None, "url": server.url}))
    server.drops = [HALF]
    with pytest.raises(WeightsError, match="same command resumes"):
        fetch(on_drive, tmp_path)
    assert not is_present(on_drive, tmp_path)
    assert fetch(on_drive, tmp_path).read_bytes() == BYTES
    assert re.fullmatch(r"bytes=[1-9]\d+-", server.seen[-1])  # whole chunks of what came
    assert in_folder(tmp_path) == ["w.pt"]


def test_wrong_drive_file_leaves_nothing_behind(on_drive, tmp_path, monkeypatch):
    gdown = pytest.importorskip("gdown")
    stand_in(monkeypatch, gdown, "download", lambda told: Path(told["output"]).write_bytes(b"<html>quota exceeded"))
    with pytest.raises(WeightsError, match="the catalogue says"):
        fetch(on_drive, tmp_path)
    assert in_folder(tmp_path) == []


def test_refusal_of_drive_is_one_line_that_tells_the_way_by_hand(on_drive, tmp_path, monkeypatch):
    gdown = pytest.importorskip("gdown")

    def refuse(_):
        raise gdown.exceptions.FileURLRetrievalError("Failed to retrieve file url:\n\n\tToo many users\n")

    stand_in(monkeypatch, gdown, "download", refuse)
    with pytest.raises(WeightsError, match=r"^[^\n]*Too many users[^\n]*drive\.google\.com[^\n]*an-id[^\n]*w\.pt$"):
        fetch(on_drive, tmp_path)


def hub_that_writes(*names):
    def snapshot_download(told):
        assert told["repo_id"] == "some/repo"
        assert told["allow_patterns"] == ["config.json", "w.bin"]
        folder = Path(told["local_dir"])
        (folder / ".cache" / "huggingface").mkdir(parents=True, exist_ok=True)
        bar = told["tqdm_class"](total=0, initial=0, unit="B", unit_scale=True, desc="bytes")
        for name in names:
            (folder / name).write_bytes(name.encode())
            bar.update(len(name))
        bar.close()
        with told["tqdm_class"](total=len(names), desc="files") as files:
            files.update(1000)

    return snapshot_download


def test_folder_of_the_hub_gets_its_name_only_when_whole(on_hub, tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    stand_in(monkeypatch, hub, "snapshot_download", hub_that_writes("config.json"))
    with pytest.raises(WeightsError, match=r"huggingface\.co/some/repo: w\.bin did not come; the same command resumes"):
        fetch(on_hub, tmp_path)
    assert in_folder(tmp_path) == ["folder.part"]
    monkeypatch.undo()
    stand_in(monkeypatch, hub, "snapshot_download", hub_that_writes("w.bin"))
    path = fetch(on_hub, tmp_path)
    assert is_present(on_hub, tmp_path)
    assert in_folder(path) == ["config.json", "w.bin"]
    assert in_folder(tmp_path) == ["folder", "folder.sha256"]


def test_files_of_the_hub_are_reported_in_bytes_without_a_printed_bar(on_hub, tmp_path, monkeypatch, capfd):
    hub = pytest.importorskip("huggingface_hub")
    stand_in(monkeypatch, hub, "snapshot_download", hub_that_writes("config.json", "w.bin"))
    reported = []
    fetch(on_hub, tmp_path, report=lambda *said: reported.append(said))
    assert reported == [(11, None), (16, None)]
    assert capfd.readouterr() == ("", "")


def test_hashes_of_a_folder_are_written_as_sha256sum_reads_them(on_hub, tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    stand_in(monkeypatch, hub, "snapshot_download", hub_that_writes("config.json", "w.bin"))
    fetch(on_hub, tmp_path)
    told = (tmp_path / "folder.sha256").read_text()
    assert told == f"{sha256(b'config.json')}  folder/config.json\n{sha256(b'w.bin')}  folder/w.bin\n"


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (ConnectionResetError(errno.ECONNRESET, "reset\nby peer"), "same command resumes"),
        (ValueError("no such repo"), "no such repo"),
        (OSError(errno.ENOSPC, "No space left on device"), "cannot be written: No space"),
    ],
)
def test_trouble_at_the_hub_is_one_line(on_hub, tmp_path, monkeypatch, trouble, said):
    hub = pytest.importorskip("huggingface_hub")

    def fail(_):
        raise trouble

    stand_in(monkeypatch, hub, "snapshot_download", fail)
    with pytest.raises(WeightsError, match=rf"^[^\n]*{said}[^\n]*$"):
        fetch(on_hub, tmp_path)


@pytest.mark.parametrize(("where", "library"), [("on_drive", "gdown"), ("on_hub", "huggingface_hub")])
def test_missing_library_is_named_with_its_install_command(where, library, tmp_path, monkeypatch, request):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(WeightsError, match=f"pip install {library}"):
        fetch(request.getfixturevalue(where), tmp_path)
