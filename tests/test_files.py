"""Files: whole or not there, and listed the same everywhere."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time

import pytest

from repaint import files

ENDINGS = (".png", ".jpg")


def test_what_is_written_is_read_back_and_folders_are_made(tmp_path):
    files.write_bytes(tmp_path / "a" / "b" / "c.bin", b"new")
    assert files.read_bytes(tmp_path / "a" / "b" / "c.bin") == b"new"
    assert os.listdir(tmp_path / "a" / "b") == ["c.bin"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch, step, error):
    files.write_bytes(tmp_path / "a.bin", b"old")

    def fails(*args) -> None:
        raise error

    monkeypatch.setattr(os, step, fails)
    with pytest.raises(type(error)):
        files.write_bytes(tmp_path / "a.bin", b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    order, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda *args: (order.append("fsync"), fsync(*args)))
    monkeypatch.setattr(os, "replace", lambda *args: (order.append("replace"), replace(*args)))
    files.write_bytes(tmp_path / "a.bin", b"new")
    assert order == ["fsync", "replace"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_rights_that_open_would_give_it(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        files.write_bytes(tmp_path / "a.bin", b"")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == mode


def test_temporary_files_of_the_killed_are_removed_and_nothing_else(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as killed:
        pass
    dead, alive = (f"{files._machine()}{process:x}-abc_1.part" for process in (killed.pid, os.getppid()))
    stay = ["a.png", "b.part", ".hidden", "deep/a.png", f".a.png.{alive}", f".a.png.0000{killed.pid:x}-abc.part"]
    old, of_others = ".b.png.00001f-abc.part", ".movie.mkv.part"
    for name in (*stay, old, of_others, f".a.png.{dead}", f"deep/.a.png.{dead}"):
        files.write_bytes(tmp_path / name, b"")
    stay.append(of_others)
    a_week_ago = time.time() - 7 * 86_400
    for name in (old, of_others):
        os.utime(tmp_path / name, (a_week_ago, a_week_ago))
    files.remove_parts(tmp_path)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()) == sorted(stay)


def test_a_folder_that_is_not_there_holds_no_temporary_files(tmp_path):
    files.remove_parts(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_listing_leaves_out_the_hidden_and_other_endings(tmp_path):
    for name in ("b.PNG", "a.jpg", "a.txt", ".c.png", ".deep/d.png", "deep/.e/f.png", "deep/g.png"):
        files.write_bytes(tmp_path / name, b"")
    assert files.list_files(tmp_path, ENDINGS) == ["a.jpg", "b.PNG", "deep/g.png"]


def test_a_listing_below_a_hidden_folder_is_not_empty(tmp_path):
    files.write_bytes(tmp_path / ".cache" / "a.png", b"")
    assert files.list_files(tmp_path / ".cache", ENDINGS) == ["a.png"]


def test_a_listing_follows_links_to_folders_but_not_in_circles(tmp_path):
    files.write_bytes(tmp_path / "here" / "a.png", b"")
    files.write_bytes(tmp_path / "there" / "b.png", b"")
    (tmp_path / "here" / "more").symlink_to(tmp_path / "there")
    (tmp_path / "there" / "back").symlink_to(tmp_path / "here")
    assert files.list_files(tmp_path / "here", ENDINGS) == ["a.png", "more/b.png"]


def test_a_folder_that_cannot_be_listed_is_an_error_unless_it_is_hidden(tmp_path, monkeypatch):
    for name in ("a.png", "shut/b.png", ".hidden/c.png", "lost+found/d.png"):
        files.write_bytes(tmp_path / name, b"")
    scandir = os.scandir

    def refusing(folder):
        if str(folder) != str(tmp_path):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(PermissionError):
        files.list_files(tmp_path, ENDINGS)
    (tmp_path / "shut" / "b.png").unlink()
    (tmp_path / "shut").rmdir()
    assert files.list_files(tmp_path, ENDINGS) == ["a.png"]


@pytest.mark.parametrize(
    ("folder", "parts", "joined"),
    [
        ("a", ("b", "c.png"), "a/b/c.png"),
        ("a/", ("b.png",), "a/b.png"),
        ("gs://bucket/a/", ("b/c.png",), "gs://bucket/a/b/c.png"),
        ("az://account/box", ("b.png",), "az://account/box/b.png"),
    ],
)
def test_paths_join_here_and_there(folder, parts, joined):
    assert files.join(folder, *parts) == joined


@pytest.mark.parametrize(
    ("path", "seen_from", "relative"),
    [
        ("out/srs/a.png", "out", "srs/a.png"),
        ("srs/a.png", "out", "../srs/a.png"),
        ("gs://b/a.png", "out", "gs://b/a.png"),
    ],
)
def test_a_path_is_seen_from_a_folder(path, seen_from, relative):
    assert files.relative(path, seen_from) == relative


@pytest.mark.parametrize(
    ("path", "folder", "within"),
    [
        ("a", "a", True),
        ("a/b/c", "a", True),
        ("a/../b", "a", False),
        ("ab", "a", False),
        ("a", "a/b", False),
        ("gs://b/a/c", "gs://b/a/", True),
        ("gs://b/ab", "gs://b/a", False),
        ("gs://b/a", "a", False),
        ("a", "gs://b/a", False),
    ],
)
def test_a_path_lies_within_a_folder_or_not(path, folder, within):
    assert files.is_within(path, folder) is within


def test_a_link_into_a_folder_lies_within_it(tmp_path):
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    assert files.is_within(tmp_path / "link" / "new", tmp_path / "real")
