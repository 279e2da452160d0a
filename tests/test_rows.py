"""Rows of tables and streams: one without an image or a label is counted or refused by name."""

import io
import shutil
from pathlib import Path

import datasets
import pyarrow.parquet
import pytest
from PIL import Image

from dtram_hub.data.canvas import Form
from dtram_hub.data.sources import DataConfig, load
from dtram_hub.data.splits import Data
from dtram_hub.data.streaming import Stream, decode_rows, divide
from folders import make_cub, make_folder, photographs

CLASSES = ["ant", "bee"]


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def table(count: int = 20, **changes: dict[int, object]) -> datasets.Dataset:
    """Rows of an image and a label, with other values at some rows of a column."""
    images = [{"path": None, "bytes": png(image)} for image in photographs(count, 0)]
    columns = {"image": images, "label": [i % 2 for i in range(count)]}
    for name, values in changes.items():
        for row, value in values.items():
            columns[name][row] = value
    features = {"image": datasets.Image(decode=False), "label": datasets.ClassLabel(names=CLASSES)}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def read(source: str, root: Path, **settings) -> Data:
    settings = {"cache": str(root.with_name("cache"))} | settings
    return load(DataConfig(source, str(root), **settings), seed=0, image_size=8, in_chans=3)


BROKEN = [
    ({"image": {17: None}}, r"train, row 17 \(there is no image\)"),
    ({"image": {17: {"path": None, "bytes": b""}}}, r"train, row 17 \(there is no image\)"),
    ({"image": {17: {"path": "x.png", "bytes": b"no image"}}}, r"x\.png \(its format is unknown\)"),
    ({"label": {17: None}}, r"train, row 17 \(it has no label\)"),
    ({"label": {17: -1}}, r"train, row 17 \(it has no label\)"),
]


@pytest.mark.parametrize(("changes", "message"), BROKEN)
def test_a_row_without_an_image_or_a_label_is_named_or_skipped(
    tmp_path: Path, changes: dict, message: str
) -> None:
    root = tmp_path / "rows"
    root.mkdir()
    table(**changes).to_parquet(root / "train.parquet")
    with pytest.raises(ValueError, match=rf"1 files that are no readable images(.|\n)*{message}"):
        read("parquet", root)
    found = read("parquet", root, skip_broken=True)
    assert (found.skipped, sum(map(len, found.splits.values()))) == (1, 19)


def test_a_split_without_any_label_is_held_out_of_train(tmp_path: Path) -> None:
    root = tmp_path / "rows"
    root.mkdir()
    table().to_parquet(root / "train.parquet")
    table(label=dict.fromkeys(range(20), -1)).to_parquet(root / "test.parquet")
    found = read("parquet", root)
    assert found.held_out == ("test", "validation")
    assert sum(len(split) for split in found.splits.values()) == 20
    assert all((split.labels >= 0).all() for split in found.splits.values())


@pytest.mark.parametrize("content", [None, b""])
def test_no_row_makes_a_file_of_this_machine_an_image(tmp_path: Path, content: bytes | None) -> None:
    photographs(1, 5)[0].save(tmp_path / "private.png")
    (tmp_path / "rows").mkdir()
    rows = table(image={3: {"path": str(tmp_path / "private.png"), "bytes": content}})
    pyarrow.parquet.write_table(rows.data.table, tmp_path / "rows" / "train.parquet")
    with pytest.raises(
        ValueError, match=r"rows of train name files such as '.*private\.png'; accepted are rows"
    ):
        read("parquet", tmp_path / "rows", skip_broken=True)


@pytest.mark.parametrize(("changes", "message"), BROKEN)
def test_a_streamed_row_without_an_image_or_a_label_is_named(changes: dict, message: str) -> None:
    name = message.partition(r" \(")[0]
    rows = list(table(**changes))
    with pytest.raises(ValueError, match=f"streamed image '{name}' is unreadable"):
        decode_rows(rows, Form(3, 8), 2, "train")
    found = datasets.IterableDatasetDict({"train": table(**changes).to_iterable_dataset()})
    _, count, held = divide(found, "rows", 0, {"test": 0.3})
    assert count + len(held["test"]) == 20


def test_a_stream_of_fewer_rows_than_it_claims_is_refused() -> None:
    rows = table().to_iterable_dataset()
    assert [len(batch) for batch in Stream(rows, 20, Form(3, 8), 2, 5).batches(10, 0)] == [10, 10]
    assert [len(batch) for batch in Stream(rows, 20, Form(3, 8), 2, 5).batches(30, 0)] == [20]
    with pytest.raises(ValueError, match="the stream of train has 20 images, and its data set claims 35"):
        list(Stream(rows, 35, Form(3, 8), 2, 5).batches(10, 0))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train.parquet", "test.parquet"], {"train", "test"}),
        (["Train.parquet", "Test.parquet"], {"train", "test"}),
        (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"], {"train"}),
        (["TRAIN/0.parquet", "valid/0.parquet"], {"train", "validation"}),
        (["[0]*.parquet", "b.parquet"], {"train"}),
    ],
)
def test_files_of_rows_name_their_splits(tmp_path: Path, names: list[str], expected: set[str]) -> None:
    root = tmp_path / "train [x]*"
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        table().to_parquet(root / name)
    found = read("parquet", root).splits
    assert sum(map(len, found.values())) == 20 * len(names)
    assert {"train", "validation", "test"} - expected == {
        name for name, split in found.items() if len(split) < 18
    }


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train.parquet", "more.parquet"], r"the split of '.*more\.parquet' is unknown"),
        (["test.parquet"], "has the splits test, and no train split"),
    ],
)
def test_files_of_no_known_split_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        table().to_parquet(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        read("parquet", tmp_path)


@pytest.mark.parametrize(("start", "end"), [(10, None), (4, 60), (-300, -20)])
def test_a_damaged_file_of_rows_is_one_sentence(tmp_path: Path, start: int, end: int | None) -> None:
    path = tmp_path / "train.parquet"
    table().to_parquet(path)
    content = bytearray(path.read_bytes())
    content[start:end] = b"" if end is None else b"\xff" * (end - start)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^data\.root='[^']*': [^\n]+$"):
        read("parquet", tmp_path)


def test_the_identity_of_data_changes_with_images_labels_and_their_order(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "pets", {"train": 10, "test": 4})
    first = read("imagefolder", root)
    assert first.identity.keys() == {"train", "test"}
    assert read("imagefolder", root, validation_fraction=0.2).identity == first.identity
    (root / "test" / "cat").rename(root / "test" / "eel")
    (root / "train" / "cat").rename(root / "train" / "eel")  # labels 0 and 1 change places
    shifted = read("imagefolder", root)
    assert shifted.class_names == ["dog", "eel"]
    assert all(shifted.identity[name] != first.identity[name] for name in first.identity)
    shutil.copy(root / "train" / "dog" / "0.png", root / "train" / "dog" / "99.png")
    added = read("imagefolder", root)
    assert added.identity["test"] == shifted.identity["test"]
    assert added.identity["train"] != shifted.identity["train"]
    assert read("cub", make_cub(tmp_path / "cub")).identity.keys() == {"train", "test"}


def test_a_label_alone_changes_the_identity(tmp_path: Path) -> None:
    found = []
    for name, changes in (("one", {}), ("other", {"label": {3: 0, 4: 1}})):
        (tmp_path / name).mkdir()
        table(**changes).to_parquet(tmp_path / name / "train.parquet")
        found.append(read("parquet", tmp_path / name).identity["train"])
    assert found[0] != found[1]


def test_doubtful_images_are_counted_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_folder(tmp_path / "pets", {"": 10})
    for name in ("cat", "dog"):
        Image.new("I;16", (20, 20), 4000).save(root / name / "dim.png")
    for _ in range(2):  # decoded, then from the cache
        caplog.clear()
        assert read("imagefolder", root).skipped == 0
        [message] = [text for text in caplog.messages if "may be wrong" in text]
        assert "data: 2 images may be wrong; " in message
        assert "dim.png: its 16-bit levels all stay below 4096" in message


def test_rows_may_lack_the_type_of_their_labels(tmp_path: Path) -> None:
    plain = table(label={5: 1}).cast_column("label", datasets.Value("int64"))
    plain.to_parquet(tmp_path / "train.parquet")
    assert read("parquet", tmp_path).class_names == ["0", "1"]
    assert pyarrow.parquet.read_schema(tmp_path / "train.parquet").names == ["image", "label"]
