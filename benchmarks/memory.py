"""Memory against the number of steps T: of prediction, and of a training step with and without checkpointing.

    python benchmarks/memory.py

One process per line predicts the same images with no early stop, or takes two training steps, and reports its
peak memory. The memory of the libraries, before any model is built, is given apart.
"""

import argparse
import platform
import resource
import subprocess
import sys
from functools import partial

import timm
import torch

import dtram_hub
from dtram_hub.learning.curriculum import Stage, enter_stage
from dtram_hub.learning.losses import LossConfig
from dtram_hub.learning.task import Task


def predict(model_name: str, num_steps: int, batch: int) -> None:
    model = timm.create_model(model_name, num_steps=num_steps).eval()
    images = torch.randn(batch, 3, model.image_size, model.image_size)
    steps = model.predict(images, stop_threshold=1.0).steps
    assert steps.eq(num_steps).all()


def train(model_name: str, num_steps: int, batch: int, checkpointing: bool) -> None:
    model = timm.create_model(model_name, num_steps=num_steps, num_classes=10)
    enter_stage(model, Stage(kind="ram" if num_steps > 1 else "encoder", num_steps=num_steps))
    model.set_grad_checkpointing(checkpointing)
    task = Task(model, LossConfig(), num_rollouts=2).train()
    images = torch.randint(0, 256, (batch, 3, model.image_size, model.image_size), dtype=torch.uint8)
    for _ in range(2):
        task(images, torch.zeros(batch, dtype=torch.int64)).total.backward()


MEASURES = {
    "prediction": predict,
    "training": partial(train, checkpointing=False),
    "training, checkpointing": partial(train, checkpointing=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="dtram_resnet18")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 3, 6, 30])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--what", nargs="+", default=list(MEASURES), choices=list(MEASURES))
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        torch.manual_seed(0)
        torch.set_num_threads(2)
        MEASURES[args.what[0]](args.model, args.measure, args.batch)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    empty = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{platform.machine()}, torch {torch.__version__}, dtram_hub {dtram_hub.__version__}, "
        f"{args.model}, batch {args.batch}, M = 2; libraries alone {empty:.0f} MiB\n"
    )
    print("| | " + " | ".join(f"T = {steps}" for steps in args.steps) + " |")
    print("|---|" + "---:|" * len(args.steps))
    for what in args.what:
        cells = []
        for steps in args.steps:
            words = [
                "--model",
                args.model,
                "--batch",
                str(args.batch),
                "--what",
                what,
                "--measure",
                str(steps),
            ]
            done = subprocess.run(
                [sys.executable, __file__, *words], check=True, capture_output=True, text=True
            )
            cells.append(f"{int(done.stdout) / 1024:.0f}")
        print(f"| {what}, MiB | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
