"""Data sources: determinism, honest splits, folders of images, broken files, the section `data`."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from dtram_hub.data.canvas import Form
from dtram_hub.data.digits import SPLIT_SIZES, cluttered_digits, enlarge, scans_of
from dtram_hub.data.sources import SOURCES, DataConfig, load
from dtram_hub.data.splits import Data, Split, index_batches, join
from folders import make_folder, pixels

OPTIONS = {
    "num_train": 60,
    "num_closeup": 40,
    "num_validation": 20,
    "num_test": 30,
    "zoom": 2,
    "fragment": 6,
    "enlargement": 2,
}


def test_digits_depend_on_the_seed_alone() -> None:
    first, again = (cluttered_digits("train", 50, seed=3) for _ in range(2))
    other = cluttered_digits("train", 50, seed=4)
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.images, other.images)


def test_no_scan_is_in_two_splits() -> None:
    chosen = [set(scans_of(split).tolist()) for split in SPLIT_SIZES]
    assert sum(len(scans) for scans in chosen) == len(set.union(*chosen)) == 1797


def test_a_clean_image_is_one_enlarged_scan_somewhere() -> None:
    made = cluttered_digits("test", 40, max_clutter=0, canvas=30, enlargement=2)
    from sklearn.datasets import load_digits

    scans, labels = load_digits(return_X_y=True)
    members = scans_of("test")
    known = {enlarge(scans[i].reshape(1, 8, 8), 2)[0].tobytes(): labels[i] for i in members}
    for image, label in zip(made.images, made.labels, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(image, (16, 16)).reshape(-1, 16, 16)
        found = [known[w.tobytes()] for w in windows if w.tobytes() in known and w.sum() == image.sum()]
        assert label in found


def test_clutter_counts_are_even_and_brighten_the_canvas() -> None:
    made = cluttered_digits("train", 3000, max_clutter=4)
    counts = np.bincount(made.clutter, minlength=5)
    assert counts.min() > 500
    brightness = [made.images[made.clutter == k].mean() for k in range(5)]
    assert brightness == sorted(brightness)


def test_closeups_are_magnified_windows() -> None:
    made = cluttered_digits("train", 5, canvas=64, zoom=4)
    assert made.images.shape == (5, 64, 64)
    blocks = made.images.reshape(5, 16, 4, 16, 4)
    assert (blocks == blocks[:, :, :1, :, :1]).all()


def test_enlarging_keeps_flat_areas_and_range() -> None:
    assert (enlarge(np.full((1, 8, 8), 16.0), 3) == 255).all()
    ramp = enlarge(np.tile(np.arange(8) * 2.0, (1, 8, 1)), 2)[0, 0]
    assert (np.diff(ramp.astype(int)) >= 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "split='dev'"),
        ({"canvas": 20}, "canvas=20"),
        ({"zoom": 5}, "zoom=5 does not divide"),
    ],
)
def test_bad_digit_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cluttered_digits(**({"split": "train", "num_images": 3} | options))


def test_digits_source() -> None:
    found = load(DataConfig("digits", options=OPTIONS), seed=0, image_size=32, in_chans=1)
    assert {name: len(split) for name, split in found.splits.items()} == {
        "train": 60,
        "validation": 20,
        "test": 30,
        "closeup": 40,
    }
    assert pixels(found.splits["train"]).shape == (60, 1, 32, 32)
    assert pixels(found.splits["train"]).dtype == torch.uint8
    assert found.splits["train"].difficulty.shape == (60,)
    assert found.class_names == list("0123456789")
    with pytest.raises(ValueError, match="in_chans=3"):
        load(DataConfig("digits"), seed=0, image_size=32, in_chans=3)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_batches_cover_an_epoch_once_over_all_processes(world: int) -> None:
    shares = [list(index_batches(50, 8, seed=5, rank=rank, world=world)) for rank in range(world)]
    assert {len(share) for share in shares} == {6}
    indices = torch.cat([batch for share in shares for batch in share])
    assert len(indices) == 48 == len(indices.unique())
    alone = list(index_batches(50, 8, seed=5))
    for i, whole in enumerate(alone):
        assert sorted(torch.cat([share[i] for share in shares]).tolist()) == sorted(whole.tolist())
    assert torch.equal(torch.cat(list(index_batches(50, 8, seed=None))), torch.arange(50))


def load_folder(root: Path | str | None, **settings) -> Data:
    config = DataConfig("imagefolder", None if root is None else str(root), **settings)
    return load(config, seed=0, image_size=16, in_chans=3)


def test_folder_with_and_without_splits(tmp_path: Path) -> None:
    flat = load_folder(make_folder(tmp_path / "flat", {"": 10}))
    assert flat.class_names == ["cat", "dog"]
    assert {name: len(split) for name, split in flat.splits.items()} == {
        "train": 16,
        "validation": 2,
        "test": 2,
    }
    for split in flat.splits.values():
        assert torch.bincount(split.labels).tolist() == [len(split) // 2] * 2
    whole = load_folder(make_folder(tmp_path / "split", {"train": 10, "test": 3}))
    assert {name: len(split) for name, split in whole.splits.items()} == {
        "train": 18,
        "validation": 2,
        "test": 6,
    }
    assert pixels(flat.splits["train"]).shape == (16, 3, 16, 16)


def test_what_is_held_out_shares_the_canvases(tmp_path: Path) -> None:
    found = load_folder(make_folder(tmp_path, {"": 10})).splits
    assert all(split.canvases is found["train"].canvases for split in found.values())
    assert torch.cat([split.rows for split in found.values()]).sort().values.tolist() == list(range(20))
    for split in found.values():
        assert torch.equal(split.at(torch.tensor([1, 0])), pixels(split)[[1, 0]])


def test_odd_images_become_right_pixels(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"": 4})
    red = Image.new("RGB", (40, 40), (255, 0, 0))
    red.convert("CMYK").save(root / "cat" / "cmyk.jpg")
    Image.new("L", (1, 1), 128).save(root / "cat" / "pixel.png")
    found = load_folder(root)
    levels = torch.cat([pixels(split) for split in found.splits.values()]).flatten(2).float().mean(2)
    assert ((levels - torch.tensor([128.0, 128.0, 128.0])).abs().amax(1) == 0).sum() == 1
    assert ((levels - torch.tensor([255.0, 0.0, 0.0])).abs().amax(1) < 8).sum() == 1


def test_broken_files_are_listed_or_skipped_and_counted(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"": 10})
    (root / "cat" / "empty.png").write_bytes(b"")
    whole = (root / "dog" / "0.png").read_bytes()
    (root / "dog" / "0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        ValueError, match=r"2 files that are no readable images(.|\n)*empty\.png(.|\n)*dog/0\.png"
    ):
        load_folder(root)
    found = load_folder(root, skip_broken=True)
    assert found.skipped == 2
    assert sum(len(split) for split in found.splits.values()) == 19


def test_a_class_without_test_images_is_logged_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder(tmp_path, {"train": 10, "test": 3})
    shutil.rmtree(root / "test" / "dog")
    with caplog.at_level(logging.INFO, "dtram_hub"):
        found = load_folder(root)
    assert found.class_names == ["cat", "dog"]
    assert found.splits["test"].labels.tolist() == [0, 0, 0]
    assert caplog.messages[-1].endswith("data: test has no images of 1 classes, 'dog' for one")


def test_classes_may_come_from_a_table_instead_of_folders(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"": 10})
    (root / "cat" / "0.png").rename(root / "0.png")
    rows = [
        {"file_name": str(path.relative_to(root)), "label": ("owl", "emu")[path.parent.name == "dog"]}
        for path in sorted(root.rglob("*.png"))
    ]
    (root / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    found = load_folder(root)
    assert found.class_names == ["emu", "owl"]
    assert sum(split.labels.bincount() for split in found.splits.values()).tolist() == [10, 10]


@pytest.mark.parametrize("root", [None, "nowhere"])
def test_missing_folder_is_named(root: str | None) -> None:
    with pytest.raises(ValueError, match=r"data\.root=(None|'nowhere') is not a folder"):
        load_folder(root)


def test_folders_that_cannot_be_learned_from_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no images"):
        load_folder(tmp_path / "empty")
    single = make_folder(tmp_path / "single", {"": 5})
    for file in (single / "dog").iterdir():
        file.unlink()
    (single / ".cache").mkdir()
    (single / "dog" / ".thumbnails").write_bytes(b"")
    with pytest.raises(ValueError, match="the folder 'dog' holds no images; fill or remove it"):
        load_folder(single)
    shutil.rmtree(single / "dog")
    with pytest.raises(ValueError, match="at least two classes; it has cat"):
        load_folder(single)
    stray = make_folder(tmp_path / "stray", {"train": 5, "test": 5})
    (stray / "train" / "cat" / "0.png").rename(stray / "train" / "stray.png")
    with pytest.raises(ValueError, match=r"stray\.png' are not equally deep; accepted is a folder per class"):
        load_folder(stray)
    lacking = make_folder(tmp_path / "lacking", {"train": 5, "test": 5})
    shutil.rmtree(lacking / "train" / "dog")
    with pytest.raises(ValueError, match="class 'dog' has no images in train"):
        load_folder(lacking)
    few = make_folder(tmp_path / "few", {"": 2})
    with pytest.raises(
        ValueError, match="class 'cat' has 1 images in train, too few to hold out a validation split"
    ):
        load_folder(few)


def test_unknown_source_is_named() -> None:
    with pytest.raises(ValueError, match=r"data\.source='mnits' is not one of"):
        load(DataConfig("mnits"), seed=0, image_size=16, in_chans=1)


def test_a_source_is_one_function_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_noise(config: DataConfig, seed: int, form: Form, *, count: int = 3, level: int = 9) -> Data:
        images = torch.full((count, form.channels, form.side, form.side), level + seed, dtype=torch.uint8)
        return Data({"train": Split(images, torch.zeros(count, dtype=torch.int64))}, ["noise"])

    monkeypatch.setitem(SOURCES, "noise", load_noise)
    found = load(DataConfig("noise", options={"count": 5}), seed=1, image_size=8, in_chans=2)
    assert torch.equal(pixels(found.splits["train"]), torch.full((5, 2, 8, 8), 10, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"options\.counts is unknown to .*'noise'\. Did you mean 'count'\?"):
        load(DataConfig("noise", options={"counts": 5}), seed=1, image_size=8, in_chans=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": 0.0}, r"data\.crop=0\.0 is not a number in \(0, 1\]"),
        ({"colour": 2.0}, r"data\.colour=2\.0 is not a number in \[0, 1\]"),
        ({"distort": {"shfit": 2.0}}, r"data\.distort='shfit' is not one of 'shift', 'rotate', "),
        ({"distort": {"bend": -2.0}}, r"data\.distort\.bend=-2\.0 is not a number in \[0, inf\)"),
        ({"test_fraction": 0.0}, r"data\.test_fraction=0\.0 is not a number in \(0, 0\.9\]"),
        ({"shuffle_buffer": 0}, r"data\.shuffle_buffer=0 is not an integer of at least 1"),
        ({"workers": -1}, r"data\.workers=-1 is not an integer of at least 0"),
        ({"workers": 10**6}, r"data\.workers=1000000 is more than 4096"),
        ({"source": "cub", "streaming": True}, r"data\.streaming=true reads from the Hub"),
        ({"source": "hub:a/b", "streaming": True, "skip_broken": True}, "needs data.streaming=false"),
    ],
)
def test_a_bad_section_is_refused_by_its_key(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataConfig(**settings)


def test_the_section_is_read_by_omegaconf() -> None:
    config = OmegaConf.merge(OmegaConf.structured(DataConfig), {"source": "cub", "distort": {"shift": 2}})
    assert OmegaConf.to_object(config) == DataConfig("cub", distort={"shift": 2.0})
    assert next(iter(config)) == "source"


def test_a_part_of_a_part_keeps_image_label_and_difficulty_together() -> None:
    images = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1)
    whole = Split(images, torch.arange(6), torch.arange(6) * 10)
    part = whole.take(torch.tensor([False, True, True, False, True, True])).take(torch.tensor([3, 0]))
    assert pixels(part).flatten().tolist() == part.labels.tolist() == [5, 1]
    assert part.difficulty.tolist() == [50, 10]
    assert part.canvases is images


def test_joined_splits_give_the_images_of_their_parts() -> None:
    images = torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1)
    whole = Split(images, torch.arange(12))
    other = Split(images + 100, torch.arange(12) + 100)
    splits = {"a": whole.take(torch.tensor([7, 3])), "b": whole.take(torch.tensor([5])), "c": other}
    joined = join(splits, ["a", "b", "c"])
    assert len(joined) == 15
    assert joined.labels[:4].tolist() == [7, 3, 5, 100]
    index = torch.tensor([14, 0, 3, 2, 1, 0, 4])
    assert joined.at(index).flatten().tolist() == [111, 7, 100, 5, 3, 7, 101]
    assert all(part.canvases is images for part in joined.parts[:2])  # nothing is copied
    assert join(splits, ["c"]) is other
    with pytest.raises(ValueError, match="split='d' is not one of 'a', 'b', 'c'"):
        join(splits, ["a", "d"])
