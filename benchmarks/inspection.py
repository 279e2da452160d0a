"""Circuit boards in detail: accuracy with intervals, and looks by kind, size and layout of the defect.

    python benchmarks/inspection.py runs/inspect_deeppcb data.root=DeepPCB [data.options.control=true]

The DT-RAM of the run, its longest RAM and its first look answer the test boards of the recipe. So do the RAM
with glimpses at fixed places, and what reads glimpses on all tiles of a grid. Intervals are those of 2,000
bootstrap samples of boards, because images of one board are alike. With
`data.options.control=true` every defect is repaired and the labels stay: accuracy above chance would be a
trace of the repair.
"""

import argparse
import math
import platform
import sys
from pathlib import Path

import numpy as np
import timm
import torch
from accelerate import Accelerator

import dtram_hub
from dtram_hub.data.splits import Split
from dtram_hub.learning.curriculum import plan_stages, set_steps
from dtram_hub.learning.evaluation import Answers, Evaluator
from dtram_hub.learning.pointing import pointing
from dtram_hub.learning.recipe import load_data, read_recipe, split_words
from dtram_hub.learning.run_folder import RunFolder
from dtram_hub.models import checkpoint
from dtram_hub.prompt import ending_in_a_sentence, say
from timing import positive

SAMPLES = 2000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="+", metavar="run | key=value")
    parser.add_argument("--threads", type=positive, default=2)
    args = parser.parse_intermixed_args()
    torch.set_num_threads(args.threads)
    with ending_in_a_sentence(Path(sys.argv[0]).name):
        compare(*split_words(args.words))


def compare(run: str | None, overrides: list[str]) -> None:
    """Print all tables for one run."""
    if run is None:
        raise ValueError("no run was named; accepted is the folder of one.")
    folder = RunFolder(run)
    recipe = read_recipe(folder.recipe_path, overrides)
    if recipe.data.source != "deeppcb":
        raise ValueError(f"{run} learned from data.source={recipe.data.source!r}; accepted is 'deeppcb'.")
    data = load_data(recipe)
    test, model = data.splits["test"], checkpoint.load(run)
    evaluator = Evaluator(model, Accelerator(), 4 * recipe.batch_size)
    say(f"{run}: {len(test)} test images of {len(boards_of(test).unique())} boards, seed {recipe.seed}")
    say(f"dtram-hub {dtram_hub.__version__}, torch {torch.__version__}, timm {timm.__version__},")
    say(f"{torch.get_num_threads()} threads, {platform.machine()}")
    stages = plan_stages(recipe.model["num_steps"], recipe.stages, curriculum=recipe.curriculum)
    longest = [stage for stage in stages if not stage.dynamic][-1]
    chosen = {stages[0].title: stages[0], longest.title: longest, stages[-1].title: stages[-1]}
    found = {}
    for title, stage in chosen.items():
        set_steps(model, stage)
        checkpoint.load_weights(model, folder.stage_weights(stage.name))
        found[title] = evaluator.predict(test)
        if stage is longest:
            found |= elsewhere(evaluator, data.splits["validation"], test)
    summarise(found, test)
    reach = model.glimpse_crop / model.image_size
    explain(found[stages[-1].title], test, data.class_names, reach)


def elsewhere(evaluator: Evaluator, validation: Split, test: Split) -> dict[str, Answers]:
    """The answers of a RAM whose glimpses do not depend on the image."""
    steps = evaluator.model.num_steps
    chosen = evaluator.predict(validation).locations[:, 1:].flatten(0, 1)
    places, counts = chosen.unique(dim=0, return_counts=True)
    usual = places[counts.argsort(descending=True)[: steps - 1]]
    fixed = torch.cat([torch.full((1, 2), torch.nan), usual]).expand(len(test), -1, -1)
    logits = evaluator.full(test, fixed).logits
    found = {
        f"the same, glimpses at its {steps - 1} most usual places": as_answers(logits[:, -1], steps, test)
    }
    return found | {"all tiles of a grid, without the first look": tiles(evaluator, test)}


@torch.no_grad()
def tiles(evaluator: Evaluator, test: Split) -> Answers:
    """The answers of glimpses at all tiles of the grid that covers an image."""
    model, steps = evaluator.model, evaluator.model.num_steps
    count = math.ceil(model.image_size / model.glimpse_crop)
    line = (torch.arange(count) + 0.5) / count * 2 - 1
    grid = torch.cat([torch.full((1, 2), torch.nan), torch.cartesian_prod(line, line)])
    model.num_steps = len(grid)
    parts = [
        model.rollout(
            images, locations=grid.expand(len(images), -1, -1).to(evaluator.accelerator.device)
        ).glimpse_logits[:, -1]
        for _, images in evaluator.batches(test)
    ]
    model.num_steps = steps
    return as_answers(torch.cat(parts).cpu(), count**2, test)


def as_answers(logits: torch.Tensor, steps: int, test: Split) -> Answers:
    """Answers (N, C) after equally many steps."""
    nowhere = torch.full((len(test), 1, 2), torch.nan)
    return Answers(logits, torch.full((len(test),), steps), nowhere, nowhere[..., 0], test.labels)


def boards_of(test: Split) -> torch.Tensor:
    """The number of the board of every image, (N,) int64."""
    return torch.tensor([number for number, *_ in test.canvases.images])


def right(answers: Answers) -> np.ndarray:
    """Whether each answer is right, (N,) float."""
    return (answers.logits.argmax(-1) == answers.labels).double().numpy()


def interval(values: np.ndarray, boards: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean of `values` (N,), by bootstrap over boards."""
    rng = np.random.default_rng(0)
    sums, counts = np.bincount(boards, values), np.bincount(boards)
    drawn = rng.integers(len(sums), size=(SAMPLES, len(sums)))
    low, high = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), [0.025, 0.975])
    return float(low), float(high)


def begin_table(*headings: str) -> None:
    """Print the first two lines of a table in Markdown, after an empty line."""
    say("")
    say(f"| {' | '.join(headings)} |")
    say("|---|" + "---:|" * (len(headings) - 1))


def summarise(found: dict[str, Answers], test: Split) -> None:
    """One row for every model: accuracy and looks; and the paired difference from the last model."""
    boards, last = boards_of(test).numpy(), right([*found.values()][-1])
    begin_table("model", "looks", "accuracy (%)", "95 % interval", "last model ahead by")
    for title, answers in found.items():
        values = right(answers)
        low, high = interval(values, boards)
        ahead = last - values
        gap = " to ".join(f"{100 * side:+.1f}" for side in interval(ahead, boards))
        say(
            f"| {title} | {answers.steps.double().mean():.2f} | {100 * values.mean():.2f} | "
            f"{100 * low:.1f} to {100 * high:.1f} | {100 * ahead.mean():+.1f} ({gap}) |"
        )


def explain(answers: Answers, test: Split, names: list[str], reach: float) -> None:
    """Accuracy, looks and pointing of one model by kind, size and layout."""
    sides = (test.boxes[..., 2:] - test.boxes[..., :2]).amax(-1)[:, 0] / 2 * test.canvases.shape[-1]
    thirds = sides[~sides.isnan()].quantile(torch.tensor([1 / 3, 2 / 3])).tolist()
    groups = [test.canvases.boards[number].group for number in boards_of(test).tolist()]
    parts = {name: test.labels == label for label, name in enumerate(names)}
    parts[f"longer side up to {thirds[0]:.0f} pixels"] = sides <= thirds[0]
    parts[f"{thirds[0]:.0f} to {thirds[1]:.0f} pixels"] = (sides > thirds[0]) & (sides <= thirds[1])
    parts[f"more than {thirds[1]:.0f} pixels"] = sides > thirds[1]
    for group in sorted(set(groups)):
        parts[group] = torch.tensor([own == group for own in groups])
    begin_table("images", "number", "accuracy (%)", "looks", "found by a glimpse (%)")
    values, locations = torch.from_numpy(right(answers)), answers.locations
    for title, mask in parts.items():
        if not mask.any():
            continue
        shares = pointing(locations[mask], test.boxes[mask], reach)
        share = "" if shares is None else f"{100 * shares[-1]:.1f}"
        steps = answers.steps[mask].double().mean()
        say(f"| {title} | {int(mask.sum())} | {100 * values[mask].mean():.1f} | {steps:.2f} | {share} |")
    guesses = answers.logits.argmax(-1)
    begin_table("is, was called", *names)
    for label, name in enumerate(names):
        counts = torch.bincount(guesses[test.labels == label], minlength=len(names)).tolist()
        say(f"| {name} | " + " | ".join(map(str, counts)) + " |")


if __name__ == "__main__":
    main()
