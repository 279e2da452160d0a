"""Lists of images, as CUB-200-2011 and Stanford Cars have them: text files and .mat files, read strictly."""

import os
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from .listing import quoted


def read_list(path: Path) -> dict[str, str]:
    """Read a list with a key and a text on every line.

    Raises:
        ValueError: no such file, no UTF-8, a line of one word, or a key that is listed twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{quoted(path)} cannot be read ({error}).") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        words = line.split(maxsplit=1)
        if len(words) == 1:
            raise ValueError(
                f"{quoted(path)}, line {number}: {line!r} is one word; accepted is a key and a text."
            )
        if words and words[0] in found:
            raise ValueError(f"{quoted(path)}, line {number}: {words[0]!r} is listed before.")
        found |= {words[0]: words[1].rstrip()} if words else {}
    return found


def read_boxes(path: Path) -> dict[str, list[float]]:
    """Read a list with a key and a box on every line: left, top, width and height in pixels.

    Raises:
        ValueError: as in `read_list`, or a box is not of four numbers.
    """
    boxes = {}
    for key, text in read_list(path).items():
        try:
            left, top, width, height = map(float, text.split())
        except ValueError:
            raise ValueError(f"{quoted(path)}: {text!r} is no box of left, top, width, height.") from None
        boxes[key] = [left, top, width, height]
    return boxes


def read_mat(path: Path, key: str) -> np.ndarray:
    """Read one array of a .mat file, (N,).

    Raises:
        ValueError: no such file, no .mat file, or no such array.
    """
    if not path.is_file():
        raise ValueError(f"{quoted(path)} is missing; Stanford Cars keeps its labels there.")
    try:
        found = loadmat(path, squeeze_me=True, variable_names=[key])
    except Exception as error:  # as varied as the ways in which a file can be damaged
        raise ValueError(f"{quoted(path)} is no .mat file ({type(error).__name__}).") from None
    if key not in found:
        raise ValueError(f"{quoted(path)} has no {key}.")
    return np.atleast_1d(found[key])


def read_records(path: Path, columns: dict[str, type]) -> list[list]:
    """Read the columns of `annotations` in a .mat file, with the type of each.

    Raises:
        ValueError: as in `read_mat`, or a column is missing or of another type.
    """
    records = read_mat(path, "annotations")
    rows = []
    for number, record in enumerate(records):
        try:
            rows.append([kind(record[name]) for name, kind in columns.items()])
        except (IndexError, KeyError, TypeError, ValueError):
            raise ValueError(
                f"{quoted(path)}, annotation {number} lacks {', '.join(columns)}, or one is of another type."
            ) from None
    return rows


def within(folder: Path, path: str) -> Path:
    """The path of a listed file below `folder`.

    Raises:
        ValueError: the path leaves the folder.
    """
    if os.path.isabs(path) or os.path.normpath(path).split(os.sep)[0] == os.pardir:
        raise ValueError(f"{quoted(folder)}: the listed path {quoted(path)} leaves the folder.")
    return folder / path
