"""The plan of the house, read off the sources: floors, sizes of files and functions, names."""

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "demo", "docs", "dtram_cli", "dtram_hub", "model_cards", "tests", "training")
LONGEST_FILE, LONGEST_FUNCTION = 350, 60

# From the ground up. A module imports from its own room and from the floors below. So the model can be read
# without the data, and a card without the program. The lowest floor knows nothing of ours.
FLOORS = [
    {
        f"dtram_hub.{name}"
        for name in ("checks", "files", "bundled", "freed_memory", "moved", "output_names", "prompt")
    },
    {"dtram_hub.plots", "dtram_hub.images"},  # draws plain tensors and numbers; reads views of images
    {"dtram_hub.models", "dtram_hub.data"},  # what timm builds; what it is shown
    {"dtram_hub.inference"},  # spends a budget of steps
    {"dtram_hub.learning"},  # brings all of them together
    {"dtram_hub.sharing"},  # reads what a run wrote
    {"dtram_hub", "dtram_hub.cli", "dtram_hub.demo", "dtram_hub.run"},  # what users call
    {"dtram_cli", "training", "benchmarks"},  # programs
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# timm and the Hub expect these two methods on the model; each imports `sharing` when it is called.
UPWARDS = {"from_pretrained": "dtram_hub.models", "push_to_hub": "dtram_hub.models"}
# The same file once in every folder of a checkpoint and of a card, and what has one name everywhere.
NAMES_AGAIN = ("dtram_hub/weights/", "model_cards/images/")
NAMES_EVERYWHERE = {"__init__.py", "README.md"}


class Import(NamedTuple):
    """One import between modules of ours, and the function that it stands in ("" outside of any)."""

    importer: str
    function: str
    imported: str


def files() -> list[Path]:
    """All files of the project, relative to its root."""
    inside = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))
    found = [path for path in (*ROOT.glob("*.*"), *inside) if path.is_file()]
    return sorted(path.relative_to(ROOT) for path in found if "__pycache__" not in path.parts)


def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse((ROOT / path).read_text()) for path in files() if path.suffix == ".py"}


def module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """The longest name of `FLOORS` that `module` lies in."""
    parts = module.split(".")
    return next(name for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in FLOOR)


def imports_of(path: Path, tree: ast.AST, modules: set[str], function: str = "") -> Iterator[Import]:
    """The imports of `modules` that stand anywhere in one file."""
    for node in ast.iter_child_nodes(tree):
        targets = []
        if isinstance(node, ast.Import):
            targets = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = path.with_suffix("").parts[: -node.level] if node.level else ()
            base = ".".join([*package, *filter(None, [node.module])])
            targets = [(base, alias.name) for alias in node.names]
        for base, name in targets:
            imported = f"{base}.{name}" if f"{base}.{name}" in modules else base
            if imported in modules:
                yield Import(module_name(path), function, imported)
        inner = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        yield from imports_of(path, node, modules, inner)


@pytest.fixture(scope="module")
def imports() -> list[Import]:
    sources = {path: tree for path, tree in trees().items() if path.parts[0] not in ("tests", "docs", "demo")}
    modules = {module_name(path) for path in sources}
    found = [found for path, tree in sources.items() for found in imports_of(path, tree, modules)]
    assert len(found) > 50
    return found


def test_a_module_imports_from_its_own_room_and_from_floors_below(imports: list[Import]) -> None:
    def is_allowed(found: Import) -> bool:
        own, other = room(found.importer), room(found.imported)
        return own == other or FLOOR[other] < FLOOR[own] or UPWARDS.get(found.function) == own

    assert [found for found in imports if not is_allowed(found)] == []


def test_imports_run_in_no_circle(imports: list[Import]) -> None:
    graph: dict[str, set[str]] = {}
    for found in imports:
        if found.function not in UPWARDS:
            graph.setdefault(found.importer, set()).add(found.imported)
    TopologicalSorter(graph).prepare()  # CycleError names a circle


def test_no_file_is_longer_than_a_newcomer_reads_in_one_go() -> None:
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in trees()}
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    lengths = {
        f"{path}:{node.name}": node.end_lineno - node.lineno + 1
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION} == {}


def test_no_two_files_have_one_name() -> None:
    names = Counter(
        path.name
        for path in files()
        if not path.as_posix().startswith(NAMES_AGAIN) and path.name not in NAMES_EVERYWHERE
    )
    assert [name for name, count in names.items() if count > 1] == []
