"""The loader: an epoch is a function of its key, whatever the number of processes and of workers."""

import signal

import pytest
import torch

from dtram_hub.data.augment import Augmentation
from dtram_hub.data.loader import epoch_draws, train_loader
from dtram_hub.data.splits import Joined, Split
from dtram_hub.learning.interrupt import ENDING

KEY = (3, 1, 4)
CHANGES = Augmentation(
    flip=True,
    crop=0.5,
    colour=0.2,
    distort={"shift": 2, "bend": 1},
    rand_augment="rand-m9-mstd0.5",
    erase=0.5,
)


def make_split(count: int = 50) -> Split:
    images = torch.randint(0, 256, (count, 3, 12, 12), dtype=torch.uint8)
    return Split(images, torch.arange(count))


def epoch(split: Split | Joined, batch_size: int = 8, **settings) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(train_loader(split, batch_size, **({"seed": KEY} | settings)))


def assert_equal(found: list, expected: list) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_every_image_comes_once_as_it_is() -> None:
    split = make_split()
    batches = epoch(split)
    assert [len(labels) for _, labels, _ in batches] == [8] * 6
    order = torch.cat([labels for _, labels, _ in batches])
    assert len(order.unique()) == 48
    assert order.tolist() != sorted(order.tolist())
    for images, labels, _ in batches:
        assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
        assert torch.equal(images, split.at(labels))
    assert len(train_loader(split, 8, seed=KEY)) == 6
    assert [len(labels) for _, labels, _ in epoch(make_split(5))] == [5]  # fewer than one batch


def test_the_order_is_that_of_torch_for_the_seed_of_the_key() -> None:
    # An order is part of what makes a run repeatable: this one is that of runs before there was a loader.
    seed = 3304465307
    expected = torch.randperm(50, generator=torch.Generator().manual_seed(seed))[:48]
    assert torch.equal(torch.cat([labels for _, labels, _ in epoch(make_split())]), expected)


@pytest.mark.parametrize("augmentation", [Augmentation(), CHANGES], ids=["plain", "augmented"])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_nothing(augmentation: Augmentation, workers: int) -> None:
    split = make_split()
    alone = epoch(split, augmentation=augmentation)
    assert_equal(epoch(split, augmentation=augmentation, workers=workers), alone)


@pytest.mark.parametrize("world", [2, 4])
def test_the_shares_of_all_processes_are_the_batches_of_one(world: int) -> None:
    split = make_split()
    shares = [epoch(split, augmentation=CHANGES, rank=rank, world=world) for rank in range(world)]
    together = [
        [torch.stack(column, dim=1).flatten(0, 1) for column in zip(*parts, strict=True)]
        for parts in zip(*shares, strict=True)
    ]
    assert_equal(together, epoch(split, augmentation=CHANGES))


def test_seed_stage_and_epoch_change_order_and_augmentation() -> None:
    split, keys = make_split(), [KEY, (3, 1, 5), (3, 2, 4), (4, 1, 4)]
    epochs = [epoch(split, augmentation=CHANGES, seed=key) for key in keys]
    orders = {tuple(torch.cat([labels for _, labels, _ in batches]).tolist()) for batches in epochs}
    assert len(orders) == 4
    draws = [epoch_draws(key, 50, 3) for key in [*keys, (*KEY, 1)]]
    assert len({tuple(drawn.flatten().tolist()) for drawn in draws}) == 5


def test_an_image_keeps_its_draws_in_whatever_batch_it_comes() -> None:
    split, settings = make_split(), {"augmentation": CHANGES}
    pieces = [torch.cat(column) for column in zip(*epoch(split, 8, **settings), strict=True)]
    wide = [torch.cat(column) for column in zip(*epoch(split, 16, **settings), strict=True)]
    assert torch.equal(pieces[0], wide[0])
    draws = epoch_draws(KEY, 50, CHANGES.columns)
    assert torch.equal(pieces[0], CHANGES(split.at(pieces[1]), draws[pieces[1]]))


def test_draws_are_uniform() -> None:
    draws = epoch_draws(KEY, 20_000, 3)
    assert (draws.shape, draws.dtype) == ((20_000, 3), torch.float32)
    assert 0 <= draws.min() < 0.001
    assert 0.999 < draws.max() < 1
    torch.testing.assert_close(draws.mean(0), torch.full((3,), 0.5), atol=0.01, rtol=0)
    torch.testing.assert_close(draws.T.corrcoef(), torch.eye(3), atol=0.03, rtol=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_global_generator_is_left_alone(workers: int) -> None:
    split = make_split()
    before = torch.get_rng_state()
    epoch(split, augmentation=CHANGES, workers=workers)
    assert torch.equal(torch.get_rng_state(), before)


def test_joined_splits_are_shuffled_together() -> None:
    split, other = make_split(30), make_split(20)
    other.labels += 30
    batches = epoch(Joined([split, other]), augmentation=CHANGES)
    order = torch.cat([labels for _, labels, _ in batches])
    assert len(order.unique()) == 48
    assert 5 < (order[:24] < 30).sum() < 19
    whole = Split(torch.cat([split.canvases, other.canvases]), torch.arange(50))
    assert_equal(batches, epoch(whole, augmentation=CHANGES))


class Watched(Split):
    """Its pixels are 1 where its process ignores the signals that end a training, else 0."""

    def at(self, index: torch.Tensor) -> torch.Tensor:
        ignored = all(signal.getsignal(number) is signal.SIG_IGN for number in ENDING)
        return torch.full((len(index), 1, 2, 2), ignored, dtype=torch.uint8)


def test_only_workers_leave_signals_to_the_training() -> None:
    split = Watched(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.arange(4))
    for workers in (0, 1):
        assert all((images == workers).all() for images, *_ in epoch(split, 2, workers=workers))
