"""Runs over very many photos: what is read ahead, what is written beside others, what must not grow."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from pydantic import ValidationError

from repaint.errors import RunError
from repaint.jobs import pairing, reading
from repaint.jobs.running import run

from .test_run import config, dataset, results


def test_pairing_looks_at_each_name_a_few_times_however_many_there_are(tmp_path, monkeypatch):
    looked, stem = [], pairing._stem
    monkeypatch.setattr(pairing, "_stem", lambda name: looked.append(name) or stem(name))
    names = [f"{i:03}.png" for i in range(300)]
    paired, remarks = pairing._by_stem(names, [*names, "spare.png"], config(tmp_path))
    assert paired == names
    assert len(remarks) == 1
    assert len(looked) < 10 * len(names)


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_photos_are_read_ahead_than_there_is_room_for(tmp_path, monkeypatch, workers):
    dataset(tmp_path, *(f"{i:02}.png" for i in range(12)))
    held, most, lock = [], [], threading.Lock()
    load = reading.load

    def counted(item, *more):
        found = load(item, *more)
        with lock:
            held.append(item.name)
            most.append(len(held))
        return found

    monkeypatch.setattr(reading, "load", counted)
    monkeypatch.setattr(reading, "AHEAD_PIXELS", 2 * 16 * 16)
    run_config = config(tmp_path, workers=workers)
    items, _ = pairing.paired(run_config)
    order = []
    for found in reading.read_ahead(items, run_config, lambda *_: False, ahead=10):
        threading.Event().wait(0.02)  # the threads have time to go on
        with lock:
            held.remove(found.item.name)
        order.append(found.item.name)
    assert order == sorted(order)
    assert len(order) == 12
    assert max(most) <= 2 + workers + 1  # the one that is asked for has left its room


def test_a_trial_of_one_photo_gives_no_leave_to_overwrite_files_of_others(tmp_path):
    dataset(tmp_path, "a.png", "b.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.png").write_bytes(b"of somebody")
    assert run(config(tmp_path, limit=1)).done == 1
    with pytest.raises(RunError, match=r"b\.png: is there already, and of no run"):
        run(config(tmp_path))
    assert (tmp_path / "out" / "b.png").read_bytes() == b"of somebody"
    (tmp_path / "out" / "b.png").unlink()
    assert run(config(tmp_path)).skipped == 1
    assert run(config(tmp_path)).skipped == 2


def test_two_runs_share_a_folder_of_results(tmp_path):
    dataset(tmp_path, "a.png", "b.png", "c.png")
    whole = run(config(tmp_path, "whole"))
    shared = {"results": str(tmp_path / "shared")}
    for n, part in enumerate(({"limit": 2}, {"offset": 2})):
        run(config(tmp_path, f"part{n}", folders=shared, **part))
    kept = {name: data for name, data in results(whole.output).items() if "/" not in name}
    assert results(tmp_path / "shared") == kept


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        ({"originals": "out"}, "found one folder, DIR/out, as output and folders.originals; each needs its own"),
        ({"originals": "m", "masks": "m/"}, "as folders.originals and folders.masks; each needs its own"),
        ({"results": "r", "masked": "r"}, "as folders.results and folders.masked; each needs its own"),
    ],
)
def test_folders_whose_pictures_would_overwrite_one_another_are_refused(tmp_path, folders, words):
    with pytest.raises(ValidationError) as error:
        config(tmp_path, folders={key: f"{tmp_path}/{place}" for key, place in folders.items()})
    assert words in str(error.value).replace(str(tmp_path), "DIR")


def test_a_folder_with_the_name_of_a_result_fails_its_photo_alone(tmp_path):
    dataset(tmp_path, "a.png", "b.png")
    Path(tmp_path, "out", "a.png").mkdir(parents=True)
    report = run(config(tmp_path))
    assert (report.done, report.failed) == (1, 1)
    assert "a.png: a folder has the name of its result" in {r.note for r in report.records}


def test_what_the_watcher_raises_ends_the_run_and_fails_no_photo(tmp_path):
    dataset(tmp_path, "a.png", "b.png")

    def watch(status):
        if status.share:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run(config(tmp_path), watch)
    assert run(config(tmp_path)).done == 2
    assert "failed" not in (tmp_path / "out" / "manifest.jsonl").read_text()
