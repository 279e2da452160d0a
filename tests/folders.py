"""Images for the tests: folders of random ones, and all images of a split."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dtram_hub.data.splits import Split


def make_folder(root: Path, splits: dict[str, int], size: tuple[int, int] = (20, 30)) -> Path:
    """Write `count` random images of each of two classes into every split folder; "" is the root itself."""
    generator = np.random.default_rng(0)
    for split, count in splits.items():
        for name in ("cat", "dog"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(255, size=(*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


def pixels(split: Split) -> torch.Tensor:
    """All images of a split, (N, C, S, S) uint8."""
    return split.at(torch.arange(len(split)))
