"""Evaluation: the answers, locations and stops of a model on a whole split."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from ..data.splits import Split, index_batches
from ..models.dtram import DTRAM


@dataclass
class Answers:
    """The predictions of a model for the N images of a split, in the split's order.

    logits (N, C), steps (N,), locations (N, T, 2), stop_probs (N, T): as in `Prediction`.
    labels (N,) int64: the right classes.
    """

    logits: Tensor
    steps: Tensor
    locations: Tensor
    stop_probs: Tensor
    labels: Tensor

    def scores(self) -> dict:
        """The values of `StepAccuracy`: accuracy, mean_steps, step_histogram and accuracy_by_steps."""
        # `evaluate` imports all of transformers where it is installed, which takes seconds.
        from .step_accuracy import StepAccuracy

        metric = StepAccuracy(keep_in_memory=True)
        metric.add_batch(predictions=self.logits.argmax(-1), references=self.labels, steps=self.steps)
        return metric.compute()

    def mean_return(self, discount: float) -> float:
        """The mean return R (Eq. 7), in [0, 1]: discount^steps for a right answer, 0 for a wrong one."""
        correct = (self.logits.argmax(-1) == self.labels).double()
        return (correct * discount ** self.steps.double()).mean().item()


@dataclass
class Evaluator:
    """Runs a model over a split, shared among processes. Every process gets all results, on the CPU.

    The model runs in the precision of its weights, as it does for its users. In the precision of a mixed
    training, answers near a threshold would differ from theirs.

    model: on the accelerator's device; every call puts it into evaluation mode.
    accelerator: the accelerator of the process.
    batch_size: images per batch of each process.
    """

    model: DTRAM
    accelerator: Accelerator
    batch_size: int

    @torch.no_grad()
    def predict(self, split: Split, stop_threshold: float | None = None) -> Answers:
        """`DTRAM.predict` for every image of a split."""
        parts = []
        for _, images in self.batches(split):
            found = self.model.predict(images, stop_threshold)
            parts.append([found.logits.float(), found.steps, found.locations, found.stop_probs])
        return Answers(*self._gather(parts, len(split)), labels=split.labels)

    @torch.no_grad()
    def rollout(self, split: Split, locations: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """All T steps of every image, so that any stop policy can be applied afterwards.

        Args:
            split: N images.
            locations: (N, T, 2) locations to look at instead of the model's.

        Returns:
            logits (N, T, C) and stop probabilities (N, T), float32, after each step.
        """
        parts = []
        for index, images in self.batches(split):
            given = None if locations is None else locations[index].to(self.accelerator.device)
            rollout = self.model.rollout(images, locations=given)
            parts.append([rollout.logits, rollout.stop_logits.sigmoid()])
        logits, stop_probs = self._gather(parts, len(split))
        return logits, stop_probs

    def batches(self, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of a split: indices and stored images.

        The first images are repeated at the end, so that all processes have equally many.
        """
        self.model.eval()
        world = self.accelerator.num_processes
        padded = torch.arange(-(-len(split) // world) * world) % len(split)
        mine = padded[self.accelerator.process_index :: world]
        for i in index_batches(len(mine), self.batch_size, seed=None):
            yield mine[i], split.at(mine[i]).to(self.accelerator.device)

    def _gather(self, parts: list[list[Tensor]], count: int) -> list[Tensor]:
        """Join the batches of all processes, in the order of the split and without repeated images."""
        joined = [torch.cat(column) for column in zip(*parts, strict=True)]
        world = self.accelerator.num_processes
        gathered = [self.accelerator.gather(tensor).unflatten(0, (world, -1)) for tensor in joined]
        return [tensor.transpose(0, 1).flatten(0, 1)[:count].cpu() for tensor in gathered]
