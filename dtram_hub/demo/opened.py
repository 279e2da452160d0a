"""Models for the page: their names, and a model with its slider, its examples and a few words on it."""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..inference.answers import check_answers_photographs, class_names
from ..inference.prepare import Preparation
from ..learning.run_folder import RunFolder
from ..models.dtram import DTRAM
from ..models.registry import SHIPPED
from ..prompt import one_line, printable
from ..sharing.card_data import DATA, describe_data
from ..sharing.named_models import find_model
from .sliders import Slider, slider_of

EXAMPLES = Path(__file__).parent / "examples"  # one folder for each data source that has some
FIRST = "dtram_tf_efficientnet_lite0.deeppcb"  # shown when the page opens
ON_HUB = re.compile(r"(hf-hub:)?([\w.-]+/[\w.-]+(@[\w./-]+)?)")
MOST_NAMES = 10  # of classes, for all of them to be named
MOST_OPEN = 4  # models in memory


@dataclass(frozen=True)
class Opened:
    """A model, ready to look at images.

    word: what the user calls it.
    model: in evaluation mode.
    prepare: how it wants its images.
    slider: what sets its stops.
    examples: files of images of the kind that it knows; none for most models.
    about: its classes and its looks, in words.
    limits: what not to expect of it, in words.
    """

    word: str
    model: DTRAM
    prepare: Preparation
    slider: Slider
    examples: list[str]
    about: str
    limits: str


def offered(run: str | None) -> list[str]:
    """The models to choose from: the user's own, if there is one, and those that ship; the best one first."""
    shipped = sorted(SHIPPED, key=lambda name: (name != FIRST, name))
    return list(dict.fromkeys([*([run] if run else []), *shipped]))


def accepted(word: str | None, known: list[str]) -> str:
    """The word for `find_model` of a word from the page, which may come from anyone.

    Raises:
        ValueError: it is neither in `known` nor a repository on the Hub. No other folder is opened.
    """
    if word in known:
        return word
    found = ON_HUB.fullmatch(word or "")
    if not found:
        raise ValueError(
            f"model {word!r} is not on the list; accepted is a name on it, or org/name of a model on the Hub."
        )
    return f"hf-hub:{found[2]}"


@lru_cache(maxsize=MOST_OPEN)
def open_model(word: str) -> Opened:
    """Open a model, and download it if it lies on the Hub.

    Args:
        word: as in `find_model`.

    Raises:
        ValueError: as in `find_model` and `NamedModel.build`; a model without classes, or of images that are
            neither grey nor coloured; a run whose files are damaged.
        PermissionError, ConnectionError: as in `sharing.pull.download`.
    """
    named = find_model(word)
    model = named.build()
    check_answers_photographs(model)
    run = RunFolder(named.folder) if named.folder else None
    recipe = run.read_recipe() if run and run.exists else {}
    source = recipe["data"]["source"] if recipe else None
    limits = describe_data(recipe, {}, model.num_classes)["limits"]
    return Opened(
        word,
        model,
        Preparation(model),
        slider_of(model, named.folder),
        sorted(map(str, (EXAMPLES / source).glob("*.png"))) if source in DATA else [],
        f"{_classes(model)} {_looks(model)}",
        f"Limits: {one_line(limits)}",
    )


def _classes(model: DTRAM) -> str:
    names = [printable(name) for name in class_names(model) or []]
    if not names:
        return f"{model.num_classes} classes without names."
    if len(names) > MOST_NAMES:
        return f"{len(names)} classes, among them {', '.join(names[: MOST_NAMES // 2])}."
    return f"{len(names)} classes: {', '.join(names)}."


def _looks(model: DTRAM) -> str:
    side = f"{model.glimpse_crop} x {model.glimpse_crop} pixels"
    first = "all" if model.context == "none" else "the first at the whole image, the others"
    if model.context == "crop":
        first = "the first at the middle of the image, the others"
    number = f"At most {model.num_steps}" if model.dynamic else f"Always {model.num_steps}"
    return f"{number} looks: {first} at {side}."
