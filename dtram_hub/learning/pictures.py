"""The pictures of a finished run, those of `run_folder.PICTURES`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..data.splits import Data, Split
from ..images.pyramid import SHOWN_SIDE, small_copy
from ..images.ragged import Ragged
from ..models.dtram import DTRAM
from ..models.input import boxes_of, looks_in_words
from ..plots import (
    GLIMPSES_PER_ROW,
    MOST_NAMES,
    Example,
    plot_confusion,
    plot_glimpses,
    plot_heat,
    plot_steps,
    plot_tradeoff,
)
from .curriculum import KINDS
from .evaluation import Answers
from .run_folder import RunFolder, own_result, stage_rows


def draw(folder: RunFolder, model: DTRAM, data: Data, answers: Answers, metrics: dict) -> None:
    """Draw steps, examples, confusions of few classes, and second looks and trade-off if there are some."""
    test = data.splits["test"]
    right = answers.logits.argmax(-1) == test.labels
    plot_steps(folder.picture("steps.png"), answers.steps, right, model.num_steps, test.difficulty)
    chosen = choose(test.labels, answers.steps)
    shown = examples_of(model, test, data.class_names, answers, chosen)
    plot_glimpses(folder.picture("glimpses.png"), shown, looks_in_words(model))
    if len(data.class_names) <= MOST_NAMES:
        confusion = metrics["scores"]["confusion"]
        plot_confusion(folder.picture("confusion.png"), confusion, data.class_names)
    found = second_looks(answers.locations)
    if len(found):
        plot_heat(folder.picture("locations.png"), found)
    if metrics["curves"]:
        fixed = [row for row in stage_rows(metrics) if not KINDS[row["stage_kind"]].dynamic]
        curves = {"RAM, fixed steps": fixed} if fixed else {}
        plot_tradeoff(folder.picture("tradeoff.png"), curves | metrics["curves"], own_result(metrics))


def examples_of(
    model: DTRAM, split: Split, names: list[str], answers: Answers, chosen: Tensor
) -> list[Example]:
    """The images of a split at `chosen` (K,) int64, with looks, answers and confidences."""
    examples = []
    confidences, guesses = answers.logits[chosen].softmax(-1).max(-1)
    images, scales = visible(split.at(chosen))
    for i, k in enumerate(chosen.tolist()):
        height, width = (round(side / scales[i]) for side in images[i].shape[1:])
        boxes = scales[i] * boxes_of(model, (height, width), answers.locations[k, : answers.steps[k]])
        guess, label = int(guesses[i]), int(split.labels[k])
        caption = f"{names[guess]} ({100 * confidences[i]:.0f} %)"
        is_right = guess == label
        examples.append(
            Example(images[i], boxes, caption if is_right else f"{caption}, is {names[label]}", is_right)
        )
    return examples


def choose(labels: Tensor, steps: Tensor, per_row: int = GLIMPSES_PER_ROW) -> Tensor:
    """Choose images for every number of steps, of as many different classes as possible.

    Args:
        labels, steps: (N,) int64, of all images.
        per_row: the largest number of images for each number of steps.

    Returns:
        (K,) int64.
    """
    shown, chosen = torch.zeros(int(labels.max()) + 1, dtype=torch.int64), []
    for number in steps.unique():
        row = spread_over_classes(labels, (steps == number).nonzero().flatten(), shown)[:per_row]
        shown += labels[row].bincount(minlength=len(shown))
        chosen.append(row)
    return torch.cat(chosen)


def visible(images: Tensor | Ragged) -> tuple[Sequence[Tensor], list[float]]:
    """Images (C, H, W) uint8 of a size for pictures, and the pixels of each for one of the image's."""
    if isinstance(images, Tensor):
        return [*images], [1.0] * len(images)
    copies = [small_copy(image, SHOWN_SIDE) for image in images.images]
    scales = [copy.shape[0] / image.size[0] for copy, image in zip(copies, images.images, strict=True)]
    return [torch.tensor(copy).permute(2, 0, 1) for copy in copies], scales


def spread_over_classes(labels: Tensor, index: Tensor, shown: Tensor) -> Tensor:
    """Order images so that those of the classes that were shown least come first.

    Args:
        labels: (N,) int64, of all images.
        index: (K,) int64, the images to order; those of one class keep their order.
        shown: (C,) int64, how often each class was shown before.

    Returns:
        (K,) int64.
    """
    own = labels[index]
    by_class = own.argsort(stable=True)
    counts = own.bincount(minlength=len(shown))
    starts = counts.cumsum(0) - counts
    turn = torch.empty_like(own)  # how many images of the same class come before
    turn[by_class] = torch.arange(len(own)) - starts[own[by_class]]
    return index[(turn + shown[own]).argsort(stable=True)]


def second_looks(locations: Tensor) -> Tensor:
    """The location of each image's second look, the first that the image decides: (N, T, 2) -> (K, 2)."""
    second = locations[:, 1:2].flatten(0, 1)
    return second[~second.isnan().any(-1)]
