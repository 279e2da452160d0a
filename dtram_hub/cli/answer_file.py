"""The file of answers that `dtram predict --out` writes, by one process or by many, in one go or in several.

Answers are written as they come, as JSON lines, beside the file: a call that was cut off goes on where it
ended. When all are there, the lines become the file. Several processes write a file each.
"""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ..files import replacing

HEADER = "answers of"  # the key of the first line, by which other answers are known


class AnswerFile:
    """The answers of this process.

    Args:
        path: the file that is wanted, with an ending of FORMATS.
        call: what the answers depend on, such as the model; a call with another is refused.
        rank, world: this process, and the number of processes.

    Raises:
        ValueError: the ending is unknown, the file exists, or a part of it that was made by another call.
    """

    def __init__(self, path: Path, call: dict, rank: int = 0, world: int = 1):
        if path.suffix not in FORMATS:
            raise ValueError(f"--out={str(path)!r} ends in none of {', '.join(FORMATS)}.")
        self.path = path.with_stem(f"{path.stem}.{rank:05d}-of-{world:05d}") if world > 1 else path
        self.is_finished = self.path.exists()
        if self.is_finished and world == 1:
            raise ValueError(f"--out={str(self.path)!r} exists already; accepted is a new file.")
        self.part = self.path.with_name(f"{self.path.name}.part")
        self.rows: list[dict] = []
        self.call = json.loads(json.dumps(call))
        if self.part.exists():
            self._read()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.part.open("a", encoding="utf-8")
        except OSError as error:
            raise ValueError(f"--out={str(path)!r} cannot be written ({error.strerror}).") from None
        if not self.rows:
            self.file.truncate(0)
            self._line({HEADER: self.call})

    def left_of(self, images: list[Path]) -> list[Path]:
        """The images without an answer, and without a reason why there is none.

        A process whose file is finished has none left, though others may.
        """
        if self.is_finished:
            return []
        known = Counter(row["image"] for row in self.rows)
        left = []
        for image in images:
            known[str(image)] -= 1
            if known[str(image)] < 0:
                left.append(image)
        return left

    def write(self, row: dict) -> None:
        """Keep one row."""
        self.rows.append(row)
        self._line(row)

    def close(self) -> None:
        """Leave the part as it is, to go on later."""
        self.file.close()

    def finish(self) -> Path:
        """Turn the part into the file; returns its path."""
        self.file.close()
        if self.is_finished:
            self.part.unlink()
            return self.path
        with replacing(self.path) as temporary:
            FORMATS[self.path.suffix](temporary, self.rows)
        self.part.unlink()
        return self.path

    def _line(self, row: dict) -> None:
        self.file.write(json.dumps(row, allow_nan=False) + "\n")
        self.file.flush()

    def _read(self) -> None:
        """Read the part of an earlier call; a line that was cut off is removed."""
        lines = self.part.read_bytes().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        os.truncate(self.part, sum(map(len, whole)))
        try:
            header, *rows = [json.loads(line) for line in whole] or [{HEADER: self.call}]
            made_by = header[HEADER]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{str(self.part)!r} is damaged; remove it to begin again.") from None
        if made_by != self.call:
            raise ValueError(
                f"{str(self.part)!r} holds answers of another call, {json.dumps(made_by)}; "
                "remove it to begin again."
            )
        self.rows = rows


def _write_lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows), encoding="utf-8")


def _write_csv(path: Path, rows: list[dict]) -> None:
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, _columns(rows))
        table.writeheader()
        for row in rows:
            table.writerow(
                {name: json.dumps(value) if isinstance(value, list) else value for name, value in row.items()}
            )


def _write_parquet(path: Path, rows: list[dict]) -> None:
    from pyarrow import parquet, table

    parquet.write_table(table({name: [row.get(name) for row in rows] for name in _columns(rows)}), path)


def _columns(rows: list[dict]) -> list[str]:
    """The columns of all rows; an error has others than an answer."""
    return list(dict.fromkeys(name for row in rows for name in row))


FORMATS: dict[str, Callable[[Path, list[dict]], None]] = {
    ".jsonl": _write_lines,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
