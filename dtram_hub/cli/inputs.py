"""The images of `dtram predict`: files, folders, patterns, and tables of paths."""

import glob
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from ..data.canvas import PROGRAMS

COLUMNS = ("image", "path", "file", "file_name", "filename")  # of a table, the first that it has


def expand(words: Iterable[str]) -> list[Path]:
    """The image files that words name, in their order.

    Args:
        words: files; folders, whose images are taken with those of their folders; patterns such as
            "photos/*.jpg"; tables of paths, .csv or .parquet, relative to the table.

    Raises:
        ValueError: nothing of a name, or not an image, a folder or a table.
    """
    return [path for word in words for path in _paths(word)]


def _paths(word: str) -> list[Path]:
    path = Path(word)
    if path.is_dir():
        return _images_in(path)
    if path.is_file():
        return _listed(path) if path.suffix.lower() in TABLES else [path]
    if path.exists():
        raise ValueError(f"{word!r} is no regular file.")
    found = sorted(Path(name) for name in glob.glob(word, recursive=True))
    files = [name for name in found if name.is_file()]
    if not files:
        raise ValueError(f"{word!r} does not exist.")
    return files


def _images_in(folder: Path) -> list[Path]:
    """The files below a folder that have the ending of an image."""
    Image.init()
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind not in PROGRAMS}
    found = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in endings and path.is_file()]
    if not found:
        raise ValueError(f"folder {str(folder)!r} holds no images.")
    return found


def _listed(table: Path) -> list[Path]:
    """The paths in a table. The images are looked for when they are read."""
    columns = TABLES[table.suffix.lower()](table)
    name = next((name for name in COLUMNS if name in columns), None)
    if name is None:
        raise ValueError(
            f"{str(table)!r} has the columns {', '.join(columns)}; accepted is one of {', '.join(COLUMNS)}."
        )
    if not columns[name]:
        raise ValueError(f"{str(table)!r} lists no images.")
    return [table.parent / str(value) for value in columns[name]]


def _read_csv(path: Path) -> dict[str, list]:
    from pyarrow import csv

    return _read(path, csv.read_csv)


def _read_parquet(path: Path) -> dict[str, list]:
    from pyarrow import parquet

    return _read(path, parquet.read_table)


def _read(path: Path, read: Callable) -> dict[str, list]:
    from pyarrow import ArrowException

    try:
        return read(path).to_pydict()
    except (ArrowException, OSError) as error:
        raise ValueError(f"{str(path)!r} is no readable table ({str(error).splitlines()[0]}).") from None


TABLES = {".csv": _read_csv, ".parquet": _read_parquet}
