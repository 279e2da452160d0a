"""Checks of input. Each error is one sentence that names the argument, its value and the accepted values."""

import difflib
import math
import reprlib
from collections.abc import Iterable
from typing import Any

from torch import Tensor

MOST_WORKERS = 4096  # threads or processes of one program; far more end it without a sentence
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 120


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """ValueError unless `value` is one of `choices`."""
    choices = list(choices)
    if value not in choices:
        raise ValueError(f"{name}={short(value)} is not one of {', '.join(map(repr, choices))}.")


def check_flag(name: str, value: object) -> None:
    """ValueError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}={short(value)} is neither True nor False.")


def check_integer(name: str, value: Any, least: int, most: int | None = None) -> None:
    """ValueError unless `value` is an int of at least `least`, and at most `most` if there is one."""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if not is_integer or value < least or (most is not None and value > most):
        accepted = f"of at least {least}" if most is None else f"in [{least}, {most}]"
        raise ValueError(f"{name}={short(value)} is not an integer {accepted}.")


def check_workers(name: str, value: Any, least: int = 1) -> None:
    """ValueError unless `value` is a number of threads or processes, from `least` to MOST_WORKERS."""
    check_integer(name, value, least)
    if value > MOST_WORKERS:
        raise ValueError(f"{name}={short(value)} is more than {MOST_WORKERS}, the most that is accepted.")


def check_number(name: str, value: Any, low: float, high: float, *, open_low: bool = False) -> None:
    """ValueError unless `value` is a finite number in [low, high], or in (low, high] when `open_low`."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high or (open_low and value == low) or math.isinf(value):
        accepted = f"{'(' if open_low else '['}{low}, {high}{')' if math.isinf(high) else ']'}"
        raise ValueError(f"{name}={short(value)} is not a number in {accepted}.")


def check_range(name: str, value: object) -> None:
    """ValueError unless `value` is a pair of numbers, of which the first is smaller."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"{name}={short(value)} is not a pair of numbers, the levels of black and white.")
    for level in value:
        check_number(name, level, -1e9, 1e9)
    if value[0] >= value[1]:
        raise ValueError(f"{name}={short(value)} has no range; accepted is black below white.")


def check_images(images: Tensor, in_chans: int) -> None:
    """ValueError unless `images` are (B, in_chans, H, W) with B, H and W of at least 1."""
    shape = tuple(images.shape)
    if images.ndim != 4 or shape[1] != in_chans:
        raise ValueError(f"images has shape {shape}; accepted is (batch, {in_chans}, height, width).")
    if shape[0] == 0:
        raise ValueError(f"images has shape {shape}, an empty batch; accepted is at least one image.")
    if min(shape[2:]) < 1:
        raise ValueError(f"images has shape {shape}; accepted are a height and a width of at least 1 pixel.")


def check_labels(labels: Tensor, num_classes: int) -> None:
    """ValueError unless all labels are in 0..num_classes - 1. Skipped on an accelerator, which would wait."""
    if labels.device.type != "cpu" or len(labels) == 0:
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(f"labels run from {low} to {high}; accepted are 0 to {num_classes - 1}.")


def short(value: object) -> str:
    """`repr`, shortened: a value from a file may be long, or nested deep."""
    return _SHORT.repr(value)


def nearest(name: str, known: Iterable[str]) -> str:
    """The sentence " Did you mean ..?" with the known name closest to `name`; "" if none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
