"""Writing a file whole or not at all: a reader never sees half a file, whenever the writer dies."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its name when the block ends well, and else goes.

    The file has the permissions of the file that it replaces, or those that `open` gives to a new one. The
    temporary file is there already, and empty; whatever writes it may also put another in its place.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    with temporary.open("xb") as file:
        fresh = os.fstat(file.fileno()).st_mode
    try:
        yield temporary
        temporary.chmod(path.stat().st_mode if path.exists() else fresh)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: object) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")
