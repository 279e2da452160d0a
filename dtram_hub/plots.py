"""Pictures of a DT-RAM's steps (Fig. 5), glimpses (Fig. 7) and accuracy against mean steps."""

import textwrap
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor

from .files import replacing
from .prompt import printable

# Labels and names of runs are texts: without this, "$" in them begins a formula, and a bad one is an error.
as_they_are = matplotlib.rc_context({"text.parse_math": False, "text.usetex": False})
COLOURS = matplotlib.colormaps["tab10"].colors
GLIMPSES_PER_ROW = 6


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
        f"{100 * correct[steps == t].mean():.0f} % right" if (steps == t).any() else "" for t in numbers
    ]
    axes[0].bar_label(bars, labels, fontsize=8, padding=2)
    axes[0].set(xlabel="steps taken", ylabel="test images (%)", xticks=numbers)
    axes[0].set_title(f"{steps.mean():.2f} steps on average, {100 * correct.mean():.1f} % right", fontsize=10)
    axes[0].margins(y=0.12)
    if difficulty is not None:
        levels = np.unique(difficulty.numpy())
        means = [steps[difficulty.numpy() == level].mean() for level in levels]
        axes[1].plot(levels, means, "o-", color=COLOURS[0])
        axes[1].set(xlabel="difficulty (clutter fragments)", ylabel="mean steps", xticks=levels)
        axes[1].set_title("How long images of each difficulty are looked at", fontsize=10)
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
def plot_tradeoff(path: str | Path, curves: dict[str, list[dict]]) -> None:
    """Draw the error in percent, on a logarithmic axis, against mean steps; one line per stop policy.

    Args:
        path: path of the picture.
        curves: the points {"mean_steps", "accuracy"} of each stop policy.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for colour, (title, points) in zip(cycle(COLOURS), curves.items(), strict=False):
        points = sorted((point["mean_steps"], 100 * (1 - point["accuracy"])) for point in points)
        marker = "o" if len(points) < 20 else None
        axes.plot(*zip(*points, strict=True), label=_shown(title), color=colour, marker=marker, markersize=4)
    axes.set(xlabel="mean steps", ylabel="test error (%)", yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
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


@as_they_are
def plot_glimpses(
    path: str | Path,
    images: Sequence[Tensor],
    locations: Tensor,
    steps: Tensor,
    captions: list[str],
    crop: float | Sequence[float],
    per_row: int = GLIMPSES_PER_ROW,
    side: float = 1.7,
) -> None:
    """Draw images with every glimpse as a numbered, coloured box; one row for each number of steps.

    Args:
        path: path of the picture.
        images: N of (C, H, W) uint8.
        locations: (N, T, 2) in [-1, 1]; NaN for a step without a glimpse.
        steps: (N,) int64 in 1..T.
        captions: N short texts.
        crop: side of a glimpse in pixels, of all images or of each.
        per_row: the largest number of images in a row.
        side: side of an image in inches.
    """
    rows = sorted(set(steps.tolist()))
    crops = crop if isinstance(crop, Sequence) else [crop] * len(images)
    figure = Figure(figsize=(side * per_row, (side + 0.4) * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), per_row, squeeze=False)
    for axis in grid.flat:
        axis.set_axis_off()
    for row, number in enumerate(rows):
        chosen = (steps == number).nonzero().flatten().tolist()[:per_row]
        for axis, i in zip(grid[row], chosen, strict=False):
            _draw(axis, images[i], locations[i], crops[i])
            caption = textwrap.fill(printable(captions[i]), int(15 * side), max_lines=3)
            axis.set_title(caption, fontsize=8, pad=3)
        grid[row, 0].text(
            -0.12,
            0.5,
            f"{number} step{'s' * (number > 1)}",
            rotation=90,
            va="center",
            ha="center",
            fontsize=9,
            transform=grid[row, 0].transAxes,
        )
    _save(figure, path)


@as_they_are
def plot_heat(path: str | Path, locations: Tensor, bins: int = 28) -> None:
    """Draw how many of the locations fall into each part of an image.

    Args:
        path: path of the picture.
        locations: (N, 2) in [-1, 1], (y, x).
        bins: the number of parts along each side.
    """
    counts, _, _ = np.histogram2d(*locations.numpy().T, bins=bins, range=[[-1, 1], [-1, 1]])
    figure = Figure(figsize=(4.2, 3.6), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(counts, extent=(-1, 1, 1, -1), cmap="viridis", interpolation="nearest")
    figure.colorbar(shown, ax=axes, label="test images")
    axes.set(xlabel="x", ylabel="y", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    axes.set_title(f"First glimpses of {len(locations)} test images", fontsize=10)
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
    shares = counts / counts.sum(1, keepdims=True).clip(min=1)
    side = min(14, 2.5 + 0.22 * len(names))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    axes.set(xlabel="answer", ylabel="right class")
    if len(names) <= 60:
        shown = [_shown(name) for name in names]
        axes.set_xticks(range(len(names)), shown, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), shown, fontsize=7)
    figure.colorbar(drawn, label="images of the right class (%)", shrink=0.8)
    _save(figure, path)


def _shown(title: str) -> str:
    """A short title for a legend, which would leave out one that begins with "_"."""
    return f"\N{HAIR SPACE}{textwrap.shorten(printable(title), 60)}"


def _save(figure: Figure, path: str | Path) -> None:
    """Write a picture whole or not at all, in the format of its suffix."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150, format=Path(path).suffix[1:] or "png")


def _draw(axis, image: Tensor, locations: Tensor, crop: float) -> None:
    height, width = image.shape[1:]
    pixels = image.permute(1, 2, 0).numpy()
    axis.imshow(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, cmap="gray", interpolation="nearest")
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    for t, (y, x) in enumerate(locations.tolist(), start=1):
        if y != y:  # NaN: no glimpse at this step
            continue
        top, left = (y + 1) / 2 * height - crop / 2 - 0.5, (x + 1) / 2 * width - crop / 2 - 0.5
        colour = COLOURS[(t - 1) % 10]
        axis.add_patch(Rectangle((left, top), crop, crop, fill=False, edgecolor=colour, linewidth=1.5))
        axis.text(
            min(max(left, 0), width - 1),
            min(max(top, 0), height - 1),
            str(t),
            color="white",
            fontsize=6,
            va="top",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.8},
            clip_on=True,
        )
