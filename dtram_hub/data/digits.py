"""Cluttered digits: the embedded data set, generated from scikit-learn's scans of handwritten digits.

The task is the cluttered translated MNIST of the original RAM (Mnih et al. 2014). Every image is a black
canvas with one digit at a random position and with fragments of other digits as clutter. Each of the 1,797
scans of 8x8 pixels belongs to one split, whole and as fragments. Nothing is downloaded.
"""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn import datasets

from ..checks import check_choice
from .canvas import Form
from .config import DataConfig, check_form
from .splits import Data, Split

SPLIT_SIZES = {"train": 1197, "validation": 200, "test": 400}
SCAN_SIZE = 8
CLOSEUP_SEED = 1_000_000


@dataclass
class ClutteredDigits:
    """One split: images (N, S, S) uint8, labels (N,) int64 in 0..9, clutter (N,) int64 fragments."""

    images: np.ndarray
    labels: np.ndarray
    clutter: np.ndarray


def scans_of(split: str) -> np.ndarray:
    """The indices of a split's scans in scikit-learn's digits, (N,) int64; splits share none."""
    start = 0
    for name, size in SPLIT_SIZES.items():
        if name == split:
            break
        start += size
    return np.random.default_rng(20170328).permutation(sum(SPLIT_SIZES.values()))[start : start + size]


def enlarge(scans: np.ndarray, factor: int) -> np.ndarray:
    """Enlarge scans (N, 8, 8) in 0..16 bilinearly to (N, 8 * factor, 8 * factor) uint8."""
    position = (np.arange(scans.shape[1] * factor) + 0.5) / factor - 0.5
    low = np.clip(np.floor(position).astype(int), 0, scans.shape[1] - 2)
    weight = np.clip(position - low, 0, 1)
    rows = scans[:, low] * (1 - weight)[:, None] + scans[:, low + 1] * weight[:, None]
    full = rows[:, :, low] * (1 - weight) + rows[:, :, low + 1] * weight
    return np.rint(full * (255 / 16)).astype(np.uint8)


def paste(
    canvases: np.ndarray, patches: np.ndarray, top: np.ndarray, left: np.ndarray, rows: np.ndarray
) -> None:
    """Paste K patches (K, P, P) into canvases[rows]; the brighter pixel stays. Changes `canvases`.

    `top`, `left` and `rows` are (K,) integers.
    """
    span = np.arange(patches.shape[1])
    index = (rows[:, None, None], (top[:, None] + span)[:, :, None], (left[:, None] + span)[:, None, :])
    canvases[index] = np.maximum(canvases[index], patches)


def cluttered_digits(
    split: str,
    num_images: int,
    *,
    seed: int = 0,
    canvas: int = 64,
    enlargement: int = 3,
    max_clutter: int = 8,
    fragment: int = 12,
    zoom: int = 1,
) -> ClutteredDigits:
    """Generate one split. The same arguments give the same images on every machine.

    Args:
        split: "train", "validation" or "test".
        num_images: number of images.
        seed: seed of positions and clutter. The scans of a split do not depend on the seed.
        canvas: side of the images in pixels.
        enlargement: a digit is 8 * enlargement pixels wide.
        max_clutter: the largest number of fragments in an image; all numbers from 0 are equally frequent.
        fragment: side of a fragment in pixels.
        zoom: above 1 the images are close-ups: windows near the digit, canvas / zoom pixels wide, enlarged to
            the canvas, with at most max_clutter / zoom fragments.

    Raises:
        ValueError: an unknown split, a digit or fragment too large, a zoom that does not divide the canvas.
    """
    check_choice("split", split, SPLIT_SIZES)
    side = SCAN_SIZE * enlargement
    if side > canvas or fragment > side:
        raise ValueError(
            f"fragment={fragment}, 8 * enlargement={side}, canvas={canvas}; accepted are rising sizes."
        )
    if canvas % zoom:
        raise ValueError(f"zoom={zoom} does not divide canvas={canvas}.")
    sizes = {"enlargement": enlargement, "fragment": fragment}
    if zoom > 1:
        window, start = canvas // zoom, side // 2
        seed, size, fewer = seed + CLOSEUP_SEED, window + side, max_clutter // zoom
        wide = cluttered_digits(split, num_images, seed=seed, canvas=size, max_clutter=fewer, **sizes)
        near = wide.images[:, start : start + window, start : start + window]
        return ClutteredDigits(near.repeat(zoom, axis=1).repeat(zoom, axis=2), wide.labels, wide.clutter)
    digits, labels = enlarged_scans(split, enlargement)
    rng = np.random.default_rng([seed, list(SPLIT_SIZES).index(split)])
    which = rng.integers(len(digits), size=num_images)
    clutter = rng.integers(max_clutter + 1, size=num_images)
    images = np.zeros((num_images, canvas, canvas), np.uint8)
    top, left = rng.integers(canvas - side + 1, size=(2, num_images))
    paste(images, digits[which], top, left, np.arange(num_images))
    for k in range(max_clutter):
        rows = (clutter > k).nonzero()[0]
        pieces = fragments(digits, len(rows), fragment, rng)
        top, left = rng.integers(canvas - fragment + 1, size=(2, len(rows)))
        paste(images, pieces, top, left, rows)
    return ClutteredDigits(images, labels[which].astype(np.int64), clutter.astype(np.int64))


def enlarged_scans(split: str, enlargement: int) -> tuple[np.ndarray, np.ndarray]:
    """The enlarged scans of a split: images (N, P, P) uint8 with P = 8 * enlargement, labels (N,) int64."""
    chosen = scans_of(split)
    scans, labels = datasets.load_digits(return_X_y=True)
    return enlarge(scans[chosen].reshape(-1, SCAN_SIZE, SCAN_SIZE), enlargement), labels[chosen]


def fragments(digits: np.ndarray, count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Cut random squares (count, size, size) out of random digits (N, P, P)."""
    donor = rng.integers(len(digits), size=count)
    top, left = rng.integers(digits.shape[1] - size + 1, size=(2, count))
    span = np.arange(size)
    return digits[donor[:, None, None], (top[:, None] + span)[:, :, None], (left[:, None] + span)[:, None, :]]


def load_digits(
    config: DataConfig,
    seed: int,
    form: Form,
    *,
    num_train: int = 30_000,
    num_closeup: int = 30_000,
    num_validation: int = 2_000,
    num_test: int = 4_000,
    zoom: int = 4,
    enlargement: int = 3,
    max_clutter: int = 8,
    fragment: int = 12,
) -> Data:
    """Generate all splits, with "closeup" for close-ups of training scans. The difficulty is the clutter.

    Keyword arguments as in `cluttered_digits`; `zoom` is that of "closeup".

    Raises:
        ValueError: images that are not grey, or of no size, or as in `cluttered_digits`.
    """
    check_form(config, form)

    def make(name: str, count: int, zoom: int = 1) -> Split:
        made = cluttered_digits(
            name,
            count,
            seed=seed,
            canvas=form.side,
            enlargement=enlargement,
            max_clutter=max_clutter,
            fragment=fragment,
            zoom=zoom,
        )
        images = torch.from_numpy(made.images)[:, None]
        return Split(images, torch.from_numpy(made.labels), torch.from_numpy(made.clutter))

    splits = {
        "train": make("train", num_train),
        "validation": make("validation", num_validation),
        "test": make("test", num_test),
        "closeup": make("train", num_closeup, zoom),
    }
    return Data(splits, class_names=[str(digit) for digit in range(10)])
