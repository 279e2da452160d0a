"""Start-up times: `dtram --version`, `dtram --help`, an import, and one image, of several checkouts in turns.

    git worktree add ../before v0.1.0
    python benchmarks/startup.py ../before .

Every command is a process of its own, on the modules of its checkout. Seconds of the processor depend less on
what else runs on the machine than seconds of the clock.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import timm
import torch
from PIL import Image

from dtram_hub.prompt import say
from timing import positive

PROGRAM = [sys.executable, "-m", "dtram_cli"]


def run(words: list[str], checkout: Path) -> tuple[float, float]:
    """The seconds of a command, by the clock and of the processor."""
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=tempfile.gettempdir())
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr[-2000:]
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkouts", nargs="+", type=Path)
    parser.add_argument("--model", default="dtram_mobilenetv2_100.cub50")
    parser.add_argument("--repeats", type=positive, default=5)
    args = parser.parse_args()
    picture = str(Path(tempfile.mkdtemp()) / "grey.png")
    Image.new("RGB", (448, 448), "grey").save(picture)
    commands = {
        "`python -c pass`": [sys.executable, "-c", "pass"],
        "`dtram --version`": [*PROGRAM, "--version"],
        "`dtram --help`": [*PROGRAM, "--help"],
        "`import torch, timm`": [sys.executable, "-c", "import torch, timm"],
        "`import dtram_hub`": [sys.executable, "-c", "import dtram_hub"],
        "`dtram predict`, one image": [*PROGRAM, "predict", args.model, picture, "--device", "cpu"],
    }
    versions = f"torch {torch.__version__}, timm {timm.__version__}"
    say(f"{platform.machine()}, python {platform.python_version()}, {versions}")
    say(f"{args.model}, medians of {args.repeats}")
    say("")
    headings = [
        f"{path.resolve().name}, {kind} (s)" for kind in ("clock", "processor") for path in args.checkouts
    ]
    say("| command | " + " | ".join(headings) + " |")
    say("|---|" + "---:|" * len(headings))
    for title, words in commands.items():
        turns = [[run(words, path) for path in args.checkouts] for _ in range(args.repeats + 1)][1:]
        sides = [*zip(*turns, strict=True)]  # one for each checkout, without the turn that warms up
        medians = [statistics.median(times[kind] for times in side) for kind in (0, 1) for side in sides]
        say(f"| {title} | " + " | ".join(f"{median:.2f}" for median in medians) + " |")


if __name__ == "__main__":
    main()
