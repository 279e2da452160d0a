"""Inference memory does not grow with the number of steps T.

    python benchmarks/memory.py

One process per T predicts the same images with no early stop, and reports its peak memory.
"""

import argparse
import platform
import resource
import subprocess
import sys

import timm
import torch

import dtram_hub


def measure(model_name: str, num_steps: int, batch: int) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(2)
    model = timm.create_model(model_name, num_steps=num_steps).eval()
    images = torch.randn(batch, 3, model.image_size, model.image_size)
    steps = model.predict(images, stop_threshold=1.0).steps
    assert steps.eq(num_steps).all()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="dtram_resnet18")
    parser.add_argument("--steps", type=int, nargs="+", default=[3, 30])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.model, args.measure, args.batch)
        return
    print(
        f"{platform.machine()}, torch {torch.__version__}, dtram_hub {dtram_hub.__version__}, "
        f"{args.model}, batch {args.batch}"
    )
    for num_steps in args.steps:
        command = [sys.executable, __file__, "--model", args.model, "--batch", str(args.batch)]
        out = subprocess.run(
            [*command, "--measure", str(num_steps)], check=True, capture_output=True, text=True
        )
        print(f"T = {num_steps:3}: peak resident memory {int(out.stdout) / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
