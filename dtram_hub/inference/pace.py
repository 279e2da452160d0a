"""Paces: which images of a stream go on. Each pace is one class with `goes_on`."""

from collections import deque

import numpy as np
import torch
from torch import Tensor

REMEMBERED = 512  # stop probabilities after each step
HORIZON = 100  # images over which a debt of looks is paid back


class Pace:
    """The interface of all paces."""

    def goes_on(self, looks: Tensor, probs: Tensor | None) -> Tensor:
        """Whether images take another look, (N,) bool on the CPU.

        Args:
            looks: (N,) int64, the looks that each image has taken.
            probs: (N,), the probability to stop after the last of them; None for a RAM, which never stops.
        """
        raise NotImplementedError


class Threshold(Pace):
    """An image stops at the first stop probability above a threshold."""

    def __init__(self, stop_threshold: float):
        self.stop_threshold = stop_threshold

    def goes_on(self, looks: Tensor, probs: Tensor | None) -> Tensor:
        return torch.ones(len(looks), dtype=torch.bool) if probs is None else probs <= self.stop_threshold


class Budget(Pace):
    """A threshold that moves, so that the mean steps of all images so far keep to a budget.

    The last stop probabilities after each step tell how many steps images would take at a threshold: the
    share of images that go on after step t is estimated from those that were seen t times, as survival is
    from patients who leave a study early (Kaplan and Meier). Looks that were taken too much or too little
    are made up for by the next HORIZON images.

    Args:
        mean_steps: the budget, in [1, max_steps].
        max_steps: the largest number of steps of an image.
        stop_threshold: the first threshold.
    """

    def __init__(self, mean_steps: float, max_steps: int, stop_threshold: float):
        self.mean_steps, self.max_steps, self.stop_threshold = mean_steps, max_steps, stop_threshold
        self.seen: list[deque[float]] = [deque(maxlen=REMEMBERED) for _ in range(max_steps - 1)]
        self.images = 0
        self.looks = 0
        self.in_flight = np.zeros(max_steps, np.int64)  # images that go on, by looks so far

    def goes_on(self, looks: Tensor, probs: Tensor | None) -> Tensor:
        taken, values = looks.numpy(), probs.numpy()
        for step in range(1, self.max_steps + 1):
            arrived = int((taken == step).sum())
            self.looks += arrived
            if step == 1:
                self.images += arrived
            else:
                self.in_flight[step - 1] -= arrived
            if step < self.max_steps:
                self.seen[step - 1].extend(values[taken == step].tolist())
        self._move(taken, values)
        going = (values <= self.stop_threshold) & (taken < self.max_steps)
        self.in_flight += np.bincount(taken[going], minlength=self.max_steps)[: self.max_steps]
        return torch.from_numpy(going)

    def _move(self, taken: np.ndarray, values: np.ndarray) -> None:
        """Choose the threshold at which the next images are expected to take what is left of the budget."""
        undecided = [values[taken == step] for step in range(1, self.max_steps)]
        levels = np.unique(np.concatenate([[0.0], *self.seen, [1.0]]))
        orders = [np.sort(np.asarray(seen)) for seen in self.seen]
        low, high = 0, len(levels)
        while high - low > 1:  # expected steps rise with the threshold
            middle = (low + high) // 2
            within = self._is_within(levels[middle], orders, undecided)
            low, high = (middle, high) if within else (low, middle)
        self.stop_threshold = float(levels[low])

    def _is_within(self, threshold: float, orders: list[np.ndarray], undecided: list[np.ndarray]) -> bool:
        """Whether a threshold keeps to the budget; both lists hold stop probabilities after each step."""
        goes_on = [np.searchsorted(o, threshold, side="right") / len(o) if len(o) else 0.5 for o in orders]
        after = np.zeros(self.max_steps + 1)  # expected steps after t steps, for images that go on
        for step in range(self.max_steps - 1, -1, -1):
            more = goes_on[step] * after[step + 1] if step < self.max_steps - 1 else 0.0
            after[step] = 1.0 + more
        going = self.in_flight[1:] + [(values <= threshold).sum() for values in undecided]
        debt = self.looks + going @ after[1:-1] - self.mean_steps * self.images
        return after[0] + debt / HORIZON <= self.mean_steps
