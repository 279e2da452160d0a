"""The code of the pages runs as it stands."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What needs a run, a network, or minutes is left out by a word of its own.
LEFT_OUT = ("runs/", "hf-hub:", "my-name/", "export_looks", "dtram_resnet50")
PAGES = ["README.md", "docs/speed.md"]


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs(page: str, capsys: pytest.CaptureFixture) -> None:
    chosen = [block for block in blocks(page) if not any(word in block for word in LEFT_OUT)]
    assert chosen
    for block in chosen:
        exec(compile(block, page, "exec"), {"__name__": "page"})
    assert capsys.readouterr().out


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_the_example_for_ray_runs() -> None:
    (block,) = blocks("docs/devices.md")
    done = subprocess.run(
        [sys.executable, "-c", block],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"\[\{'class': \d+, 'looks': \d+\}", done.stdout)
