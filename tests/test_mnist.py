"""MNIST from its four files: what comes out, and which file is named when one is wrong."""

import gzip
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from dtram_hub.data.mnist import IDX_FILES, read_mnist, to_arrays
from dtram_hub.data.sources import DataConfig
from dtram_hub.data.sources import load as load_source
from dtram_hub.data.splits import Data
from folders import pixels

REAL = Path(__file__).parents[2] / "shared" / "data" / "mnist"
needs_mnist = pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not here")


def load(root: Path, seed: int = 0, **options) -> Data:
    return load_source(DataConfig("mnist", str(root), options), seed=seed, image_size=28, in_chans=1)


@needs_mnist
def test_the_real_files() -> None:
    images, labels = read_mnist(REAL, "test")
    assert (images.shape, images.dtype, labels.shape) == ((10_000, 28, 28), np.uint8, (10_000,))
    assert labels[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@needs_mnist
def test_validation_is_held_out_by_the_seed_and_test_is_whole() -> None:
    found = load(REAL, num_validation=5000)
    assert {name: len(split) for name, split in found.splits.items()} == {
        "train": 55_000,
        "validation": 5_000,
        "test": 10_000,
    }
    images, _ = read_mnist(REAL, "train")
    parts = torch.cat([pixels(found.splits["train"]), pixels(found.splits["validation"])]).sum((1, 2, 3))
    assert torch.equal(parts.sort().values, torch.tensor(images).sum((1, 2)).sort().values)
    again, other = load(REAL), load(REAL, seed=1)
    assert torch.equal(pixels(found.splits["validation"]), pixels(again.splits["validation"]))
    assert not torch.equal(pixels(found.splits["validation"]), pixels(other.splits["validation"]))


def write(root: Path, name: str, content: bytes) -> Path:
    root.mkdir(exist_ok=True)
    (root / name).write_bytes(content)
    return root / name


def test_a_missing_a_truncated_a_foreign_and_a_changed_file_are_named(tmp_path: Path) -> None:
    images, labels = IDX_FILES["train"]
    with pytest.raises(ValueError, match=rf"data\.root has no {images}"):
        load(tmp_path)
    packed = gzip.compress(bytes([0, 0, 8, 3]) + bytes(12) + bytes(range(256)) * 40)
    path = write(tmp_path, images, packed[: len(packed) // 2])
    write(tmp_path, labels, gzip.compress(bytes([0, 0, 8, 1]) + bytes(4) + bytes(10)))
    with pytest.raises(ValueError, match=rf"{path}: truncated or no gzip file"):
        load(tmp_path)
    path.write_bytes(b"not gzip at all")
    with pytest.raises(ValueError, match=rf"{path}: truncated or no gzip file"):
        load(tmp_path)
    for content in (packed, gzip.compress(b"")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{path}: not the 60000 train items of MNIST"):
            load(tmp_path)


@needs_mnist
def test_one_changed_label_is_found(tmp_path: Path) -> None:
    for name in IDX_FILES["train"]:
        shutil.copyfile(REAL / name, tmp_path / name)
    path = tmp_path / IDX_FILES["train"][1]
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(ValueError, match=rf"{path}: not the 60000 train items of MNIST"):
        read_mnist(tmp_path, "train")


def test_a_dataset_as_the_hub_has_it_becomes_the_same_arrays() -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
    columns = {"image": [Image.fromarray(image) for image in images], "label": [3, 1, 4] * 4}
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list("0123456789"))}
    found = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    arrays = to_arrays(found)
    assert np.array_equal(arrays[0], images)
    assert arrays[1].tolist() == [3, 1, 4] * 4
    assert [array.dtype for array in arrays] == [np.uint8, np.uint8]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 32}, "image_size=32; data.source='mnist' has images of 28 pixels"),
        ({"in_chans": 3}, "in_chans=3; data.source='mnist' is grey"),
        (
            {"options": {"num_validation": 0}},
            r"options.num_validation=0 is not a number in \[1, 59999\]",
        ),
    ],
)
def test_bad_settings_are_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_source(
            DataConfig("mnist", ".", change.pop("options", {})),
            **({"seed": 0, "image_size": 28, "in_chans": 1} | change),
        )
