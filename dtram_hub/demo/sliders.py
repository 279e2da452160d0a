"""The slider of the page: what it sets, and the stop threshold that follows.

A budget of mean steps says nothing of one image. It belongs to a stop threshold, at which many images took so
many steps on average. A finished run has measured such pairs. Without one the slider is the threshold itself.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path

from ..checks import check_number
from ..learning.run_folder import LEARNED_STOPS, RunFolder, own_result
from ..models.dtram import DTRAM


@dataclass(frozen=True)
class Stop:
    """A stop threshold in [0, 1], and a sentence on what to expect of it."""

    threshold: float
    expect: str


class Slider(ABC):
    """The interface of all sliders.

    label, info: its texts.
    low, high, step: its values.
    start: the value at which the model keeps its own threshold.
    """

    label = info = ""
    low, high, step = 0.0, 1.0, 0.01
    start = 0.0
    is_shown = True

    @abstractmethod
    def at(self, value: float) -> Stop:
        """The stop at a value in [low, high]."""


@dataclass(frozen=True)
class Point:
    """Mean steps and accuracy of a finished run's test images at one stop threshold."""

    threshold: float
    mean_steps: float
    accuracy: float


class BudgetSlider(Slider):
    """Sets the mean steps; the threshold is the measured one that came closest.

    Args:
        own: the point of the model's own threshold.
        curve: other points, by rising threshold.
        num_steps: T.
        test_images: their number, if it is known.
    """

    label = "Budget: mean looks per image"
    info = "A mean over many images: an easy one takes fewer, a hard one more."
    low, step = 1.0, 0.05

    def __init__(self, own: Point, curve: list[Point], num_steps: int, test_images: int | None):
        self.own, self.curve, self.high, self.test_images = own, curve, float(num_steps), test_images
        self.start = round(round(own.mean_steps / self.step) * self.step, 2)

    def at(self, value: float) -> Stop:
        check_number("budget", value, self.low, self.high)
        point = self.own if abs(value - self.start) < self.step / 2 else self._closest(value)
        whose = "the model's own stop threshold of" if point is self.own else "a stop threshold of"
        images = f"{self.test_images:,} test images" if self.test_images else "the test images"
        return Stop(
            point.threshold,
            f"At {whose} {point.threshold:.3g}, {images} took about {point.mean_steps:.1f} looks "
            f"on average, and about {100 * point.accuracy:.1f} % of the answers were right.",
        )

    def _closest(self, value: float) -> Point:
        """The point with the closest mean steps; the ends are one look, and all looks, of every image."""
        if value >= self.high:
            return self.curve[-1]
        return min(self.curve, key=lambda point: abs(point.mean_steps - value))


class ThresholdSlider(Slider):
    """Sets the threshold itself."""

    label = "Stop threshold"
    info = "The model stops at the first look whose stop probability is above it. Lower stops earlier."

    def __init__(self, own: float):
        self.own = self.start = own

    def at(self, value: float) -> Stop:
        check_number("stop threshold", value, self.low, self.high)
        return Stop(value, "The folder of this model has no measured budgets.")


class NoSlider(Slider):
    """A RAM takes the same steps with every image."""

    is_shown = False

    def __init__(self, num_steps: int):
        self.num_steps = num_steps

    def at(self, value: float) -> Stop:
        return Stop(1.0, f"This model is a RAM: it takes {self.num_steps} looks at every image.")


def slider_of(model: DTRAM, folder: Path | None) -> Slider:
    """The slider that fits a model.

    Args:
        model: a DTRAM.
        folder: its files; None if there are none.

    Raises:
        ValueError: metrics.json is not in the format of a run.
    """
    if not model.dynamic:
        return NoSlider(model.num_steps)
    run = RunFolder(folder) if folder else None
    if not run or not run.is_finished:
        return ThresholdSlider(model.stop_threshold)
    metrics = run.read_metrics()
    curve = [_point(run, row) for row in metrics.get("curves", {}).get(LEARNED_STOPS, [])]
    if not curve:
        return ThresholdSlider(model.stop_threshold)
    result = own_result(metrics)
    own = Point(model.stop_threshold, result["mean_steps"], result["accuracy"])
    return BudgetSlider(_settled(own, curve), curve, model.num_steps, metrics.get("test_images"))


def _point(run: RunFolder, row: dict) -> Point:
    """A point of a curve; ValueError without a threshold."""
    check_number(f"{run.metrics_path}: threshold", row.get("threshold"), 0, 1)
    return Point(row["threshold"], row["mean_steps"], row["accuracy"])


def _settled(own: Point, curve: list[Point]) -> Point:
    """The model's own point, or the closest of the curve if another threshold was set after the run."""
    below = [point.mean_steps for point in curve if point.threshold <= own.threshold]
    above = [point.mean_steps for point in curve if point.threshold >= own.threshold]
    if max(below, default=1.0) <= own.mean_steps <= min(above, default=own.mean_steps):
        return own
    closest = min(curve, key=lambda point: abs(point.threshold - own.threshold))
    return replace(closest, threshold=own.threshold)
