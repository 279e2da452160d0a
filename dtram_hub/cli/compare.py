"""`dtram compare`: runs and models side by side, or the spread over the seeds of one recipe."""

import json
import statistics
from dataclasses import dataclass
from typing import Any

from ..learning.recipe import by_full_keys, read_recipe
from ..learning.run_folder import RunFolder, own_result
from ..models.flops import count_compute
from ..prompt import say
from ..sharing.markdown import as_text
from ..sharing.named_models import NamedModel, find_model

OF_NO_EFFECT = ("output", "threads", "trackers", "data.workers")  # keys of a recipe
OF_A_SEED = ("seed", "stages_from", "data.root", "data.cache")  # may differ among the runs of one recipe


@dataclass(frozen=True)
class Compared:
    """One of the models, with the metrics and the recipe of its run, empty where there are none.

    recipe: by full keys, such as "data.source".
    """

    named: NamedModel
    metrics: dict
    recipe: dict

    def tested_on(self) -> tuple | None:
        """What the test images depend on; None where it is not known."""
        seen = self.metrics.get("data") or {}
        if "test" in seen:
            return seen["test"], seen.get("classes")
        if "train" in seen and self.recipe:  # test was held out of it
            return seen["train"], self.recipe["data.test_fraction"], self.recipe["seed"]
        if self.recipe.get("data.source") == "digits":  # made from the seed
            return tuple(
                str(value) for key, value in self.recipe.items() if key.startswith(("data.", "seed"))
            )
        return None


def compare(models: tuple[str, ...], as_json: bool) -> None:
    """Print a Markdown table of models, or one JSON object for each.

    Runs that differ in their seed alone have one row for each stage, with mean and standard deviation.

    Raises:
        ValueError: a model is not found, or its files are not in the format of a run.
    """
    found = [_read(word) for word in models]
    differing = _differing([each.recipe for each in found if each.recipe])
    titles = [[row["model"] for row in each.metrics.get("results", [])] for each in found]
    of_one_recipe = all(title == titles[0] != [] for title in titles) and not {*differing} - {*OF_A_SEED}
    if doubt := _doubt(found):
        say(f"dtram: {doubt}", error=True)
    if of_one_recipe and not as_json:
        _print_seeds([each.metrics for each in found])
        return
    columns, recipes = [_facts(each) for each in found], [each.recipe for each in found]
    if as_json:
        for column, recipe in zip(columns, recipes, strict=True):
            own = {key: recipe.get(key) for key in differing}
            say(json.dumps(column | {"recipe": own}, allow_nan=False))
        return
    _print_row("", [str(as_text(each.named.word)) for each in found])
    say(f"|---|{'---:|' * len(found)}")
    for name in [*columns[0]][1:]:
        _print_row(name.replace("_", " "), [_readable(name, column[name]) for column in columns])
    for key in differing:
        _print_row(f"recipe: {as_text(key)}", [_readable(key, recipe.get(key)) for recipe in recipes])


def _read(word: str) -> Compared:
    """A model without its weights; a folder needs no weights at all."""
    named = find_model(word)
    run = RunFolder(named.folder) if named.folder else None
    if run is None or not run.is_finished:
        return Compared(named, {}, {})
    recipe = by_full_keys(read_recipe(run.recipe_path)) if run.exists else {}
    return Compared(named, run.read_metrics(), recipe)


def _facts(each: Compared) -> dict:
    """The rows of one model but those of its recipe; None where nothing was measured.

    "stop_threshold" is that of the results.
    """
    model = each.named.build(pretrained=False)
    own = own_result(each.metrics) if each.metrics else {}
    steps, compute = own.get("mean_steps"), count_compute(model)
    return {
        "model": each.named.word,
        "architecture": model.pretrained_cfg["architecture"],
        "accuracy": own.get("accuracy"),
        "balanced_accuracy": own.get("balanced_accuracy"),
        "mean_steps": steps,
        "stop_threshold": own.get("stop_threshold", model.stop_threshold) if model.dynamic else None,
        "GFLOPs": None if steps is None else compute.at(steps),
        "GFLOPs_first_look": compute.first_look,
        "GFLOPs_later_look": compute.later_look,
        "parameters": sum(p.numel() for p in model.parameters()),
        "data": each.recipe.get("data.source"),
        "test_images": each.metrics.get("test_images"),
    }


def _doubt(found: list[Compared]) -> str | None:
    """The sentence about test images that are not the same; None if they are, or nothing was measured."""
    tested = [each for each in found if each.metrics]
    if len(tested) < 2:
        return None
    sources = {(each.recipe.get("data.source"), each.metrics.get("test_images")) for each in tested}
    images = {each.tested_on() for each in tested}
    if len(sources) > 1 or len(images - {None}) > 1:
        return "the test images differ; a difference in accuracy may be theirs."
    return "nothing says whether the test images are the same." if None in images else None


def _print_row(name: str, values: list[str]) -> None:
    say(f"| {name} | {' | '.join(values)} |")


def _print_seeds(metrics: list[dict]) -> None:
    """Print one row for each model of runs of one recipe."""
    seeds = ", ".join(str(run.get("seed", "unknown")) for run in metrics)
    say(f"{metrics[0].get('test_images', 'unknown')} test images, each answered once; seeds {seeds}")
    say("")
    say("| model | mean steps | accuracy (%) | each run (%) |")
    say("|---|---:|---:|---|")
    for rows in zip(*(run["results"] for run in metrics), strict=True):
        accuracies = [row["accuracy"] for row in rows]
        each = ", ".join(f"{100 * accuracy:.2f}" for accuracy in accuracies)
        steps = spread([row["mean_steps"] for row in rows])
        say(f"| {as_text(rows[0]['model'])} | {steps} | {spread(accuracies, 100)} | {each} |")
    name = "spearman_steps_difficulty"
    correlations = [run[name] for run in metrics if run.get(name) is not None]
    if len(correlations) == len(metrics):
        say("")
        say(f"Spearman of steps and difficulty: {spread(correlations)}")
    say(f"Training time: {spread([sum(run['seconds'].values()) for run in metrics], digits=0)} s")


def spread(values: list[float], scale: float = 1.0, digits: int = 2) -> str:
    """Format values as "mean ± sample standard deviation", or one value alone."""
    text = f"{scale * statistics.mean(values):.{digits}f}"
    return text if len(values) < 2 else f"{text} ± {scale * statistics.stdev(values):.{digits}f}"


def _differing(recipes: list[dict]) -> list[str]:
    """The keys whose values are not the same in all recipes."""
    keys = dict.fromkeys(key for recipe in recipes for key in recipe if key not in OF_NO_EFFECT)
    return [key for key in keys if any(recipe.get(key) != recipes[0].get(key) for recipe in recipes)]


def _readable(name: str, value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if name in ("accuracy", "balanced_accuracy"):
        return f"{100 * value:.2f} %"
    if isinstance(value, float):
        return f"{value:.4g}" if name != "mean_steps" else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(as_text(str(value)))
