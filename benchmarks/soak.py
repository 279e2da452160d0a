"""A stream of 10,000 images of mixed kinds, 1 % of them broken: nothing lost, nothing twice, memory flat.

    python benchmarks/soak.py

Photographs in memory, files, and rows with bytes take turns. One consumer takes all images and sleeps now
and then, one leaves after 100 images. Steps are compared with those of `predict` on the same images.
"""

import argparse
import io
import platform
import resource
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import timm
import torch
from PIL import Image

import dtram_hub
from dtram_hub import DTRAM
from dtram_hub.inference.prepare import Preparation
from dtram_hub.inference.stream import stream
from timing import positive


class Mixed:
    """A sequence of images that are made when they are read; every hundredth is broken."""

    def __init__(self, count: int, folder: Path):
        self.count, self.path = count, folder / "image.png"
        self._photograph(0).save(self.path)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> object:
        if number >= self.count:
            raise IndexError(number)
        if number % 100 == 37:
            return [b"no image", self.path.with_name("none.png"), {"bytes": None, "path": None}][
                number // 100 % 3
            ]
        image = self._photograph(number)
        if number % 4 == 0:
            return image
        if number % 4 == 1:
            return self.path
        content = io.BytesIO()
        image.save(content, "JPEG")
        return content.getvalue() if number % 4 == 2 else {"bytes": content.getvalue(), "path": None}

    def _photograph(self, number: int) -> Image.Image:
        generator = np.random.default_rng(number)
        small = generator.integers(0, 256, (6, 8, 3), np.uint8)
        return Image.fromarray(small).resize((160 + number % 50, 120), Image.Resampling.BICUBIC)


def build() -> DTRAM:
    """A small model of random weights whose stops vary."""
    shape = {"image_size": 96, "context": "resize", "context_size": 48, "glimpse_crop": 32}
    model = timm.create_model("dtram_test_efficientnet", num_classes=10, hidden_size=64, **shape).eval()
    for module in (model.stopper.net[-1], model.locator.linear, model.head):
        torch.nn.init.normal_(module.weight)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=positive, default=10_000)
    parser.add_argument("--threads", type=positive, default=2)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    print(
        f"{platform.machine()}, {args.threads} threads, python {platform.python_version()}, "
        f"torch {torch.__version__}, timm {timm.__version__}, dtram_hub {dtram_hub.__version__}, seed 0"
    )
    images, model = Mixed(args.images, Path(tempfile.mkdtemp())), build()
    some = torch.stack([Preparation(model)(images[i]).image for i in range(200) if i % 100 != 37])
    model.stop_threshold = model.predict(some).stop_probs[:, 0].median().item()
    before, process = threading.active_count(), psutil.Process()
    memory, seen, close, odd = [], set(), 0, 0
    start = time.perf_counter()
    for outcome in stream(model, images, batch_size=32):
        assert outcome.number == len(seen)
        seen.add(outcome.number)
        assert bool(outcome.error) == (outcome.number % 100 == 37)
        if outcome.number % 1000 == 999:
            memory.append(process.memory_info().rss / 2**20)
        if outcome.number % 2500 == 0:
            time.sleep(2)
        if outcome.number % 10 == 0 and not outcome.error:
            alone = model.predict(outcome.image[None])
            near = (alone.stop_probs - model.stop_threshold).abs().nan_to_num(1).min() < 1e-4
            close += bool(near)
            odd += int(alone.steps) != int(outcome.found.steps) and not near
    seconds = time.perf_counter() - start
    print(
        f"{len(seen)} outcomes of {args.images}, each once, in {seconds:.0f} s; {args.images // 100} errors"
    )
    print("resident memory after every 1,000 images, MiB:", " ".join(f"{value:.0f}" for value in memory))
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    print(f"steps unlike those of predict: {odd}; within 1e-4 of the threshold: {close}")
    leaver = stream(model, images, batch_size=32)
    assert [next(leaver).number for _ in range(100)] == list(range(100))
    leaver.close()
    print(f"threads before {before}, after a consumer that left {threading.active_count()}")


if __name__ == "__main__":
    main()
