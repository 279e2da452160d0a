"""From files to answers: `dtram predict` and `dtram validate` against timm's inference.py and validate.py.

    python benchmarks/files.py path/to/timm path/to/photographs

The first folder is a checkout of timm's repository, whose scripts are not installed with it. The second holds
photographs, in class folders as `data.source=imagefolder` reads them. Every command is a process of its own,
start-up included. The sides take turns. The bare encoder gets one look at the size of our first one; our
looks are counted.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

import dtram_hub
from dtram_hub.models.preprocessing import forget_names
from dtram_hub.prompt import say
from timing import positive

PROGRAM = [sys.executable, str(Path(__file__).parents[1] / "dtram_cli.py")]


def run(words: list, threads: int, path: str | None = None) -> float:
    """The seconds of a command."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    environment |= {"PYTHONPATH": path} if path else {}
    start = time.perf_counter()
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("timm", type=Path)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--model", default="dtram_mobilenetv2_100.cub50")
    parser.add_argument("--batch-size", type=positive, default=8)
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--threads", type=positive, default=2)
    args = parser.parse_args()
    model = timm.create_model(args.model, pretrained=True)
    work = Path(tempfile.mkdtemp())
    encoder = {name: tensor.contiguous() for name, tensor in model.encoder.state_dict().items()}
    save_file(encoder, work / "encoder.safetensors")
    forget_names(model.pretrained_cfg)  # their order may be another
    model.save_pretrained(work / "model")
    size, batch = model.context_size, args.batch_size
    shared = ["--model", model.backbone, "--num-classes", model.num_classes, "--input-size", 3, size, size]
    shared += ["--checkpoint", work / "encoder.safetensors", "-b", batch, "--device", "cpu"]
    script = [sys.executable, args.timm / "inference.py", "--data-dir", args.photographs, *shared]
    script += ["--workers", args.threads, "--results-dir", work / "timm"]
    validate = [
        sys.executable,
        args.timm / "validate.py",
        args.photographs,
        *shared,
        "--workers",
        args.threads,
    ]
    recipe = work / "recipe.yaml"
    recipe.write_text(
        f"model: {{num_steps: {model.num_steps}, image_size: {model.image_size}}}\n"
        f"threads: {args.threads}\ndata: {{source: imagefolder, root: {args.photographs}}}\n"
    )
    times: dict[str, list[float]] = {}

    def timed(name: str, words: list) -> None:
        path = str(args.timm) if words[1] != PROGRAM[1] else None
        times.setdefault(name, []).append(run(words, args.threads, path))

    for turn in range(args.repeats):
        out = work / f"answers{turn}.jsonl"
        options = ["--out", out, "--batch-size", batch, "--device", "cpu"]
        timed("dtram predict", [*PROGRAM, "predict", args.model, args.photographs, *options])
        timed("timm inference.py", script)
        timed("timm inference.py --channels-last", [*script, "--channels-last"])
        words = [*PROGRAM, "validate", work / "model", recipe, "--split=train", f"--batch-size={batch}"]
        timed("dtram validate, all looks", words)
        timed("timm validate.py", validate)
        timed("timm validate.py --channels-last", [*validate, "--channels-last"])
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    count, looks = len(rows), statistics.mean(row["steps"] for row in rows)
    taken = {"dtram predict": looks, "dtram validate, all looks": float(model.num_steps)}
    say(f"{platform.machine()}, {args.threads} threads, python {platform.python_version()}, torch "
        f"{torch.__version__}, timm {timm.__version__}, dtram_hub {dtram_hub.__version__}")  # fmt: skip
    say(
        f"{count} photographs, {args.model}, views of {size} pixels, batches of {batch}, "
        f"{args.repeats} repeats"
    )
    say("")
    say("| command | looks per image | seconds | images per second | looks per second | beside ours |")
    say("|---|---:|---:|---:|---:|---:|")
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in medians.items():
        own = taken.get(name, 1.0)
        ours = "dtram validate, all looks" if "validate" in name else "dtram predict"
        ratio = (own / seconds) / (taken[ours] / medians[ours])
        say(f"| {name} | {own:.2f} | {seconds:.1f} | {count / seconds:.1f} | {own * count / seconds:.1f} | "
            f"{ratio:.2f} |")  # fmt: skip


if __name__ == "__main__":
    main()
