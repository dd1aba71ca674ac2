"""What a terminal shows, and what is written where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from repaint import terminal
from repaint.jobs.running import Status

pty = pytest.importorskip("pty", reason="no terminals here")

BARS = {
    "watching": """
from repaint.jobs.running import Status
with terminal.watching() as tell:
    time.sleep(0.3)
    tell(Status(0, 0, 1, 4))
    tell(Status(0, 0, 1, 4, working_on=("a.png", "b.png"), share=0.5))
    tell(Status(2, 1, 1, 4, remark="a remark"))
    time.sleep(0.3)
    tell(Status(2, 1, 1, 4))
    time.sleep(0.3)
""",
    "stage_bar": """
with terminal.stage_bar("a [name]") as tell:
    time.sleep(0.3)
    tell(types.SimpleNamespace(total=8, done=3))
    time.sleep(0.3)
""",
    "restore_bar": """
with terminal.restore_bar("a [name]") as tell:
    time.sleep(0.3)
    tell(types.SimpleNamespace(share=0.5, stage="faces"))
    time.sleep(0.3)
""",
    "fetch_bar": """
with terminal.fetch_bar("a [name]") as tell:
    time.sleep(0.3)
    tell(10, None)
    tell(20, 100)
    time.sleep(0.3)
""",
}
SHOWN = {"watching": "3.0/3", "stage_bar": "3/8", "restore_bar": "faces", "fetch_bar": "20/100 bytes"}


def on_a_terminal(code: str) -> tuple[int, str]:
    """The exit status of a program whose errors go to a terminal, and what that shows."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", code], stderr=theirs, env={**os.environ, "COLUMNS": "120"}) as program:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # nobody writes any more
                break
            if not part:
                break
            shown += part
    os.close(ours)
    return program.returncode, shown.decode(errors="replace")


@pytest.mark.parametrize("bar", BARS)
def test_bars_go_from_their_beginning_to_their_end(bar):
    status, shown = on_a_terminal(f"import time, types\nfrom repaint import terminal\n{BARS[bar]}")
    assert status == 0, shown
    assert SHOWN[bar] in shown


def test_without_a_terminal_a_line_comes_now_and_then(monkeypatch, capsys):
    with terminal.stage_bar("a.png") as tell:
        tell(SimpleNamespace(total=8, done=3))
        assert capsys.readouterr().err == "", "at once"
        monkeypatch.setattr(terminal, "SECONDS_BETWEEN_LINES", -1)
        tell(SimpleNamespace(total=8, done=4))
    assert capsys.readouterr().err == "repaint: a.png: 4 of 8 network calls\n"
    with terminal.restore_bar("b.png") as tell:
        tell(SimpleNamespace(share=0.5, stage="faces"))
        monkeypatch.setattr(terminal, "TELLING_S", -1)
        tell(SimpleNamespace(share=0.5, stage="faces"))
    assert capsys.readouterr().err == (
        "repaint: b.png: faces, 50 % of all\nrepaint: b.png: faces, 50 % of all, about 0 s left\n"
    )


def test_a_photo_that_failed_is_not_counted_twice():
    status = Status(done=1, failed=1, skipped=0, total=2, working_on=("b.png",), share=0.9)
    assert terminal._made(status) == 2


def test_how_long_work_may_take_is_said_once_it_can_be_told():
    assert terminal.about_left(0.5, 3) == ""
    assert terminal.about_left(0.01, 60) == ""
    assert terminal.about_left(0.25, 30) == ", about 90 s left"
    assert terminal.about_left(0.1, 30) == ", about 4 min left"
    assert terminal.about_left(1.0, 30) == ", about 0 s left"
