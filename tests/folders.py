"""Folders of random images, for the tests."""

from pathlib import Path

import numpy as np
from PIL import Image


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
