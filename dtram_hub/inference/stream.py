"""Streams: the predictions of many images, one after the other, at the speed of full batches."""

import itertools
import os
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..checks import check_integer, check_workers, short
from ..images.pyramid import Pyramid
from ..models.dtram import DTRAM
from ..models.limits import Limits
from ..models.records import Prediction
from .pace import Budget, Pace, Threshold
from .pool import Finished, Pool
from .prepare import Preparation
from .reader import Read, read_ahead


@dataclass(frozen=True)
class Outcome:
    """What became of one image of a stream.

    Attributes:
        number: its place in the stream, counted from 0.
        given: the image as it was given.
        found: the prediction, a batch of one on the CPU; None after an error.
        error: why there is no prediction, a sentence without its subject; or "".
        warning: why the pixels may be wrong, or "".
        image: the image as the model read it; None after an error.
    """

    number: int
    given: Any
    found: Prediction | None
    error: str = ""
    warning: str = ""
    image: Tensor | Pyramid | None = None


def stream(
    model: DTRAM,
    images: Iterable[Any],
    *,
    batch_size: int = 32,
    stop_threshold: float | None = None,
    max_steps: int | None = None,
    mean_steps: float | None = None,
    in_order: bool = True,
    workers: int | None = None,
    prepare: Preparation | None = None,
) -> Iterator[Outcome]:
    """Predict the images of any iterable.

    The places of images that have stopped are refilled, so that the encoder gets full batches. Threads read
    and decode ahead. No more than a few batches are in memory, however long the stream is and however slow
    its consumer. Closing the iterator, or leaving its loop, ends all threads.

    Args:
        model: a DTRAM in evaluation mode, on its device.
        images: what `Preparation` takes, of any number: paths, photographs of Pillow, rows or columns of
            `datasets`, tensors (C, H, W), arrays (H, W, C).
        batch_size: images per look.
        stop_threshold, max_steps: as in `DTRAM.predict`.
        mean_steps: in place of a threshold, the mean steps of the stream. The threshold moves to keep to it,
            so that an answer depends on the images before.
        in_order: whether outcomes come in the order of the images; otherwise as they finish.
        workers: threads that read ahead; one for each processor by default.
        prepare: how images are prepared; as the model wants them by default.

    Yields:
        One outcome for each image. An image that cannot be read has an error, and the others go on.

    Raises:
        ValueError: an argument is out of range, before any image is read.
    """
    if isinstance(images, str | bytes | Path):
        raise ValueError(f"images={short(images)} is one image; accepted is a list of them.")
    limits = Limits.of(model, stop_threshold, max_steps, mean_steps)
    check_integer("batch_size", batch_size, 1)
    workers = os.cpu_count() if workers is None else workers
    check_workers("workers", workers)
    pace: Pace = Threshold(limits.stop_threshold)
    if mean_steps is not None:
        pace = Budget(mean_steps, limits.max_steps, model.stop_threshold)
    pool = Pool(model, batch_size, limits.max_steps, pace)
    reads = read_ahead(images, prepare or Preparation(model), workers, ahead=2 * batch_size)
    outcomes = _outcomes(pool, reads)
    return _sorted(outcomes) if in_order else outcomes


def _outcomes(pool: Pool, reads: Generator[Read, None, None]) -> Generator[Outcome, None, None]:
    """The outcomes of all reads, as they finish."""
    open_reads: dict[int, Read] = {}
    try:
        while True:
            arrived = list(itertools.islice(reads, pool.batch_size))
            faulty = [fault for read in arrived if (fault := _fault(pool, read))]
            yield from faulty
            failed = {outcome.number for outcome in faulty}
            arrived_whole = [read for read in arrived if read.number not in failed]
            if arrived_whole:
                open_reads |= {read.number: read for read in arrived_whole}
                images = [read.prepared.image for read in arrived_whole]
                numbers = [read.number for read in arrived_whole]
                yield from _each(pool.admit(numbers, images), open_reads)
            yield from _each(pool.full_glimpses() if arrived else pool.drain(), open_reads)
            if not arrived:
                return
    finally:
        reads.close()


def _fault(pool: Pool, read: Read) -> Outcome | None:
    """The outcome of a read that cannot be looked at; None for one that can."""
    error = read.error
    if not error:
        try:
            pool.places.check(read.prepared.image)
            return None
        except ValueError as fault:
            error = f"cannot be looked at ({fault})"
    return Outcome(read.number, read.given, None, error)


def _each(finished: Iterable[Finished], reads: dict[int, Read]) -> Iterator[Outcome]:
    """The outcome of every image of finished batches."""
    for batch in finished:
        for row, number in enumerate(batch.keys):
            read = reads.pop(number)
            found = None if batch.found is None else batch.found.of(row)
            error = batch.error
            if found is not None and not found.logits.isfinite().all():
                found, error = None, "has no answer: the model's logits are not finite"
            yield Outcome(number, read.given, found, error, read.prepared.warning, read.prepared.image)


def _sorted(outcomes: Generator[Outcome, None, None]) -> Iterator[Outcome]:
    """The outcomes by number; one that comes early waits."""
    early: dict[int, Outcome] = {}
    following = 0
    try:
        for outcome in outcomes:
            early[outcome.number] = outcome
            while following in early:
                yield early.pop(following)
                following += 1
    finally:
        outcomes.close()
