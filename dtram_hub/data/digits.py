"""Cluttered digits: the embedded data set, made from scikit-learn's real handwritten digits.

After the cluttered translated task of the Recurrent Attention Model: every image is a black canvas with one
digit anywhere on it, and with fragments of other digits scattered around as clutter. Nothing is downloaded.
The 1,797 scans (8x8 pixels) are split once: no scan of training, whole or as a fragment, is in validation or
test.
"""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn import datasets

from ..checks import check_choice
from .config import DataConfig, check_grey
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
    """Indices into scikit-learn's digits that belong to a split; splits share none."""
    start = 0
    for name, size in SPLIT_SIZES.items():
        if name == split:
            break
        start += size
    return np.random.default_rng(20170328).permutation(sum(SPLIT_SIZES.values()))[start : start + size]


def enlarge(scans: np.ndarray, factor: int) -> np.ndarray:
    """(N, 8, 8) scans in 0..16 -> (N, 8 * factor, 8 * factor) uint8, bilinear."""
    position = (np.arange(scans.shape[1] * factor) + 0.5) / factor - 0.5
    low = np.clip(np.floor(position).astype(int), 0, scans.shape[1] - 2)
    weight = np.clip(position - low, 0, 1)
    rows = scans[:, low] * (1 - weight)[:, None] + scans[:, low + 1] * weight[:, None]
    full = rows[:, :, low] * (1 - weight) + rows[:, :, low + 1] * weight
    return np.rint(full * (255 / 16)).astype(np.uint8)


def paste(
    canvases: np.ndarray, patches: np.ndarray, top: np.ndarray, left: np.ndarray, rows: np.ndarray
) -> None:
    """Lay K patches (K, P, P) over canvases[rows] (K,); the brighter pixel stays. Changes `canvases`."""
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
    """Generate one split, the same for the same arguments on every machine.

    Args:
        split: "train", "validation" or "test".
        num_images: how many images to make.
        seed: of everything but the split of the scans.
        canvas: side of the images in pixels.
        enlargement: each 8x8 scan becomes 8 * enlargement pixels wide.
        max_clutter: each image has 0 to this many fragments, all counts alike.
        fragment: side of a fragment in pixels.
        zoom: above 1, close-ups: a window near the digit, canvas / zoom pixels wide, is magnified to fill
            the canvas; the most clutter is divided by it.

    Raises:
        ValueError: an unknown split, a digit or fragment too large, a zoom that does not divide the canvas.
    """
    check_choice("split", split, SPLIT_SIZES)
    side = SCAN_SIZE * enlargement
    if side > canvas or fragment > side:
        raise ValueError(
            f"fragment={fragment}, digits of 8 * enlargement={side} and canvas={canvas} must not decrease."
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
    """The scans of a split: images (N, P, P) uint8 with P = 8 * enlargement, labels (N,)."""
    chosen = scans_of(split)
    scans, labels = datasets.load_digits(return_X_y=True)
    return enlarge(scans[chosen].reshape(-1, SCAN_SIZE, SCAN_SIZE), enlargement), labels[chosen]


def fragments(digits: np.ndarray, count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Cut random squares out of random digits (N, P, P): (count, size, size)."""
    donor = rng.integers(len(digits), size=count)
    top, left = rng.integers(digits.shape[1] - size + 1, size=(2, count))
    span = np.arange(size)
    return digits[donor[:, None, None], (top[:, None] + span)[:, :, None], (left[:, None] + span)[:, None, :]]


def load_digits(
    config: DataConfig,
    seed: int,
    image_size: int,
    in_chans: int,
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
    """The embedded data set as splits, and "closeup", magnified training scans; clutter is the difficulty."""
    check_grey(config, in_chans)

    def make(name: str, count: int, zoom: int = 1) -> Split:
        made = cluttered_digits(
            name,
            count,
            seed=seed,
            canvas=image_size,
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
