"""The page of `dtram demo`: its parts, laid out with Gradio, and what changes when one of them does."""

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from ..prompt import say
from .opened import EXAMPLES, Opened, offered
from .replies import Replies, expected, fitting
from .story_page import note

FONT = ["system-ui", "sans-serif"]
STYLE = Path(__file__).with_name("story.css")
KEPT = 24 * 3600  # seconds that an uploaded image stays on this machine
HEAD = """# Where does it look, and when does it stop?

A DT-RAM looks at an image once, looks again where it chooses, and stops when it is sure enough.
Each box is one look, in the order of the numbers."""
MODEL: dict[str, Any] = {"label": "Model", "info": "One of the list, or org/name of a model on the Hub"}
SHOW_ON_PHONE = """() => {
    if (innerWidth < 640) document.querySelector("#dtram-story").scrollIntoView({behavior: "smooth"});
}"""


def build(run: str | None = None) -> gr.Blocks:
    """The page.

    Args:
        run: a model beside those that ship, as in `find_model`.

    Raises:
        ValueError, PermissionError, ConnectionError: `run` cannot be opened.
    """
    replies = Replies(offered(run))
    first = replies.open(replies.known[0])
    # Without analytics and with fonts of the visitor's machine, Gradio calls nobody.
    with gr.Blocks(title="dtram demo", analytics_enabled=False, delete_cache=(3600, KEPT)) as page:
        gr.Markdown(HEAD, elem_classes="dtram-head")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                model = gr.Dropdown(replies.known, value=first.word, allow_custom_value=True, **MODEL)
                about = gr.HTML(note(first.about), padding=False)
                image = gr.State(next(iter(first.examples), None))
                drop = gr.File(label="Image", height=130)  # emptied at once, so that it takes the next one
                shown = _examples_of(first)
                examples = gr.Dataset(components=["image"], type="index", label="Examples", **shown)
                slider = gr.Slider(**_slider_of(first))
                expect = gr.HTML(expected(first), padding=False)
            with gr.Column(scale=3, min_width=320):
                story = gr.HTML(elem_id="dtram-story", padding=False)
                limits = gr.HTML(note(first.limits), padding=False)

        private: dict[str, Any] = {"api_visibility": "private"}  # no visitor's program needs them
        tell: dict[str, Any] = {
            "fn": replies.story,
            "inputs": [model, image, slider],
            "outputs": story,
            **private,
        }
        page.load(**tell)
        dropped = drop.upload(lambda path: (path, None), drop, [image, drop], **private)
        picked = examples.click(replies.example, [examples, model], image, **private)
        for chosen in (dropped, picked):
            chosen.then(**tell).then(None, js=SHOW_ON_PHONE)
        of_model = [about, examples, slider, expect, limits, image]
        model.change(partial(_of_model, replies), [model, image], of_model, **private).then(**tell)
        slider.input(
            replies.moved,
            [model, image, slider],
            [expect, story],
            show_progress="hidden",
            trigger_mode="always_last",
            **private,
        )
    return page


def launch(run: str | None = None, host: str | None = None, port: int | None = None) -> None:
    """Serve the page until Ctrl-C.

    Args:
        run: as in `build`.
        host: the address to listen at; by default this machine's own, or GRADIO_SERVER_NAME.
        port: the port; by default the first free one from 7860 on, or GRADIO_SERVER_PORT.

    Raises:
        ValueError, PermissionError, ConnectionError: as in `build`; no page can be served there.
    """
    page = build(run)
    try:
        address = _served(page, host, port)
    except OSError:  # Gradio's sentence names its own arguments
        raise ValueError(
            f"no page can be served at host={host or '127.0.0.1'!r}, port={port or '7860 to 7959'}; accepted "
            "are an address of this machine and a free port."
        ) from None
    say(f"{address} shows the demo; Ctrl-C ends it.")
    page.block_thread()


def _served(page: gr.Blocks, host: str | None, port: int | None) -> str:
    """Serve the page in a thread; returns its address."""
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        ssr_mode=False,
        run_history=False,
        footer_links=[],
        allowed_paths=[str(EXAMPLES)],
        css_paths=STYLE,
        theme=gr.themes.Default(font=FONT, font_mono=["monospace"]),
    )
    return address


def _of_model(replies: Replies, word: str | None, image: str | None) -> list:
    """What the page shows of another model: all but the story."""
    try:
        opened = replies.open(word)
    except (ValueError, OSError):  # which the story tells
        hidden = gr.update(visible=False)
        return ["", hidden, hidden, "", "", image]
    return [
        note(opened.about),
        gr.update(**_examples_of(opened)),
        gr.update(**_slider_of(opened)),
        expected(opened),
        note(opened.limits),
        fitting(opened, image),
    ]


def _examples_of(opened: Opened) -> dict[str, Any]:
    """What the list of examples shows of a model."""
    return {"samples": [[path] for path in opened.examples], "visible": bool(opened.examples)}


def _slider_of(opened: Opened) -> dict[str, Any]:
    """What the slider shows of a model."""
    own = opened.slider
    return {
        "minimum": own.low,
        "maximum": own.high,
        "value": own.start,
        "step": own.step,
        "label": own.label,
        "info": own.info,
        "visible": own.is_shown,
    }
