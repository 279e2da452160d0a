"""Pictures of a DT-RAM's steps (Fig. 5), glimpses (Fig. 7) and accuracy against mean steps."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor

from .files import replacing
from .prompt import printable

# Labels and names of runs are texts: without this, "$" in them begins a formula, and a bad one is an error.
as_they_are = matplotlib.rc_context({"text.parse_math": False, "text.usetex": False})
COLOURS = matplotlib.color_sequences["tab10"]
PALE = (
    "#1f5fa8",
    "#8fc98f",
    "#f8b878",
    "#d9c3e6",
)  # of lines that may lie on each other, the upper ones first
FEW = 20  # points, below which each is marked
WRONG = "#c62828"
GLIMPSES_PER_ROW = 6
MOST_NAMES = 60  # of classes that a picture can name


@as_they_are
def plot_steps(
    path: str | Path, steps: Tensor, correct: Tensor, num_steps: int, difficulty: Tensor | None
) -> None:
    """Draw a histogram of steps with the accuracy above each bar, and mean steps against difficulty.

    Args:
        path: path of the picture.
        steps: (N,) int64 in 1..num_steps.
        correct: (N,) bool.
        num_steps: T.
        difficulty: (N,) int64; None leaves the second plot out.
    """
    steps, correct = steps.numpy(), correct.numpy()
    figure = Figure(figsize=(9 if difficulty is not None else 4.5, 3.6), layout="constrained")
    axes = figure.subplots(1, 2 if difficulty is not None else 1, squeeze=False)[0]
    numbers = np.arange(1, num_steps + 1)
    shares = [100 * (steps == t).mean() for t in numbers]
    bars = axes[0].bar(numbers, shares, color=[COLOURS[(t - 1) % 10] for t in numbers])
    labels = [
        f"{100 * correct[steps == t].mean():.0f} %\nright" if (steps == t).any() else "" for t in numbers
    ]
    axes[0].bar_label(bars, labels, fontsize=8, padding=2)
    axes[0].set(xlabel="steps taken", ylabel="test images (%)", xticks=numbers)
    axes[0].set_title(f"{steps.mean():.2f} steps on average, {100 * correct.mean():.1f} % right", fontsize=10)
    axes[0].margins(y=0.16)
    if difficulty is not None:
        levels = np.unique(difficulty.numpy())
        means = [steps[difficulty.numpy() == level].mean() for level in levels]
        axes[1].plot(levels, means, "o-", color=COLOURS[0])
        axes[1].set(xlabel="difficulty (clutter fragments)", ylabel="mean steps", xticks=levels)
        axes[1].set_title("Mean steps of the images of each difficulty", fontsize=10)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


@as_they_are
def plot_histograms(path: str | Path, histograms: dict[str, dict[str, int]]) -> None:
    """Draw histograms of the steps of several models, side by side (Fig. 5).

    Args:
        path: path of the picture.
        histograms: `step_histogram` of `StepAccuracy` for each model.
    """
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    numbers = np.arange(1, 1 + max(int(step) for histogram in histograms.values() for step in histogram))
    width = 0.8 / len(histograms)
    for i, (title, histogram) in enumerate(histograms.items()):
        counts = np.array([histogram.get(str(number), 0) for number in numbers])
        mean = (counts * numbers).sum() / counts.sum()
        centres = numbers + (i - (len(histograms) - 1) / 2) * width
        axes.bar(
            centres,
            100 * counts / counts.sum(),
            width,
            label=_shown(f"{title}: {mean:.2f} steps"),
            color=COLOURS[i % 10],
        )
    axes.set(xlabel="steps taken", ylabel="test images (%)", xticks=numbers)
    axes.legend(fontsize=9, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


@as_they_are
def plot_tradeoff(path: str | Path, curves: dict[str, list[dict]], own: dict | None = None) -> None:
    """Draw the error in percent against mean steps; one line per stop policy.

    Each line is thinner than those below it, so that lines on the same points are all seen.

    Args:
        path: path of the picture.
        curves: the points {"mean_steps", "accuracy"} of each stop policy.
        own: the point of the model with its own stops.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    errors, drawn = [], {}
    for title, points in curves.items():
        drawn[title] = sorted((point["mean_steps"], 100 * (1 - point["accuracy"])) for point in points)
        errors += [error for _, error in drawn[title]]
    lines = [title for title, points in drawn.items() if len(points) >= FEW]
    for title, points in drawn.items():
        style: dict[str, Any] = {
            "color": "0.55",
            "linestyle": ":",
            "marker": "o",
            "markersize": 5,
            "zorder": 5,
        }
        if title in lines:
            rank = len(lines) - 1 - lines.index(title)  # 0 for the last, which lies on the others
            style = {"color": PALE[rank % len(PALE)], "linewidth": 1.6 + 2.4 * rank}
        axes.plot(*zip(*points, strict=True), label=_shown(title), **style)
    if own:
        steps, error = own["mean_steps"], 100 * (1 - own["accuracy"])
        label = f"this model: {steps:.2f} steps, {error:.2f} % error"
        axes.plot(
            steps, error, "*", color="black", markersize=13, markeredgecolor="white", label=label, zorder=9
        )
    axes.set(xlabel="mean steps", ylabel="test error (%)")
    if min(errors) > 0 and max(errors) > 4 * min(errors):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title("Error at every budget of mean steps, by stop policy", fontsize=10)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


@as_they_are
def plot_variants(path: str | Path, variants: dict[str, list[dict]]) -> None:
    """Draw the accuracy of every stage against its mean steps; one line per variant of a study.

    Args:
        path: path of the picture.
        variants: the points {"mean_steps", "accuracy"} of each variant, in the order of the stages.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for i, (title, points) in enumerate(variants.items()):
        steps, accuracies = zip(*((p["mean_steps"], 100 * p["accuracy"]) for p in points), strict=True)
        axes.plot(
            steps, accuracies, "o-", label=_shown(title), color=COLOURS[i % 10], markersize=4, linewidth=1
        )
    axes.set(xlabel="mean steps", ylabel="test accuracy (%)")
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


@dataclass(frozen=True)
class Example:
    """An image with the looks at it.

    image: (C, H, W) uint8.
    boxes: (S, 4), top, left, height and width of each look, in pixels of the image.
    caption: a short text.
    is_right: whether the answer is right; a wrong one stands out.
    """

    image: Tensor
    boxes: Tensor
    caption: str
    is_right: bool = True


@as_they_are
def plot_glimpses(
    path: str | Path,
    examples: Sequence[Example],
    title: str,
    per_row: int = GLIMPSES_PER_ROW,
    side: float = 1.7,
) -> None:
    """Draw images with every look as a numbered, coloured box; one row for each number of looks.

    Args:
        path: path of the picture.
        examples: at least one.
        title: a sentence above the images.
        per_row: the largest number of images in a row.
        side: side of an image in inches.
    """
    rows: dict[int, list[Example]] = {}
    for example in examples:
        rows.setdefault(len(example.boxes), []).append(example)
    columns = min(per_row, max(map(len, rows.values())))
    figure = Figure(figsize=(side * columns + 0.3, (side + 0.45) * len(rows) + 0.35), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axis in grid.flat:
        axis.set_axis_off()
    for axes, number in zip(grid, sorted(rows), strict=True):
        for axis, example in zip(axes, rows[number], strict=False):
            _draw(axis, example)
            words = printable(example.caption).replace(" %", "\N{NO-BREAK SPACE}%")
            caption = textwrap.fill(words, int(15 * side), max_lines=3)
            axis.set_title(caption, fontsize=8, pad=4, color="black" if example.is_right else WRONG)
        words = {"rotation": 90, "va": "center", "ha": "center", "fontsize": 9}
        axes[0].text(-0.1, 0.5, f"{number} look{'s' * (number > 1)}", transform=axes[0].transAxes, **words)
    figure.suptitle(textwrap.fill(title, int(15 * side * columns)), fontsize=9, color="0.3")
    _save(figure, path)


@as_they_are
def plot_heat(path: str | Path, locations: Tensor, bins: int = 28) -> None:
    """Draw how many of the locations of second looks fall into each part of an image.

    Args:
        path: path of the picture.
        locations: (N, 2) in [-1, 1], (y, x).
        bins: the number of parts along each side.
    """
    y, x = locations.numpy().T
    counts, _, _ = np.histogram2d(y, x, bins=bins, range=[[-1, 1], [-1, 1]])
    figure = Figure(figsize=(4.2, 3.6), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(counts, extent=(-1, 1, 1, -1), cmap="viridis", interpolation="nearest")
    figure.colorbar(shown, ax=axes, label="test images")
    axes.set(xlabel="x", ylabel="y", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    axes.set_title(f"Second looks at {len(locations):,} test images", fontsize=10)
    _save(figure, path)


@as_they_are
def plot_confusion(path: str | Path, confusion: list[list[int]], names: list[str]) -> None:
    """Draw which classes are taken for which: the share of each row's images in each column.

    Args:
        path: path of the picture.
        confusion: C rows of C counts, one row for each right class.
        names: of the C classes.
    """
    counts = np.asarray(confusion, dtype=float)
    shares = 100 * counts / counts.sum(1, keepdims=True).clip(min=1)
    side = min(14, 2.8 + 0.22 * len(names))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set(xlabel="answer", ylabel="right class")
    if len(names) <= MOST_NAMES:
        shown = [_shown(name) for name in names]
        axes.set_xticks(range(len(names)), shown, rotation=90 * (max(map(len, names)) > 3), fontsize=7)
        axes.set_yticks(range(len(names)), shown, fontsize=7)
    if len(names) <= 12:
        for (row, column), count in np.ndenumerate(counts.astype(int)):
            colour = "white" if shares[row, column] > 50 else "black"
            axes.text(column, row, count or "", ha="center", va="center", fontsize=7, color=colour)
    axes.set_title(f"Answers to {int(counts.sum()):,} images", fontsize=10)
    figure.colorbar(drawn, label="images of the right class (%)", shrink=0.8)
    _save(figure, path)


def _shown(title: str) -> str:
    """A short title for a legend, which would leave out one that begins with "_"."""
    return f"\N{HAIR SPACE}{textwrap.shorten(printable(title), 60)}"


def _save(figure: Figure, path: str | Path) -> None:
    """Write a picture whole or not at all, in the format of its suffix."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150, format=Path(path).suffix[1:] or "png")


def _draw(axis: Axes, example: Example) -> None:
    height, width = example.image.shape[1:]
    pixels = example.image.permute(1, 2, 0).numpy()
    axis.imshow(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0, vmax=255)
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    for i, (top, left, high, wide) in enumerate(example.boxes.tolist()):
        bottom, right = min(top + high, height) - 0.5, min(left + wide, width) - 0.5
        top, left = max(top, 0) - 0.5, max(left, 0) - 0.5
        colour = COLOURS[i % 10]
        frame: dict[str, Any] = {"fill": False, "edgecolor": colour, "linewidth": 1.5, "clip_on": False}
        axis.add_patch(Rectangle((left, top), right - left, bottom - top, **frame))
        y, x, va, ha = [  # boxes on one place have their numbers at different corners
            (top, left, "top", "left"),
            (top, right, "top", "right"),
            (bottom, right, "bottom", "right"),
            (bottom, left, "bottom", "left"),
        ][(i - 1) % 4 if i else 0]
        label = {"facecolor": colour, "edgecolor": "none", "pad": 0.8}
        axis.text(x, y, str(i + 1), color="white", fontsize=6, va=va, ha=ha, bbox=label)
