"""Timing several functions in turns, so that a change of the machine's speed affects all of them."""

import statistics
import time
from collections.abc import Callable


def alternate(sides: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """The median seconds of each function in `sides`, after one warm-up each."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name in list(sides) if turn % 2 else reversed(list(sides)):
            start = time.perf_counter()
            sides[name]()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def positive(word: str) -> int:
    """The type of an argument such as --threads, for argparse."""
    if int(word) < 1:
        raise ValueError
    return int(word)
