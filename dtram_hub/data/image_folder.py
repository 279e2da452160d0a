"""A folder of images per class: the split and the class of every image.

The splits are the folders train, validation (or val, valid, dev) and test at the top, in any case. Without
such a train all images are of train. The class of an image is the name of the folder that holds it, or its
label in a table beside the images. The name of a file says nothing about its split.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .canvas import image_endings
from .listing import OTHER, Files, list_files, quoted
from .tables import TABLES, order_of, read_table

SYNONYMS = {"valid": "validation", "val": "validation", "dev": "validation"}
SPLITS = {name: name for name in ("train", "validation", "test")} | SYNONYMS


@dataclass
class ImageFolder:
    """The images below a folder, and the files that are none.

    rows: for each split the images, as paths relative to the folder, with their labels, None without one.
    class_names: in the order of the labels.
    files: all files.
    """

    rows: dict[str, list[tuple[str, int | None]]]
    class_names: list[str]
    files: Files


def list_images(root: Path) -> ImageFolder:
    """Find the split and the class of every image below a folder.

    Raises:
        ValueError: no images, a folder without images, images that are not equally deep, two folders that
            mean one split or one class, splits without train, or as in `list_files` and `read_table`.
    """
    origin = f"data.root={str(root)!r}"
    files = list_files(root, image_endings())
    if not files.wanted:
        raise ValueError(f"{origin} holds no images in a folder per class. {files.summary()}".rstrip())
    tables = {folder(path): path for path in files.unused[OTHER] if path.removeprefix(folder(path)) in TABLES}
    parts = _parts(files, tables, origin)
    classes = {start: _classes_of_table(root, start, tables.get(start), files) for start in parts}
    by_folder = [start for start in parts if classes[start] is None]
    if by_folder:
        _check_depths(files, by_folder, origin)
        _check_folders(files, by_folder, origin)
    for start in by_folder:
        classes[start] = {path: folder(path)[:-1].rpartition("/")[2] for path in files.below(start)}
    names = {name for found in classes.values() for name in found.values() if name is not None}
    names = sorted(names) if len(by_folder) == len(parts) else order_of(names)
    label = {name: number for number, name in enumerate(names)}
    rows = {
        split: [(path, label.get(name)) for path, name in classes[start].items()]
        for start, split in parts.items()
    }
    files.drop(
        [path for path in files.wanted if not path.startswith(tuple(parts))], "images outside of the splits"
    )
    return ImageFolder(rows, names, files)


def folder(path: str) -> str:
    """The folder of a file, with "/" at its end; "" for the top."""
    return path[: path.rfind("/") + 1]


def _parts(files: Files, tables: dict[str, str], origin: str) -> dict[str, str]:
    """The split of each part, by the start of its paths: {"train/": "train", ..}, or {"": "train"} for all.

    A folder `train` that holds images itself is no split but a class, unless a table names their classes.
    """
    named = {f"{name}/": SPLITS[name.lower()] for name in files.folders if name.lower() in SPLITS}
    classes = _holding(files) - tables.keys()
    if not any(split == "train" and start not in classes for start, split in named.items()):
        return {"": "train"}
    for split in set(named.values()):
        same = [quoted(start[:-1]) for start in named if named[start] == split]
        if len(same) > 1:
            raise ValueError(
                f"{origin}: the folders {' and '.join(same)} both mean {split}; join or rename them."
            )
    return named


def _holding(files: Files) -> set[str]:
    """The folders at the top that hold images themselves, each with "/"."""
    return {path[: path.index("/") + 1] for path in files.wanted if path.count("/") == 1}


def _classes_of_table(
    root: Path, start: str, table: str | None, files: Files
) -> dict[str, str | None] | None:
    """The classes of a part's images by the table at its top; None without such a table."""
    labels = None if table is None else read_table(root / table)
    if labels is None:
        return None
    classes = {str(PurePosixPath(start, name)): label for name, label in labels.items()}
    images = files.below(start)
    unknown = sorted(classes.keys() - set(images))
    if unknown:
        raise ValueError(
            f"{quoted(root / table)} names {quoted(unknown[0])}, which is no image in its folder."
        )
    files.unused[OTHER].remove(table)
    files.drop([path for path in images if path not in classes], f"images without a row in {table}")
    return classes


def _check_depths(files: Files, parts: list[str], origin: str) -> None:
    depths = {path.count("/") - start.count("/"): path for start in parts for path in files.below(start)}
    if len(depths) > 1:
        one, other = map(quoted, list(depths.values())[:2])
        raise ValueError(f"{origin}: {one} and {other} are not equally deep; accepted is a folder per class.")
    if 0 in depths:
        raise ValueError(f"{origin} holds no images in a folder per class, but {quoted(depths[0])}.")


def _check_folders(files: Files, parts: list[str], origin: str) -> None:
    """ValueError for a folder without images, a split without train, or a class in two folders."""
    homes = {folder(path) for path in files.wanted}
    filled = {str(above) for home in homes for above in (PurePosixPath(home), *PurePosixPath(home).parents)}
    for name in files.folders:
        if name not in filled and f"{name}/".startswith(tuple(parts)):
            raise ValueError(f"{origin}: the folder {quoted(name)} holds no images; fill or remove it.")
    if "" in parts:
        splits = [f"{name}/" for name in files.folders if name.lower() in SPLITS]
        if len(splits) > 1 or not _holding(files).issuperset(splits):
            listed = " and ".join(quoted(start[:-1]) for start in splits)
            raise ValueError(f"{origin} has {listed}, but no folder train of class folders.")
    for start in parts:
        classes: dict[str, str] = {}
        for home in sorted(home for home in homes if home.startswith(start)):
            first = classes.setdefault(home[:-1].rpartition("/")[2], home)
            if first != home:
                raise ValueError(
                    f"{origin}: {quoted(first)} and {quoted(home)} are two folders of one class; rename one."
                )
