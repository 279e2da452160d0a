"""What the page replies when its visitor chooses a model, an image or a budget; an error is one sentence."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..inference.story import Story, tell
from ..prompt import one_line
from .opened import EXAMPLES, Opened, accepted, open_model
from .story_page import message, note, render, welcome

MOST_TOLD = 16  # stories in memory, so that moving the slider looks at no image anew


@dataclass(frozen=True)
class Replies:
    """The replies of a page.

    known: the models on its list, as in `find_model`.
    """

    known: list[str]

    def open(self, word: str | None) -> Opened:
        """The model of a word; errors as in `accepted` and `open_model`."""
        return open_model(accepted(word, self.known))

    def story(self, word: str | None, image: str | None, value: float | None) -> str:
        """The HTML of the story, or of one sentence.

        Args:
            word: what the page calls the model.
            image: the path of the file; None if there is none.
            value: that of the slider; None for the model's own threshold.
        """
        try:
            opened = self.open(word)
            if image is None:
                return welcome()
            stop = opened.slider.at(opened.slider.start if value is None else value)
            return render(_told(opened.word, image), stop.threshold)
        except (ValueError, OSError) as error:
            return message(one_line(error))

    def moved(self, word: str | None, image: str | None, value: float) -> tuple[str, str]:
        """What to expect of another value of the slider, and the story; arguments as in `story`."""
        try:
            expect = note(self.open(word).slider.at(value).expect)
        except (ValueError, OSError):  # which the story tells
            expect = ""
        return expect, self.story(word, image, value)

    def example(self, number: int, word: str | None) -> str:
        """The path of an example of a model."""
        return self.open(word).examples[number]


def expected(opened: Opened) -> str:
    """What to expect of a model's own threshold, as HTML."""
    return note(opened.slider.at(opened.slider.start).expect)


def fitting(opened: Opened, image: str | None) -> str | None:
    """The image to show with another model: a user's own stays, an example of other data gives way."""
    examples = {path.name for path in EXAMPLES.rglob("*.png")}
    own = {Path(path).name for path in opened.examples}
    if image is None or Path(image).name in examples - own:
        return next(iter(opened.examples), None)
    return image


@lru_cache(maxsize=MOST_TOLD)
def _told(word: str, image: str) -> Story:
    opened = open_model(word)
    return tell(opened.model, image, opened.prepare)
