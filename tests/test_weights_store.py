from __future__ import annotations

import errno
import hashlib
import http.server
import inspect
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from repaint.errors import WeightsError
from repaint.weights import store
from repaint.weights.catalog import CATALOG, Drive, Embedded, Entry, HuggingFace, Url, find
from repaint.weights.store import fetch, is_present, path_of, sha256_of

ROOT = Path(__file__).parents[1]
BYTES = bytes(range(256)) * 20_000  # several chunks
HALF = 3_000_001


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` on loopback and remembers the Range header of every request.

    Attributes:
        ranges: whether Range headers are honoured.
        drops: for each coming request, after how many bytes of its body the connection breaks.
        status: answered to everything when not 200.
        go: bodies wait for it.
    """

    daemon_threads = False  # so that server_close waits for them

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.ranges, self.status = BYTES, True, 200
        self.drops: list[int] = []
        self.seen: list[str | None] = []
        self.go = threading.Event()
        self.go.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/w.pt"

    def handle_error(self, request, client_address) -> None:
        pass  # clients hang up in the middle here


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format, *args) -> None:
        pass

    def do_GET(self) -> None:
        told = self.headers["Range"]
        self.server.seen.append(told)
        content = self.server.content
        if self.server.status != 200:
            return self.send_error(self.server.status)
        start = int(re.fullmatch(r"bytes=(\d+)-", told)[1]) if told and self.server.ranges else 0
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.server.go.wait(10)
        end = start + self.server.drops.pop(0) if self.server.drops else len(content)
        self.wfile.write(content[start:end])
        return None


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(store, "RETRY_AFTER_S", (0.0, 0.0))
    with Server() as server:  # closes the socket and waits for its threads
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def entry(server):
    return Entry(
        name="w",
        file="w.pt",
        kind="prior",
        source=Url(server.url),
        page="https://example.org",
        purpose="a test",
        licence="research only",
        commercial=False,
        sha256=sha256(BYTES),
    )


def in_folder(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


# The transfer


def test_fetched_file_is_the_served_one_and_nothing_lies_beside_it(server, entry, tmp_path):
    path = fetch(entry, tmp_path / "new" / "folder")
    assert path.read_bytes() == BYTES
    assert in_folder(path.parent) == ["w.pt"]
    assert server.seen == [None]


def test_dropped_connection_is_taken_up_where_it_broke(server, entry, tmp_path):
    server.drops = [HALF, 5]
    assert fetch(entry, tmp_path).read_bytes() == BYTES
    assert server.seen == [None, f"bytes={HALF}-", f"bytes={HALF + 5}-"]


def test_short_transfer_says_how_much_came_and_the_same_call_resumes(server, entry, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "RETRY_AFTER_S", ())
    server.drops = [HALF]
    with pytest.raises(WeightsError, match=r"3,000,001 of 5,120,000 bytes came.*the same command resumes"):
        fetch(entry, tmp_path)
    assert in_folder(tmp_path) == ["w.pt.part"]
    assert not is_present(entry, tmp_path)
    assert fetch(entry, tmp_path).read_bytes() == BYTES
    assert server.seen == [None, f"bytes={HALF}-"]


def test_interrupted_by_the_user_then_resumed_equals_the_file(server, entry, tmp_path):
    def interrupt(done, total):
        if done > HALF:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(entry, tmp_path, report=interrupt)
    assert in_folder(tmp_path) == ["w.pt.part"]
    assert fetch(entry, tmp_path).read_bytes() == BYTES
    assert server.seen[1] not in (None, "bytes=0-")


def test_server_without_ranges_is_asked_for_everything_again(server, entry, tmp_path):
    server.ranges = False
    server.drops = [HALF]
    assert fetch(entry, tmp_path).read_bytes() == BYTES
    assert len(server.seen) == 2


def test_complete_part_is_checked_and_named_without_another_byte(server, entry, tmp_path):
    (tmp_path / "w.pt.part").write_bytes(BYTES)
    reported = []
    assert fetch(entry, tmp_path, report=lambda *said: reported.append(said)).read_bytes() == BYTES
    assert not reported


@pytest.mark.parametrize("ranges", [True, False])
def test_part_longer_than_the_file_is_thrown_away(server, entry, tmp_path, ranges):
    server.ranges = ranges
    (tmp_path / "w.pt.part").write_bytes(BYTES + b"more")
    assert fetch(entry, tmp_path).read_bytes() == BYTES


def test_report_grows_to_the_total_and_counts_what_was_there_before(server, entry, tmp_path):
    (tmp_path / "w.pt.part").write_bytes(BYTES[:HALF])
    reported = []
    fetch(entry, tmp_path, report=lambda *said: reported.append(said))
    done, totals = zip(*reported, strict=True)
    assert list(done) == sorted(done)
    assert done[0] > HALF
    assert done[-1] == len(BYTES)
    assert set(totals) == {len(BYTES)}


def test_two_fetches_at_once_make_one_transfer(server, entry, tmp_path):
    server.go.clear()
    said, waiting = [], threading.Event()

    def say(line):
        said.append(line)
        if "waiting" in line:
            waiting.set()

    both = [threading.Thread(target=fetch, args=(entry, tmp_path), kwargs={"say": say}) for _ in range(2)]
    for thread in both:
        thread.start()
    assert waiting.wait(10)
    server.go.set()
    for thread in both:
        thread.join()
    assert len(server.seen) == 1
    assert in_folder(tmp_path) == ["w.pt"]


# What was fetched


@pytest.mark.parametrize("part", [b"", b"a part of something else"])
def test_mismatch_names_both_hashes_and_leaves_nothing_behind(server, entry, tmp_path, part):
    server.content = b"not the weights" * 1000
    if part:
        (tmp_path / "w.pt.part").write_bytes(part)
    got = sha256(part + server.content[len(part) :])
    with pytest.raises(WeightsError, match=f"{got}.*{entry.sha256}"):
        fetch(entry, tmp_path)
    assert in_folder(tmp_path) == []


def test_present_file_is_not_fetched_again(server, entry, tmp_path):
    fetch(entry, tmp_path)
    server.seen.clear()
    said = []
    assert fetch(entry, tmp_path, say=said.append) == tmp_path / "w.pt"
    assert server.seen == said == []


def test_file_of_another_size_is_named_and_left_alone(server, entry, tmp_path):
    entry = replace(entry, size_bytes=len(BYTES))
    (tmp_path / "w.pt").write_bytes(b"half")
    assert not is_present(entry, tmp_path)
    with pytest.raises(WeightsError, match=r"w\.pt: 4 bytes, the catalogue says 5,120,000; delete it"):
        fetch(entry, tmp_path)
    assert (tmp_path / "w.pt").read_bytes() == b"half"
    assert server.seen == []


def test_hash_unknown_to_the_catalogue_is_said_and_written_beside_the_file(server, entry, tmp_path):
    said = []
    fetch(replace(entry, sha256=None), tmp_path, say=said.append)
    assert said[-1] == f"w.pt: sha256 unknown to the catalogue; this file has {sha256(BYTES)}"
    assert (tmp_path / "w.pt.sha256").read_text() == f"{sha256(BYTES)}  w.pt\n"


def test_licence_is_said_before_the_first_byte_and_plainly(server, entry, tmp_path):
    said = []
    server.status = 404
    with pytest.raises(WeightsError):
        fetch(entry, tmp_path, say=said.append)
    assert "licence: research only" in said[0]
    assert "NOT FOR COMMERCIAL USE" in said[1]
    said.clear()
    with pytest.raises(WeightsError):
        fetch(replace(entry, licence="Apache-2.0", commercial=True), tmp_path, say=said.append)
    assert "licence: Apache-2.0" in said[0]
    assert "COMMERCIAL" not in "".join(said)


# What goes wrong


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (503, 3)])
def test_refusal_is_one_line_and_only_a_server_in_trouble_is_asked_again(server, entry, tmp_path, status, tries):
    server.status = status
    with pytest.raises(WeightsError, match=rf"^http://127\S+: the server answers {status} [^\n]*$"):
        fetch(entry, tmp_path)
    assert len(server.seen) == tries
    assert in_folder(tmp_path) == []


def test_no_network_is_one_line(entry, tmp_path, monkeypatch):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]  # nobody listens here
        with pytest.raises(WeightsError, match=r"^[^\n]*cannot be reached[^\n]*refused[^\n]*$"):
            fetch(replace(entry, source=Url(f"http://127.0.0.1:{port}/w.pt")), tmp_path)


def test_silent_server_is_not_waited_for_for_ever(server, entry, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(store, "RETRY_AFTER_S", ())
    server.go.clear()
    with pytest.raises(WeightsError, match=r"0 of 5,120,000 bytes came, then timed out"):
        fetch(entry, tmp_path)


def test_folder_that_cannot_be_is_one_line(server, entry, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match=r"^[^\n]*file[^\n]*cannot be written: Not a directory$"):
        fetch(entry, tmp_path / "file" / "folder")
    assert server.seen == []


def test_disk_too_small_is_said_before_anything_is_written(server, entry, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(WeightsError, match=r"5,120,000 bytes are to come, the disk has 1,000 free"):
        fetch(entry, tmp_path)
    assert in_folder(tmp_path) == []


def test_disk_that_fills_up_is_one_line_and_what_came_stays(server, entry, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WeightsError, match=r"^[^\n]*w\.pt: cannot be written: No space left on device$"):
        fetch(entry, tmp_path)
    assert in_folder(tmp_path) == ["w.pt.part"]


# Google Drive and the Hugging Face hub, at the door of the installed libraries


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


# The catalogue


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


@pytest.mark.parametrize("entry", [e for e in CATALOG if e.kind != "masks"], ids=lambda e: e.name)
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


def test_unknown_name_is_told_the_closest_and_all_others():
    assert find("places-256").name == "places-256"
    with pytest.raises(WeightsError, match=r"'celebahq256'.*did you mean 'celebahq-256'\?.*known: base-64, .*repaint"):
        find("celebahq256")


def test_catalogue_and_store_do_without_heavy_libraries():
    code = (
        "import sys, repaint.weights.store; "
        "print([m for m in ('torch', 'numpy', 'gdown', 'huggingface_hub', 'filelock') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# download.sh

ECHO = '#!/bin/sh\necho "$0 $*"\n'


def script(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(ECHO)
    path.chmod(0o755)


@pytest.fixture
def download(tmp_path):
    """Runs a copy of download.sh from elsewhere, with only `repaint` of a temporary folder on its PATH."""
    shutil.copy(ROOT / "download.sh", tmp_path)
    script(tmp_path / "bin" / "repaint")
    env = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}

    def run(*words):
        done = subprocess.run([tmp_path / "download.sh", *words], env=env, cwd="/", capture_output=True, text=True)
        done.stdout = done.stdout.removeprefix(f"{tmp_path}/")
        return done

    return run


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("celebahq", "celebahq-256"),
        ("places", "places-256"),
        ("imagenet", "imagenet-256 imagenet-256-classifier"),
        ("imagenet-uncond", "imagenet-256-uncond"),
        ("celebahq places", "celebahq-256 places-256"),
        ("all", "celebahq-256 places-256 imagenet-256 imagenet-256-classifier imagenet-256-uncond"),
    ],
)
def test_download_sh_asks_for_the_weights_behind_each_word(download, words, names):
    done = download(*words.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"bin/repaint weights get {names}\n"
    assert [find(name).name for name in names.split()]


@pytest.mark.parametrize("words", [[], ["imagnet"], ["celebahq", "imagnet"], [""]])
def test_download_sh_shows_its_usage_and_exits_2_for_anything_else(download, words):
    done = download(*words)
    assert done.returncode == 2
    assert "usage: " in done.stderr
    assert "repaint weights get" not in done.stdout


def test_download_sh_prefers_the_virtual_environment_and_falls_back_to_python(download, tmp_path):
    script(tmp_path / "bin" / "python")
    script(tmp_path / ".venv" / "bin" / "repaint")
    assert download("places").stdout == ".venv/bin/repaint weights get places-256\n"
    shutil.rmtree(tmp_path / ".venv")
    (tmp_path / "bin" / "repaint").unlink()
    assert download("places").stdout == "bin/python -m repaint weights get places-256\n"
