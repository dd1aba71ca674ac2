from __future__ import annotations

import errno
import os
import shutil
import socket
import threading
from dataclasses import replace
from http.client import HTTPResponse
from types import SimpleNamespace

import pytest

from repaint.errors import WeightsError
from repaint.locks import alone_in
from repaint.weights import store
from repaint.weights.catalog import Url
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


@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN])
def test_network_that_goes_away_is_no_fault_of_the_disk_and_is_tried_again(
    server, entry, tmp_path, monkeypatch, number
):
    read, broken, said = HTTPResponse.read, [number], []

    def reading(response, *size):
        if broken and response.length < len(BYTES):
            raise OSError(number, os.strerror(broken.pop()))
        return read(response, *size)

    monkeypatch.setattr(HTTPResponse, "read", reading)
    assert fetch(entry, tmp_path, say=said.append).read_bytes() == BYTES
    assert f"then [Errno {number}] {os.strerror(number)}; trying again" in said[-1]


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_a_mount_without_flock_will_do(server, entry, tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def missing(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", missing)
    assert fetch(entry, tmp_path).read_bytes() == BYTES
    with alone_in(str(tmp_path)):
        pass


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
