"""One epoch of training images through `torch.utils.data.DataLoader`.

The order of an epoch and the augmentation of every image are functions of a key, such as (seed, stage,
epoch). They do not depend on the numbers of processes and workers, so a resumed run may change both.
"""

import itertools
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from ..images.ragged import Ragged
from .augment import Augmentation
from .balance import Resampled
from .splits import Joined, Split, index_batches
from .streaming import Stream

ORDER, DRAWS = (), (1,)  # spawn keys: each use has its own random numbers


Loaded = Split | Joined | Resampled | Stream
Batch = tuple[Tensor | Ragged, Tensor, Tensor | None]  # images, labels, index


def train_loader(
    split: Loaded,
    batch_size: int,
    *,
    seed: tuple[int, ...],
    rank: int = 0,
    world: int = 1,
    augmentation: Augmentation | None = None,
    workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader:
    """This process's share of every batch of one epoch, augmented.

    All processes together read every image once, except an incomplete last batch.

    Args:
        split: the images. Every process reads all rows of a stream, and decodes its share.
        batch_size: images per batch over all processes, a multiple of `world`.
        seed: the key of the epoch, such as (seed, stage, epoch).
        rank, world: this process and the number of processes.
        augmentation: none by default.
        workers: number of processes that read, decode and augment; 0 for this process itself.
        pin_memory: whether to pin the memory of batches, for faster copies to a GPU.

    Yields:
        Images (batch_size / world, C, S, S) uint8, or of different sizes; labels (batch_size / world,) int64;
        and the index of each image in the split, int64, which a stream does not have.

    Raises:
        ValueError: a streamed image is unreadable.
    """
    augmentation = augmentation or Augmentation()
    draws = epoch_draws(seed, len(split), augmentation.columns)
    order = epoch_seed(seed, ORDER)
    # Without a generator of its own the loader would draw from torch's global one.
    common: dict[str, Any] = {
        "num_workers": workers,
        "pin_memory": pin_memory,
        "generator": torch.Generator(),
        "worker_init_fn": leave_signals,
    }
    if isinstance(split, Stream):
        return DataLoader(
            StreamedBatches(split, batch_size, order, slice(rank, None, world), augmentation, draws),
            batch_size=None,
            **common,
        )
    shares = index_batches(len(split), batch_size, seed=order, rank=rank, world=world)
    return DataLoader(
        AugmentedImages(split, augmentation, draws),
        batch_sampler=[index.tolist() for index in shares],
        collate_fn=_as_it_is,
        **common,
    )


def leave_signals(worker: int) -> None:
    """Let a worker ignore the signals that end a training.

    A terminal or a launcher sends them to all processes. The training process asks its workers to end, and
    takes one that ended by itself for a crash.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def epoch_draws(key: tuple[int, ...], num_images: int, columns: int) -> Tensor:
    """Uniform random numbers in [0, 1) for all images of an epoch: (num_images, columns) float32.

    Row i belongs to image i of a split, or to the i-th image of a stream.
    """
    generator = torch.Generator().manual_seed(epoch_seed(key, DRAWS))
    return torch.rand(num_images, columns, generator=generator)


def epoch_seed(key: tuple[int, ...], use: tuple[int, ...] = ORDER) -> int:
    """One seed from a key; each `use` gives another seed."""
    return int(np.random.SeedSequence(key, spawn_key=use).generate_state(1)[0])


class AugmentedImages(Dataset):
    """A split that reads and augments a whole batch at a time."""

    def __init__(self, split: Split | Joined | Resampled, augmentation: Augmentation, draws: Tensor):
        self.split, self.augmentation, self.draws = split, augmentation, draws

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Batch:
        index = torch.tensor(indices, dtype=torch.int64)
        return self.augmentation(self.split.at(index), self.draws[index]), self.split.labels[index], index


class StreamedBatches(IterableDataset):
    """Batches of a stream, in the same order for any number of workers.

    Each of W workers reads all rows, which are small, and decodes every W-th batch; with `own_shards` it
    reads files of its own.
    """

    def __init__(
        self,
        stream: Stream,
        batch_size: int,
        seed: int,
        share: slice,
        augmentation: Augmentation,
        draws: Tensor,
    ):
        self.stream, self.batch_size, self.seed, self.share = stream, batch_size, seed, share
        self.augmentation, self.draws = augmentation, draws

    def __len__(self) -> int:
        return max(1, len(self.stream) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        numbers = range(first, len(self), step)
        for number, rows in zip(numbers, self._rows(first, step, len(numbers)), strict=True):
            start = number * self.batch_size
            draws = self.draws[start : start + self.batch_size][self.share]
            images, labels = self.stream.decode(rows)
            yield self.augmentation(images, draws), labels, None

    def _rows(self, first: int, step: int, count: int) -> Iterator[list[dict]]:
        """This process's rows of every `step`-th batch, from the batch `first` on."""
        rank, world = self.share.start, self.share.step
        if self.stream.own_shards:
            own = self.batch_size // world
            yield from self.stream.own_batches(own, count, self.seed, rank * step + first, world * step)
            return
        for rows in itertools.islice(self.stream.batches(self.batch_size, self.seed), first, None, step):
            yield rows[self.share]


def _as_it_is(batch: Any) -> Any:
    return batch
