"""Paths that `blobfile` opens, gs:// and its like, are as good as local ones."""

from __future__ import annotations

import inspect
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from repaint import files
from repaint.errors import RunError, RunStopped
from repaint.jobs import RunConfig
from repaint.jobs.manifest import SO_MANY, Manifest, Record
from repaint.jobs.running import run

from .test_run import config, dataset, lines, results

AZURE = "https://account.blob.core.windows.net/"


class Bucket(ModuleType):
    """`blobfile`, in memory: objects are bytes under names, and folders are what names have in common.

    Attributes:
        refuses: names, or what they end in, that cannot be opened.
    """

    class Error(Exception):
        def __init__(self, message: str, *args) -> None:
            self.message = message
            super().__init__(message, *args)

    def __init__(self) -> None:
        super().__init__("blobfile")
        self.objects: dict[str, bytes] = {}
        self.refuses: tuple[str, ...] = ()

    def BlobFile(
        self,
        path,
        mode="r",
        streaming=None,
        buffer_size=None,
        cache_dir=None,
        file_size=None,
        version=None,
        partial_writes_on_exc=True,
    ):
        if path.endswith(self.refuses or ("\0",)):
            raise self.Error(f"message: 403 for {path}")
        if mode == "rb":
            if path not in self.objects:
                raise FileNotFoundError(2, "No such file or directory", path)
            return io.BytesIO(self.objects[path])
        assert mode == "wb"
        return Writing(self.objects, path, partial_writes_on_exc)

    def exists(self, path):
        return path in self.objects or self.isdir(path)

    def isdir(self, path):
        return any(name.startswith(path.rstrip("/") + "/") for name in self.objects)

    def walk(self, top, topdown=True, onerror=None):
        """Folder by folder, with Azure's https:// spelled az://, as `blobfile` does."""
        waiting = [top.rstrip("/").replace(AZURE, "az://account/")]
        spelled = {name.replace(AZURE, "az://account/") for name in self.objects}
        while waiting:
            at = waiting.pop(0)
            below = [name[len(at) + 1 :] for name in spelled if name.startswith(at + "/")]
            folders = sorted({name.split("/")[0] for name in below if "/" in name})
            yield at, folders, sorted(name for name in below if "/" not in name)
            waiting += [f"{at}/{folder}" for folder in folders]

    def listdir(self, path, shard_prefix_length=0):
        _, folders, names = next(self.walk(path))
        return iter([*folders, *names])


class Writing(io.BytesIO):
    """An object that appears when it is closed, unless an exception came before and partial writes are not wanted."""

    def __init__(self, objects: dict[str, bytes], name: str, partial: bool) -> None:
        super().__init__()
        self.objects, self.name, self.partial, self.spoilt = objects, name, partial, False

    def __exit__(self, kind, *rest) -> None:
        self.spoilt = kind is not None
        super().__exit__(kind, *rest)

    def close(self) -> None:
        if not self.closed and (self.partial or not self.spoilt):
            self.objects[self.name] = self.getvalue()
        super().close()


@pytest.fixture
def bucket(monkeypatch) -> Bucket:
    bucket = Bucket()
    monkeypatch.setitem(sys.modules, "blobfile", bucket)
    return bucket


@pytest.fixture
def local(tmp_path) -> Path:
    """A dataset, and in out/ a run over it."""
    dataset(tmp_path, "a.png", "b.png", "deep/a.png")
    run(config(tmp_path))
    return tmp_path


def upload(bucket: Bucket, folder: Path, root: str) -> None:
    for key in ("images", "masks"):
        for path in (folder / key).rglob("*.png"):
            bucket.objects[f"{root}/{path.relative_to(folder).as_posix()}"] = path.read_bytes()


def remote(folder: Path, root: str, **changed) -> RunConfig:
    places = {"images": f"{root}/images", "masks": f"{root}/masks/", "output": f"{root}/out"}
    return config(folder).model_copy(update={**places, **changed})


def below(bucket: Bucket, folder: str) -> dict[str, bytes]:
    names = (name for name in bucket.objects if name.startswith(f"{folder}/"))
    return {name[len(folder) + 1 :]: bucket.objects[name] for name in names}


def pictures(bucket: Bucket, folder: str) -> dict[str, bytes]:
    return {name: data for name, data in below(bucket, folder).items() if name.endswith((".png", ".jpg"))}


@pytest.mark.parametrize("name", ["BlobFile", "exists", "isdir", "walk", "listdir"])
def test_the_bucket_of_these_tests_is_called_as_blobfile_is(name):
    blobfile = pytest.importorskip("blobfile")
    theirs, ours = (
        [(p.name, p.kind, p.default) for p in inspect.signature(getattr(module, name)).parameters.values()]
        for module in (blobfile, Bucket())
    )
    assert ours == theirs
    assert issubclass(blobfile.Error, Exception)
    assert blobfile.Error("why").message == Bucket.Error("why").message


@pytest.mark.parametrize("root", ["gs://bucket", "gs://bucket/some/where", "az://account/box", f"{AZURE}box/some"])
def test_a_remote_run_gives_the_bytes_of_a_local_one(bucket, local, root):
    upload(bucket, local, root)
    report = run(remote(local, root))
    assert (report.done, report.failed) == (3, 0)
    assert pictures(bucket, f"{root}/out") == results(local / "out")
    assert set(below(bucket, f"{root}/out")) - set(results(local / "out")) == {
        "config.yml",
        "manifest.jsonl",
        "manifest.latest.jsonl",
        "report.html",
    }
    assert bucket.objects[f"{root}/out/manifest.latest.jsonl"] == b""
    page = bucket.objects[f"{root}/out/report.html"].decode()
    assert {name: f'href="{name}"' in page for name in [r.output for r in report.records]} == dict.fromkeys(
        [r.output for r in report.records], True
    )


def test_images_there_may_have_results_here(bucket, local):
    upload(bucket, local, "gs://bucket")
    run(remote(local, "gs://bucket", output=str(local / "mixed")))
    assert results(local / "mixed") == results(local / "out")
    assert [r["name"] for r in lines(local / "mixed")] == ["a.png", "b.png", "deep/a.png"]


def test_a_remote_run_that_was_stopped_goes_on(bucket, local):
    upload(bucket, local, "gs://bucket")
    ready: Iterator[int] = iter(range(8))

    def watch(status) -> None:
        if status.share and next(ready, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(remote(local, "gs://bucket"), watch)
    report = run(remote(local, "gs://bucket"))
    assert (report.done, report.skipped) == (2, 1)
    assert pictures(bucket, "gs://bucket/out") == results(local / "out")
    assert bucket.objects["gs://bucket/out/manifest.jsonl"].count(b'"done"') == 3


def test_records_of_a_bucket_are_many_small_objects_and_seldom_a_large_one(bucket, monkeypatch):
    written = []
    monkeypatch.setattr(files, "write_bytes", lambda path, data: written.append((path, data)) or store(path, data))
    store = bucket.objects.__setitem__
    manifest = Manifest("gs://bucket/out")
    records = [Record(f"{i}.png", 0, "done", "f", i, "w") for i in range(2 * SO_MANY + 20)]
    for record in records:
        manifest.add(record)
        assert Manifest("gs://bucket/out").records == manifest.records  # nothing is lost by a kill
    assert sum(path == manifest.path for path, _ in written) == 2
    written.clear()
    manifest.settle()
    manifest.settle()
    assert [path for path, data in written if data] == [manifest.path]
    assert list(Manifest("gs://bucket/out").records.values()) == records


@pytest.mark.parametrize("lost", ["manifest.jsonl", "manifest.latest.jsonl"])
def test_a_bucket_that_fails_while_records_settle_loses_none(bucket, lost):
    manifest = Manifest("gs://bucket/out")
    for i in range(SO_MANY - 1):
        manifest.add(Record(f"{i}.png", 0, "done", "f", i, "w"))
    bucket.refuses = (f"/{lost}",)
    with pytest.raises(OSError, match="403"):
        manifest.add(Record("last.png", 0, "done", "f", 1, "w"))
    bucket.refuses = ()
    assert len(Manifest("gs://bucket/out").records) >= SO_MANY - 1
    manifest.settle()
    assert len(Manifest("gs://bucket/out").records) == SO_MANY


def test_one_remote_file_is_a_run_of_one(bucket, local):
    upload(bucket, local, "gs://bucket")
    run(remote(local, "gs://bucket", images="gs://bucket/images/b.png", masks="gs://bucket/masks/b.png"))
    assert pictures(bucket, "gs://bucket/out").items() <= results(local / "out").items()
    assert "gs://bucket/out/b.png" in bucket.objects


def test_a_remote_photo_that_cannot_be_read_fails_alone(bucket, local):
    upload(bucket, local, "gs://bucket")
    bucket.refuses = ("images/b.png",)
    report = run(remote(local, "gs://bucket"))
    assert (report.done, report.failed) == (2, 1)
    assert [r.note for r in report.records if r.status == "failed"] == [
        "gs://bucket/images/b.png: cannot be read: message: 403 for gs://bucket/images/b.png"
    ]


@pytest.mark.parametrize(("refused", "error"), [("out/config.yml", RunError), ("out/b.png", RunStopped)])
def test_a_remote_output_that_cannot_be_written_is_said_in_one_line(bucket, local, refused, error):
    upload(bucket, local, "gs://bucket")
    bucket.refuses = (refused,)
    with pytest.raises(error, match=f"^gs://bucket/out: cannot be written: message: 403 for gs://bucket/{refused}"):
        run(remote(local, "gs://bucket"))
    bucket.refuses = ()
    run(remote(local, "gs://bucket"))
    assert pictures(bucket, "gs://bucket/out") == results(local / "out")


@pytest.mark.parametrize("key", ["images", "masks"])
def test_a_remote_folder_that_is_not_there_is_refused(bucket, local, key):
    upload(bucket, local, "gs://bucket")
    with pytest.raises(RunError, match=f"^{key}: gs://bucket/nowhere does not exist"):
        run(remote(local, "gs://bucket", **{key: "gs://bucket/nowhere"}))


def test_an_address_that_blobfile_does_not_know_is_refused_in_one_line(local):
    pytest.importorskip("blobfile")
    with pytest.raises(RunError, match=r"^images: ftp://host/images cannot be listed: [^\n]+$"):
        run(config(local, images="ftp://host/images"))


def test_a_remote_write_that_is_interrupted_leaves_the_old_object(bucket, monkeypatch):
    files.write_bytes("gs://bucket/a.bin", b"old")

    def half(self, data) -> None:
        io.BytesIO.write(self, data[:1])
        raise KeyboardInterrupt

    monkeypatch.setattr(Writing, "write", half)
    with pytest.raises(KeyboardInterrupt):
        files.write_bytes("gs://bucket/a.bin", b"new")
    assert files.read_bytes("gs://bucket/a.bin") == b"old"
