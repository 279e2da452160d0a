"""From files to answers: `dtram predict` and `dtram validate` against timm's inference.py and validate.py.

    python benchmarks/files_to_answers.py path/to/timm path/to/photographs

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

PREDICT, VALIDATE = "dtram predict", "dtram validate, all three looks"
PROGRAM = [sys.executable, "-m", "dtram_cli"]


def run(words: list, threads: int, path: str | None = None) -> float:
    """The seconds of a command."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    environment |= {"PYTHONPATH": path} if path else {}
    start = time.perf_counter()
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return time.perf_counter() - start


def commands(args: argparse.Namespace, work: Path) -> dict[str, list]:
    """The commands by their titles; the answers of the first go into `work`."""
    model = timm.create_model(args.model, pretrained=True)
    encoder = {name: tensor.contiguous() for name, tensor in model.encoder.state_dict().items()}
    save_file(encoder, work / "encoder.safetensors")
    forget_names(model.pretrained_cfg)  # their order may be another
    model.save_pretrained(work / "model")
    recipe = work / "recipe.yaml"
    recipe.write_text(
        f"model: {{num_steps: {model.num_steps}, image_size: {model.image_size}}}\n"
        f"threads: {args.threads}\ndata: {{source: imagefolder, root: {args.photographs}}}\n"
    )
    size, batch, workers = model.context_size, args.batch_size, ["--workers", args.threads]
    shared = ["--model", model.backbone, "--num-classes", model.num_classes, "--input-size", 3, size, size]
    shared += ["--checkpoint", work / "encoder.safetensors", "-b", batch, "--device", "cpu", *workers]
    infer = [sys.executable, args.timm / "inference.py", "--data-dir", args.photographs, *shared]
    infer += ["--results-dir", work / "timm"]
    validate = [sys.executable, args.timm / "validate.py", args.photographs, *shared]
    options = ["--out", work / "answers.jsonl", "--batch-size", batch, "--device", "cpu"]
    own = [*PROGRAM, "validate", work / "model", recipe, "--split=train", f"--batch-size={batch}"]
    return {
        PREDICT: [*PROGRAM, "predict", args.model, args.photographs, *options],
        "timm inference.py": infer,
        "timm inference.py --channels-last": [*infer, "--channels-last"],
        VALIDATE: own,
        "timm validate.py": validate,
        "timm validate.py --channels-last": [*validate, "--channels-last"],
    }


def show(times: dict[str, list[float]], count: int, taken: dict[str, float]) -> None:
    """Print the table; `taken` are the looks of our own commands."""
    say("| command | looks per image | seconds | images per second | looks per second | beside ours |")
    say("|---|---:|---:|---:|---:|---:|")
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in medians.items():
        looks, ours = taken.get(name, 1.0), VALIDATE if "validate" in name else PREDICT
        ratio = (looks / seconds) / (taken[ours] / medians[ours])
        cells = f"{looks:.2f} | {seconds:.1f} | {count / seconds:.1f} | {looks * count / seconds:.1f}"
        say(f"| {name} | {cells} | {ratio:.2f} |")


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
    work = Path(tempfile.mkdtemp())
    sides = commands(args, work)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(args.repeats):
        (work / "answers.jsonl").unlink(missing_ok=True)
        for name, words in sides.items():
            path = str(args.timm) if "timm" in name else None
            times[name].append(run(words, args.threads, path))
    rows = [json.loads(line) for line in (work / "answers.jsonl").read_text().splitlines()]
    looks = statistics.mean(row["steps"] for row in rows)
    versions = f"torch {torch.__version__}, timm {timm.__version__}, dtram_hub {dtram_hub.__version__}"
    say(f"{platform.machine()}, {args.threads} threads, python {platform.python_version()}, {versions}")
    say(f"{len(rows)} photographs, {args.model}, batches of {args.batch_size}, {args.repeats} repeats")
    say("")
    show(times, len(rows), {PREDICT: looks, VALIDATE: 3.0})


if __name__ == "__main__":
    main()
