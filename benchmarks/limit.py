"""The limit: prediction against the bare encoder on the same views in full batches, and against rivals.

    python benchmarks/limit.py

Images take 1.9 of 3 looks on average, by a fixed pattern of stops. All sides take turns in one run, and
medians are compared. Weights are random: they do not change the time.

ideal         the bare encoder on as many first and later views, all in full batches
sub-batches   the bare encoder on the very views of `predict`, in its own shrinking batches
predict       `model.predict`, batch by batch; stream: `dtram_hub.stream`, refilled
masked        all three looks of every image, then a choice among the answers
whole batch   all images of a batch look until the last one stops
one by one    `predict` with every image alone
RAM-3         three looks of every image
compiled      stream with compiled looks, which is timed after all others

On a GPU, give --device cuda --precision bfloat16. Without one the script runs on the CPU, and says so.
"""

import argparse
import platform
import statistics

import timm
import torch
from torch import Tensor

import dtram_hub
from dtram_hub import DTRAM
from dtram_hub.inference.compiled import compile_looks
from dtram_hub.inference.stream import stream
from dtram_hub.models.records import State
from timing import alternate, positive

MODELS = {
    "dtram_resnet50": {"image_size": 512, "context_size": 448, "glimpse_crop": 224},
    "dtram_mobilenetv2_100": {"image_size": 512, "context_size": 448, "glimpse_crop": 224},
    "dtram_tf_efficientnet_lite0": {"image_size": 512, "context_size": 448, "glimpse_crop": 224},
    "dtram_vit_tiny_patch16_224": {"context": "resize", "context_size": 224, "glimpse_crop": 224},
}
PATTERN = [1, 1, 1, 2, 2, 2, 3, 3]  # 1.875 looks on average


class Pattern:
    """A stop head at work whose result is replaced, so that image after image takes the steps of PATTERN."""

    def __init__(self, model: DTRAM):
        self.model = model
        going = {step: sum(taken > step for taken in PATTERN) for step in (1, 2)}
        self.share = {1: going[1] / len(PATTERN), 2: going[2] / going[1], 3: 0.0}
        self.left = dict.fromkeys(self.share, 0.5)
        model.stop_logit = self

    def __call__(self, state: State, logits: Tensor) -> Tensor:
        real = DTRAM.stop_logit(self.model, state, logits)
        if state.looks.ndim > 1:  # a rollout
            return real
        wanted = []
        for looks in state.looks.expand(len(state)).tolist():
            self.left[looks] += self.share[looks]
            goes_on = self.left[looks] >= 1
            self.left[looks] -= goes_on
            wanted.append(-10.0 if goes_on else 10.0)
        return real * 0 + torch.tensor(wanted, device=real.device)


class Sides:
    """What is timed: a model, its images in batches, and the bare encoder on ready-made views.

    looks: the looks of `predict` and of `stream`, by name.
    parts: the images of each look of each batch of `predict`.
    """

    def __init__(self, model: DTRAM, images: Tensor, batch: int):
        self.model, self.images, self.batch = model, images, batch
        weight = model.input_to_hidden.weight
        self.first, self.later = (
            torch.randn(batch, 3, side, side).contiguous(memory_format=torch.channels_last).to(weight)
            for side in (model.context_size, model.glimpse_size)
        )
        self.looks, self.parts = {}, []
        self.predict()
        self.stream()

    def predict(self) -> None:
        found = [self.model.predict(part) for part in self.images.split(self.batch)]
        self.looks["predict"] = sum(int(prediction.steps.sum()) for prediction in found)
        self.parts = [[int((prediction.steps > step).sum()) for step in range(3)] for prediction in found]

    def stream(self) -> None:
        outcomes = stream(self.model, self.images, batch_size=self.batch, in_order=False)
        self.looks["stream"] = sum(int(outcome.found.steps) for outcome in outcomes)

    def ideal(self) -> None:
        count, later = len(self.images), self.looks["stream"] - len(self.images)
        self._encode([(self.first, self.batch)] * (count // self.batch))
        self._encode([(self.later, self.batch)] * (later // self.batch) + [(self.later, later % self.batch)])

    def sub_batches(self) -> None:
        for counts in self.parts:
            self._encode([(self.later if step else self.first, count) for step, count in enumerate(counts)])

    def masked(self) -> None:
        with torch.no_grad():
            for part in self.images.split(self.batch):
                self.model.rollout(part).steps.cpu()

    def whole_batch(self) -> None:
        for part, counts in zip(self.images.split(self.batch), self.parts, strict=True):
            self.model.predict(part, stop_threshold=1.0, max_steps=sum(count > 0 for count in counts))

    def one_by_one(self) -> None:
        for image in self.images:
            self.model.predict(image[None])

    def ram(self) -> None:
        for part in self.images.split(self.batch):
            self.model.predict(part, stop_threshold=1.0)

    @torch.no_grad()
    def _encode(self, views: list[tuple[Tensor, int]]) -> None:
        """The bare encoder on the first rows of each batch of views."""
        for view, count in views:
            if count:
                self.model.encoder(view[:count])
        if self.images.device.type == "cuda":
            torch.cuda.synchronize()


def measure(name: str, batch: int, args: argparse.Namespace) -> None:
    """Print a row of the table."""
    model = timm.create_model(name, num_classes=200, **MODELS[name]).eval()
    model = model.to(args.device, getattr(torch, args.precision))
    torch.nn.init.normal_(model.locator.linear.weight, std=0.02)
    Pattern(model)
    count = max(batch, args.images // batch * batch)
    images = torch.randint(0, 256, (count, 3, model.image_size, model.image_size), dtype=torch.uint8)
    sides = Sides(model, images.to(args.device), batch)
    timed = {"ideal": sides.ideal, "sub": sides.sub_batches, "predict": sides.predict, "stream": sides.stream}
    rivals = {"masked": sides.masked, "whole batch": sides.whole_batch, "one by one": sides.one_by_one}
    times = alternate(timed | (rivals | {"RAM-3": sides.ram} if args.rivals else {}), args.repeats)
    if args.compile:
        compile_looks(model, batch)
        times["compiled"] = alternate({"compiled": sides.stream}, args.repeats)["compiled"]
    ratios = {
        "predict / sub-batches": times["predict"] / times["sub"],
        "predict / ideal": times["predict"] / times["ideal"] * sides.looks["stream"] / sides.looks["predict"],
        "stream / ideal": times["stream"] / times["ideal"],
    }
    ratios |= {
        f"{name} / stream": time / times["stream"] for name, time in times.items() if name not in timed
    }
    cells = " | ".join(f"{value:.2f}" for value in ratios.values())
    looks = sides.looks["stream"] / count
    if args.header:
        print("| model | batch | looks | " + " | ".join(ratios) + " | ideal, ms per image |")
        print("|---|---:|---:|" + "---:|" * (len(ratios) + 1))
        args.header = False
    print(f"| {name} | {batch} | {looks:.2f} | {cells} | {1e3 * times['ideal'] / count:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--batches", type=positive, nargs="+", default=[1, 8, 32])
    parser.add_argument("--images", type=positive, default=64)
    parser.add_argument("--repeats", type=positive, default=5)
    parser.add_argument("--rivals", action="store_true", help="also time the rivals, and RAM-3")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--compile", action="store_true", help="also time compiled looks")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.header = True
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    print(
        f"{platform.machine()}, {args.device}, {args.precision}, {args.threads} threads, "
        f"python {platform.python_version()}, torch {torch.__version__}, timm {timm.__version__}, "
        f"dtram_hub {dtram_hub.__version__}, seed {args.seed}, {statistics.mean(PATTERN):.3f} looks wanted, "
        f"{args.repeats} repeats\n"
    )
    for name in args.models:
        for batch in args.batches:
            measure(name, batch, args)


if __name__ == "__main__":
    main()
