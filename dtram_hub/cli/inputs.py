"""The images of `dtram predict`: files, folders, patterns, and tables of paths."""

import glob
from collections.abc import Iterable
from pathlib import Path

from ..data.canvas import image_endings

COLUMNS = ("image", "path", "file", "file_name", "filename")  # of a table, the first that it has
TABLES = (".csv", ".jsonl", ".parquet")


def expand(words: Iterable[str]) -> list[Path]:
    """The image files that words name, in their order.

    Args:
        words: files; folders, whose images are taken with those of their folders; patterns such as
            "photos/*.jpg"; tables of paths, .csv, .jsonl or .parquet, relative to the table.

    Raises:
        ValueError: nothing of a name, or not an image, a folder or a table.
    """
    return [path for word in words for path in _paths(word)]


def _paths(word: str) -> list[Path]:
    path = Path(word)
    if path.is_dir():
        return _images_in(path)
    if path.is_file():
        return _listed(path) if path.suffix in TABLES else [path]
    if path.exists():
        raise ValueError(f"{word!r} is no regular file.")
    found = sorted(Path(name) for name in glob.glob(word, recursive=True))
    files = [name for name in found if name.is_file()]
    if not files:
        raise ValueError(f"{word!r} does not exist.")
    return files


def _images_in(folder: Path) -> list[Path]:
    """The files below a folder that have the ending of an image."""
    endings = image_endings()
    found = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in endings and path.is_file()]
    if not found:
        raise ValueError(f"folder {str(folder)!r} holds no images.")
    return found


def _listed(table: Path) -> list[Path]:
    """The paths in a table. The images are looked for when they are read."""
    from ..data.tables import read_rows  # needs pyarrow, unlike other words

    rows = read_rows(table)
    if not rows:
        raise ValueError(f"{str(table)!r} lists no images.")
    name = next((name for name in COLUMNS if name in rows[0]), None)
    if name is None:
        raise ValueError(
            f"{str(table)!r} has the columns {', '.join(map(str, rows[0]))}; accepted is one of "
            f"{', '.join(COLUMNS)}."
        )
    return [table.parent / str(row.get(name)) for row in rows]
