"""The end of a run: every stage is tested once; the folder gets the model, its metrics and its pictures."""

import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from torch import Tensor

from ..data.splits import Data, Split
from ..inference.budget import threshold_for
from ..models import checkpoint
from ..models.flops import Compute, accuracy_at_mean_steps, count_compute
from ..models.stopping import first_stop
from ..plots import GLIMPSES_PER_ROW, plot_glimpses, plot_steps, plot_tradeoff
from .curriculum import Stage, set_steps
from .evaluation import Answers, Evaluator
from .metrics import accuracy_at, confidences, threshold_curve
from .run_folder import RunFolder, stage_rows

Curves = dict[str, list[dict]]  # for each way to stop its points: threshold, mean_steps, accuracy


def write_report(
    folder: RunFolder,
    evaluator: Evaluator,
    data: Data,
    stages: list[Stage],
    facts: dict,
    mean_steps: float | None = None,
) -> dict:
    """Test the weights that each stage kept, once, and write everything into the run's folder.

    Args:
        folder: of the run; the weights of its stages are read from it.
        evaluator: its model takes each stage's weights in turn, and ends with the last one's.
        data: `data.splits["test"]` is answered.
        stages: in order.
        facts: what else belongs into metrics.json.
        mean_steps: if given, the DT-RAM's stop threshold is set to spend this many steps on validation.

    Returns:
        What metrics.json holds, see `run_folder`.
    """
    test, compute = data.splits["test"], count_compute(evaluator.model)
    rows, curves = [], {}
    for stage in stages:
        _take_stage(folder, evaluator, data, stage, mean_steps)
        answers = evaluator.predict(test)
        held_out = evaluator.predict(data.splits["validation"])
        rows.append(_stage_row(stage, answers, held_out, compute))
        if stage.num_steps == stages[-1].num_steps > 1:
            compare = _compare_dtram if stage.dynamic else _compare_ram
            more_rows, more_curves = compare(evaluator, test, stage, answers, curves)
            rows, curves = rows + more_rows, curves | more_curves
    metrics = {
        "results": rows,
        "curves": curves,
        "stage_kinds": {stage.name: stage.kind for stage in stages},
        "test_images": len(test),
    } | facts
    if test.difficulty is not None and stages[-1].dynamic:
        metrics["spearman_steps_difficulty"] = _spearman(answers.steps, test.difficulty)
    if evaluator.accelerator.is_main_process:
        checkpoint.save(evaluator.model, folder.path, data.class_names)
        _draw(folder, evaluator, data, answers, metrics)
        folder.write_metrics(metrics)  # last, as they say that the run is finished
        print_table(metrics, folder)
    evaluator.accelerator.wait_for_everyone()
    return metrics


def _take_stage(
    folder: RunFolder, evaluator: Evaluator, data: Data, stage: Stage, mean_steps: float | None
) -> None:
    """Put the weights that a stage kept into the model, and calibrate its stop threshold if it has one."""
    model = evaluator.model
    set_steps(model, stage)
    checkpoint.load_weights(model, folder.stage_weights(stage.name))
    if stage.dynamic and mean_steps:
        _, stop_probs = evaluator.rollout(data.splits["validation"])
        model.stop_threshold = threshold_for(stop_probs, mean_steps)


def print_table(metrics: dict, folder: RunFolder) -> None:
    """The comparison of all models of a run."""
    table = Table(title=f"{metrics['test_images']} test images, each answered once")
    for heading in ("model", "mean steps", "accuracy"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for row in metrics["results"]:
        table.add_row(row["model"], f"{row['mean_steps']:.2f}", f"{100 * row['accuracy']:.2f} %")
    console = Console()
    console.print(table)
    if metrics.get("spearman_steps_difficulty") is not None:
        console.print(f"Spearman of steps and difficulty: {metrics['spearman_steps_difficulty']:.2f}")
    console.print(f"Model, metrics and pictures: {folder}", soft_wrap=True)


def _compare_ram(
    evaluator: Evaluator, test: Split, stage: Stage, answers: Answers, _: Curves
) -> tuple[list[dict], Curves]:
    """Rows of the longest RAM with glimpses elsewhere, and its curve for a fixed confidence to stop at."""
    name = f"RAM {stage.num_steps}"
    logits, _ = evaluator.rollout(test)
    curves = {f"softmax threshold on {name}": threshold_curve(confidences(logits), logits, test.labels)}
    anywhere = _anywhere(len(test), stage.num_steps)
    rows = []
    for title, locations in {"anywhere": anywhere, "at the centre": torch.zeros_like(anywhere)}.items():
        moved, _ = evaluator.rollout(test, locations)
        title = f"{name}, glimpses {title}"
        rows.append(_comparison_row(title, stage, answers.steps, moved, test.labels))
    return rows, curves


def _compare_dtram(
    evaluator: Evaluator, test: Split, stage: Stage, answers: Answers, ram_curves: Curves
) -> tuple[list[dict], Curves]:
    """Rows of other ways to stop, at the DT-RAM's mean steps, and of other glimpses; the DT-RAM's curves."""
    logits, stop_probs = evaluator.rollout(test)
    fixed = {"softmax threshold on the DT-RAM": threshold_curve(confidences(logits), logits, test.labels)}
    learned = {"learned stops of the DT-RAM": threshold_curve(stop_probs, logits, test.labels)}
    mean_steps = answers.scores()["mean_steps"]
    rows = [  # the fixed stop policy, on the RAM (Table 7) and on the DT-RAM's own answers
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
    moved, moved_probs = evaluator.rollout(test, _anywhere(len(test), stage.num_steps))
    stops = first_stop(moved_probs > evaluator.model.stop_threshold)
    rows += [
        _comparison_row("DT-RAM, its stops dealt at random", stage, shuffled, logits, test.labels),
        _comparison_row("DT-RAM, glimpses anywhere", stage, stops, moved, test.labels),
    ]
    return rows, fixed | learned


def _anywhere(num_images: int, num_steps: int) -> Tensor:
    """Locations at random, (N, T, 2) in [-1, 1], the same in every run."""
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


def _comparison_row(title: str, stage: Stage, steps: Tensor, logits: Tensor, labels: Tensor) -> dict:
    return {
        "model": title,
        "kind": "comparison",
        "stage": stage.name,
        "mean_steps": steps.double().mean().item(),
        "accuracy": accuracy_at(logits, labels, steps),
    }


def _spearman(steps: Tensor, difficulty: Tensor) -> float | None:
    """Rank correlation; None where every image took the same number of steps."""
    if len(torch.unique(steps)) == 1:
        return None
    return float(spearmanr(steps.numpy(), difficulty.numpy()).statistic)


def _draw(folder: RunFolder, evaluator: Evaluator, data: Data, answers: Answers, metrics: dict) -> None:
    """The pictures: how long, where, and what other thresholds would give."""
    test, names, model = data.splits["test"], data.class_names, evaluator.model
    guesses = answers.logits.argmax(-1)
    plot_steps(
        folder.picture("steps.png"), answers.steps, guesses == test.labels, model.num_steps, test.difficulty
    )
    shown = torch.cat(
        [(answers.steps == steps).nonzero().flatten()[:GLIMPSES_PER_ROW] for steps in answers.steps.unique()]
    )
    captions = [
        names[guess] if guess == label else f"{names[guess]} (is {names[label]})"
        for guess, label in zip(guesses[shown].tolist(), test.labels[shown].tolist(), strict=True)
    ]
    plot_glimpses(
        folder.picture("glimpses.png"),
        test.at(shown),
        answers.locations[shown],
        answers.steps[shown],
        captions,
        model.glimpse_crop,
    )
    if metrics["curves"]:
        fixed = [row for row in stage_rows(metrics) if row["stage_kind"] != "dtram"]
        plot_tradeoff(folder.picture("tradeoff.png"), {"RAM, fixed steps": fixed} | metrics["curves"])
