"""Tables of the classes of images: `metadata.csv`, `metadata.jsonl` or `metadata.parquet` beside them."""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow
from pyarrow import parquet

from ..prompt import one_line
from .listing import quoted

COLUMNS = ("file_name", "label")
NUMBER = re.compile(r"-?\d{1,15}(\.\d+)?")


def read_table(path: Path) -> dict[str, str | None] | None:
    """Read the classes of a table: the label of each file by its name, None for an empty one.

    Returns:
        None for a table without the columns `file_name` and `label`.

    Raises:
        ValueError: a damaged table, a row that names no file or one again, a label of another kind.
    """
    rows = read_rows(path)
    if not all(any(column in row for row in rows) for column in COLUMNS):
        return None
    labels: dict[str, str | None] = {}
    for number, row in enumerate(rows):
        name, label = (row.get(column) for column in COLUMNS)
        if not isinstance(name, str) or not name or name in labels:
            raise ValueError(f"{quoted(path)}, row {number}: file_name={name!r} is empty or named before.")
        if not isinstance(label, str | int | float | None):
            raise ValueError(f"{quoted(path)}, row {number}: label={label!r} is no text or number.")
        labels[name] = None if label in (None, "") or label != label else str(label)
    return labels


def read_rows(path: Path) -> list[dict]:
    """The rows of a table with an ending of READERS; ValueError for a damaged one."""
    try:
        return list(READERS[path.suffix](path))
    except (OSError, ValueError, RecursionError, csv.Error, pyarrow.ArrowException) as error:
        raise ValueError(f"{quoted(path)} is no table ({one_line(error, 160)}).") from None


def order_of(names: Iterable[str]) -> list[str]:
    """The order of class names: numbers by value, others as `sorted` has them."""
    found = sorted(set(names))
    return sorted(found, key=float) if all(map(NUMBER.fullmatch, found)) else found


def _from_csv(path: Path) -> Iterator[dict]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        yield from csv.DictReader(file)


def _from_jsonl(path: Path) -> Iterator[dict]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"line {number + 1} is no object")
                yield row


def _from_parquet(path: Path) -> Iterator[dict]:
    yield from parquet.read_table(path).to_pylist()


READERS = {".csv": _from_csv, ".jsonl": _from_jsonl, ".parquet": _from_parquet}
TABLES = [f"metadata{suffix}" for suffix in READERS]
