"""How many steps new images will take at a stop threshold that few images have set."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..models.stopping import first_stop

LEVEL = 0.95
DRAWS = 5000  # populations that may have given the images
WIDE = 0.1  # looks; a half-width above this is worth a warning


@dataclass(frozen=True)
class Budget:
    """A budget of mean steps, and what to expect of it.

    mean_steps: the budget.
    stop_threshold: the threshold that was set for it.
    images: the number of images that set the threshold.
    measured: their mean steps.
    low, high: the interval of `expected_mean_steps`, at the level LEVEL.
    """

    mean_steps: float
    stop_threshold: float
    images: int
    measured: float
    low: float
    high: float

    @property
    def is_wide(self) -> bool:
        """Whether so few images set the threshold that a warning is due."""
        return self.high - self.low > 2 * WIDE

    def __str__(self) -> str:
        """The budget in sentences."""
        text = (
            f"The stop threshold {self.stop_threshold:.4f} was set for {self.mean_steps:g} mean steps. "
            f"It takes {self.measured:.2f} on the {self.images} validation images that set it, and "
            f"{self.low:.2f} to {self.high:.2f} on new images like them ({100 * LEVEL:.0f} % confidence)."
        )
        return text + " A narrower range takes more validation images." * self.is_wide


def expect_budget(stop_probs: Tensor, stop_threshold: float, mean_steps: float) -> Budget:
    """What to expect of a threshold that `threshold_for` chose for a budget.

    Args:
        stop_probs: (N, T), the stop probabilities that chose it.
        stop_threshold: the threshold.
        mean_steps: the budget.
    """
    measured = first_stop(stop_probs > stop_threshold).double().mean().item()
    interval = expected_mean_steps(stop_probs, stop_threshold)
    return Budget(mean_steps, stop_threshold, len(stop_probs), measured, *interval)


def expected_mean_steps(
    stop_probs: Tensor, stop_threshold: float, level: float = LEVEL
) -> tuple[float, float]:
    """A confidence interval of the mean steps of new images at a threshold.

    The threshold may have been chosen on the same N images by `threshold_for`. With two steps the share of
    new images that go on after the first is then Beta(k, N - k + 1), where k of the N images go on, and the
    interval is that of Clopper and Pearson, which is a little wider. More steps generalise it: the shares of
    the steps are Dirichlet(counts), with one image more, that takes 1 step for the lower end and T steps for
    the upper one. The interval does not know whether the images also chose the weights, or taught them.

    Args:
        stop_probs: (N, T), the probabilities to stop after each step.
        stop_threshold: in [0, 1]; 0 stops every image after the first step, and 1 none.
        level: in (0, 1), the share of such intervals that hold the mean.

    Returns:
        The ends of the interval, in [1, T].
    """
    last = stop_probs.shape[1]
    if stop_threshold in (0, 1):
        return (1.0, 1.0) if stop_threshold == 0 else (float(last), float(last))
    counts = np.bincount(first_stop(stop_probs > stop_threshold).numpy(), minlength=last + 1)[1:]
    tail = (1 - level) / 2
    low, high = _means(counts, extra=1), _means(counts, extra=last)
    return max(1.0, float(np.quantile(low, tail))), min(float(last), float(np.quantile(high, 1 - tail)))


def _means(counts: np.ndarray, extra: int) -> np.ndarray:
    """Mean steps of many populations that may have given the counts of the steps 1, 2, .. and one `extra`."""
    counts = counts.copy()
    counts[extra - 1] += 1
    (taken,) = counts.nonzero()
    return np.random.default_rng(0).dirichlet(counts[taken], size=DRAWS) @ (taken + 1)
