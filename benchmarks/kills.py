"""Kills at random moments: a run of two processes, killed again and again, ends with the weights of a whole.

    python benchmarks/kills.py --kills 20

A killed run is resumed, until it has been killed so often and is finished. The weights of all stages must
equal those of an uninterrupted run to the last bit.
"""

import argparse
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import torch
from safetensors.torch import load_file

import dtram_hub
from dtram_hub.prompt import say

SCRIPT = Path(__file__).parents[1] / "training" / "train.py"
WORDS = [
    *("threads=1", "trackers=[]", "batch_size=32", "mean_steps=2.0"),
    *("model.num_steps=3", "model.image_size=32", "model.hidden_size=16"),
    *("data.options.num_train=640", "data.options.num_closeup=64", "data.options.zoom=2"),
    *("data.options.num_validation=64", "data.options.num_test=64"),
    *("stages.encoder.epochs=20", "stages.ram.epochs=20", "stages.dtram.epochs=20"),
]


def launch(output: Path, processes: int, *more: str) -> subprocess.Popen:
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    words = [*run, str(SCRIPT), *WORDS, f"output={output}", *more]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kill(process: subprocess.Popen, only_one: bool) -> None:
    """Kill all processes of a run, or one of them; the launcher then ends the others."""
    trainers = [p for p in psutil.Process(process.pid).children(recursive=True) if str(SCRIPT) in p.cmdline()]
    if not trainers:
        process.kill()
    elif only_one:
        random.choice(trainers).kill()
    else:
        for victim in [*trainers, psutil.Process(process.pid)]:
            victim.kill()
    process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    say(f"{platform.machine()}, {args.processes} processes, torch {torch.__version__}, seed {args.seed}, "
        f"dtram_hub {dtram_hub.__version__}")  # fmt: skip
    folder = Path(tempfile.mkdtemp())
    start = time.perf_counter()
    launch(folder / "whole", args.processes).communicate()
    whole = time.perf_counter() - start
    say(f"the whole run took {whole:.0f} s")
    killed = 0
    while killed < args.kills:
        output = Path(tempfile.mkdtemp()) / "killed"
        killed += kill_often(output, args.processes, args.kills - killed, whole)
        compare(folder / "whole", output)


def kill_often(output: Path, processes: int, kills: int, whole: float) -> int:
    """Kill and resume a run until it is finished; returns how often it was killed, at most `kills` times."""
    where: list[str] = []
    process = launch(output, processes)
    while len(where) < kills:
        time.sleep(random.uniform(0.5, whole / 4))
        if process.poll() is not None:
            break
        kill(process, only_one=bool(len(where) % 2))
        states = sorted(path.name for path in (output / "checkpoints").glob("0*"))
        where.append(states[-1] if states else "before the first state")
        is_there = (output / "recipe.yaml").is_file()
        process = launch(output, processes, *(["--resume"] if is_there else []))
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    say(f"killed {len(where)} times, after the states: {', '.join(where)}")
    return len(where)


def compare(whole: Path, killed: Path) -> None:
    """Say of the weights of every stage whether they are the same."""
    for path in sorted((whole / "stages").iterdir()):
        expected, found = load_file(path), load_file(killed / "stages" / path.name)
        same = all(torch.equal(found[name], tensor) for name, tensor in expected.items())
        say(f"{path.name}: {'equal to the last bit' if same else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
