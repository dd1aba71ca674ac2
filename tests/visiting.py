"""The web page's server, and what a browser does with it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Visitor:
    """What a browser does: it uploads, clicks, and hears what becomes of it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.session = uuid.uuid4().hex[:10]
        config = json.loads(self.get("config"))
        self.places = {handler["api_name"]: handler["id"] for handler in config["dependencies"]}

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"{self.address}{path}") as answer:
            return answer.read()

    def post(self, path: str, body: bytes, kind: str = "application/json") -> Any:
        asked = urllib.request.Request(f"{self.address}gradio_api/{path}", body, {"Content-Type": kind})
        with urllib.request.urlopen(asked) as answer:
            return json.load(answer)

    def upload(self, path: Path) -> dict[str, Any]:
        head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{path.name}"\r\n\r\n'
        body = head.encode() + path.read_bytes() + b"\r\n--x--\r\n"
        (there,) = self.post("upload", body, "multipart/form-data; boundary=x")
        return {"path": there, "meta": {"_type": "gradio.FileData"}}

    def did(self, handler: str, *values: Any) -> list[Any]:
        """What the page is when a handler is through, output by output."""
        asked = {"fn_index": self.places[handler], "data": values, "session_hash": self.session}
        self.post("queue/join", json.dumps(asked).encode())
        with urllib.request.urlopen(f"{self.address}gradio_api/queue/data?session_hash={self.session}") as stream:
            for line in stream:
                said = json.loads(line[5:]) if line.startswith(b"data:") else {}
                if said.get("msg") == "process_completed":
                    assert said["success"], said
                    return said["output"]["data"]
        raise AssertionError("the server fell silent")


def words(outputs: list[Any]) -> str:
    (found,) = [output for output in outputs if isinstance(output, str)]
    return found


def values(outputs: list[Any]) -> list[Any]:
    return [output["value"] for output in outputs if isinstance(output, dict) and output.get("value")]


RESTORE = [True, False, False, False, "fast", "as it is", 0.5, 0.8, 0]  # scratches alone


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str], Path]]:
    """A server's address, process and temporary folder."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [sys.executable, "-m", "repaint", "web", "--port", str(port), "--device", "cpu"]
    env = {**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored, where tests run in the background
    )
    assert process.stderr is not None
    try:
        address = f"http://127.0.0.1:{port}/"
        assert process.stderr.readline() == f"repaint: the page is at {address} (Ctrl-C ends it)\n"
        yield address, process, folder
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
