"""The pictures of a finished run, those of `run_folder.PICTURES`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..data.splits import Data
from ..images.pyramid import SHOWN_SIDE, small_copy
from ..images.ragged import Ragged
from ..models.dtram import DTRAM
from ..plots import GLIMPSES_PER_ROW, plot_glimpses, plot_heat, plot_steps, plot_tradeoff
from .curriculum import KINDS
from .evaluation import Answers
from .run_folder import RunFolder, stage_rows


def draw(folder: RunFolder, model: DTRAM, data: Data, answers: Answers, metrics: dict) -> None:
    """Draw steps and glimpses, the first locations if there are some, the trade-off if there are curves."""
    test, names = data.splits["test"], data.class_names
    guesses = answers.logits.argmax(-1)
    right = guesses == test.labels
    plot_steps(folder.picture("steps.png"), answers.steps, right, model.num_steps, test.difficulty)
    shown = torch.cat(
        [
            spread_over_classes(test.labels, (answers.steps == steps).nonzero().flatten())[:GLIMPSES_PER_ROW]
            for steps in answers.steps.unique()
        ]
    )
    captions = [
        names[guess] if guess == label else f"{names[guess]} (is {names[label]})"
        for guess, label in zip(guesses[shown].tolist(), test.labels[shown].tolist(), strict=True)
    ]
    images, crops = visible(test.at(shown), model.glimpse_crop)
    locations, steps = answers.locations[shown], answers.steps[shown]
    plot_glimpses(folder.picture("glimpses.png"), images, locations, steps, captions, crops)
    found = first_glimpses(answers.locations)
    if len(found):
        plot_heat(folder.picture("locations.png"), found)
    if metrics["curves"]:
        fixed = [row for row in stage_rows(metrics) if not KINDS[row["stage_kind"]].dynamic]
        plot_tradeoff(folder.picture("tradeoff.png"), {"RAM, fixed steps": fixed} | metrics["curves"])


def visible(images: Tensor | Ragged, crop: int) -> tuple[Sequence[Tensor], list[float]]:
    """Images (C, H, W) uint8 of a size for pictures, and the side of a glimpse of `crop` pixels in each."""
    if isinstance(images, Tensor):
        return images, [crop] * len(images)
    copies = [small_copy(image, SHOWN_SIDE) for image in images.images]
    crops = [crop * copy.shape[0] / image.size[0] for copy, image in zip(copies, images.images, strict=True)]
    return [torch.from_numpy(copy).permute(2, 0, 1) for copy in copies], crops


def spread_over_classes(labels: Tensor, index: Tensor) -> Tensor:
    """Order images so that one of every class comes first, then a second one of every class, and so on.

    Args:
        labels: (N,) int64, of all images.
        index: (K,) int64, the images to order; those of one class keep their order.

    Returns:
        (K,) int64.
    """
    own = labels[index]
    by_class = own.argsort(stable=True)
    counts = own.bincount()
    starts = counts.cumsum(0) - counts
    turn = torch.empty_like(own)  # how many images of the same class come before
    turn[by_class] = torch.arange(len(own)) - starts[own[by_class]]
    return index[turn.argsort(stable=True)]


def first_glimpses(locations: Tensor) -> Tensor:
    """The first location of each image that took a glimpse: (N, T, 2), NaN for none -> (K, 2)."""
    taken = ~locations.isnan().any(-1)
    rows = taken.any(1)
    return locations[rows, taken[rows].int().argmax(1)]
