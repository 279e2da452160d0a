"""Names of output files that are made from the names of input files."""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

LONGEST = 200  # bytes; a file system takes 255, and a file amid writing has a longer name
FORBIDDEN = '<>:"/\\|?*'  # on some file system


def unique_names(paths: Iterable[Path], ending: str) -> dict[Path, str]:
    """One file name for each path, for outputs that go into one folder.

    The name is the path's stem with `ending`. Paths that share a stem get all of their names below their
    common folder, as in "wren_1.jpg". Names that are still equal get numbers. No two names are equal on a
    file system that ignores case, and none is the name of an input, which could lie in the same folder. The
    same paths in the same order get the same names.

    Args:
        paths: the input files; a path that is given twice has one name.
        ending: the end of every name, such as "_glimpses.png".
    """
    paths = list(dict.fromkeys(paths))
    shared = Counter(_folded(path.stem) for path in paths)
    columns = zip(*(path.absolute().parent.parts for path in paths), strict=False)
    common = len([*takewhile(lambda folders: len(set(folders)) == 1, columns)])
    taken, names = {_folded(path.name) for path in paths}, {}
    numbers: Counter[str] = Counter()
    for path in paths:
        below = "_".join(path.absolute().parts[common:])
        stem = _writable(path.stem if shared[_folded(path.stem)] == 1 else below, LONGEST - len(ending))
        name = stem + ending
        while _folded(name) in taken:
            numbers[stem] += 1
            name = f"{stem}_{numbers[stem] + 1}{ending}"
        taken.add(_folded(name))
        names[path] = name
    return names


def _folded(name: str) -> str:
    """The same for names that some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _writable(stem: str, longest: int) -> str:
    """The stem with "_" for characters that no name should have, in at most `longest` bytes of UTF-8."""
    stem = "".join(c if c.isprintable() and c not in FORBIDDEN else "_" for c in stem)
    return stem.encode()[:longest].decode(errors="ignore")
