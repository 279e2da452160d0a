"""Layouts of photographs on disk and on the Hub, each read into a `datasets` object of undecoded files.

The splits are train, and validation and test where the source has them. The column `image` holds {"path",
"bytes"}, of which one may be None. The column `label` is a `ClassLabel` with the names of the classes.
"""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import pyarrow
from accelerate.logging import get_logger
from pyarrow import compute

from ..prompt import one_line, printable
from .annotations import read_boxes, read_list, read_mat, read_records, within
from .image_folder import SPLITS, list_images
from .listing import list_files, quoted
from .tables import order_of

logger = get_logger(__name__)

DAMAGED = (datasets.exceptions.DatasetsError, pyarrow.ArrowException)
CUB_BOXES = "bounding_boxes.txt"
CUB_FILES = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")


def open_hub(name: str) -> datasets.DatasetDict:
    """Download a data set of the Hub, "org/name".

    The images are its first column of images, the labels its first column of classes.

    Raises:
        ValueError: no such data set, or a data set without images or classes.
        ConnectionError: the Hub does not answer.
    """
    with _explaining(name):
        found = datasets.load_dataset(name)
    found = _as_images(found, f"data.source='hub:{name}'")
    is_table = found["train"].info.builder_name != "imagefolder"
    return _holding_their_images(found, f"data.source='hub:{name}'") if is_table else found


def open_stream(name: str) -> tuple[datasets.IterableDatasetDict, str]:
    """Open a data set of the Hub whose files are downloaded when their rows are read.

    The columns are those of `open_hub`; the classes must be declared as `ClassLabel`.

    Returns:
        The splits, and the commit whose files are read.

    Raises:
        ValueError, ConnectionError: as in `open_hub`.
    """
    with _explaining(name):
        builder = datasets.load_dataset_builder(name)
        if builder.info.builder_name == "imagefolder":  # `datasets` would decode its files
            raise ValueError(
                f"data.source='hub:{name}' is a folder of files; data.streaming=true reads tables of images, "
                "such as parquet files."
            )
        found = builder.as_streaming_dataset()
    files = [str(file) for split in (builder.config.data_files or {}).values() for file in split]
    # A file is called hf://datasets/NAME@COMMIT/PATH.
    commits = sorted({file.partition("@")[2].partition("/")[0] for file in files})
    return _as_images(found, f"data.source='hub:{name}'"), "+".join(commits)


@contextmanager
def _explaining(name: str) -> Iterator[None]:
    """Errors of the client of the Hub, in one sentence each."""
    source = f"data.source={f'hub:{name}'!r}"
    if name.count("/") != 1:
        raise ValueError(f"{source} is not of the form 'hub:org/name'.")
    try:
        yield
    except datasets.exceptions.DatasetNotFoundError:
        raise ValueError(f"{source} is no data set on the Hub, or your token may not see it.") from None
    except (ConnectionError, FileNotFoundError) as error:
        raise ConnectionError(f"{source}: {one_line(error)}") from None
    except (RuntimeError, *DAMAGED) as error:
        raise ValueError(f"{source}: {one_line(error)}") from None


def open_parquet(root: Path) -> datasets.DatasetDict:
    """Open a folder of parquet files, as `Dataset.to_parquet` writes them.

    The split of a file is the one word of its name, or else of its folders, that is the name of a split. If
    no file has such a word, all are of train.

    Raises:
        ValueError: no parquet files, damaged ones, files without images or classes, or a file of no split
            beside files of one.
    """
    origin = f"data.root={str(root)!r}"
    files = list_files(root, {".parquet"})
    if not files.wanted:
        raise ValueError(f"{origin} holds no .parquet files. {files.summary()}".rstrip())
    if files.summary():
        logger.info(f"data: {files.summary()}")
    found: dict[str, list[str]] = {}
    for path in files.wanted:
        found.setdefault(_split_in(path), []).append(glob.escape(str(root.absolute() / path)))
    if "" in found and len(found) > 1:
        raise ValueError(
            f"{origin}: the split of {quoted(found[''][0])} is unknown; "
            "accepted is train, validation or test in its name."
        )
    try:
        whole = datasets.load_dataset(
            "parquet", data_files={split or "train": paths for split, paths in found.items()}
        )
    except (OSError, *DAMAGED) as error:
        raise ValueError(f"{origin}: {one_line(error.__cause__ or error)}") from None
    return _holding_their_images(_as_images(whole, origin), origin)


def _split_in(path: str) -> str:
    """The split that a path names: in the name of the file, or else of its folders; "" for none."""
    for part in reversed(path.lower().split("/")):
        splits = {SPLITS[word] for word in re.split(r"[^a-z]+", part) if word in SPLITS}
        if len(splits) == 1:
            return splits.pop()
    return ""


def open_imagefolder(root: Path) -> datasets.DatasetDict:
    """Open a folder of images per class, see `image_folder`; a message counts the files that are not used.

    Raises:
        ValueError: as in `list_images`.
    """
    found = list_images(root)
    if found.files.summary():
        logger.info(f"data: {found.files.summary()}")
    rows = {split: [(root / path, label) for path, label in rows] for split, rows in found.rows.items()}
    return _as_images(_of_files(rows, found.class_names), f"data.root={str(root)!r}")


def open_cub(root: Path) -> datasets.DatasetDict:
    """Open CUB-200-2011 in its original layout, or a subset of its classes.

    The column `box`, if there are boxes, judges glimpses and is no input of a model. It has left, top, width
    and height in pixels of the photograph.

    Raises:
        ValueError: a list or an image is missing, two lists do not fit together, a path leaves the folder
            `images`, or as in `read_list`.
    """
    root = root / "CUB_200_2011" if (root / "CUB_200_2011").is_dir() else root
    origin = f"data.root={str(root)!r}"
    for name in CUB_FILES:
        if not (root / name).is_file():
            raise ValueError(f"{origin} has no {name}, which CUB-200-2011 has beside images/.")
    paths, labels, in_train, classes = (read_list(root / name) for name in CUB_FILES)
    for name, keys in zip(CUB_FILES[1:3], (labels.keys(), in_train.keys()), strict=True):
        if paths.keys() != keys:
            raise ValueError(f"{origin}: {CUB_FILES[0]} and {name} do not list the same images.")
    unnamed = set(labels.values()) - classes.keys()
    if unnamed:
        raise ValueError(
            f"{origin}: {CUB_FILES[1]} has class {min(unnamed)!r}, which {CUB_FILES[3]} has not."
        )
    if set(in_train.values()) - {"0", "1"}:
        raise ValueError(f"{origin}: {CUB_FILES[2]} has other values than 0 and 1.")
    order = order_of(labels.values())
    names = [classes[key].split(".", 1)[-1].replace("_", " ") for key in order]
    keys = {
        split: [key for key in paths if in_train[key] == mark]
        for split, mark in (("train", "1"), ("test", "0"))
    }
    rows = {
        split: [(within(root / "images", paths[key]), order.index(labels[key])) for key in own]
        for split, own in keys.items()
    }
    found = _of_list(rows, names, root)
    if not (root / CUB_BOXES).is_file():
        return found
    boxes = read_boxes(root / CUB_BOXES)
    if missing := paths.keys() - boxes.keys():
        raise ValueError(f"{origin}: {CUB_BOXES} has no box of image {min(missing)!r}.")
    columns = {split: [boxes[key] for key in own] for split, own in keys.items()}
    return datasets.DatasetDict(
        {split: rows.add_column("box", columns[split]) for split, rows in found.items()}
    )


def open_cars(root: Path) -> datasets.DatasetDict:
    """Open Stanford Cars: `cars_annos.mat`, devkit/ with cars_train/ and cars_test/, or a folder per class.

    Raises:
        ValueError: another layout, a missing image or label file, a path that leaves the folder, a class
            without a name, or as in `read_records`.
    """
    one, devkit = root / "cars_annos.mat", root / "devkit"
    if one.is_file():
        names = [str(name) for name in read_mat(one, "class_names")]
        rows: dict[str, list] = {"train": [], "test": []}
        for path, label, is_test in read_records(one, {"relative_im_path": str, "class": int, "test": int}):
            rows["test" if is_test else "train"].append((within(root, path), label - 1))
        return _of_list(rows, names, root)
    if devkit.is_dir():
        names = [str(name) for name in read_mat(devkit / "cars_meta.mat", "class_names")]
        labelled = [folder / "cars_test_annos_withlabels.mat" for folder in (devkit, root)]
        labelled = next((path for path in labelled if path.is_file()), labelled[0])
        files = {"train": devkit / "cars_train_annos.mat", "test": labelled}
        rows = {
            split: [
                (within(root / f"cars_{split}", path), label - 1)
                for path, label in read_records(file, {"fname": str, "class": int})
            ]
            for split, file in files.items()
        }
        return _of_list(rows, names, root)
    for folder in (root, root / "car_data", root / "car_data" / "car_data"):
        if (folder / "train").is_dir() and (folder / "test").is_dir():
            return open_imagefolder(folder)
    raise ValueError(
        f"data.root={str(root)!r} is not Stanford Cars: "
        "it has neither cars_annos.mat, nor devkit/, nor train/ and test/."
    )


def _of_list(rows: dict[str, list[tuple[Path, int]]], names: list[str], root: Path) -> datasets.DatasetDict:
    """The splits of listed images, of which each exists once, in a class with a name of its own."""
    origin = f"data.root={str(root)!r}"
    entries = [entry for split in rows.values() for entry in split]
    paths, labels = [path for path, _ in entries], {label for _, label in entries}
    missing = [path for path in paths if not os.path.isfile(path)]  # Path.is_file trips over long names
    again = [path for path, count in Counter(paths).items() if count > 1]
    same = [name for name, count in Counter(names).items() if count > 1]
    if missing:
        raise ValueError(f"{origin} lacks {len(missing)} of its images, {printable(missing[0])} for one.")
    if again:
        raise ValueError(f"{origin} lists {quoted(again[0])} more than once.")
    if same:
        raise ValueError(f"{origin} has two classes of the name {same[0]!r}.")
    if not labels <= set(range(len(names))):
        raise ValueError(
            f"{origin} has class numbers {min(labels) + 1} to {max(labels) + 1}, and {len(names)} names."
        )
    if not rows["train"]:
        raise ValueError(f"{origin} lists no images for training.")
    return _of_files(rows, names)


def _of_files(rows: dict[str, list[tuple[Path, int | None]]], names: list[str]) -> datasets.DatasetDict:
    features = datasets.Features(
        {"image": datasets.Image(decode=False), "label": datasets.ClassLabel(names=names)}
    )
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict(
                {"image": [str(path) for path, _ in found], "label": [label for _, label in found]},
                features=features,
            )
            for split, found in rows.items()
            if found
        }
    )


def _as_images(found: datasets.DatasetDict, origin: str) -> datasets.DatasetDict:
    """Give splits and columns the names of this module; leave the images undecoded."""
    meanings = {str(name): SPLITS.get(str(name).lower()) for name in found}
    again = [meaning for meaning, count in Counter(meanings.values()).items() if meaning and count > 1]
    if "train" not in meanings.values() or again:
        wrong = f"more than one {again[0]} split" if again else "no train split"
        raise ValueError(f"{origin} has the splits {', '.join(meanings)}, and {wrong}.")
    unused = [repr(name) for name, meaning in meanings.items() if meaning is None]
    if unused:
        logger.info(f"data: not used: the splits {', '.join(unused)}")
    found = type(found)({meaning: found[name] for name, meaning in meanings.items() if meaning})
    features = found["train"].features or {}
    image = next((name for name, kind in features.items() if isinstance(kind, datasets.Image)), None)
    if image is None:
        raise ValueError(
            f"{origin} has no column of images; its columns are {', '.join(features) or 'unknown'}."
        )
    label = next((name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)), None)
    if label is None and "label" in features and not isinstance(found, datasets.IterableDatasetDict):
        found, label = found.class_encode_column("label"), "label"
    if label is None:
        raise ValueError(f"{origin} must hold at least two classes, and has none: no column is a ClassLabel.")
    found = found.select_columns([image, label])
    for old, new in ((image, "image"), (label, "label")):
        found = found if old == new else found.rename_column(old, new)
    names = found["train"].features["label"].names
    if len(names) < 2:
        raise ValueError(f"{origin} must hold at least two classes; it has {', '.join(names)}.")
    for name, split in found.items():
        if split.features["label"].names != names:
            raise ValueError(f"{origin}: {name} and train have different classes.")
    return found.cast_column("image", datasets.Image(decode=False))


def _holding_their_images(found: datasets.DatasetDict, origin: str) -> datasets.DatasetDict:
    """Refuse rows that name a file in place of an image, because whoever wrote them could name any file."""
    for name, split in found.items():
        for rows in split.data.column("image").chunks:
            images, paths = rows.field("bytes"), rows.field("path")
            named = paths.filter(
                compute.equal(compute.fill_null(compute.binary_length(images), 0), 0)
            ).drop_null()
            if len(named):
                raise ValueError(
                    f"{origin}: rows of {name} name files such as {quoted(named[0].as_py())}; "
                    "accepted are rows that hold their images."
                )
    return found
