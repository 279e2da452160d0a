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
"""

import argparse
import platform
import statistics

import timm
import torch
from torch import Tensor

import dtram_hub
from dtram_hub import DTRAM
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


def sides(model: DTRAM, images: Tensor, batch: int, rivals: bool, counts: dict) -> dict:
    """What is timed, by name. `counts` gets the looks of predict and of stream."""
    first = torch.randn(batch, 3, model.context_size, model.context_size)
    later = torch.randn(batch, 3, model.glimpse_size, model.glimpse_size)
    first, later = (view.contiguous(memory_format=torch.channels_last) for view in (first, later))
    first, later = first.to(images.device), later.to(images.device)

    def encode(view: Tensor, times: int) -> None:
        whole, rest = divmod(times, batch)
        for part in [view] * whole + (
            [view[:rest].contiguous(memory_format=torch.channels_last)] if rest else []
        ):
            model.encoder(part)

    def predict() -> None:
        found = [model.predict(part) for part in images.split(batch)]
        counts["predict"] = sum(int(prediction.steps.sum()) for prediction in found)
        counts["parts"] = [
            [int((prediction.steps > step).sum()) for step in range(3)] for prediction in found
        ]

    def streamed() -> None:
        outcomes = stream(model, images, batch_size=batch, in_order=False)
        counts["stream"] = sum(int(outcome.found.steps) for outcome in outcomes)

    @torch.no_grad()
    def ideal() -> None:
        encode(first, len(images))
        encode(later, counts["stream"] - len(images))

    @torch.no_grad()
    def sub_batches() -> None:
        for part in counts["parts"]:
            for step, count in enumerate(part):
                if count:
                    encode(later[:count] if step else first[:count], count)

    @torch.no_grad()
    def masked() -> None:
        for part in images.split(batch):
            model.rollout(part)

    def whole_batch() -> None:
        for part, counted in zip(images.split(batch), counts["parts"], strict=True):
            model.predict(part, stop_threshold=1.0, max_steps=sum(count > 0 for count in counted))

    def one_by_one() -> None:
        for image in images:
            model.predict(image[None])

    def ram() -> None:
        for part in images.split(batch):
            model.predict(part, stop_threshold=1.0)

    predict()
    streamed()
    found = {"ideal": ideal, "sub-batches": sub_batches, "predict": predict, "stream": streamed}
    if rivals:
        found |= {"masked": masked, "whole batch": whole_batch, "one by one": one_by_one, "RAM-3": ram}
    return found


def measure(name: str, batch: int, args: argparse.Namespace) -> None:
    """Print a row of the table."""
    model = timm.create_model(name, num_classes=200, **MODELS[name]).eval().to(args.device)
    torch.nn.init.normal_(model.locator.linear.weight, std=0.02)
    Pattern(model)
    count = max(batch, args.images // batch * batch)
    images = torch.randint(0, 256, (count, 3, model.image_size, model.image_size), dtype=torch.uint8)
    counts: dict = {}
    chosen = sides(model, images.to(args.device), batch, args.rivals, counts)
    times = alternate(chosen, args.repeats)
    scale = {"predict": counts["predict"], "stream": counts["stream"], "ideal": counts["stream"]}
    per_look = times["ideal"] / counts["stream"]
    ratios = {
        "predict / sub-batches": times["predict"] / times["sub-batches"],
        "predict / ideal": times["predict"] / scale["predict"] / per_look,
        "stream / ideal": times["stream"] / times["ideal"],
    }
    ratios |= {f"{rival} / stream": times[rival] / times["stream"] for rival in times if rival not in
               ("ideal", "sub-batches", "predict", "stream")}  # fmt: skip
    cells = " | ".join(f"{value:.2f}" for value in ratios.values())
    looks = counts["stream"] / count
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
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.header = True
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    print(
        f"{platform.machine()}, {args.device}, {args.threads} threads, python {platform.python_version()}, "
        f"torch {torch.__version__}, timm {timm.__version__}, dtram_hub {dtram_hub.__version__}, "
        f"seed {args.seed}, {statistics.mean(PATTERN):.3f} looks wanted, {args.repeats} repeats\n"
    )
    for name in args.models:
        for batch in args.batches:
            measure(name, batch, args)


if __name__ == "__main__":
    main()
