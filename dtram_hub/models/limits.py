"""Limits of a prediction: when it must stop, and how long its looks have taken so far."""

import math
import time
from collections import deque
from dataclasses import dataclass, field

from torch import nn

from ..checks import check_integer, check_number

REMEMBERED = 8  # times of one kind of look


@dataclass(frozen=True)
class Limits:
    """The limits of one prediction, from the arguments of `DTRAM.predict`.

    stop_threshold: an image stops at the first step whose stop probability is above it.
    max_steps: the largest number of steps of an image.
    mean_steps: the mean steps of the images; None leaves the stops to the threshold.
    deadline: seconds after the start, or None.
    """

    stop_threshold: float
    max_steps: int
    mean_steps: float | None = None
    deadline: float | None = None

    @staticmethod
    def of(
        model: nn.Module,
        stop_threshold: float | None = None,
        max_steps: int | None = None,
        mean_steps: float | None = None,
        deadline: float | None = None,
    ) -> "Limits":
        """The limits of a DTRAM, with its own threshold and steps by default.

        Raises:
            ValueError: a value is out of range; a budget with a threshold, or of a RAM.
        """
        threshold = model.stop_threshold if stop_threshold is None else stop_threshold
        most = model.num_steps if max_steps is None else max_steps
        check_number("stop_threshold", threshold, 0, 1)
        check_integer("max_steps", most, 1)
        if deadline not in (None, math.inf):
            check_number("deadline", deadline, 0, math.inf, open_low=True)
        if mean_steps is not None:
            check_number("mean_steps", mean_steps, 1, most)
            check_budget(model)
            if stop_threshold is not None:
                raise ValueError(
                    f"mean_steps={mean_steps} sets the stops, and so does stop_threshold={stop_threshold}; "
                    "accepted is one of them."
                )
        return Limits(threshold, most, mean_steps, deadline)

    def clock(self, model: nn.Module) -> "Clock":
        """The clock of a prediction that starts now."""
        return Clock() if self.deadline is None else Countdown(model, self.deadline)


def check_budget(model: nn.Module) -> None:
    """ValueError for a RAM, which takes the same steps with every image."""
    if not model.dynamic:
        raise ValueError(
            f"dynamic=False takes {model.num_steps} steps with every image; a budget needs dynamic=True."
        )


@dataclass
class LookTimes:
    """The seconds that the looks of a model took, by kind and by number of images.

    first, later: the last seconds of first and of later looks, by number of images.
    """

    first: dict[int, deque] = field(default_factory=dict)
    later: dict[int, deque] = field(default_factory=dict)

    def add(self, is_first: bool, images: int, seconds: float) -> None:
        """Remember one look."""
        kind = self.first if is_first else self.later
        kind.setdefault(images, deque(maxlen=REMEMBERED)).append(seconds)

    def expect(self, images: int) -> float:
        """The seconds of the next later look at `images`: the slowest that is remembered of such looks.

        A number of images that was not measured takes the time of the next larger one, or else the time of
        the largest in proportion. Before any later look was measured, it takes as long as a first one.
        """
        kind = self.later or self.first
        if not kind:
            return 0.0
        larger = [size for size in kind if size >= images]
        size = min(larger) if larger else max(kind)
        return max(kind[size]) * max(1.0, images / size)


class Clock:
    """The time of a prediction without a deadline, which nobody measures."""

    def allows(self, images: int) -> bool:
        """Whether the next look at so many images is expected to end in time."""
        return True

    def measure(self, images: int) -> None:
        """Measure the look that has just ended; its results have arrived on the host."""


class Countdown(Clock):
    """The time of a prediction that has a deadline.

    Args:
        model: the model whose looks are timed. It keeps the times for its next prediction.
        deadline: seconds from now.
    """

    def __init__(self, model: nn.Module, deadline: float):
        if not hasattr(model, "look_times"):
            model.look_times = LookTimes()
        self.times, self.is_first = model.look_times, True
        self.last = time.perf_counter()
        self.end = self.last + deadline

    def allows(self, images: int) -> bool:
        return time.perf_counter() + self.times.expect(images) <= self.end

    def measure(self, images: int) -> None:
        now = time.perf_counter()
        self.times.add(self.is_first, images, now - self.last)
        self.last, self.is_first = now, False
