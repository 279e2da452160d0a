"""A folder in which the commands of the pages run: what their words name, small, and a loopback Hub.

Commands run as they stand. Only trainings get more words, which make them small.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
from PIL import Image

from folders import make_folder, photographs
from small_runs import SMALL

ROOT = Path(__file__).parents[1]
PROGRAMS = {
    "accelerate": "-m accelerate.commands.accelerate_cli",
    "dtram": "-m dtram_cli",
    "python": "",
    "torchrun": "-m torch.distributed.run",
}
# Of a folder of photographs, with any recipe.
TINY = [
    *("architecture=dtram_test_resnet", "encoder_weights=null", "precision=no", "threads=1", "batch_size=8"),
    *("model.image_size=64", "model.context_size=32", "model.glimpse_crop=32", "model.glimpse_size=32"),
    *("model.hidden_size=16", "model.num_steps=3", "mean_steps=1.5", "trackers=[]", "data.cache=cache"),
    *("stages.encoder.epochs=1", "stages.ram.epochs=1", "stages.dtram.epochs=1"),
]
# A command with such a word needs a network, a login, GPUs or a browser.
LEFT_OUT = re.compile(
    r"pip install|-m venv|ruff|hf (auth|repos|upload)|--multi_gpu|mkdocs serve|dtram demo|pytest|\.ci/run"
    r"|import ray"
)
FENCE = re.compile(r"^```(bash|python)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """The code between two fences of a page, in "bash" or "python"."""

    language: str
    code: str


def blocks(page: Path) -> list[Block]:
    """The code of a page, in its order."""
    return [Block(*found) for found in FENCE.findall(page.read_text())]


def commands(code: str) -> list[str]:
    """The commands of a block that can run anywhere; trainings are made small."""
    lines = code.replace("\\\n", " ").splitlines()
    found = [shlex.join(shlex.split(line, comments=True)) for line in lines if not LEFT_OUT.search(line)]
    return [made_small(command) for command in found if command]


def made_small(command: str) -> str:
    """A training with `SMALL` digits or `TINY` photographs; all other commands as they are."""
    if not re.search(r"dtram train|training/train\.py", command) or "--" in command:
        return command
    of_photographs = re.search(r"data\.(root|source)=", command)
    return shlex.join([*shlex.split(command), *(TINY if of_photographs else SMALL)])


class Scratch:
    """The folder, and the environment of its commands. Every command succeeds, or the test fails."""

    def __init__(self, folder: Path, hub_url: str):
        self.folder = folder
        programs = folder / "programs"
        programs.mkdir()
        for name, words in PROGRAMS.items():
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
            (programs / name).chmod(0o755)
        self.environment = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HF_ENDPOINT": hub_url,
            "HF_TOKEN": "hf_my_name",
            "OMP_NUM_THREADS": "1",
        }

    def fill(self, code: str, finished: Path) -> None:
        """Make what the words of a page name, and what its own commands do not make.

        Args:
            code: all code of the page.
            finished: the folder of a run, which stands for all runs that the page supposes.
        """
        for name in ("training", "benchmarks"):
            (self.folder / name).symlink_to(ROOT / name)
        make_folder(self.folder / "path" / "to" / "images", {"": 30}, size=(64, 64))
        for name in ("photos", "photographs"):
            make_folder(self.folder / name, {"": 2})
        for name in ("photo.jpg", "image.png", "wren.jpg", "jay.jpg"):
            photographs(1, 0)[0].save(self.folder / name)
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(self.folder / "slide.tif")
        (self.folder / "scan.raw").touch()
        os.truncate(self.folder / "scan.raw", 40_000 * 30_000 * 3)  # a hole, which takes no room
        if "hub:org/name" in code:
            rows = {"image": photographs(40, 1), "label": [0, 1] * 20}
            kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
            data = datasets.Dataset.from_dict(rows, datasets.Features(kinds))
            datasets.DatasetDict({"train": data}).push_to_hub("org/name", token="hf_org")
        begun = "".join(line for line in code.splitlines(keepends=True) if "--resume" not in line)
        made = {*re.findall(r"output=(\S+)", begun), "runs/imagefolder"}
        for name in {*re.findall(r"runs/\w+", code)} - made:
            shutil.copytree(finished, self.folder / name)

    def run(self, command: str) -> None:
        self._run(["bash", "-c", command], command)

    def run_python(self, code: str) -> None:
        self._run([sys.executable, "-c", code], code)

    def _run(self, words: list[str], shown: str) -> None:
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{shown}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
