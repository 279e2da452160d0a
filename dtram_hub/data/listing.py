"""The files below a folder: the wanted ones, and the others by the reason why they are not used."""

import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..prompt import printable

HIDDEN = (".", "__")  # prefixes of names such as .git and __MACOSX
OTHER = "of another kind"  # the reason for files such as notes.txt
ARCHIVES = {".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar"}


@dataclass
class Files:
    """The files below a folder; all paths are relative to it, with "/".

    wanted: those with one of the wanted endings, sorted.
    folders: all folders that are not hidden, sorted.
    unused: all other files, by the reason why they are not used.
    """

    wanted: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    unused: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def below(self, start: str) -> list[str]:
        """The wanted files whose paths begin with `start`."""
        return [path for path in self.wanted if path.startswith(start)]

    def drop(self, paths: Iterable[str], reason: str) -> None:
        """Make wanted files unused."""
        dropped = set(paths)
        self.wanted = [path for path in self.wanted if path not in dropped]
        if dropped:
            self.unused[reason] += sorted(dropped)

    def summary(self) -> str:
        """The unused files in words, as "not used: .."; "" where all are used."""
        reasons = [
            f"{len(paths)} {reason}, such as {quoted(min(paths))}"
            for reason, paths in sorted(self.unused.items())
            if paths
        ]
        count = sum(map(len, self.unused.values()))
        return f"not used: {count} files ({'; '.join(reasons)})" if count else ""


def quoted(path: str | Path) -> str:
    """A path in quotes, with escapes for what a terminal or a text file would not take."""
    return f"'{printable(path)}'"


def list_files(root: Path, endings: Iterable[str]) -> Files:
    """List all files below `root`.

    Links are followed, but not to a folder above themselves. A dangling link is a file of its own name.

    Args:
        root: a folder.
        endings: of the names of wanted files, such as ".png"; upper and lower case are the same.

    Raises:
        ValueError: a folder cannot be read, a dangling link may stand for a folder, or the path of a wanted
            file is not UTF-8.
    """
    files, endings = Files(), set(endings)
    todo = [("", frozenset([_identity(os.stat(root))]))]
    while todo:
        folder, above = todo.pop()
        for entry in _scan(root, folder):
            path = f"{folder}{entry.name}"
            kind = _kind(entry, endings)
            if kind == "folder" and (identity := _identity(os.stat(entry))) not in above:
                files.folders.append(path)
                todo.append((f"{path}/", above | {identity}))
            elif kind == "wanted":
                files.wanted.append(path)
            elif kind == "dangling":
                raise ValueError(f"data.root={str(root)!r}: {quoted(path)} is a link to nothing; remove it.")
            else:
                files.unused["links to a folder above" if kind == "folder" else kind].append(path)
    files.wanted.sort()
    files.folders.sort()
    for path in map(str, [root, *files.wanted]):
        if path.encode(errors="replace").decode() != path:
            raise ValueError(f"the name of {quoted(path)} is not UTF-8; rename it.")
    return files


def _scan(root: Path, folder: str) -> Iterator[os.DirEntry]:
    try:
        with os.scandir(root / folder) as entries:
            yield from entries
    except OSError as error:
        raise ValueError(
            f"data.root={str(root)!r}: the folder {quoted(folder)} cannot be read ({error.strerror})."
        ) from None


def _kind(entry: os.DirEntry, endings: set[str]) -> str:
    """ "folder", "wanted", "dangling", or the reason why a file is not used."""
    ending = Path(entry.name).suffix.lower()
    if entry.name.startswith(HIDDEN):
        return "hidden"
    try:
        mode = entry.stat().st_mode
    except OSError:
        return "wanted" if ending in endings else "dangling"
    if stat.S_ISDIR(mode):
        return "folder"
    if not stat.S_ISREG(mode):
        return "no regular files"
    if ending in endings:
        return "wanted"
    return "archives, to be unpacked" if ending in ARCHIVES else OTHER


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
