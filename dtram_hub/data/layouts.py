"""Layouts of photographs on disk and on the Hub, each read into a `datasets` object of undecoded files.

The splits are train, and validation and test where the source has them. The column `image` holds {"path",
"bytes"}, of which one may be None. The column `label` is a `ClassLabel` with the names of the classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
from scipy.io import loadmat

SYNONYMS = {"valid": "validation", "val": "validation", "dev": "validation"}
HIDDEN = (".", "__")  # `datasets` ignores names with these prefixes
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
    return _as_images(found, f"data.source='hub:{name}'")


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
        found = builder.as_streaming_dataset()
    files = [str(file) for split in (builder.config.data_files or {}).values() for file in split]
    commits = sorted(
        {file.partition("@")[2].partition("/")[0] for file in files}
    )  # hf://datasets/NAME@COMMIT/..
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
        raise ConnectionError(f"{source}: {_sentence(error)}") from None
    except (RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(f"{source}: {_sentence(error)}") from None


def open_parquet(root: Path) -> datasets.DatasetDict:
    """Open a folder of parquet files, as `Dataset.to_parquet` writes them; file names give the splits.

    Raises:
        ValueError: no parquet files, or files without images or classes.
    """
    if not any(root.rglob("*.parquet")):
        raise ValueError(f"data.root={str(root)!r} holds no .parquet files.")
    return _as_images(datasets.load_dataset("parquet", data_dir=str(root)), f"data.root={str(root)!r}")


def open_imagefolder(root: Path) -> datasets.DatasetDict:
    """Open a folder of images per class, optionally under train/, validation/ and test/.

    Raises:
        ValueError: an empty folder, files that are not equally deep, or no images.
    """
    origin = f"data.root={str(root)!r}"
    try:
        found = datasets.load_dataset("imagefolder", data_dir=str(root), drop_labels=False)
    except (datasets.exceptions.DatasetGenerationError, FileNotFoundError) as error:
        raise ValueError(f"{origin} holds no images in a folder per class.") from error
    empty = _empty_folders(root)
    if empty:
        raise ValueError(f"{origin}: the folder {str(empty[0])!r} is empty; fill or remove it.")
    named_by_folder = isinstance(found["train"].features.get("label"), datasets.ClassLabel)
    found = _as_images(found, origin)
    depths = {
        len(Path(file["path"]).parts): file["path"] for split in found.values() for file in split["image"]
    }
    if named_by_folder and len(depths) > 1:
        one, other = list(depths.values())[:2]
        raise ValueError(f"{origin}: {one} and {other} are not equally deep; accepted is a folder per class.")
    return found


def open_cub(root: Path) -> datasets.DatasetDict:
    """Open CUB-200-2011 in its original layout, or a subset of its classes. Bounding boxes are not read.

    Raises:
        ValueError: a list or an image is missing, or two lists name different images.
    """
    root = root / "CUB_200_2011" if (root / "CUB_200_2011").is_dir() else root
    for name in CUB_FILES:
        if not (root / name).is_file():
            raise ValueError(f"data.root={str(root)!r} has no {name}, which CUB-200-2011 has beside images/.")
    paths, labels, in_train, classes = (
        dict(line.split(maxsplit=1) for line in (root / name).read_text().splitlines() if line.strip())
        for name in CUB_FILES
    )
    if not paths.keys() == labels.keys() == in_train.keys():
        raise ValueError(
            f"data.root={str(root)!r}: {CUB_FILES[0]} and {CUB_FILES[1]} do not list the same images."
        )
    order = sorted(set(labels.values()), key=int)
    names = [classes[number].partition(".")[2].replace("_", " ") for number in order]
    rows = {"train": [], "test": []}
    for key, path in paths.items():
        split = "train" if in_train[key].strip() == "1" else "test"
        rows[split].append((root / "images" / path, order.index(labels[key])))
    return _of_files(rows, names, root)


def open_cars(root: Path) -> datasets.DatasetDict:
    """Open Stanford Cars: `cars_annos.mat`, devkit/ with cars_train/ and cars_test/, or a folder per class.

    Raises:
        ValueError: another layout, or a missing image or label file.
    """
    one, devkit = root / "cars_annos.mat", root / "devkit"
    if one.is_file():
        found = _mat(one)
        names = [str(name) for name in found["class_names"]]
        rows = {"train": [], "test": []}
        for entry in found["annotations"]:
            split = "test" if int(entry["test"]) else "train"
            rows[split].append((root / str(entry["relative_im_path"]), int(entry["class"]) - 1))
        return _of_files(rows, names, root)
    if devkit.is_dir():
        names = [str(name) for name in _mat(devkit / "cars_meta.mat")["class_names"]]
        labelled = [folder / "cars_test_annos_withlabels.mat" for folder in (devkit, root)]
        labelled = next((path for path in labelled if path.is_file()), labelled[0])
        files = {"train": devkit / "cars_train_annos.mat", "test": labelled}
        rows = {
            split: [
                (root / f"cars_{split}" / str(entry["fname"]), int(entry["class"]) - 1)
                for entry in _mat(path)["annotations"]
            ]
            for split, path in files.items()
        }
        return _of_files(rows, names, root)
    for folder in (root, root / "car_data", root / "car_data" / "car_data"):
        if (folder / "train").is_dir() and (folder / "test").is_dir():
            return open_imagefolder(folder)
    raise ValueError(
        f"data.root={str(root)!r} is not Stanford Cars: "
        "it has neither cars_annos.mat, nor devkit/, nor train/ and test/."
    )


def _empty_folders(root: Path) -> list[Path]:
    """Folders without a file below them. `datasets` would drop the class of each without a message."""

    def visible(path: Path) -> bool:
        return not any(part.startswith(HIDDEN) for part in path.relative_to(root).parts)

    found = [path for path in sorted(root.rglob("*")) if visible(path)]
    filled = {folder for path in found if path.is_file() for folder in path.parents}
    return [path.relative_to(root) for path in found if path.is_dir() and path not in filled]


def _mat(path: Path) -> dict:
    if not path.is_file():
        raise ValueError(f"{path} is missing; Stanford Cars keeps its labels there.")
    return loadmat(path, squeeze_me=True)


def _of_files(rows: dict[str, list[tuple[Path, int]]], names: list[str], root: Path) -> datasets.DatasetDict:
    missing = [path for split in rows.values() for path, _ in split if not path.is_file()]
    if missing:
        raise ValueError(f"data.root={str(root)!r} lacks {len(missing)} of its images, {missing[0]} for one.")
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
    found = type(found)({SYNONYMS.get(name, name): split for name, split in found.items()})
    if "train" not in found:
        raise ValueError(f"{origin} has the splits {', '.join(found)}, and no train split.")
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


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split())
