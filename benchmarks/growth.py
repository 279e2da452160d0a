"""What looking costs as the image grows: time and memory of three looks and of a training step.

    python benchmarks/growth.py --picture docs/images/growth.png

Images are square or 1:8, of stored pixels, from 256 to 16,384 pixels on the longer side. "Regions" opens
each image once, as a pyramid, and reads from it what the views need. "Floats" turns the whole image into
normalised floats first, which is what a loader of timm gives. All take turns with an image of 512 pixels, to
which ratios refer. Decoding of a JPEG and making of levels have columns of their own. Memory is the rise of
the resident memory over the highest one before. Weights are random: they do not change the time.
"""

import argparse
import io
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

import dtram_hub
from dtram_hub.data.canvas import open_photograph
from dtram_hub.images.pyramid import Pyramid
from dtram_hub.images.views import Normalise
from dtram_hub.learning.losses import LossConfig
from dtram_hub.learning.task import Task
from timing import positive

SIDES = (256, 512, 1024, 2048, 4096, 8192, 16384)
ASPECTS = {"square": 1, "1:8": 8}
MOST_FLOATS = 8192  # the side of the largest image that is turned into floats
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="dtram_mobilenetv2_100")
    parser.add_argument("--context", default="resize")
    parser.add_argument("--sides", type=positive, nargs="+", default=SIDES)
    parser.add_argument("--repeats", type=positive, default=15)
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--picture", type=Path, help="file for a plot of the ratios")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    views = {"context": args.context, "context_size": 224, "glimpse_crop": 224, "image_size": "native"}
    model = timm.create_model(args.model, num_classes=10, num_steps=3, **views)
    print(f"{args.model}, three looks of 224 pixels, batch 1; {args.threads} threads, {platform.machine()},")
    print(f"dtram-hub {dtram_hub.__version__}, torch {torch.__version__}, seed 0, medians of {args.repeats}")
    print(
        "\n| image | decode (s) | levels (s) | looks (ms) | ratio | memory (MB) | training step (ms) | ratio "
        "| memory (MB) | floats: looks (ms) | ratio | memory (MB) |\n|---|" + "---:|" * 11
    )
    lines = {}
    for name, aspect in ASPECTS.items():
        smallest = make(512, aspect)
        lines[name] = [measure(model, side, aspect, smallest, args.repeats) for side in args.sides]
    if args.picture:
        plot(args.picture, lines)


def make(side: int, aspect: int) -> np.ndarray:
    """A picture of blocks, which compresses like a photograph."""
    rng = np.random.default_rng(side)
    small = rng.integers(0, 256, (max(1, side // aspect // 16), side // 16, 3), np.uint8)
    return small.repeat(16, 0).repeat(16, 1)[: side // aspect]


def measure(model: dtram_hub.DTRAM, side: int, aspect: int, smallest: np.ndarray, repeats: int) -> dict:
    """Print and return the row of one image."""
    pixels = make(side, aspect)
    decode, levels, image = opening(pixels)
    task, normalise = Task(model, LossConfig()), Normalise(model.pretrained_cfg)
    reference, label = Pyramid([smallest]), torch.zeros(2, dtype=torch.int64)

    def look(images: list) -> Callable[[], None]:
        def run() -> None:
            model.eval().predict(images, stop_threshold=1.0)

        return run

    def learn(images: list) -> Callable[[], None]:
        def run() -> None:
            task.train()(images, label).total.backward()
            model.zero_grad()

        return run

    def look_at_floats() -> None:
        floats = normalise(torch.from_numpy(pixels).permute(2, 0, 1)[None])
        model.eval().predict(floats, stop_threshold=1.0)

    row = {"side": side, "aspect": aspect, "decode": decode, "levels": levels}
    row["looks"], row["looks ratio"], row["looks memory"] = against(look([image]), look([reference]), repeats)
    few = max(3, repeats // 3)
    row["step"], row["step ratio"], row["step memory"] = against(
        learn([image] * 2), learn([reference] * 2), few
    )
    if side <= MOST_FLOATS:
        found = against(look_at_floats, look([reference]), few)
        row["floats"], row["floats ratio"], row["floats memory"] = found
    cells = [f"{side} x {side // aspect}", *(f"{row[name]:.2f}" for name in ("decode", "levels"))]
    for kind in ("looks", "step", "floats"):
        if kind in row:
            cells += [f"{1e3 * row[kind]:.0f}", f"{row[f'{kind} ratio']:.2f}", f"{row[f'{kind} memory']:.0f}"]
        else:
            cells += [""] * 3
    print(f"| {' | '.join(cells)} |", flush=True)
    return row


def opening(pixels: np.ndarray) -> tuple[float, float, Pyramid]:
    """Seconds to decode a JPEG and to make levels, and the image."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    start = time.perf_counter()
    decoded = np.asarray(open_photograph(file.getvalue(), 3, most_pixels=2**30))
    between = time.perf_counter()
    image = Pyramid([decoded])
    return between - start, time.perf_counter() - between, image


def against(
    ours: Callable[[], None], reference: Callable[[], None], repeats: int
) -> tuple[float, float, float]:
    """Median seconds of `ours`, the median ratio to `reference` in turns, and the peak memory in MB."""
    times, ratios = [], []
    for turn in range(repeats + 1):
        seconds = []
        for run in (ours, reference) if turn % 2 else (reference, ours):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        own, other = seconds if turn % 2 else seconds[::-1]
        if turn:
            times.append(own)
            ratios.append(own / other)
    return statistics.median(times), statistics.median(ratios), peak_memory(ours)


def peak_memory(run: Callable[[], None]) -> float:
    """How far the resident memory rises while `run` runs, in MB; NaN where the system does not tell."""
    if not RESET.exists():
        return float("nan")
    RESET.write_text("5")
    before = resident("VmRSS")
    run()
    return (resident("VmHWM") - before) / 1e3


def resident(key: str) -> int:
    """A line of the status of this process, in kB."""
    return int(next(line.split()[1] for line in STATUS.read_text().splitlines() if line.startswith(key)))


def plot(path: Path, lines: dict[str, list[dict]]) -> None:
    """Draw time against the side of the image, for regions and floats."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    for axes, (kind, title) in zip(
        figure.subplots(1, 2, sharey=True), (("looks", "three looks"), ("step", "training step")), strict=True
    ):
        for name, rows in lines.items():
            axes.plot(
                [row["side"] for row in rows],
                [row[f"{kind} ratio"] for row in rows],
                "o-",
                label=f"{name}, regions",
            )
            some = [row for row in rows if kind == "looks" and "floats" in row]
            if some:
                ratios = [row["floats ratio"] for row in some]
                axes.plot([row["side"] for row in some], ratios, "s--", label=f"{name}, floats")
        axes.set(xscale="log", yscale="log", title=title, xlabel="longer side of the image (pixels)")
        axes.axhspan(0.9, 1.1, color="grey", alpha=0.2)
        axes.legend(fontsize=7)
    figure.axes[0].set_ylabel("time, relative to 512 pixels")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
