"""Reading ahead: images are prepared by threads while the model looks at others."""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from ..images.pyramid import UnreadableImage
from .prepare import Prepared

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Read:
    """One image of a stream, prepared, or the reason why it is not.

    number: its place in the stream, counted from 0.
    given: what the user gave; None if not even that could be had.
    prepared: the image; None after an error.
    error: why there is none, or "".
    """

    number: int
    given: Any
    prepared: Prepared | None
    error: str = ""


def read_ahead(
    images: Iterable[Any], prepare: Callable[[Any], Prepared], workers: int, ahead: int
) -> Generator[Read, None, None]:
    """Prepare images in their order, at most `ahead` of them before they are asked for.

    The items of a sequence are fetched by the threads as well, so that one that cannot be had is an error of
    its own. An error of any other iterable ends the stream.

    Args:
        images: a sequence, or any iterable.
        prepare: turns one item into an image.
        workers, ahead: as in `work_ahead`.
    """
    tasks = enumerate(_fetches(images))
    return work_ahead(lambda task: _read(*task, prepare), tasks, workers, ahead)


def work_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int
) -> Generator[Result, None, None]:
    """The results of a function, in the order of its items, which threads work on before they are asked for.

    Closing the iterator ends the threads.

    Args:
        function: what the threads call.
        items: its arguments, taken as they are needed.
        workers: the number of threads.
        ahead: the largest number of results that are worked on, or done and not yet taken.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="dtram-read") as threads:
        pending: deque[Future[Result]] = deque()
        work = (threads.submit(function, item) for item in items)
        try:
            pending.extend(itertools.islice(work, ahead))
            while pending:
                yield pending.popleft().result()
                pending.extend(itertools.islice(work, 1))
        finally:
            threads.shutdown(cancel_futures=True)


def _fetches(images: Any) -> Iterator[Callable[..., Any]]:
    """A function for each item, which returns the item."""
    if isinstance(images, Sequence) or (hasattr(images, "__len__") and hasattr(images, "__getitem__")):
        return ((lambda number=number: images[number]) for number in range(len(images)))
    return ((lambda item=item: item) for item in images)


def _read(number: int, fetch: Callable[[], Any], prepare: Callable[[Any], Prepared]) -> Read:
    given = None
    try:
        given = fetch()
        return Read(number, given, prepare(given))
    except UnreadableImage as error:
        return Read(number, given, None, f"is no readable image ({error})")
    except Exception as error:  # what users give may raise errors of every kind
        text = str(error).partition("\n")[0] or "no reason is given"
        return Read(number, given, None, f"cannot be prepared ({type(error).__name__}: {text})")
