"""Judges: encoders that are blind to a part of the training images, and reward the policies that learn there.

An encoder that knows its training images by heart is right about nearly all of them, wherever it looks. Its
answers teach a policy nothing. So K more encoders train, each from the same start and without one of K folds
of the images. A policy sees an image through the encoder that knows it. Its reward is that of the answer of
the encoder that is blind to the image, for the same views.
"""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..data.splits import Data, Joined, Split, join
from ..data.streaming import Stream
from ..models import checkpoint
from ..models.dtram import DTRAM
from ..models.glimpse import Images
from .curriculum import Stage
from .recipe import Recipe
from .run_folder import RunFolder


def fold_of(labels: Tensor, count: int, seed: int) -> Tensor:
    """Deal images to folds at random, so that every class is spread evenly.

    Args:
        labels: (N,) int64, of all images.
        count: K, the number of folds.
        seed: of the deal.

    Returns:
        (N,) int64 in 1..K.
    """
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    folds = torch.empty_like(labels)
    folds[by_class] = torch.arange(len(labels)) % count + 1
    return folds


def blind_to(split: Split | Joined | Stream, fold: int, count: int, seed: int) -> Split:
    """The images of a split without those of a fold; arguments as in `fold_of`, errors as in `one_split`."""
    whole = one_split(split)
    return whole.take(fold_of(whole.labels, count, seed) != fold)


def images_of(stage: Stage, data: Data, recipe: Recipe) -> Split | Joined | Stream:
    """The images of a stage: those that its `split` names, without those of its fold; errors as in `join`."""
    whole = join(data.splits, stage.splits)
    return blind_to(whole, stage.fold, recipe.stages.folds.count, recipe.seed) if stage.fold else whole


def one_split(split: Split | Joined | Stream) -> Split:
    """A split whose images can be dealt to folds.

    Raises:
        ValueError: it is joined from several ones, or a stream.
    """
    if isinstance(split, Split):
        return split
    raise ValueError("images of joined or streamed splits cannot be dealt to folds; accepted is one split.")


@dataclass
class Judge:
    """Answers for a batch of images, each by a model that is blind to its image.

    models: K models, of the folds 1..K.
    folds: (B,) int64, the fold of each image.
    """

    models: list[DTRAM]
    folds: Tensor

    @torch.no_grad()
    def logits(self, images: Images, locations: Tensor) -> Tensor:
        """The answers after every look at the given locations.

        Args:
            images: B images, as a model reads them.
            locations: (N, T, 2) of N = B * M rollouts; the rollouts of one image are neighbours.

        Returns:
            (N, T, C) float32.
        """
        rollouts = len(locations) // len(self.folds)
        parts, owners = [], self.folds.repeat_interleave(rollouts)
        for number, model in enumerate(self.models, 1):
            mine = (self.folds == number).nonzero().squeeze(1)
            if len(mine):
                given = locations[owners == number]
                parts.append(model.rollout(images[mine], num_rollouts=rollouts, locations=given).logits)
        return torch.cat(parts)[owners.argsort(stable=True).argsort()]


class Judges:
    """The models that are blind to a fold each, for the images of one split.

    Args:
        model: that of the stage, on its device. The judges resemble it in all but their weights.
        weights: the weights of the folds 1..K.
        labels: (N,) int64, of the images of the split.
        seed: as in `fold_of`.
    """

    def __init__(self, model: DTRAM, weights: list[Path], labels: Tensor, seed: int):
        self.folds = fold_of(labels, len(weights), seed)
        self.models = [deepcopy(model).eval().requires_grad_(False) for _ in weights]
        for blind, path in zip(self.models, weights, strict=True):
            checkpoint.load_weights(blind, path)

    def of(self, index: Tensor, device: torch.device) -> Judge:
        """The judge of the images at `index` (B,) int64 of the split, on the device of the models."""
        return Judge(self.models, self.folds[index].to(device))


def find_judges(
    model: DTRAM,
    stage: Stage,
    stages: list[Stage],
    folder: RunFolder,
    split: Split | Joined | Stream,
    seed: int,
) -> Judges | None:
    """The judges of a stage, if its policies learn on the images that were dealt to folds.

    Args:
        model, seed: as in `Judges`.
        stage: the stage in training.
        stages: all stages of the run.
        folder: that of the run, with the weights of the folds.
        split: the images of the stage.
    """
    weights = [folder.stage_weights(each.name) for each in stages if each.fold and is_judged(stage, each)]
    return Judges(model, weights, one_split(split).labels, seed) if weights else None


def is_judged(stage: Stage, fold: Stage) -> bool:
    """Whether `stage` teaches policies on the images from which the stage of a fold leaves some out."""
    return stage.num_steps > 1 and stage.split == fold.split


def check_folds(stages: list[Stage], data: Data) -> None:
    """Refuse folds that no policy learns from, or whose answers would be others than the model's.

    Raises:
        ValueError: no stage is judged, a stage after the folds trains answers, or images cannot be dealt.
    """
    fold = next((stage for stage in stages if stage.fold), None)
    if fold is None:
        return
    try:
        one_split(join(data.splits, fold.splits))
    except ValueError as error:
        raise ValueError(f"stages.folds.split={fold.split!r}: {error}") from None
    policies = [stage for stage in stages if stage.num_steps > 1]
    if not any(is_judged(stage, fold) for stage in policies):
        raise ValueError(
            f"stages.folds.epochs={fold.epochs}: no policy learns on split={fold.split!r}; accepted is 0, or "
            f"stages.ram.split={fold.split} or stages.dtram.split={fold.split}."
        )
    for stage in policies:
        if stage.freeze != "answers":
            raise ValueError(
                f"stages.{stage.kind}.freeze={stage.freeze!r}: with stages.folds accepted is 'answers', "
                "because the encoders of the folds do not learn what this stage would teach the answers."
            )
