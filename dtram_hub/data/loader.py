"""One epoch of training images through `torch.utils.data.DataLoader`.

The order of an epoch and the augmentation of every image are functions of a key alone, usually (seed, stage,
epoch). They depend neither on the number of processes nor on that of workers, so a run that was cut off goes
on exactly, also with other numbers of both.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from .augment import Augmentation
from .splits import Joined, Split, index_batches
from .stream import Stream

ORDER, DRAWS = (), (1,)  # spawn keys: the random numbers of one are independent of the other's


def train_loader(
    split: Split | Joined | Stream,
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

    Every image comes once, over all processes, save those that do not fill a last batch.

    Args:
        split: to train on. Of a stream every process reads all rows, and decodes its share.
        batch_size: images per batch over all processes, a multiple of `world`.
        seed: the key of the epoch, such as (seed, stage, epoch).
        rank, world: this process and the number of processes.
        augmentation: of the images; none unless given.
        workers: processes that read, decode and augment ahead; 0 does so in this process.
        pin_memory: put batches where they are copied to a GPU without waiting.

    Yields:
        images (batch_size / world, C, S, S) uint8, labels (batch_size / world,) int64.

    Raises:
        ValueError: a streamed image is unreadable.
    """
    augmentation = augmentation or Augmentation()
    draws = epoch_draws(seed, len(split), augmentation.columns)
    order = epoch_seed(seed, ORDER)
    # The loader draws a seed for its workers, from torch's global generator unless it is given another.
    common = {"num_workers": workers, "pin_memory": pin_memory, "generator": torch.Generator()}
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


def epoch_draws(key: tuple[int, ...], num_images: int, columns: int) -> Tensor:
    """Uniform random numbers in [0, 1) for all images of an epoch: (num_images, columns) float32.

    Row i belongs to image i of a split, or to the i-th image that a stream gives.
    """
    generator = torch.Generator().manual_seed(epoch_seed(key, DRAWS))
    return torch.rand(num_images, columns, generator=generator)


def epoch_seed(key: tuple[int, ...], use: tuple[int, ...] = ORDER) -> int:
    """One seed from a key, another one for each use."""
    return int(np.random.SeedSequence(key, spawn_key=use).generate_state(1)[0])


class AugmentedImages(Dataset):
    """A split whose images are read and augmented a whole batch at a time."""

    def __init__(self, split: Split | Joined, augmentation: Augmentation, draws: Tensor):
        self.split, self.augmentation, self.draws = split, augmentation, draws

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        index = torch.tensor(indices, dtype=torch.int64)
        return self.augmentation(self.split.at(index), self.draws[index]), self.split.labels[index]


class StreamedBatches(IterableDataset):
    """Batches of a stream: each of W workers reads all rows and decodes every W-th batch.

    So the order is that of one reader. Rows are small as long as they are not decoded.
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

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for number, rows in enumerate(self.stream.batches(self.batch_size, self.seed)):
            if number % step == first:
                start = number * self.batch_size
                draws = self.draws[start : start + len(rows)][self.share]
                images, labels = self.stream.decode(rows[self.share])
                yield self.augmentation(images, draws), labels


def _as_it_is(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return batch
