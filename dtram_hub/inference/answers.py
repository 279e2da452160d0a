"""Answers to photographs, one at a time: every file has either an answer or a reason why there is none."""

from dataclasses import dataclass
from pathlib import Path

import torch
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor

from ..data.canvas import UnreadableImage, centre, open_photograph
from ..models.dtram import DTRAM
from ..models.records import Prediction


class NoAnswer(ValueError):
    """A file has no answer. The message goes on after the file's name."""


@dataclass(frozen=True)
class Answer:
    """The answer of a model to one file.

    path: the file.
    image: (1, C, S, S) floats, as the model saw it.
    found: the prediction, of finite logits.
    warning: why the pixels may be wrong, or "".
    """

    path: Path
    image: Tensor
    found: Prediction
    warning: str

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
    """A model with the transform of its images.

    Args:
        model: a DTRAM in evaluation mode, on its device.
        stop_threshold, max_steps: as in `DTRAM.predict`.

    Raises:
        ValueError: the model has no classes, or takes images of other than one or three channels.
    """

    def __init__(self, model: DTRAM, stop_threshold: float | None = None, max_steps: int | None = None):
        if not model.num_classes:
            raise ValueError("the model has num_classes=0, and no answer to give.")
        if model.in_chans not in (1, 3):
            raise ValueError(f"the model has in_chans={model.in_chans}; photographs have 1 or 3 channels.")
        self.model, self.stop_threshold, self.max_steps = model, stop_threshold, max_steps
        config = resolve_model_data_config(model)
        self.transform = create_transform(**config, is_training=False)
        self.keeps_centre = config["crop_mode"] == "center"  # the other modes see all of the image
        self.device = next(model.parameters()).device

    def answer(self, path: Path) -> Answer:
        """Answer one photograph.

        Raises:
            NoAnswer: the file is unreadable, or too large for the memory, or the logits are not finite.
        """
        try:
            photograph = open_photograph(path, self.model.in_chans)
            warning = photograph.info.get("warning", "")
            image = self.transform(centre(photograph) if self.keeps_centre else photograph)[None]
            found = self.model.predict(image.to(self.device), self.stop_threshold, self.max_steps)
        except UnreadableImage as error:
            raise NoAnswer(f"is no readable image ({error})") from None
        except (MemoryError, RuntimeError) as error:  # torch has no other kind for a full memory of the CPU
            reason = str(error).partition("\n")[0] or "no memory is left"
            raise NoAnswer(f"could not be answered ({type(error).__name__}: {reason})") from None
        if not found.logits.isfinite().all():
            raise NoAnswer("has no answer: the model's logits are not finite")
        return Answer(path, image, found, warning)


def class_names(model: DTRAM) -> list[str] | None:
    """The names of a model's classes in the order of its logits; None if it has none."""
    names = model.pretrained_cfg.get("label_names")
    return [str(name) for name in names] if names else None


def sentence(row: dict) -> str:
    """The row of an answer in words."""
    looks = f"{row['steps']} look{'s' * (row['steps'] > 1)}"
    picture = f", {row['picture']}" if "picture" in row else ""
    return f"{row['image']}: {row['class']} ({100 * row['confidence']:.0f} %), {looks}{picture}"


def draw(target: Path, answer: Answer, model: DTRAM, caption: str) -> None:
    """Write a picture of one image with its glimpses."""
    from ..plots import plot_glimpses  # needs matplotlib, unlike answers

    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(-1, 1, 1) for key in ("mean", "std"))
    pixels = ((answer.image * std + mean) * 255).round().clamp(0, 255).byte()
    locations, steps = answer.found.locations.cpu(), answer.found.steps.cpu()
    plot_glimpses(target, pixels, locations, steps, [caption], model.glimpse_crop, per_row=1, side=4)
