"""Images for the tests: folders and lists of random ones, and all images of a split."""

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


def photographs(count: int, seed: int) -> list[Image.Image]:
    generator = np.random.default_rng(seed)
    return [Image.fromarray(generator.integers(255, size=(20, 30, 3), dtype=np.uint8)) for _ in range(count)]


def make_cub(root: Path) -> Path:
    """Two classes of a larger data set, 6 training and 2 test images each, as CUB-200-2011 lays them out."""
    names = {3: "003.Sooty_Albatross", 7: "007.Parakeet_Auklet"}
    lines = {name: [] for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt")}
    for i, image in enumerate(photographs(16, 5)):
        number = (3, 7)[i % 2]
        path = root / "images" / names[number] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        lines["images.txt"].append(f"{100 + i} {names[number]}/{i}.png")
        lines["image_class_labels.txt"].append(f"{100 + i} {number}")
        lines["train_test_split.txt"].append(f"{100 + i} {int(i < 12)}")
    lines["classes.txt"] = [f"{number} {name}" for number, name in names.items()]
    for name, content in lines.items():
        (root / name).write_text("\n".join(content) + "\n")
    return root


def records(**columns: list) -> np.ndarray:
    kinds = [(name, object) for name in columns]
    return np.array(list(zip(*columns.values(), strict=True)), dtype=kinds)
