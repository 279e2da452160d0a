"""Answers to photographs, one at a time: every file has either an answer or a reason why there is none."""

from dataclasses import dataclass
from pathlib import Path

from ..data.canvas import MOST_DECODED, UnreadableImage
from ..models.dtram import DTRAM
from ..models.records import Prediction
from .prepare import Preparation, Prepared


class NoAnswer(ValueError):
    """A file has no answer. The message goes on after the file's name."""


@dataclass(frozen=True)
class Answer:
    """The answer of a model to one file.

    path: the file.
    prepared: the image, as the model read it.
    found: the prediction, of finite logits.
    """

    path: Path
    prepared: Prepared
    found: Prediction

    def row(self, names: list[str] | None) -> dict:
        """The answer as a JSON object; `names` are the names of the classes."""
        probs = self.found.logits[0].float().softmax(-1)
        index, steps = int(probs.argmax()), int(self.found.steps)
        return {
            "image": str(self.path),
            "class": names[index] if names else str(index),
            "index": index,
            "confidence": round(float(probs[index]), 4),
            "steps": steps,
            "locations": [
                None if location.isnan().any() else [round(value, 4) for value in location.tolist()]
                for location in self.found.locations[0, :steps]
            ],
        }


class Answerer:
    """A model that answers files.

    Args:
        model: a DTRAM in evaluation mode, on its device.
        stop_threshold, max_steps: as in `DTRAM.predict`.
        most_pixels: of a file that is decoded as a whole.

    Raises:
        ValueError: the model has no classes, or takes images of other than one or three channels.
    """

    def __init__(
        self,
        model: DTRAM,
        stop_threshold: float | None = None,
        max_steps: int | None = None,
        most_pixels: int = MOST_DECODED,
    ):
        if not model.num_classes:
            raise ValueError("the model has num_classes=0, and no answer to give.")
        if model.in_chans not in (1, 3):
            raise ValueError(f"the model has in_chans={model.in_chans}; photographs have 1 or 3 channels.")
        self.model, self.stop_threshold, self.max_steps = model, stop_threshold, max_steps
        self.preparation = Preparation(model, most_pixels)

    def answer(self, path: Path) -> Answer:
        """Answer one photograph.

        Raises:
            NoAnswer: the file is unreadable, or too large for the memory, or the logits are not finite.
        """
        try:
            prepared = self.preparation.open(path)
            found = self.model.predict(prepared.images, self.stop_threshold, self.max_steps)
        except UnreadableImage as error:
            raise NoAnswer(f"is no readable image ({error})") from None
        except (MemoryError, RuntimeError) as error:  # torch has no other kind for a full memory of the CPU
            reason = str(error).partition("\n")[0] or "no memory is left"
            raise NoAnswer(f"could not be answered ({type(error).__name__}: {reason})") from None
        if not found.logits.isfinite().all():
            raise NoAnswer("has no answer: the model's logits are not finite")
        return Answer(path, prepared, found)


def class_names(model: DTRAM) -> list[str] | None:
    """The names of a model's classes in the order of its logits; None if it has none."""
    names = model.pretrained_cfg.get("label_names")
    return [str(name) for name in names] if names else None


def sentence(row: dict) -> str:
    """The row of an answer in words."""
    looks = f"{row['steps']} look{'s' * (row['steps'] > 1)}"
    picture = f", {row['picture']}" if "picture" in row else ""
    return f"{row['image']}: {row['class']} ({100 * row['confidence']:.0f} %), {looks}{picture}"


def draw(target: Path, answer: Answer, answerer: Answerer, caption: str) -> None:
    """Write a picture of one image with its glimpses."""
    from ..plots import plot_glimpses  # needs matplotlib, unlike answers

    pixels, scale = answerer.preparation.shown(answer.prepared)
    locations, steps = answer.found.locations.cpu(), answer.found.steps.cpu()
    crop = answerer.model.glimpse_crop * scale
    plot_glimpses(target, [pixels], locations, steps, [caption], crop, per_row=1, side=4)
