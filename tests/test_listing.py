"""Folders as users have them: their splits and classes, and a word on every file that is not used."""

import csv
import logging
import os
import shutil
import sys
from pathlib import Path

import datasets
import pytest
from PIL import Image

from dtram_hub.data.image_folder import list_images
from dtram_hub.data.sources import DataConfig, load
from dtram_hub.data.splits import Data
from folders import make_folder


def plant(root: Path, *paths: str) -> Path:
    """Write one small image at each path; a number after ":" asks for so many, under numbered names."""
    for path in paths:
        name, _, count = path.partition(":")
        for i in range(int(count or 1)):
            file = root / (name.replace("#", str(i)))
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (2, 2), (i, 0, 0)).save(file, "AVIF" if file.suffix == ".avif" else "PNG")
    return root


def read(root: Path | str, source: str = "imagefolder", **settings) -> Data:
    return load(DataConfig(source, str(root), **settings), seed=0, image_size=8, in_chans=3)


def classes_of(root: Path) -> dict[str, list[str]]:
    """The class of each image, in order, by split."""
    found = list_images(root)
    return {split: [found.class_names[label] for _, label in rows] for split, rows in found.rows.items()}


@pytest.mark.parametrize("name", ["train-1.png", "blood test 1.png", "val.png", "dev/x.png", "test/x.png"])
def test_no_file_below_the_top_names_a_split(tmp_path: Path, name: str) -> None:
    depth = "class/" * name.count("/")
    plant(tmp_path, f"{depth}cat/#.png:3", f"{depth}dog/#.png:3", f"cat/{name}")
    expected = ["cat"] * 3 + ["dog"] * 3 + ([Path(name).parent.name or "cat"])
    assert {split: sorted(names) for split, names in classes_of(tmp_path).items()} == {
        "train": sorted(expected)
    }


@pytest.mark.parametrize("name", ["test", "val_car", "train", "Train", "validation", "testing"])
def test_a_class_may_be_called_like_a_split(tmp_path: Path, name: str) -> None:
    plant(tmp_path, f"{name}/#.png:10", "bus/#.png:10", "car/#.png:10")
    found = read(tmp_path, cache=str(tmp_path / ".cache"))
    assert found.class_names == sorted([name, "bus", "car"])
    assert {split: len(images) for split, images in found.splits.items()} == {
        "train": 24,
        "test": 3,
        "validation": 3,
    }


@pytest.mark.parametrize("names", [("Train", "Test"), ("TRAIN", "VAL"), ("train", "Valid"), ("train", "dev")])
def test_splits_are_folders_at_the_top_in_any_case(tmp_path: Path, names: tuple[str, str]) -> None:
    plant(tmp_path, f"{names[0]}/cat/#.png:3", f"{names[0]}/test/#.png:2", f"{names[1]}/cat/#.png:1")
    other = "test" if names[1] == "Test" else "validation"
    assert classes_of(tmp_path) == {"train": ["cat"] * 3 + ["test"] * 2, other: ["cat"]}


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["train/cat/1.png", "Train/cat/1.png"], "'Train' and 'train' both mean train"),
        (["train/cat/1.png", "val/cat/1.png", "dev/cat/1.png"], "'dev' and 'val' both mean validation"),
        (["train/1.png", "test/1.png"], "has 'test' and 'train', but no folder train of class folders"),
        (["test/cat/1.png", "test/dog/1.png"], "has 'test', but no folder train of class folders"),
        (["test/cat/1.png", "val/cat/1.png"], "has 'test' and 'val', but no folder train of class folders"),
        (["train/cat/1.png", "test/1.png"], "'test/1.png' and 'train/cat/1.png' are not equally deep"),
        (["cat/1.png", "dog/puppy/1.png"], "'cat/1.png' and 'dog/puppy/1.png' are not equally deep"),
        (["a/cat/1.png", "b/cat/1.png"], "'a/cat/' and 'b/cat/' are two folders of one class"),
        (["1.png", "2.png"], "holds no images in a folder per class, but '2.png'"),
        (["cat/1.png"], "must hold at least two classes; it has cat"),
    ],
)
def test_what_could_mean_two_things_is_refused(tmp_path: Path, paths: list[str], message: str) -> None:
    plant(tmp_path, *paths)
    with pytest.raises(ValueError, match=message):
        read(tmp_path, cache=str(tmp_path / ".cache"))


def test_every_kind_of_image_that_pillow_opens_is_an_image(tmp_path: Path) -> None:
    plant(
        tmp_path,
        "cat/#.png:8",
        "cat/1.avif",
        "bird/#.avif:8",
        "dog/#.PNG:8",
        "dog/a.Tif",
        "dog/b.qoi",
        "dog/c.pgm",
    )
    assert classes_of(tmp_path) == {"train": ["bird"] * 8 + ["cat"] * 9 + ["dog"] * 11}
    assert read(tmp_path, cache=str(tmp_path / ".cache")).class_names == ["bird", "cat", "dog"]


def test_a_class_of_photographs_that_pillow_cannot_decode_does_not_vanish(tmp_path: Path) -> None:
    plant(tmp_path, "cat/#.png:8", "dog/#.png:8", "emu/1.HEIC")
    (tmp_path / "emu" / "1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(
        ValueError, match=r"1 files that are no readable images(.|\n)*emu/1\.HEIC \(its format"
    ):
        read(tmp_path, cache=str(tmp_path / ".cache"))
    with pytest.raises(ValueError, match="class 'emu' has no images in train"):
        read(tmp_path, cache=str(tmp_path / ".cache"), skip_broken=True)


def test_every_file_that_is_not_used_is_counted_by_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plant(tmp_path, "train/cat/#.png:8", "train/dog/#.png:8", "extra/cat/#.png:3", "stray.png")
    (tmp_path / "train.csv").write_text("cat,dog\n")
    (tmp_path / "train" / "cat" / "Thumbs.db").write_bytes(b"")
    (tmp_path / "train" / "cat" / ".hidden.png").write_bytes(b"")
    (tmp_path / "train" / "cat" / "more.ZIP").write_bytes(b"PK")
    os.mkfifo(tmp_path / "train" / "dog" / "pipe.png")
    (tmp_path / "train" / "dog" / "loop").symlink_to("..")
    with caplog.at_level(logging.INFO, "dtram_hub"):
        found = read(tmp_path, cache=str(tmp_path.with_name("cache")))
    assert sum(map(len, found.splits.values())) == 16
    [message] = [text for text in caplog.messages if "not used" in text]
    assert message[message.index("data: ") :] == (
        "data: not used: 10 files (1 archives, to be unpacked, such as 'train/cat/more.ZIP'; "
        "1 hidden, such as 'train/cat/.hidden.png'; "
        "4 images outside of the splits, such as 'extra/cat/0.png'; "
        "1 links to a folder above, such as 'train/dog/loop'; "
        "1 no regular files, such as 'train/dog/pipe.png'; "
        "2 of another kind, such as 'train.csv')"
    )


def test_a_folder_of_archives_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "train.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"holds no images.*not used: 1 files \(1 archives, to be unpacked"):
        read(tmp_path)


def test_nothing_is_said_where_all_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "dtram_hub"):
        read(make_folder(tmp_path / "pets", {"": 10}), cache=str(tmp_path / "cache"))
    assert not [text for text in caplog.messages if "not used" in text]


@pytest.mark.parametrize("name", ["pets [2024]", "a*b", "what?", "{x}", "train", "ümläut", "a'b", "test-1"])
def test_the_path_of_a_folder_means_nothing(tmp_path: Path, name: str) -> None:
    plant(tmp_path / name, f"{name}/#.png:10", "dog/[x#]*.png:10")
    found = read(tmp_path / name, cache=str(tmp_path / "cache"))
    assert found.class_names == sorted([name, "dog"])
    assert sum(map(len, found.splits.values())) == 20


def test_links_to_folders_are_followed_and_dangling_ones_named(tmp_path: Path) -> None:
    plant(tmp_path / "elsewhere", "photos/#.png:10")
    root = plant(tmp_path / "root", "cat/#.png:10")
    (root / "dog").symlink_to(tmp_path / "elsewhere" / "photos")
    assert classes_of(root) == {"train": ["cat"] * 10 + ["dog"] * 10}
    (root / "cat" / "gone.png").symlink_to("nowhere.png")
    with pytest.raises(
        ValueError, match=r"1 files that are no readable images(.|\n)*cat/gone\.png \(.*No such"
    ):
        read(root, cache=str(tmp_path / "cache"))
    found = read(root, cache=str(tmp_path / "cache"), skip_broken=True)
    assert (found.skipped, sum(map(len, found.splits.values()))) == (1, 20)
    (root / "emu").symlink_to("no-such-folder")
    with pytest.raises(ValueError, match="'emu' is a link to nothing"):
        read(root)
    (root / "emu").unlink()
    (root / "self").symlink_to("self")
    with pytest.raises(ValueError, match="'self' is a link to nothing"):
        read(root)


@pytest.mark.skipif(sys.platform == "darwin", reason="a file system of UTF-8 alone")
@pytest.mark.parametrize("name", [b"caf\xe9.png", b"caf\xe9"])
def test_a_name_of_other_bytes_than_utf_8_is_refused_in_print(tmp_path: Path, name: bytes) -> None:
    plant(tmp_path, "cat/#.png:10", "dog/#.png:10")
    inside = os.fsencode(tmp_path) + b"/" + (b"dog/" if name.endswith(b".png") else b"")
    if name.endswith(b".png"):
        shutil.copy(tmp_path / "cat" / "0.png", inside + name)
    else:
        shutil.copytree(os.fsencode(tmp_path / "cat"), inside + name)
    with pytest.raises(ValueError, match=r"'.*caf\\udce9.*' is not UTF-8; rename it") as refused:
        read(tmp_path)
    assert str(refused.value).encode()


def test_a_name_reaches_no_terminal_raw(tmp_path: Path) -> None:
    plant(tmp_path, "cat/#.png:10", "dog/#.png:10")
    (tmp_path / "dog" / "\x1b[31mred\n.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"dog/\\x1b\[31mred\\n\.png \(its format"):
        read(tmp_path, cache=str(tmp_path / ".cache"))


def test_order_and_labels_are_those_of_older_versions(tmp_path: Path) -> None:
    """They were those of `datasets`' folder builder, and are part of what makes a run repeatable."""
    names = [
        "b/10.png",
        "b/2.png",
        "B/1.PNG",
        "a b/1.png",
        "a/1.png",
        "a-b/1.png",
        "a/Z.png",
        "a/é.png",
        "ab/1.png",
    ]
    root = plant(
        tmp_path / "root", *(f"{split}/{name}" for split in ("train", "test", "valid") for name in names)
    )
    built = datasets.load_dataset(
        "imagefolder", data_dir=str(root), drop_labels=False, cache_dir=str(tmp_path / "cache")
    )
    found = list_images(root)
    for split, rows in built.items():
        rows = rows.cast_column("image", datasets.Image(decode=False))
        assert [str(root / path) for path, _ in found.rows[split]] == [file["path"] for file in rows["image"]]
        assert [label for _, label in found.rows[split]] == rows["label"][:]
    assert found.class_names == built["train"].features["label"].names


def write_table(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_a_table_names_classes_in_each_split(tmp_path: Path) -> None:
    plant(tmp_path, "train/#.png:12", "test/#.png:3")
    write_table(
        tmp_path / "train" / "metadata.csv",
        [{"file_name": f"{i}.png", "label": 9 + i % 2} for i in range(11)],
    )
    write_table(tmp_path / "test" / "metadata.csv", [{"file_name": f"{i}.png", "label": 9} for i in range(3)])
    found = list_images(tmp_path)
    assert found.class_names == ["9", "10"]
    assert [label for _, label in found.rows["train"]] == [i % 2 for i in range(11)]
    assert "1 images without a row in train/metadata.csv, such as 'train/11.png'" in found.files.summary()


@pytest.mark.parametrize(
    ("name", "label", "message"),
    [
        ("../../secret.png", "a", r"names '.*secret\.png', which is no image in its folder"),
        ("/etc/passwd", "a", "names '/etc/passwd', which is no image"),
        ("0.png", "a", r"row 8: file_name='0\.png' is empty or named before"),
        ("", "a", "row 8: file_name='' is empty or named before"),
        ("8.png", "", r"1 files that are no readable images(.|\n)*8\.png \(it has no label"),
    ],
)
def test_a_bad_row_of_a_table_is_named(tmp_path: Path, name: str, label: str, message: str) -> None:
    plant(tmp_path, "#.png:9")
    rows = [{"file_name": f"{i}.png", "label": "ab"[i % 2]} for i in range(8)]
    write_table(tmp_path / "metadata.csv", [*rows, {"file_name": name, "label": label}])
    with pytest.raises(ValueError, match=message):
        read(tmp_path, cache=str(tmp_path / ".cache"))


def test_a_table_without_labels_is_not_used(tmp_path: Path) -> None:
    plant(tmp_path, "cat/#.png:2", "dog/#.png:2")
    write_table(tmp_path / "metadata.csv", [{"file_name": "cat/0.png", "text": "a cat"}])
    assert classes_of(tmp_path) == {"train": ["cat"] * 2 + ["dog"] * 2}
    assert "1 of another kind, such as 'metadata.csv'" in list_images(tmp_path).files.summary()
    (tmp_path / "metadata.csv").unlink()
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "cat/0.png", "label": ' + "[" * 100_000)
    with pytest.raises(ValueError, match=r"'.*metadata\.jsonl' is no table"):
        list_images(tmp_path)
