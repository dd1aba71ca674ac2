"""The server of the page."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable

from ..errors import ConfigError, RunError
from ..stages.progress import Device, Precision

LOCAL = ("127.0.0.1", "localhost", "::1")


def serve(
    *,
    host: str,
    port: int,
    device: Device,
    precision: Precision,
    max_pixels: int,
    in_browser: bool,
    say: Callable[[str], None],
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        say: told where the page is.

    Raises:
        ConfigError: if gradio is missing, or the device is not there.
        RunError: if the port is taken.
    """
    taken = RunError(f"--port {port}: cannot be had on {host}; some other program has it, perhaps")
    with socket.socket(
        socket.AF_INET6 if ":" in host else socket.AF_INET
    ) as door:  # before gradio, which takes seconds
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((host, port))
        except OSError:
            raise taken from None
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # a page for family photos tells nobody that it is used
    try:
        import gradio  # noqa: F401
    except ImportError as e:
        raise ConfigError(f"the web page takes gradio ({e}): pip install '.[web]'") from None
    from ..stages.device import chosen_device
    from .page import CSS, PAINTED, Offer, page, theme

    chosen_device(device)
    with tempfile.TemporaryDirectory(prefix="repaint-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        blocks = page(Offer(device, precision, max_pixels))
        try:
            _, address, _ = blocks.launch(
                server_name=host,
                server_port=port,
                inbrowser=in_browser,
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                ssr_mode=False,
                show_error=False,
                max_file_size="500mb",
                footer_links=[],
                run_history=False,
                css=CSS,
                js=PAINTED,
                theme=theme(),
            )
        except OSError:
            raise taken from None
        say(f"the page is at {address} (Ctrl-C ends it)")
        if host not in LOCAL:
            say(f"--host {host}: whoever reaches this machine can use the page")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # however it is ended, no photo stays behind
        try:
            threading.Event().wait()
        finally:
            blocks.close(verbose=False)
