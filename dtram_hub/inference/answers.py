"""Answers in words and pictures: what an outcome means to a person, or to a program that reads rows."""

from pathlib import Path

from ..models.dtram import DTRAM
from ..models.input import boxes_of, looks_in_words
from ..models.records import Prediction
from .prepare import Preparation
from .stream import Outcome


def row_of(found: Prediction, names: list[str] | None, top: int = 1) -> dict:
    """An answer as a JSON object.

    Args:
        found: the prediction of one image, of finite logits.
        names: the names of the classes; None if they have none.
        top: the number of classes to list; with 1 there is no list.
    """
    probs = found.logits[0].float().softmax(-1)
    steps = int(found.steps)
    confidences, indices = (part.tolist() for part in probs.topk(min(top, len(probs))))
    row = {
        "class": _name(indices[0], names),
        "index": indices[0],
        "confidence": round(confidences[0], 4),
        "steps": steps,
        "locations": [
            None if location.isnan().any() else [round(value, 4) for value in location.tolist()]
            for location in found.locations[0, :steps]
        ],
    }
    if top > 1:
        row["top"] = [
            {"class": _name(index, names), "index": index, "confidence": round(confidence, 4)}
            for index, confidence in zip(indices, confidences, strict=True)
        ]
    return row


def _name(index: int, names: list[str] | None) -> str:
    return names[index] if names else str(index)


def class_names(model: DTRAM) -> list[str] | None:
    """The names of a model's classes in the order of its logits; None if it has none."""
    names = model.pretrained_cfg.get("label_names")
    return [str(name) for name in names] if names else None


def check_answers_photographs(model: DTRAM) -> None:
    """ValueError unless a model has classes, and takes photographs, grey or coloured."""
    if not model.num_classes:
        raise ValueError("the model has num_classes=0, and no answer to give.")
    if model.in_chans not in (1, 3):
        raise ValueError(f"the model has in_chans={model.in_chans}; photographs have 1 or 3 channels.")


def sentence(row: dict) -> str:
    """The row of an answer in words."""
    looks = f"{row['steps']} look{'s' * (row['steps'] > 1)}"
    picture = f", {row['picture']}" if "picture" in row else ""
    classes = row.get("top", [row])
    named = ", ".join(f"{each['class']} ({100 * each['confidence']:.0f} %)" for each in classes)
    return f"{row['image']}: {named}, {looks}{picture}"


def draw(target: Path, outcome: Outcome, preparation: Preparation, row: dict) -> None:
    """Write a picture of an answered image with its looks.

    Args:
        target: path of the picture.
        outcome: the answer.
        preparation: what has prepared the image.
        row: the answer as `row_of` gives it.
    """
    from ..plots import Example, plot_glimpses  # needs matplotlib, unlike answers

    model, (pixels, scale) = preparation.model, preparation.shown(outcome.image)
    height, width = (round(side / scale) for side in pixels.shape[1:])
    boxes = scale * boxes_of(model, (height, width), outcome.found.locations[0, : row["steps"]])
    caption = f"{row['class']} ({100 * row['confidence']:.0f} %)"
    plot_glimpses(target, [Example(pixels, boxes, caption)], looks_in_words(model), side=4)
