"""Running a model over a split: what it answers, where it looks, when it stops."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from ..data.splits import Split, index_batches
from ..models.dtram import DTRAM
from .metrics import StepAccuracy


@dataclass
class Answers:
    """Deterministic answers to one split, in its order.

    logits (N, C), steps (N,), locations (N, T, 2), stop_probs (N, T) as in `Prediction`; labels (N,).
    """

    logits: Tensor
    steps: Tensor
    locations: Tensor
    stop_probs: Tensor
    labels: Tensor

    def scores(self) -> dict:
        """accuracy, mean_steps, step_histogram and accuracy_by_steps."""
        metric = StepAccuracy(keep_in_memory=True)
        metric.add_batch(predictions=self.logits.argmax(-1), references=self.labels, steps=self.steps)
        return metric.compute()

    def mean_return(self, discount: float) -> float:
        """The return of Eq. 7 on average: discount^steps where the answer is right, 0 elsewhere."""
        correct = (self.logits.argmax(-1) == self.labels).double()
        return (correct * discount ** self.steps.double()).mean().item()


@torch.no_grad()
def predict_split(
    model: DTRAM,
    split: Split,
    normalise: Callable[[Tensor], Tensor],
    accelerator: Accelerator,
    batch_size: int,
    stop_threshold: float | None = None,
) -> Answers:
    """`model.predict` over a split, shared among processes and gathered on each."""
    model.eval()
    parts = []
    for index in _shares(split, accelerator, batch_size):
        with accelerator.autocast():
            found = model.predict(normalise(split.at(index).to(accelerator.device)), stop_threshold)
        parts.append([found.logits.float(), found.steps, found.locations, found.stop_probs])
    gathered = _gather(parts, len(split), accelerator)
    return Answers(*gathered, labels=split.labels)


@torch.no_grad()
def rollout_split(
    model: DTRAM,
    split: Split,
    normalise: Callable[[Tensor], Tensor],
    accelerator: Accelerator,
    batch_size: int,
    places: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """All T steps of every image, for policies that are applied afterwards.

    Args:
        places: (N, T, 2), where to look instead of where the model chooses.

    Returns:
        logits (N, T, C) and stop probabilities (N, T) after each step.
    """
    model.eval()
    parts = []
    for index in _shares(split, accelerator, batch_size):
        images = normalise(split.at(index).to(accelerator.device))
        with accelerator.autocast():
            rollout = model.rollout(
                images, locations=None if places is None else places[index].to(accelerator.device)
            )
        parts.append([rollout.logits, rollout.stop_logits.sigmoid()])
    logits, stop_probs = _gather(parts, len(split), accelerator)
    return logits, stop_probs


def _shares(split: Split, accelerator: Accelerator, batch_size: int) -> list[Tensor]:
    """This process's batches. Every process gets as many images as the others: the last few come twice."""
    world = accelerator.num_processes
    padded = torch.arange(-(-len(split) // world) * world) % len(split)
    mine = padded[accelerator.process_index :: world]
    return [mine[i] for i in index_batches(len(mine), batch_size, seed=None)]


def _gather(parts: list[list[Tensor]], count: int, accelerator: Accelerator) -> list[Tensor]:
    """Join the batches of all processes, in the order of the split and without the padding."""
    joined = [torch.cat(column) for column in zip(*parts, strict=True)]
    world = accelerator.num_processes
    gathered = [accelerator.gather(tensor).unflatten(0, (world, -1)) for tensor in joined]
    return [tensor.transpose(0, 1).flatten(0, 1)[:count].cpu() for tensor in gathered]
