"""Growth against the number of steps T, the batch and the number of classes, as times and as a picture.

    python benchmarks/scaling.py --save docs/images/scaling.png

Predictions take all T steps. Each series runs in turns, medians are compared, and its first point is 1.
Weights are random: they do not change the time.
"""

import argparse
import platform
from pathlib import Path

import timm
import torch

import dtram_hub
from dtram_hub import DTRAM
from timing import alternate, positive

STEPS = [1, 2, 3, 5, 10, 20, 30]
BATCHES = [1, 2, 4, 8, 16, 32]
CLASSES = [10, 100, 1000, 5000, 20000]


def build(name: str, **words) -> DTRAM:
    return timm.create_model(name, **{"num_classes": 10} | words).eval()


def times_of(models: dict[int, DTRAM], batches: dict[int, int], repeats: int) -> dict[int, float]:
    """Seconds of a prediction with all steps, by the number that grows."""

    def predict(model: DTRAM, batch: int) -> None:
        side = model.usual_side
        model.predict(torch.zeros(batch, 3, side, side, dtype=torch.uint8), stop_threshold=1.0)

    sides = {
        number: lambda model=model, batch=batches[number]: predict(model, batch)
        for number, model in models.items()
    }
    return alternate(sides, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="dtram_mobilenetv2_100")
    parser.add_argument("--repeats", type=positive, default=5)
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--save", type=Path, help="file of the picture")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    print(
        f"{platform.machine()}, {args.threads} threads, {args.model}, python {platform.python_version()}, "
        f"torch {torch.__version__}, timm {timm.__version__}, dtram_hub {dtram_hub.__version__}, seed 0\n"
    )
    shape = {"context": "resize", "context_size": 160, "image_size": 320, "glimpse_crop": 160}
    one = build(args.model, **shape)
    found = {
        "steps T": times_of(
            {steps: build(args.model, num_steps=steps, **shape) for steps in STEPS},
            dict.fromkeys(STEPS, 2),
            args.repeats,
        ),
        "batch": times_of(dict.fromkeys(BATCHES, one), {batch: batch for batch in BATCHES}, args.repeats),
        "classes": times_of(
            {count: build(args.model, num_classes=count, **shape) for count in CLASSES},
            dict.fromkeys(CLASSES, 2),
            args.repeats,
        ),
    }
    for title, times in found.items():
        first, base = next(iter(times.items()))
        print(f"| {title} | seconds | beside {first} | per unit, beside {first} |\n|---:|---:|---:|---:|")
        for number, seconds in times.items():
            print(
                f"| {number} | {seconds:.3f} | {seconds / base:.2f} | {seconds / base * first / number:.2f} |"
            )
        print(flush=True)
    if args.save:
        draw(found, args.save)


def draw(found: dict[str, dict[int, float]], target: Path) -> None:
    """Write the picture: one panel for each series."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(found), figsize=(11, 3.2))
    for panel, (title, times) in zip(panels, found.items(), strict=True):
        numbers, seconds = list(times), list(times.values())
        panel.plot(numbers, [value / seconds[0] for value in seconds], "o-")
        if title != "classes":
            panel.plot(
                numbers, [number / numbers[0] for number in numbers], ":", color="grey", label="proportional"
            )
            panel.legend(frameon=False)
        else:
            panel.set_xscale("log")
            panel.set_ylim(0, 1.1 * max(seconds) / seconds[0])
        panel.set_xlabel(title)
        panel.set_ylabel(f"time, beside {title} = {numbers[0]}")
    figure.tight_layout()
    figure.savefig(target, dpi=100)


if __name__ == "__main__":
    main()
