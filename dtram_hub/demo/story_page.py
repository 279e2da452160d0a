"""A story as HTML: the answer, the image with numbered boxes, and a card for each look. `story.css` has its style.

No text of a model or a file reaches the page as it is: class names and file names may come from anyone.
"""

import base64
import io
from html import escape

import numpy as np
from PIL import Image

from ..inference.story import Belief, Look, Story, Window
from ..prompt import printable

# Those of `plots.COLOURS`, without its need for matplotlib.
COLOURS = "#1f77b4 #ff7f0e #2ca02c #d62728 #9467bd #8c564b #e377c2 #7f7f7f #bcbd22 #17becf".split()
SMALL = 150  # pixels; a smaller picture is enlarged without blurring
WELCOME = "Drop an image, and see here where the model looks."


def message(text: str) -> str:
    """A sentence in place of a story."""
    return f'<p class="dtram-message" role="alert">{_text(text)}</p>'


def note(text: str) -> str:
    """A sentence beside the story."""
    return f'<p class="dtram-note">{_text(text)}</p>' if text else ""


def welcome() -> str:
    """What the page shows before the first image."""
    return f'<p class="dtram-welcome">{_text(WELCOME)}</p>'


def render(story: Story, stop_threshold: float) -> str:
    """The HTML of a story.

    Args:
        story: a full pass of one image.
        stop_threshold: in [0, 1]; a RAM has no use for it.
    """
    taken = story.until(stop_threshold)
    warning = f'<p class="warning">The image may be misread: {_text(story.warning)}.</p>' if story.warning else ""
    cards = "".join(
        _card(look, before, stop_threshold, len(story.looks))
        for look, before in zip(taken, [None, *taken], strict=False)
    )
    return (
        '<section class="dtram-story">'
        f"<header>{_answer(story.name, taken[-1].beliefs[0])}"
        f'<p class="why">{_text(why_it_stopped(story, taken, stop_threshold))}</p>{warning}</header>'
        f"{_scene(story, taken)}<ol>{cards}</ol>{_not_taken(len(taken), len(story.looks))}</section>"
    )


def why_it_stopped(story: Story, taken: list[Look], stop_threshold: float) -> str:
    """The reason for the last of the looks `taken`, in words."""
    last, most = taken[-1], len(story.looks)
    if last.stop_prob is None:
        return f"This model is a RAM, and takes {_looks(most)} at every image."
    if last.number < most:
        prob, threshold = apart(last.stop_prob, stop_threshold)
        return (
            f"It stopped after look {last.number} of at most {most}, because its stop probability of {prob} "
            f"is above the threshold of {threshold}."
        )
    if most == 1:
        return "It takes one look at every image."
    _, threshold = apart(max(look.stop_prob for look in taken[:-1]), stop_threshold)
    return f"It took all {_looks(most)}, because no earlier stop probability is above the threshold of {threshold}."


def apart(first: float, second: float) -> tuple[str, str]:
    """Two numbers in [0, 1] with as few digits, at least two, as tell them apart."""
    for digits in range(2, 8):
        shown = f"{first:.{digits}f}", f"{second:.{digits}f}"
        if shown[0] != shown[1] or first == second:
            break
    return shown


def _answer(name: str, best: Belief) -> str:
    return (
        f'<p class="answer"><strong>{_text(best.name)}</strong> <span>{percent(best.prob)}</span>'
        f"<small>{_text(name)}</small></p>"
    )


def percent(share: float) -> str:
    """A share in [0, 1] in percent; nothing that is less than all is shown as all."""
    return f"{min(100 * share, 99.9) if share < 1 else 100:.1f} %" if share > 0.99 else f"{100 * share:.0f} %"


def _scene(story: Story, taken: list[Look]) -> str:
    """The picture, with a numbered box for each look."""
    height, width = story.picture.shape[:2]
    crisp = " crisp" if max(height, width) < SMALL else ""
    boxes = "".join(_box(look) for look in taken)
    told = f"The image with {len(taken)} numbered {'boxes, one for each look' if len(taken) > 1 else 'box'}"
    return (
        f'<div class="scene" style="aspect-ratio:{width}/{height};--ratio:{width / height:.4f}">'
        f'<img class="picture{crisp}" src="{data_uri(story.picture)}" alt="{told}">{boxes}</div>'
    )


def _box(look: Look) -> str:
    window = _inside(look.window)
    place = ";".join(
        f"{name}:{100 * share:.3f}%"
        for name, share in zip(("top", "left", "height", "width"), vars(window).values(), strict=True)
    )
    return f'<div class="box" style="{place};{_colour(look)}"><b>{look.number}</b></div>'


def _card(look: Look, before: Look | None, stop_threshold: float, most: int) -> str:
    """One look: its view, the classes that were most probable after it, and whether it was the last."""
    changed = before and before.beliefs[0].name != look.beliefs[0].name
    mark = ' <em class="changed">changed its mind</em>' if changed else ""
    crisp = " crisp" if look.view.shape[0] < SMALL else ""
    view = f'<img class="view{crisp}" src="{data_uri(look.view)}" alt="Look {look.number} as the encoder saw it">'
    beliefs = "".join(map(_belief, look.beliefs))
    return (
        f'<li style="{_colour(look)}"><h4><b>{look.number}</b> {_title(look)}{mark}</h4>'
        f'<div class="seen">{view}<div class="beliefs">{beliefs}{_stop(look, stop_threshold, most)}</div></div></li>'
    )


def _title(look: Look) -> str:
    side = look.view.shape[0]
    place = "a glimpse"
    if look.is_context:
        place = "the whole image" if _inside(look.window) == Window(0, 0, 1, 1) else "the middle of the image"
    return f"{place} <small>in {side} x {side} pixels</small>"


def _belief(belief: Belief) -> str:
    return (
        f'<div class="belief"><span class="name" title="{_text(belief.name)}">{_text(belief.name)}</span>'
        f'<span class="bar"><i style="width:{100 * belief.prob:.2f}%"></i></span>'
        f'<span class="number">{percent(belief.prob)}</span></div>'
    )


def _stop(look: Look, stop_threshold: float, most: int) -> str:
    """The stop probability beside the threshold, and what follows; nothing for a RAM."""
    if look.stop_prob is None:
        return ""
    prob, threshold = apart(look.stop_prob, stop_threshold)
    follows = f"not above {threshold}: it looks again"
    if look.stop_prob > stop_threshold:
        follows = f"<strong>above {threshold}: it stops</strong>"
    if look.number == most:
        follows = "<strong>the last look in any case</strong>"
    return (
        '<div class="belief stop"><span class="name">stop probability</span>'
        f'<span class="bar"><i style="width:{100 * look.stop_prob:.2f}%"></i>'
        f'<u style="left:{100 * stop_threshold:.2f}%"></u></span><span class="number">{prob}</span></div>'
        f'<p class="follows">{follows}</p>'
    )


def _not_taken(taken: int, most: int) -> str:
    if taken == most:
        return ""
    rest = f"Look {most} was" if taken + 1 == most else f"Looks {taken + 1} to {most} were"
    return f'<p class="rest">{rest} not taken.</p>'


def _looks(count: int) -> str:
    return f"{count} look{'s' * (count > 1)}"


def _inside(window: Window) -> Window:
    """The part of a window that lies in the image."""
    top, left = max(window.top, 0.0), max(window.left, 0.0)
    bottom, right = min(window.top + window.height, 1.0), min(window.left + window.width, 1.0)
    return Window(top, left, max(bottom - top, 0.0), max(right - left, 0.0))


def _colour(look: Look) -> str:
    return f"--look:{COLOURS[(look.number - 1) % len(COLOURS)]}"


def _text(text: str) -> str:
    return escape(printable(text))


def data_uri(pixels: np.ndarray) -> str:
    """Pixels (h, w) or (h, w, 3) uint8 as the address of an image: JPEG if it is large and coloured, else PNG."""
    buffer = io.BytesIO()
    form = "JPEG" if pixels.ndim == 3 and min(pixels.shape[:2]) >= SMALL else "PNG"
    Image.fromarray(pixels).save(buffer, form, quality=90)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
