"""MNIST, from the four original idx files or from the Hub, verified by checksums."""

import gzip
import hashlib
import zlib
from pathlib import Path

import datasets
import numpy as np
import torch

from ..checks import check_number
from .canvas import Form
from .config import DataConfig, check_form
from .splits import Data, Split

HUB_ID = "ylecun/mnist"
NUM_IMAGES = {"train": 60_000, "test": 10_000}
MOST = 100 + 28 * 28 * NUM_IMAGES["train"]  # bytes of the largest file; a file may claim many more
IDX_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
# sha256 of the pixels and of the labels, without headers: the same for the files and for the Hub.
CHECKSUMS = {
    "train": (
        "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    ),
    "test": (
        "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    ),
}


def read_mnist(root: str | Path | None, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Read one split of MNIST.

    Args:
        root: folder with the four original .gz files; None downloads `ylecun/mnist` from the Hub.
        split: "train" (60,000 images) or "test" (10,000).

    Returns:
        images (N, 28, 28) uint8, labels (N,) uint8.

    Raises:
        ValueError: a file is missing or truncated, or has another checksum; the message names the file.
    """
    if root is None:
        arrays = to_arrays(datasets.load_dataset(HUB_ID, split=split))
        names = (f"the images of {HUB_ID}", f"the labels of {HUB_ID}")
    else:
        paths = [Path(root) / name for name in IDX_FILES[split]]
        arrays, names = [_read_idx(path) for path in paths], map(str, paths)
    count = NUM_IMAGES[split]
    for array, name, checksum in zip(arrays, names, CHECKSUMS[split], strict=True):
        if hashlib.sha256(array.tobytes()).hexdigest() != checksum:
            raise ValueError(f"{name}: not the {count} {split} items of MNIST (the checksum differs).")
    images, labels = arrays
    return images.reshape(count, 28, 28), labels


def load_mnist(config: DataConfig, seed: int, form: Form, *, num_validation: int = 5_000) -> Data:
    """Load MNIST and hold `num_validation` random training images out; another seed holds out others.

    Raises:
        ValueError: images that are not grey or not of 28 pixels, or as in `read_mnist`.
    """
    check_form(config, form, 28)
    check_number("data.options.num_validation", num_validation, 1, 59_999)
    whole = {}
    for name in NUM_IMAGES:
        images, labels = read_mnist(config.root, name)
        whole[name] = Split(torch.tensor(images)[:, None], torch.tensor(labels).long())
    order = torch.randperm(len(whole["train"]), generator=torch.Generator().manual_seed(seed))
    held, kept = order[:num_validation].sort().values, order[num_validation:].sort().values
    splits = {"train": whole["train"].take(kept), "validation": whole["train"].take(held)}
    identity = {name: "+".join(checksums) for name, checksums in CHECKSUMS.items()}  # verified above
    names = [str(digit) for digit in range(10)]
    return Data(splits | {"test": whole["test"]}, names, identity=identity)


def _read_idx(path: Path) -> np.ndarray:
    """The bytes after the header of a gzipped idx file.

    The fourth byte of the header is the number of dimensions; the size of each follows in four bytes.
    """
    if not path.is_file():
        raise ValueError(
            f"data.root has no {path.name} ({path}); data.source='mnist' takes a folder with the four "
            "original .gz files, or null to download them from the Hub."
        )
    try:
        with gzip.open(path) as file:
            content = file.read(MOST)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: truncated or no gzip file ({error}).") from None
    header = 4 + 4 * content[3] if len(content) > 3 else 0
    return np.frombuffer(content, np.uint8, offset=min(header, len(content)))


def to_arrays(found: datasets.Dataset) -> list[np.ndarray]:
    """The columns `image` and `label` of a data set of the Hub as (N, H, W) uint8 and (N,) uint8."""
    images = np.stack([np.asarray(image, dtype=np.uint8) for image in found["image"]])
    return [images, np.asarray(found["label"]).astype(np.uint8)]
