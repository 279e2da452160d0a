"""Cost and worth of looks: accuracy, GFLOPs and images per second, side by side in one run.

    python benchmarks/looks.py runs/cub/dtram-0 [runs/cub/encoder_longer-0 ...] data.root=CUB_200_2011

Of every run it takes the encoder alone, at the context size and at other sizes. Where the run has them, the
last RAM and the DT-RAM take part. All answer the test images of the run's recipe and take turns; medians are
compared. GFLOPs are those of the mean steps; a multiplication with its addition counts as two.
"""

import argparse
import platform
from pathlib import Path

import timm
import torch
from accelerate import Accelerator

import dtram_hub
from dtram_hub.data.splits import Split
from dtram_hub.learning.curriculum import enter_stage, plan_stages
from dtram_hub.learning.evaluation import Evaluator
from dtram_hub.learning.recipe import Recipe, load_data, read_recipe
from dtram_hub.models import checkpoint
from dtram_hub.models.dtram import DTRAM
from dtram_hub.models.flops import count_compute
from timing import alternate, positive


def build(run: Path, recipe: Recipe, classes: int, stage, stop_threshold: float) -> DTRAM:
    """The model of one stage of a run, with the weights that the stage kept."""
    arguments = recipe.model | {"num_classes": classes, "stop_threshold": stop_threshold}
    model = timm.create_model(recipe.architecture, **arguments)
    enter_stage(model, stage)
    checkpoint.load_weights(model, run / "stages" / f"{stage.name}.safetensors")
    return model.eval().to(
        memory_format=torch.channels_last if recipe.channels_last else torch.contiguous_format
    )


def contenders(run: Path, recipe: Recipe, classes: int, sizes: list[int]) -> dict[str, DTRAM]:
    """The models of a run by what they are called."""
    stages = plan_stages(recipe.model["num_steps"], recipe.stages, curriculum=recipe.curriculum)
    threshold = checkpoint.load(run).stop_threshold
    found = {}
    for size in dict.fromkeys([recipe.model["context_size"], *sizes]):
        model = build(run, recipe, classes, stages[0], threshold)
        model.context_size = size
        found[f"encoder at {size} pixels"] = model
    fixed = [stage for stage in stages[1:] if not stage.dynamic]
    for stage in [*fixed[-1:], *(stage for stage in stages if stage.dynamic)]:
        found[stage.title] = build(run, recipe, classes, stage, threshold)
    return {f"{run}: {title}": model for title, model in found.items()}  # names of folders may be equal


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="run | key=value", help="folders of finished runs")
    parser.add_argument("--sizes", type=int, nargs="+", default=[320, 448], help="of the encoder alone")
    parser.add_argument("--images", type=int, default=200, help="for timing")
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=positive, default=2)
    args = parser.parse_intermixed_args()
    torch.set_num_threads(args.threads)
    runs = [Path(word) for word in args.runs if "=" not in word]
    overrides = [word for word in args.runs if "=" in word]
    recipes = {run: read_recipe(run / "recipe.yaml", overrides) for run in runs}
    recipe = recipes[runs[0]]
    data = load_data(recipe)
    test = data.splits["test"]
    accelerator = Accelerator(mixed_precision=recipe.precision)
    models = {}
    for run, own in recipes.items():
        models |= contenders(run, own, len(data.class_names), args.sizes)
    some = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[: args.images].sort().values
    shown = Split(test.at(some), test.labels[some])
    print(
        f"{platform.machine()}, {args.threads} threads, {recipe.precision}, batches of {args.batch}, python "
        f"{platform.python_version()}, torch {torch.__version__}, timm {timm.__version__}, "
        f"dtram_hub {dtram_hub.__version__}; {len(test)} test images, {len(shown)} of them timed",
        flush=True,
    )

    def answer(model: DTRAM, split: Split):
        return Evaluator(model.to(accelerator.device), accelerator, args.batch).predict(split)

    times = alternate(
        {name: lambda model=model: answer(model, shown) for name, model in models.items()}, args.repeats
    )
    reference = min(times.values())
    print("| model | mean steps | accuracy (%) | GFLOPs per image | images per second | time |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, model in models.items():
        scores = answer(model, test).scores()
        gflops = count_compute(model).at(scores["mean_steps"])
        print(
            f"| {name} | {scores['mean_steps']:.2f} | {100 * scores['accuracy']:.2f} | {gflops:.2f} | "
            f"{len(shown) / times[name]:.0f} | {times[name] / reference:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
