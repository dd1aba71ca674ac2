"""Weights served on loopback, to fetch them from there."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from repaint.weights.catalog import Entry, Url

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


def in_folder(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:  # closes the socket and waits for its threads
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()


def entry_at(url: str) -> Entry:
    """What the catalogue might say of the served bytes."""
    return Entry(
        name="w",
        file="w.pt",
        kind="prior",
        source=Url(url),
        page="https://example.org",
        purpose="a test",
        licence="research only",
        commercial=False,
        sha256=sha256(BYTES),
    )
