"""A story as HTML, by the template `story.html`. `story.css` has its style.

Class names and file names may come from anyone: the template escapes every text that it shows.
"""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from ..inference.story import Look, Story, Window
from ..prompt import printable

# Those of `plots.COLOURS`, without its need for matplotlib.
COLOURS = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd"),
    *("#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"),
)
SMALL = 150  # pixels; a smaller picture is enlarged without blurring
WELCOME = "Drop an image, and see here where the model looks."


def message(text: str) -> str:
    """A sentence in place of a story."""
    return f'<p class="dtram-message" role="alert">{escape(printable(text))}</p>'


def note(text: str) -> str:
    """A sentence beside the story."""
    return f'<p class="dtram-note">{escape(printable(text))}</p>' if text else ""


def welcome() -> str:
    """What the page shows before the first image."""
    return f'<p class="dtram-welcome">{WELCOME}</p>'


def render(story: Story, stop_threshold: float) -> str:
    """The HTML of a story.

    Args:
        story: a full pass of one image.
        stop_threshold: in [0, 1]; a RAM has no use for it.
    """
    taken, most = story.until(stop_threshold), len(story.looks)
    return TEMPLATE.render(
        name=story.name,
        warning=story.warning,
        picture=story.picture,
        best=taken[-1].beliefs[0],
        why=why_it_stopped(story, stop_threshold),
        taken=taken,
        most=most,
        threshold=stop_threshold,
        left=_not_taken(len(taken) + 1, most),
    )


def _not_taken(first: int, last: int) -> str:
    if first >= last:
        return f"Look {last} was"
    return f"Looks {first} {'and' if first + 1 == last else 'to'} {last} were"


def why_it_stopped(story: Story, stop_threshold: float) -> str:
    """Why a prediction takes the looks that it takes, in words."""
    taken, most = story.until(stop_threshold), len(story.looks)
    all_looks, last = f"{most} look{'s' * (most > 1)}", taken[-1]
    if last.stop_prob is None or most == 1:
        return f"This model takes {all_looks} at every image."
    if last.number < most:
        prob, threshold = apart(last.stop_prob, stop_threshold)
        return (
            f"It stopped after look {last.number} of at most {most}, because its stop probability of {prob} "
            f"is above the threshold of {threshold}."
        )
    highest = max(look.stop_prob or 0.0 for look in taken[:-1])
    return (
        f"It took all {all_looks}, because no earlier stop probability is above the threshold of "
        f"{apart(highest, stop_threshold)[1]}."
    )


def apart(first: float, second: float) -> tuple[str, str]:
    """Two numbers in [0, 1] with as few digits, at least two, as tell them apart."""
    shown = ("", "")
    for digits in range(2, 8):
        shown = f"{first:.{digits}f}", f"{second:.{digits}f}"
        if shown[0] != shown[1] or first == second:
            break
    return shown


def percent(share: float) -> str:
    """A share in [0, 1] in percent; less than all is never shown as all."""
    if 0.99 < share < 1:
        return f"{min(100 * share, 99.9):.1f} %"
    return f"{100 * share:.0f} %"


def title(look: Look) -> str:
    """What a look saw, in words."""
    if not look.is_context:
        return "a glimpse"
    return "the whole image" if inside(look.window) == Window(0, 0, 1, 1) else "the middle of the image"


def inside(window: Window) -> Window:
    """The part of a window that lies in the image."""
    top, left = max(window.top, 0.0), max(window.left, 0.0)
    bottom, right = min(window.top + window.height, 1.0), min(window.left + window.width, 1.0)
    return Window(top, left, max(bottom - top, 0.0), max(right - left, 0.0))


def place(window: Window) -> str:
    """The place of a window's box on the picture, as CSS."""
    return "; ".join(f"{side}: {100 * share:.3f}%" for side, share in vars(inside(window)).items())


def colour(look: Look) -> str:
    """The colour of a look."""
    return COLOURS[(look.number - 1) % len(COLOURS)]


def ratio(picture: np.ndarray) -> float:
    """Width by height."""
    return picture.shape[1] / picture.shape[0]


def is_small(picture: np.ndarray) -> bool:
    """Whether a picture has so few pixels that they may be seen."""
    return max(picture.shape[:2]) < SMALL


def address(picture: np.ndarray) -> str:
    """Pixels (h, w) or (h, w, 3) uint8 as an address: JPEG if they are many and coloured, else PNG."""
    form = "JPEG" if picture.ndim == 3 and not is_small(picture) else "PNG"
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, form, quality=90)
    return Markup(f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}")


def _shown(value: Any) -> Any:
    """A value on its way into the template: texts lose what is not printable."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (apart, percent, title, place, colour, ratio, address):
        environment.filters[function.__name__] = function
    environment.tests["small"] = is_small
    return environment.get_template("story.html")


TEMPLATE = _template()
