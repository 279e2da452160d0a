"""Evaluation: the answers, locations and stops of a model on a whole split."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from ..data.splits import Joined, Split, index_batches
from ..inference.pace import Threshold
from ..inference.pool import Pool
from ..inference.reader import work_ahead
from ..models.dtram import DTRAM
from ..models.glimpse import Images
from ..models.limits import Limits
from ..models.stopping import first_stop
from .class_metrics import balanced_accuracy


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
        """The balanced accuracy, and the values of `StepAccuracy`: accuracy, mean_steps, step_histogram and
        accuracy_by_steps.
        """
        # `evaluate` imports all of transformers where it is installed, which takes seconds.
        from .step_accuracy import StepAccuracy

        metric, classes = StepAccuracy(keep_in_memory=True), self.logits.argmax(-1)
        metric.add_batch(predictions=classes, references=self.labels, steps=self.steps)
        return metric.compute() | {"balanced_accuracy": balanced_accuracy(classes, self.labels)}

    def mean_return(self, discount: float) -> float:
        """The mean return R (Eq. 7), in [0, 1]: discount^steps for a right answer, 0 for a wrong one."""
        correct = (self.logits.argmax(-1) == self.labels).double()
        return (correct * discount ** self.steps.double()).mean().item()

    def quick_scores(self, discount: float) -> dict[str, float]:
        """The scores of an epoch: mean return as above, accuracy, and balanced accuracy."""
        answers = self.logits.argmax(-1)
        return {
            "return": self.mean_return(discount),
            "accuracy": (answers == self.labels).double().mean().item(),
            "balanced_accuracy": balanced_accuracy(answers, self.labels),
        }


@dataclass
class FullPass:
    """All T steps of a model for the N images of a split, in the split's order.

    logits (N, T, C), stop_probs (N, T), locations (N, T, 2): as in `Rollout`, with probabilities.
    labels (N,) int64: the right classes.
    """

    logits: Tensor
    stop_probs: Tensor
    locations: Tensor
    labels: Tensor

    def at_threshold(self, stop_threshold: float) -> Answers:
        """The answers of `Evaluator.predict` at a stop threshold, for a DT-RAM."""
        return self.at_steps(first_stop(self.stop_probs > stop_threshold))

    def at_steps(self, steps: Tensor) -> Answers:
        """The answers after `steps` (N,) int64 in 1..T."""
        most = self.stop_probs.shape[1]
        taken = torch.arange(most) < steps[:, None]
        logits = self.logits[torch.arange(len(steps)), steps - 1]
        locations = self.locations.masked_fill(~taken[:, :, None], torch.nan)
        return Answers(logits, steps, locations, self.stop_probs.masked_fill(~taken, torch.nan), self.labels)

    def at(self, model: DTRAM) -> Answers:
        """The answers of a model with its own threshold, or after all steps of a RAM."""
        if model.dynamic:
            return self.at_threshold(model.stop_threshold)
        return self.at_steps(torch.full_like(self.labels, self.stop_probs.shape[1]))

    def take(self, kept: Tensor) -> "FullPass":
        """The images at `kept`, a mask (N,) bool."""
        return FullPass(*(tensor[kept] for tensor in vars(self).values()))


@dataclass
class Evaluator:
    """Runs a model over a split, shared among processes. Every process gets all results, on the CPU.

    The model runs in the precision of its weights, as it does for its users. In the precision of a mixed
    training, answers near a threshold would differ from theirs.

    model: on the accelerator's device; every call puts it into evaluation mode.
    accelerator: the accelerator of the process.
    batch_size: images per batch of each process.
    shows_progress: whether a full pass shows a bar, on a terminal.
    """

    model: DTRAM
    accelerator: Accelerator
    batch_size: int
    shows_progress: bool = False

    @torch.no_grad()
    def predict(self, split: Split) -> Answers:
        """`DTRAM.predict` for every image of a split; images that stop make room for others."""
        limits = Limits.of(self.model)
        pool = Pool(self.model, self.batch_size, limits.max_steps, Threshold(limits.stop_threshold))
        finished, start = [], 0
        for index, images in self.batches(split):
            finished += pool.admit(list(range(start, start + len(index))), self.model.open(images))
            finished += pool.full_glimpses()
            start += len(index)
        finished += pool.drain()
        if failed := [batch.error for batch in finished if batch.error]:
            raise ValueError(f"an image {failed[0]}.")
        order = torch.tensor([key for batch in finished for key in batch.keys]).argsort()
        names = ("logits", "steps", "locations", "stop_probs")
        joined = [torch.cat([getattr(batch.found, name) for batch in finished])[order] for name in names]
        joined[0] = joined[0].float()
        return Answers(*self.gather(joined, len(split)), labels=split.labels)  # type: ignore[misc]

    @torch.no_grad()
    def full(self, split: Split, locations: Tensor | None = None) -> FullPass:
        """All T steps of every image, so that any stop policy can be applied afterwards.

        Args:
            split: N images.
            locations: (N, T, 2) locations to look at instead of the model's.
        """
        parts = []
        quiet = not (self.shows_progress and self.accelerator.is_main_process and sys.stderr.isatty())
        count = -(-len(split) // (self.batch_size * self.accelerator.num_processes))
        for index, images in tqdm(
            self.batches(split), total=count, unit=" batches", leave=False, disable=quiet
        ):
            given = None if locations is None else locations[index].to(self.accelerator.device)
            found = self.model.rollout(images, locations=given)
            seen = [found.logits, found.stop_logits.sigmoid(), found.locations]
            parts.append([tensor.cpu() for tensor in seen])
        joined = [torch.cat(column) for column in zip(*parts, strict=True)]
        return FullPass(*self.gather(joined, len(split)), labels=split.labels)  # type: ignore[misc]

    def batches(self, split: Split | Joined) -> Iterator[tuple[Tensor, Images]]:
        """This process's share of a split: indices and stored images. The next batch is read meanwhile.

        The first images are repeated at the end, so that all processes have equally many.
        """
        self.model.eval()
        world = self.accelerator.num_processes
        padded = torch.arange(-(-len(split) // world) * world) % len(split)
        mine = padded[self.accelerator.process_index :: world]
        shares = (mine[i] for i in index_batches(len(mine), self.batch_size, seed=None))
        for index, images in work_ahead(lambda index: (index, split.at(index)), shares, workers=1, ahead=2):
            yield index, images.to(self.accelerator.device)

    def gather(self, mine: list[Tensor], count: int) -> list[Tensor]:
        """Join the results of all processes, in the order of the split and without repeated images."""
        world, device = self.accelerator.num_processes, self.accelerator.device
        if world == 1:
            return [tensor[:count] for tensor in mine]
        gathered = [self.accelerator.gather(tensor.to(device)).unflatten(0, (world, -1)) for tensor in mine]
        return [tensor.transpose(0, 1).flatten(0, 1)[:count].cpu() for tensor in gathered]
