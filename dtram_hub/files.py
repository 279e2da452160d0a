"""Writing a file whole or not at all, so that a killed process leaves no half of a file."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`. It replaces `path` after the block, and is removed after an error.

    The temporary file exists and is empty; the block may write or replace it. The new file has the
    permissions of the old one, or those of a file from `open`.
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
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
