"""The page of `dtram demo`: its parts, laid out with Gradio, and what follows when one of them changes."""

import os
from functools import lru_cache, partial
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read once, by the import: no call leaves the machine

import gradio as gr

from ..inference.story import Story, tell
from ..prompt import one_line, say
from .opened import EXAMPLES, Opened, accepted, offered, open_model
from .story_page import message, note, render, welcome

FONT = ["system-ui", "sans-serif"]  # on the visitor's machine: Gradio's own would be fetched
STYLE = Path(__file__).with_name("story.css")
TOLD = 16  # stories in memory, so that moving the slider looks at no image anew
KEPT = 24 * 3600  # seconds that an uploaded image stays on this machine
MODEL = {"label": "Model", "info": "One of the list, or org/name of a model on the Hub"}
SHOW_ON_PHONE = """() => {
    if (innerWidth < 640) document.querySelector("#dtram-story").scrollIntoView({behavior: "smooth"});
}"""
INTRODUCTION = (
    "# Where does it look, and when does it stop?\n\nA DT-RAM looks at an image once, looks again where it chooses, and stops when it is sure enough. "
    "Each box is one look, in the order of the numbers."
)


@lru_cache(maxsize=TOLD)
def story_of(word: str, image: str) -> Story:
    """The story of an image file, as a model tells it; errors as in `open_model` and `tell`."""
    opened = open_model(word)
    return tell(opened.model, image, opened.prepare)


def show(word: str | None, image: str | None, value: float | None, known: list[str]) -> str:
    """The HTML of the story, or of one sentence.

    Args:
        word: what the page calls the model.
        image: the path of the file; None if there is none.
        value: that of the slider; None for the model's own threshold.
        known: the models on the list.
    """
    try:
        word = accepted(word, known)
        slider = open_model(word).slider
        if image is None:
            return welcome()
        stop = slider.at(slider.start if value is None else value)
        return render(story_of(word, image), stop.threshold)
    except (ValueError, OSError) as error:
        return message(one_line(error))


def choose(word: str | None, image: str | None, known: list[str]) -> list:
    """What the page shows of another model: about, examples, slider, what to expect, limits; and its image."""
    try:
        opened = open_model(accepted(word, known))
    except (ValueError, OSError):  # which the story says
        return ["", gr.update(visible=False), gr.update(visible=False), "", "", image]
    examples, slider = gr.update(**_examples_of(opened)), gr.update(**_slider_of(opened))
    about, expect, limits = map(note, (opened.about, _expected(opened), opened.limits))
    return [about, examples, slider, expect, limits, _fitting(opened, image)]


def move(word: str | None, image: str | None, value: float, known: list[str]) -> tuple[str, str]:
    """What to expect, and the story, at another value of the slider."""
    opened = open_model(accepted(word, known))
    return note(opened.slider.at(value).expect), show(word, image, value, known)


def pick(index: int, word: str | None, known: list[str]) -> str:
    """The file of an example."""
    return open_model(accepted(word, known)).examples[index]


def build(run: str | None = None) -> gr.Blocks:
    """The page.

    Args:
        run: a model beside those that ship, as in `find_model`.

    Raises:
        ValueError, PermissionError, ConnectionError: `run` cannot be opened.
    """
    known = offered(run)
    first = open_model(known[0])
    with gr.Blocks(title="dtram demo", analytics_enabled=False, delete_cache=(3600, KEPT)) as page:
        gr.Markdown(INTRODUCTION, elem_classes="dtram-head")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                model = gr.Dropdown(known, value=known[0], allow_custom_value=True, **MODEL)
                about = gr.HTML(note(first.about), padding=False)
                image = gr.State(next(iter(first.examples), None))
                drop = gr.File(label="Image", height=130)  # emptied at once, so that it takes the next one
                examples = gr.Dataset(components=["image"], type="index", label="Examples", **_examples_of(first))
                slider = gr.Slider(**_slider_of(first))
                expect = gr.HTML(note(_expected(first)), padding=False)
            with gr.Column(scale=3, min_width=320):
                story = gr.HTML(elem_id="dtram-story", padding=False)
                limits = gr.HTML(note(first.limits), padding=False)
        events = {"api_visibility": "private"}
        told = {"fn": partial(show, known=known), "inputs": [model, image, slider], "outputs": story, **events}
        page.load(**told)
        taken = drop.upload(lambda path: (path, None), drop, [image, drop], **events)
        picked = examples.click(partial(pick, known=known), [examples, model], image, **events)
        for chosen in (taken, picked):
            chosen.then(**told).then(None, js=SHOW_ON_PHONE)
        of_model = [about, examples, slider, expect, limits, image]
        model.change(partial(choose, known=known), [model, image], of_model, **events).then(**told)
        slider.input(
            partial(move, known=known),
            [model, image, slider],
            [expect, story],
            show_progress="hidden",
            trigger_mode="always_last",
            **events,
        )
    return page


def launch(run: str | None = None, host: str | None = None, port: int | None = None) -> None:
    """Serve the page until Ctrl-C.

    Args:
        run: as in `build`.
        host: the address to listen at; by default this machine's own, or GRADIO_SERVER_NAME.
        port: the port; by default the first free one from 7860 on, or GRADIO_SERVER_PORT.

    Raises:
        ValueError, OSError: as in `build`; the port is taken.
    """
    page = build(run)
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
    say(f"{address} shows the demo; Ctrl-C ends it.")
    page.block_thread()


def _examples_of(opened: Opened) -> dict:
    """What the list of examples shows of a model."""
    return {"samples": [[path] for path in opened.examples], "visible": bool(opened.examples)}


def _slider_of(opened: Opened) -> dict:
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


def _expected(opened: Opened) -> str:
    """What to expect of a model's own threshold."""
    return opened.slider.at(opened.slider.start).expect


def _fitting(opened: Opened, image: str | None) -> str | None:
    """The image for another model: a user's own stays, an example of other data gives way."""
    examples = {path.name for path in EXAMPLES.rglob("*.png")}
    own = {Path(path).name for path in opened.examples}
    if image is None or Path(image).name in examples - own:
        return next(iter(opened.examples), None)
    return image
