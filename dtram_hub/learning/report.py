"""The report at the end of a run: every stage is tested once; model, metrics and pictures are written."""

from dataclasses import asdict

import torch
from accelerate.logging import get_logger
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from torch import Tensor

from ..data.splits import Data, Split
from ..inference.budget import threshold_for
from ..inference.uncertainty import Budget, expect_budget
from ..models import checkpoint
from ..models.dtram import DTRAM
from ..models.flops import Compute, accuracy_at_mean_steps, count_compute
from ..models.glimpse import reach_of
from ..prompt import printable
from .budget_rows import rows_of
from .class_metrics import class_metrics, sentences
from .curriculum import Stage, set_steps
from .evaluation import Answers, Evaluator, FullPass
from .metrics import confidences, threshold_curve
from .pictures import draw
from .pointing import oracle, pointing
from .run_folder import LEARNED_STOPS, MOST_CLASSES, RunFolder

logger = get_logger(__name__)
Curves = dict[str, list[dict]]  # the points of each stop policy: threshold, mean_steps, accuracy


def write_report(
    folder: RunFolder,
    evaluator: Evaluator,
    data: Data,
    stages: list[Stage],
    facts: dict,
    mean_steps: float | None = None,
) -> dict:
    """Test the weights of every stage once, and write model, metrics and pictures into the run's folder.

    Args:
        folder: the folder of the run, with the weights of its stages.
        evaluator: its model takes the weights of each stage in turn, and keeps those of the last.
        data: the splits "test" and "validation".
        stages: all stages, in order. Those of the folds are not tested.
        facts: further entries of metrics.json.
        mean_steps: a budget of mean steps on validation, which sets the DT-RAM's stop threshold; None keeps
            the threshold.

    Returns:
        The content of metrics.json, see `run_folder`.
    """
    test, compute = data.splits["test"], count_compute(evaluator.model)
    rows: list[dict] = []
    curves: Curves = {}
    for stage in (each for each in stages if not each.fold):
        set_steps(evaluator.model, stage)
        checkpoint.load_weights(evaluator.model, folder.stage_weights(stage.name))
        held_out = evaluator.full(data.splits["validation"])
        budget = _set_budget(evaluator.model, held_out, mean_steps) if stage.dynamic and mean_steps else None
        seen = evaluator.full(test)
        answers = seen.at(evaluator.model)
        found = _pointing(evaluator.model, test, answers.locations)
        rows.append(_stage_row(stage, answers, held_out.at(evaluator.model), compute) | found)
        if stage.num_steps == stages[-1].num_steps > 1:
            compare = _compare_dtram if stage.dynamic else _compare_ram
            more_rows, more_curves = compare(evaluator, test, stage, seen, curves)
            rows, curves = rows + more_rows, curves | more_curves
    metrics = {
        "results": rows,
        "curves": curves,
        "budgets": rows_of(seen, evaluator.model),
        "classes": data.class_names,
        "scores": _scores(answers),
        "stage_kinds": {stage.name: stage.kind for stage in stages},
        "images": {name: len(split) for name, split in data.splits.items()},
        "test_images": len(test),
        "precision": str(next(evaluator.model.parameters()).dtype).removeprefix("torch."),
    } | facts
    if budget:
        metrics["budget"] = asdict(budget)
    if test.difficulty is not None and stages[-1].dynamic:
        metrics["spearman_steps_difficulty"] = _spearman(answers.steps, test.difficulty)
    if evaluator.accelerator.is_main_process:
        checkpoint.save(evaluator.model, folder.path, data.class_names)
        draw(folder, evaluator.model, data, answers, metrics)
        folder.write_metrics(metrics)  # last, because metrics.json marks a run as finished
        print_table(metrics, folder)
    evaluator.accelerator.wait_for_everyone()
    return metrics


def _set_budget(model: DTRAM, held_out: FullPass, mean_steps: float) -> Budget:
    """Set the stop threshold for a budget of mean steps on validation images."""
    model.stop_threshold = threshold_for(held_out.stop_probs, mean_steps)
    budget = expect_budget(held_out.stop_probs, model.stop_threshold, mean_steps)
    logger.info(str(budget))
    return budget


def print_table(metrics: dict, folder: RunFolder) -> None:
    """Print all rows of a run as a table."""
    table = Table(title=f"{metrics['test_images']} test images, each answered once")
    for heading in ("model", "mean steps", "accuracy", "balanced accuracy"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    points = any("pointing" in row for row in metrics["results"])
    if points:
        table.add_column("glimpses that find it, after 2, 3, .. steps", justify="right")
    for row in metrics["results"]:
        shares = " ".join(f"{100 * share:.1f}" for share in row.get("pointing", [])[1:])
        more = [f"{shares} %" if shares else ""] if points else []
        accuracies = [_percent(row.get(name)) for name in ("accuracy", "balanced_accuracy")]
        table.add_row(row["model"], f"{row['mean_steps']:.2f}", *accuracies, *more)
    console = Console()
    console.print(table)
    for sentence in sentences(metrics["scores"], metrics["classes"]):
        console.print(printable(sentence), soft_wrap=True, markup=False, highlight=False)
    if metrics.get("spearman_steps_difficulty") is not None:
        console.print(f"Spearman of steps and difficulty: {metrics['spearman_steps_difficulty']:.2f}")
    console.print(printable(f"Model, metrics and pictures: {folder}"), soft_wrap=True, markup=False)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f} %"


def _scores(answers: Answers) -> dict:
    """The entry "scores" of metrics.json."""
    scores = class_metrics(answers.logits, answers.labels)
    if len(scores["class_accuracy"]) > MOST_CLASSES:
        del scores["confusion"]
    return scores


def _compare_ram(
    evaluator: Evaluator, test: Split, stage: Stage, seen: FullPass, _: Curves
) -> tuple[list[dict], Curves]:
    """Rows of the longest RAM with other locations, and its curve with a threshold on the confidence."""
    name, labels = f"RAM {stage.num_steps}", test.labels
    curve = threshold_curve(confidences(seen.logits), seen.logits, labels)
    curves = {f"softmax threshold on {name}": curve}
    random = _random_locations(len(test), stage.num_steps)
    rows, others = [], {"anywhere": random, "at the centre": torch.zeros_like(random)}
    if test.boxes is not None:
        first = int(evaluator.model.context != "none")
        others["led to the truth first"] = oracle(seen.locations, test.boxes, first)
    for title, locations in others.items():
        answers = evaluator.full(test, locations).at(evaluator.model)
        row = _comparison_row(f"{name}, glimpses {title}", stage, answers)
        rows.append(row | _pointing(evaluator.model, test, locations))
    return rows, curves


def _compare_dtram(
    evaluator: Evaluator, test: Split, stage: Stage, seen: FullPass, ram_curves: Curves
) -> tuple[list[dict], Curves]:
    """Rows of other stops and other locations at the DT-RAM's mean steps; the curves of the DT-RAM."""
    logits, labels, model = seen.logits, test.labels, evaluator.model
    fixed = {"softmax threshold on the DT-RAM": threshold_curve(confidences(logits), logits, labels)}
    learned = {LEARNED_STOPS: threshold_curve(seen.stop_probs, logits, labels)}
    answers = seen.at(model)
    mean_steps = answers.scores()["mean_steps"]
    rows = [  # a threshold on the confidence, for the RAM (Table 7) and for the DT-RAM
        {
            "model": title,
            "kind": "comparison",
            "stage": stage.name,
            "mean_steps": mean_steps,
            "accuracy": accuracy_at_mean_steps(curve, mean_steps),
        }
        for title, curve in (ram_curves | fixed).items()
    ]
    shuffled = answers.steps[torch.randperm(len(test), generator=torch.Generator().manual_seed(0))]
    moved = evaluator.full(test, _random_locations(len(test), stage.num_steps))
    rows += [
        _comparison_row("DT-RAM, its stops dealt at random", stage, seen.at_steps(shuffled)),
        _comparison_row("DT-RAM, glimpses anywhere", stage, moved.at(model)),
    ]
    return rows, fixed | learned


def _pointing(model: DTRAM, test: Split, locations: Tensor) -> dict:
    """The entry "pointing" of a row, for a model that takes glimpses and a source that knows boxes."""
    if test.boxes is None or model.num_steps == 1:
        return {}
    locations = locations.clone()
    if model.context != "none":
        locations[:, 0] = torch.nan  # the context view is no glimpse
    shares = pointing(locations, test.boxes, reach_of(model.glimpse_crop, test.sizes()))
    return {} if shares is None else {"pointing": shares}


def _random_locations(num_images: int, num_steps: int) -> Tensor:
    """Random locations (N, T, 2) in [-1, 1], the same in every run."""
    return torch.rand(num_images, num_steps, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _stage_row(stage: Stage, answers: Answers, held_out: Answers, compute: Compute) -> dict:
    scores = answers.scores()
    return {
        "model": stage.title,
        "kind": "stage",
        "stage": stage.name,
        "stage_kind": stage.kind,
        "num_steps": stage.num_steps,
        "validation_accuracy": held_out.scores()["accuracy"],
        **scores,
        "gflops": compute.at(scores["mean_steps"]),
    }


def _comparison_row(title: str, stage: Stage, answers: Answers) -> dict:
    scores = answers.scores()
    return {
        "model": title,
        "kind": "comparison",
        "stage": stage.name,
        **{name: scores[name] for name in ("mean_steps", "accuracy", "balanced_accuracy")},
    }


def _spearman(steps: Tensor, difficulty: Tensor) -> float | None:
    """The rank correlation of steps and difficulty; None if all images took equally many steps."""
    if len(torch.unique(steps)) == 1:
        return None
    return float(spearmanr(steps.numpy(), difficulty.numpy()).statistic)
