"""The cost of a DT-RAM on top of its encoder: wall time over that of the bare timm encoder on the same views.

    python benchmarks/overhead.py

Prediction with fixed stops (1.9 steps on average, T = 3) and a training step run against the bare encoder, on
the same views in the same sub-batches. Images are given as normalised floats, as uint8 pixels, and as
photographs of different sizes of some 0.8 megapixels, of which regions are read. Both sides take turns in one
run; medians are compared. Weights are random: they do not change the time.
"""

import argparse
import platform
import statistics

import timm
import torch
from torch import Tensor

import dtram_hub
from dtram_hub import DTRAM, Prediction
from dtram_hub.learning.curriculum import Stage, enter_stage
from dtram_hub.learning.losses import LossConfig
from dtram_hub.learning.task import Task
from dtram_hub.models.input import Given
from dtram_hub.models.records import State
from timing import alternate, positive

GIVEN = {
    "floats": lambda model, batch: torch.randn(batch, 3, model.image_size, model.image_size),
    "uint8": lambda model, batch: pixels(batch, model.image_size, model.image_size),
    "regions": lambda model, batch: [
        pixels(1, 700 + 8 * i, 1100 - 8 * i)[0].permute(1, 2, 0).numpy() for i in range(batch)
    ],
}
STOPS = {1: [1, 1, 1, 1, 2, 2, 2, 3, 3, 3], 8: [1, 1, 1, 2, 2, 2, 3, 3]}


def pixels(batch: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)


def predict_with_stops(model: DTRAM, images: Given, steps: Tensor) -> Prediction:
    """`model.predict`, the stop head at work, but image i stops after steps[i]."""

    def stop_logit(state: State, logits: Tensor) -> Tensor:
        looking = steps[steps >= state.looks]
        wanted = torch.where(looking == state.looks, 10.0, -10.0)
        return DTRAM.stop_logit(model, state, logits) * 0 + wanted

    model.stop_logit = stop_logit
    return model.predict(images)


def views_of(model: DTRAM, images: Given, found: Prediction) -> list[Tensor]:
    """The views that this prediction encoded, one sub-batch per step."""
    images = model.open(images)
    views = [model.view(images, None)]
    for t in range(1, int(found.steps.max())):
        looking = (found.steps > t).nonzero().flatten()
        views.append(model.view(images, found.locations[looking, t], looking))
    return views


def report(name: str, ours: float, bare: float) -> None:
    print(
        f"{name:42} {1e3 * ours:9.1f} ms  bare encoder {1e3 * bare:9.1f} ms  ratio {ours / bare:.3f}",
        flush=True,
    )


def measure_prediction(name: str, given: str, batch: int, repeats: int) -> None:
    """Print what a prediction costs whose steps follow `STOPS`."""
    pattern = STOPS[batch]
    model = timm.create_model(name).eval()
    torch.nn.init.normal_(model.locator.linear.weight, std=0.02)
    groups = [torch.tensor([step]) for step in pattern] if batch == 1 else [torch.tensor(pattern)]
    cases = []
    for steps in groups:
        images = GIVEN[given](model, batch)
        found = predict_with_stops(model, images, steps)
        assert torch.equal(found.steps, steps)
        cases.append((images, steps, views_of(model, images, found)))

    def ours() -> None:
        for images, steps, _ in cases:
            predict_with_stops(model, images, steps)

    @torch.no_grad()
    def bare() -> None:
        for _, _, views in cases:
            for view in views:
                model.encoder(view)

    title = f"predict, {given}, batch {batch}, {statistics.mean(pattern):.2f} steps"
    report(title, **alternate({"ours": ours, "bare": bare}, repeats))


def measure_training(name: str, given: str, batch: int, repeats: int) -> None:
    """Print what a training step of the stage "dtram" costs."""
    model = timm.create_model(name, num_classes=200)
    enter_stage(model, Stage(kind="dtram", num_steps=model.num_steps))
    task = Task(model, LossConfig()).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    images, labels = GIVEN[given](model, batch), torch.randint(0, 200, (batch,))
    views = [model.view(model.open(images), None).contiguous()]
    views += [torch.randn(batch, 3, model.glimpse_size, model.glimpse_size)] * (model.num_steps - 1)

    def learn(loss: Tensor) -> None:
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def ours() -> None:
        learn(task(images, labels).total)

    def bare() -> None:
        learn(sum(model.encoder(view).mean() for view in views))

    report(f"training step, {given}, batch {batch}", **alternate({"ours": ours, "bare": bare}, repeats))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="dtram_resnet50")
    parser.add_argument("--repeats", type=int, default=15, help="timed runs of a prediction, each side")
    parser.add_argument("--train-repeats", type=int, default=7, help="timed training steps, each side")
    parser.add_argument("--images", nargs="+", default=list(GIVEN), choices=list(GIVEN))
    parser.add_argument("--batches", type=int, nargs="+", default=list(STOPS), choices=list(STOPS))
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    print(
        f"{platform.machine()}, {args.threads} threads, python {platform.python_version()}, torch "
        f"{torch.__version__}, timm {timm.__version__}, dtram_hub {dtram_hub.__version__}, seed {args.seed}"
    )
    for given in args.images:
        for batch in args.batches:
            measure_prediction(args.model, given, batch, args.repeats)
        for batch in args.batches:
            measure_training(args.model, given, batch, args.train_repeats)


if __name__ == "__main__":
    main()
