"""The code of the pages runs as it stands; their links lead somewhere."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import HUB
from loopback_hub import LoopbackHub
from page_scratch import LEFT_OUT, ROOT, Scratch, blocks, commands, made_small

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks/README.md"])
CODE = [page for page in PAGES if blocks(page)]
# Pages whose code takes seconds. What needs a run or more time is left to the slow test.
FAST = ["README.md", "docs/quick_start.md", "docs/speed.md"]
SLOW = ("runs/", "dtram_resnet50")


@pytest.mark.parametrize("page", FAST)
def test_the_code_of_a_page_runs(
    page: str, capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = [block.code for block in blocks(ROOT / page) if block.language == "python"]
    chosen = [code for code in found if not any(word in code for word in SLOW)]
    assert chosen
    for code in chosen:
        exec(compile(code, page, "exec"), {"__name__": "page"})
    assert capsys.readouterr().out


def test_the_quick_start_shows_what_the_program_prints(
    dtram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "quick_start.md"
    drawing = next(block.code for block in blocks(page) if "seven.png" in block.code)
    exec(drawing, {})
    (command,) = re.findall(r"^dtram (predict .* seven\.png .*)$", page.read_text(), flags=re.MULTILINE)
    code, answer, _ = dtram(*command.split())
    assert code == 0
    assert f"    {answer}" in page.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    """As GitHub names headings: lower case, without signs, with hyphens for spaces."""
    for target in re.findall(r"]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        name, _, anchor = target.partition("#")
        if "://" in target or anchor.startswith("dtram_hub."):  # another site, or made from docstrings
            continue
        file = (page.parent / name) if name else page
        assert file.is_file(), target
        headings = re.findall(r"^#+ (.*)$", file.read_text(), flags=re.MULTILINE) if anchor else []
        slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert not anchor or anchor in slugs, target


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run on photographs."""
    folder = tmp_path_factory.mktemp("finished")
    scratch = Scratch(folder, HUB.url)
    scratch.fill("", folder)
    scratch.run(made_small("dtram train imagefolder data.root=path/to/images output=run"))
    return folder / "run"


@pytest.mark.long
@pytest.mark.parametrize("page", CODE, ids=lambda page: page.name)
def test_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path, hub: LoopbackHub, finished: Path) -> None:
    """Python and commands in the page's order, in a folder that holds the images and runs they name."""
    scratch = Scratch(tmp_path, hub.url)
    scratch.fill("".join(block.code for block in blocks(page)), finished)
    for block in blocks(page):
        if block.language == "bash":
            for command in commands(block.code):
                scratch.run(command)
        elif not LEFT_OUT.search(block.code):
            scratch.run_python(block.code)


def kinds_of_outputs(cell: dict) -> set[str]:
    """The kinds of what a cell shows: texts, and pictures or values; warnings do not count."""
    return {output["output_type"] for output in cell.get("outputs", []) if output.get("name") != "stderr"}


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    environment = Scratch(tmp_path, HUB.url).environment
    for name in ("PATH", "PYTHONPATH"):  # a kernel has the environment of this process
        monkeypatch.setenv(name, environment[name])
    notebook, committed = (nbformat.read(path, nbformat.NO_CONVERT) for _ in range(2))
    # Raises CellExecutionError for a cell that fails.
    NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": tmp_path}}).execute()
    for ran, shown in zip(notebook.cells, committed.cells, strict=True):
        assert kinds_of_outputs(ran) == kinds_of_outputs(shown), ran.source


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_the_example_for_ray_runs() -> None:
    (block,) = (block for block in blocks(ROOT / "docs" / "devices.md") if block.language == "python")
    done = subprocess.run(
        [sys.executable, "-c", block.code],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"\[\{'class': \d+, 'looks': \d+\}", done.stdout)
