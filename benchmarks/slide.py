"""A picture that does not fit into the memory: a BigTIFF of 32,768 x 32,768 pixels, answered by region.

    python benchmarks/slide.py --file slide.tif --picture slide.png

The file is generated if it is not there, by a process of its own. One process answers it and a JPEG of one
megapixel, in turns, after the model is loaded. Times include opening the files. Weights are random: they do
not change the time.
"""

import argparse
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

import dtram_hub
from dtram_hub.images.pyramid import halve
from dtram_hub.inference.answers import draw
from dtram_hub.inference.prepare import Preparation
from dtram_hub.inference.stream import stream
from timing import positive

TILE = 512
IO, STATUS = Path("/proc/self/io"), Path("/proc/self/status")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--file", type=Path, default=Path("slide.tif"))
    parser.add_argument("--side", type=positive, default=32768)
    parser.add_argument("--model", default="dtram_mobilenetv2_100")
    parser.add_argument("--repeats", type=positive, default=9)
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--picture", type=Path, help="file for a picture of the glimpses")
    args = parser.parse_args()
    if not args.file.is_file():
        process = multiprocessing.get_context("spawn").Process(target=generate, args=(args.file, args.side))
        process.start()
        process.join()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    views = {"context": "fit", "context_size": 224, "glimpse_crop": 224, "image_size": "native"}
    parts = {"locator": "attend", "aggregate": "evidence"}
    model = timm.create_model(args.model, num_classes=10, num_steps=3, dynamic=False, **views, **parts).eval()
    preparation = Preparation(model)
    print(f"{args.model}, three looks of 224 pixels; {args.threads} threads, {platform.machine()},")
    print(f"dtram-hub {dtram_hub.__version__}, torch {torch.__version__}, seed 0, medians of {args.repeats}")
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.jpg"
        Image.fromarray(blocks(0, 0, 1024, 1024)).save(small, quality=90)
        times: dict[Path, list[float]] = {small: [], args.file: []}
        for turn in range(args.repeats + 1):
            for path in (small, args.file):
                read, start = bytes_read(), time.perf_counter()
                (answer,) = stream(model, [path], workers=1, prepare=preparation)
                seconds = time.perf_counter() - start
                if turn:
                    times[path].append(seconds)
                else:
                    print(f"first answer to {path.name}: {1e3 * seconds:.0f} ms")
                if turn == args.repeats:
                    print(f"{path.name}: {bytes_read() - read:,} bytes read, of {path.stat().st_size:,}")
    medians = {path: statistics.median(found) for path, found in times.items()}
    for path, seconds in medians.items():
        print(f"{path.name}: {1e3 * seconds:.0f} ms, ratio {seconds / medians[small]:.2f}")
    print(f"peak resident memory {resident('VmHWM') / 1e6:.2f} GB, after loading the model and torch")
    if args.picture:
        draw(args.picture, answer, preparation, args.file.name)


def blocks(top: int, left: int, height: int, width: int, step: int = 1) -> np.ndarray:
    """Every `step`-th pixel of an endless picture of blocks of 16 pixels, whose colours change slowly."""
    y, x = ((start + np.arange(count)) * step // 16 for start, count in ((top, height), (left, width)))
    waves = [np.sin(y[:, None] / (40 + 9 * k)) * np.cos(x / (50 - 7 * k)) for k in range(3)]
    noise = (y[:, None] * 7919 + x * 104729) % 61
    return np.stack([127 + 90 * wave + noise for wave in waves], -1).clip(0, 255).astype(np.uint8)


def generate(path: Path, side: int) -> None:
    """Write a pyramid of tiles, row of tiles by row of tiles."""
    import tifffile

    levels = [side >> level for level in range(8) if side >> level >= TILE]
    words = {"tile": (TILE, TILE), "photometric": "rgb", "compression": "jpeg", "dtype": np.uint8}
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for number, own in enumerate(levels):
            kind = {"subfiletype": 1} if number else {"subifds": len(levels) - 1}
            file.write(tiles(own, number), shape=(own, own, 3), **words, **kind)


def tiles(side: int, level: int) -> Iterator[np.ndarray]:
    """The tiles of one level, each the mean over areas of the endless picture."""
    step = 16 if level >= 4 else 1  # blocks of 16 pixels are uniform: one pixel is as good as their mean
    scale = 2**level // step
    for top in range(0, side, TILE):
        for left in range(0, side, TILE):
            area = blocks(top * scale, left * scale, TILE * scale, TILE * scale, step)
            while len(area) > TILE:
                area = halve(area)
            yield np.ascontiguousarray(area)


def bytes_read() -> int:
    """The bytes that this process has read from files; 0 where the system does not tell."""
    lines = IO.read_text().splitlines() if IO.exists() else ["rchar: 0"]
    return int(lines[0].split()[1])


def resident(key: str) -> int:
    """A line of the status of this process, in kB."""
    return int(next(line.split()[1] for line in STATUS.read_text().splitlines() if line.startswith(key)))


if __name__ == "__main__":
    main()
