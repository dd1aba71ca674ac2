"""The page itself, in gradio: what is on it, and what happens when."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.themes import Soft
from PIL import Image

from ..errors import ConfigError, RepaintError
from ..image import READABLE, Photo, of_frames
from ..restoring import Restore
from ..single import percent
from ..stages.progress import Device, Precision
from . import work
from .work import Found, Look

BRUSH = f"rgba{(*work.RED, round(work.SHOWN_ALPHA / 255, 2))}"
WELCOME = "Drop a photo, and press **Restore**."
FONTS = ("ui-sans-serif", "system-ui", "sans-serif")  # of the visitor's machine: nothing is fetched
ENLARGE = {"as it is": 1.0, "2 times": 2.0, "4 times": 4.0}
WORK = {"fast": "fast", "balanced": "balanced", "quality (slow)": "quality"}
CSS = "#status {min-height: 2.5em} footer {display: none !important}"
PAINTED = """() => document.addEventListener("pointerup", event => {
    if (event.target.closest?.("#editor")) { window.paintedAt = performance.now(); performance.clearResourceTimings(); }
}, true)"""
UNTIL_UPLOADED = """async () => {
    const quiet = () => {
        const sent = performance.getEntriesByType("resource").filter(
            entry => entry.name.includes("/upload") && entry.startTime >= window.paintedAt);
        const last = Math.max(...sent.map(entry => entry.responseEnd), 0);
        return performance.now() - (last || window.paintedAt) > (last ? 1500 : 8000);
    };
    while (window.paintedAt && !quiet()) await new Promise(go => setTimeout(go, 100));
}"""  # what was painted last is on its way, some time yet, when somebody is quick with Restore
Painted = dict[str, Any] | None  # what the editor holds
LARGEST_SEED = 2**53  # a browser's numbers are whole up to there
KEPT_S = 24 * 3600  # uploads and results are deleted after a day, or when the server stops


@dataclass(frozen=True)
class Offer:
    """What the server is started with."""

    device: Device = "auto"
    precision: Precision = "float32"
    max_pixels: int = 80_000_000


@dataclass(frozen=True, eq=False)
class Opened:
    """What is remembered of a visitor between two clicks."""

    path: str
    found: Found | None = None


def page(offer: Offer) -> gr.Blocks:
    """The page, ready to be launched."""
    at_work = work.AtWork()
    with gr.Blocks(title="repaint", analytics_enabled=False, delete_cache=(3600, KEPT_S)) as blocks:
        gr.Markdown("# repaint\nOld photos restored on this computer: no photo leaves it.")
        opened = gr.State(None)
        with gr.Row():
            with gr.Column():
                file = gr.File(label="A photo", file_types=list(READABLE), height=120, elem_id="file")
                editor = gr.ImageEditor(
                    label="What is red is filled",
                    type="numpy",
                    image_mode="RGBA",
                    format="png",
                    sources=(),
                    transforms=(),
                    layers=False,
                    canvas_size=(work.VIEW_PX, work.VIEW_PX),  # one for all photos: it cannot be changed later
                    fixed_canvas=True,
                    height=600,
                    brush=gr.Brush(default_size=12, colors=[BRUSH], color_mode="fixed"),
                    eraser=gr.Eraser(default_size=24),
                    buttons=["fullscreen"],
                    visible="hidden",
                    elem_id="editor",
                )
                with gr.Row():
                    find = gr.Button("Show the damage", interactive=False, elem_id="find")
                    go = gr.Button("Restore", variant="primary", interactive=False, elem_id="restore")
                    stop = gr.Button("Stop", variant="stop", visible=False, elem_id="stop")
                with gr.Row():
                    scratches = gr.Checkbox(True, label="find damage and fill it", elem_id="scratches")
                    faces = gr.Checkbox(True, label="restore faces")
                    color = gr.Checkbox(True, label="correct colours", elem_id="color")
                    denoise = gr.Checkbox(False, label="clean grain and blocks")
                with gr.Row():
                    preset = gr.Radio(list(WORK), value="balanced", label="Work on damage", elem_id="preset")
                    scale = gr.Radio(list(ENLARGE), value="as it is", label="Size")
                with gr.Accordion("More", open=False):
                    sensitivity = gr.Slider(0, 1, 0.5, step=0.05, label="Find more damage, and err more")
                    strength = gr.Slider(0, 1, 0.8, step=0.05, label="Strength on faces, noise and colours")
                    seed = gr.Number(0, label="Seed: another one, another fill", precision=0)
            with gr.Column():
                status = gr.Markdown(WELCOME, elem_id="status")
                result = gr.ImageSlider(
                    label="before and after",
                    type="numpy",
                    format="jpeg",
                    max_height=900,
                    visible=False,
                    elem_id="result",
                )
                download = gr.DownloadButton("Save the result", visible=False, variant="primary", elem_id="download")

        def open_(path: str | None) -> dict[Any, Any]:
            blank = {
                **busy(False),
                editor: gr.update(value=None, visible="hidden"),
                find: gr.update(interactive=False),
                go: gr.update(interactive=False, visible=True),
                result: gr.update(visible=False),
                download: gr.update(visible=False),
            }
            if path is None:
                return {**blank, opened: None, status: WELCOME}
            try:
                photo = work.opened(path, max_pixels=offer.max_pixels)
            except RepaintError as e:
                return {**blank, opened: None, status: _sorry(e)}
            H, W = photo.rgb.shape[-2:]
            more = f"; it {of_frames(photo.meta.frames)}" if photo.meta.frames > 1 else ""
            return {
                **blank,
                opened: Opened(path),
                editor: shown(work.view(photo), None),
                find: gr.update(interactive=True),
                go: gr.update(interactive=True, visible=True),
                status: f"{Path(path).name}: {W} x {H} pixels{more}. Press **Restore**; or look at the damage first.",
            }

        def find_(visitor: Opened, painted: Painted, sensitivity: float) -> Iterator[dict[Any, Any]]:
            try:
                photo = work.opened(visitor.path, max_pixels=offer.max_pixels)
                marks = marks_in(painted, photo)
                for seen in at_work.during(work.finding(photo, sensitivity, offer.device)):
                    if isinstance(seen, Look):
                        yield {status: seen.words}
                        continue
                    said = "No damage found."
                    if share := float(seen.hole.float().mean()):
                        said = f"Damage on {percent(share)} of the photo, in red. Wipe out what is none."
                    yield {
                        **busy(False),
                        opened: Opened(visitor.path, seen),
                        editor: shown(work.view(photo), work.looked_again(marks, visitor.found, seen)),
                        status: f"{said} Paint what was missed; then press **Restore**.",
                    }
            except Exception as e:
                yield {**busy(False), status: _sorry(e)}
                _raise_faults(e)

        def restore_(
            visitor: Opened,
            painted: Painted,
            scratches: bool,
            faces: bool,
            color: bool,
            denoise: bool,
            preset: str,
            scale: str,
            sensitivity: float,
            strength: float,
            seed: float,
        ) -> Iterator[dict[Any, Any]]:
            yield {download: gr.update(visible=False)}  # the result of before is not that of these options
            try:
                photo = work.opened(visitor.path, max_pixels=offer.max_pixels)
                marks, found = marks_in(painted, photo), visitor.found
                if found is not None and not scratches:  # what was found is not asked for, what was painted is
                    marks, found = marks & ~found.marks, None
                if not 0 <= (seed or 0) <= LARGEST_SEED:
                    raise ConfigError(f"Seed: found {seed:g}; a whole number from 0 to {LARGEST_SEED} would be right")
                settings = Restore(
                    preset=WORK[preset],  # pyright: ignore[reportArgumentType]
                    scratches=scratches and visitor.found is None,
                    faces=faces,
                    color=color,
                    denoise=denoise,
                    scale=ENLARGE[scale],
                    sensitivity=sensitivity,
                    strength=strength,
                )
                hole = work.hole_of_marks(marks, (photo.rgb.shape[-2], photo.rgb.shape[-1]), found)
                before = work.preview(photo)
                with tempfile.TemporaryDirectory() as folder:  # gradio keeps a copy of what was yielded
                    looks = work.restoring(
                        photo,
                        Path(visitor.path).name,
                        settings,
                        Path(folder),
                        hole=hole,
                        seed=int(seed or 0),
                        device=offer.device,
                        precision=offer.precision,
                    )
                    for look in at_work.during(looks):
                        seen: dict[Any, Any] = {status: _listed(look.words, look.notes)}
                        if look.picture is not None:
                            pair = (_as_large(before, look.picture), look.picture)
                            seen[result] = gr.update(value=pair, visible=True)
                        if look.file is not None:
                            seen |= {**busy(False), download: gr.update(value=str(look.file), visible=True)}
                        yield seen
            except Exception as e:
                yield {**busy(False), status: _sorry(e)}
                _raise_faults(e)

        def moved(visitor: Opened | None) -> dict[Any, Any]:
            """What is red stays as it is until somebody asks for more or less of it."""
            if visitor is None or visitor.found is None:
                return {status: gr.skip()}
            return {status: "What is red was found as the slider stood before; **Show the damage** looks again."}

        def begun() -> dict[Any, Any]:
            return {**busy(True), status: at_work.words()}

        def busy(is_busy: bool) -> dict[Any, Any]:
            return {
                go: gr.update(visible=not is_busy),
                find: gr.update(interactive=not is_busy),
                stop: gr.update(visible=is_busy),
            }

        def stopped() -> dict[Any, Any]:
            return {**busy(False), status: "Stopped."}

        hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        one_at_a_time: dict[str, Any] = {"concurrency_id": "work", "concurrency_limit": 1}
        buttons = [go, find, stop, status]
        options = [scratches, faces, color, denoise, preset, scale, sensitivity, strength, seed]

        def begin(button: gr.Button) -> Any:
            return button.click(begun, None, buttons, queue=False, **hidden).then(None, None, None, js=UNTIL_UPLOADED)

        finds = begin(find).then(
            find_, [opened, editor, sensitivity], [opened, editor, *buttons], **hidden, **one_at_a_time
        )
        restores = begin(go).then(
            restore_, [opened, editor, *options], [result, download, *buttons], **hidden, **one_at_a_time
        )
        stop.click(stopped, None, buttons, cancels=[finds, restores], queue=False, **hidden)
        sensitivity.release(moved, opened, [status], queue=False, **hidden)
        file.change(
            open_, file, [opened, editor, result, download, *buttons], cancels=[finds, restores], queue=False, **hidden
        )
    return blocks.queue(max_size=32)


def shown(view: np.ndarray, marks: np.ndarray | None) -> Any:
    """The editor with a photo's view, and marks over it."""
    background, layer = work.on_canvas(view, marks)
    return gr.update(value={"background": background, "layers": [layer], "composite": None}, visible=True)


def marks_in(painted: Painted, photo: Photo) -> np.ndarray:
    """The marks (h, w) that the editor holds on a photo's view."""
    sides = work.view_sides(*photo.rgb.shape[-2:])
    return work.marks_on_canvas((painted or {}).get("layers", ()), sides)


def _as_large(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    height, width = after.shape[:2]
    return np.asarray(Image.fromarray(before).resize((width, height), Image.Resampling.LANCZOS))


def _listed(words: str, notes: Sequence[str]) -> str:
    return "\n".join([f"**{words}**", "", *(f"- {note}" for note in dict.fromkeys(notes))]) if notes else f"**{words}**"


def _sorry(error: Exception) -> str:
    what = str(error) if isinstance(error, RepaintError) else "a fault of this program; where it was started says more"
    return f"**This did not work:** {what}"


def _raise_faults(error: Exception) -> None:
    """A fault of the program goes on to the terminal; what is wrong with a photo was said on the page."""
    if not isinstance(error, RepaintError):
        raise error


def theme() -> gr.Theme:
    """Gradio's own, without fonts of others' servers."""
    return Soft(font=FONTS, font_mono=("ui-monospace", "monospace"))
