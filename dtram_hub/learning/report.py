"""What a finished run leaves behind: the model, metrics.json, two pictures, and a table on the screen."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from torch import Tensor

from ..data.splits import Data
from ..models import checkpoint
from ..models.dtram import DTRAM
from ..models.flops import accuracy_at_mean_steps, count_compute
from ..models.policy import first_stop, threshold_for
from ..plots import plot_glimpses, plot_steps, plot_tradeoff
from .curriculum import Stage, enter_stage
from .evaluation import Answers, predict_split, rollout_split
from .metrics import accuracy_at, confidences, threshold_curve

LEARNED = "learned stops of the DT-RAM"


def write_report(
    output: Path,
    model: DTRAM,
    data: Data,
    stages: list[Stage],
    normalise: Callable[[Tensor], Tensor],
    accelerator: Accelerator,
    batch_size: int,
    facts: dict,
    mean_steps: float | None = None,
) -> dict:
    """Test the weights that each stage kept, once, and write everything into `output`.

    Args:
        output: the run's folder; `stages/NAME.safetensors` are read from it.
        model: takes each stage's weights in turn, and ends with the last one's.
        data: `data.splits["test"]` is answered.
        stages: in order.
        normalise: uint8 images -> what the model takes.
        accelerator: of the run; the images are shared among its processes.
        batch_size: images per prediction.
        facts: what else belongs into metrics.json.
        mean_steps: if given, the DT-RAM's stop threshold is set to spend this many steps on validation.

    Returns:
        What metrics.json holds.
    """
    test = data.splits["test"]
    rows, curves = [], {}
    drawn = torch.rand(len(test), stages[-1].num_steps, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    elsewhere = {"anywhere": drawn, "at the centre": torch.zeros_like(drawn)}
    compute = count_compute(model)
    for stage in stages:
        enter_stage(model, stage)
        checkpoint.load_weights(model, output / "stages" / f"{stage.name}.safetensors")
        if stage.dynamic and mean_steps:
            _, probs = rollout_split(model, data.splits["validation"], normalise, accelerator, batch_size)
            model.stop_threshold = threshold_for(probs, mean_steps)
        held_out = predict_split(
            model, data.splits["validation"], normalise, accelerator, batch_size
        ).scores()
        answers = predict_split(model, test, normalise, accelerator, batch_size)
        row = {"model": _title(stage), "stage": stage.name, "num_steps": stage.num_steps}
        row |= {"validation_accuracy": held_out["accuracy"]} | answers.scores()
        rows.append(row | {"gflops": compute.at(row["mean_steps"])})
        if stage.num_steps == stages[-1].num_steps > 1:
            logits, stop_probs = rollout_split(model, test, normalise, accelerator, batch_size)
            name = "the DT-RAM" if stage.dynamic else f"RAM {stage.num_steps}"
            curves[f"softmax threshold on {name}"] = threshold_curve(confidences(logits), logits, test.labels)
            if stage.dynamic:
                curves[LEARNED] = threshold_curve(stop_probs, logits, test.labels)
            else:
                whole = torch.full((len(test),), stage.num_steps)
                for title, places in elsewhere.items():
                    moved, _ = rollout_split(model, test, normalise, accelerator, batch_size, places)
                    rows.append(_row(f"{name}, glimpses {title}", stage, whole, moved, test.labels))
    if stages[-1].dynamic and stages[-1].num_steps > 1:
        aimless = rollout_split(model, test, normalise, accelerator, batch_size, elsewhere["anywhere"])
        dealt = first_stop(aimless[1] > model.stop_threshold)
        shuffled = answers.steps[torch.randperm(len(test), generator=torch.Generator().manual_seed(0))]
        rows += _threshold_rows(curves, rows[-1]["mean_steps"], stages[-1].name)
        rows += [
            _row("DT-RAM, its stops dealt at random", stages[-1], shuffled, logits, test.labels),
            _row("DT-RAM, glimpses anywhere", stages[-1], dealt, aimless[0], test.labels),
        ]
    results = {"results": rows, "curves": curves, "test_images": len(test)} | facts
    if test.difficulty is not None and stages[-1].dynamic:
        results["spearman_steps_difficulty"] = _spearman(answers.steps, test.difficulty)
    if accelerator.is_main_process:
        checkpoint.save(model, output, data.class_names)
        (output / "metrics.json").write_text(json.dumps(results, indent=2) + "\n")
        _draw(output, model, data, answers)
        if curves:
            fixed = {
                "RAM, fixed steps": [
                    row for row in rows if "validation_accuracy" in row and row["stage"] != "dtram"
                ]
            }
            plot_tradeoff(output / "tradeoff.png", fixed | curves)
        print_table(results, output)
    accelerator.wait_for_everyone()
    return results


def print_table(results: dict, output: Path) -> None:
    """The comparison of all models of a run."""
    table = Table(title=f"{results['test_images']} test images, each answered once")
    for heading in ("model", "mean steps", "accuracy"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for row in results["results"]:
        table.add_row(row["model"], f"{row['mean_steps']:.2f}", f"{100 * row['accuracy']:.2f} %")
    console = Console()
    console.print(table)
    if results.get("spearman_steps_difficulty") is not None:
        console.print(f"Spearman of steps and difficulty: {results['spearman_steps_difficulty']:.2f}")
    console.print(f"Model, metrics and pictures: {output}", soft_wrap=True)


def _title(stage: Stage) -> str:
    if stage.name == "encoder":
        return "encoder alone"
    return f"DT-RAM, at most {stage.num_steps} steps" if stage.dynamic else f"RAM, {stage.num_steps} steps"


def _row(title: str, stage: Stage, steps: Tensor, logits: Tensor, labels: Tensor) -> dict:
    scores = {"mean_steps": steps.double().mean().item(), "accuracy": accuracy_at(logits, labels, steps)}
    return {"model": title, "stage": stage.name} | scores


def _threshold_rows(curves: dict[str, list[dict]], mean_steps: float, stage: str) -> list[dict]:
    """The fixed stopping policy at the DT-RAM's mean steps: on RAM (Table 7) and on its own answers."""
    return [
        {
            "model": title,
            "stage": stage,
            "mean_steps": mean_steps,
            "accuracy": accuracy_at_mean_steps(curve, mean_steps),
        }
        for title, curve in curves.items()
        if title != LEARNED
    ]


def _spearman(steps: Tensor, difficulty: Tensor) -> float | None:
    """Rank correlation; None where every image took the same number of steps."""
    if len(torch.unique(steps)) == 1:
        return None
    return float(spearmanr(steps.numpy(), difficulty.numpy()).statistic)


def _draw(output: Path, model: DTRAM, data: Data, answers: Answers) -> None:
    test, names = data.splits["test"], data.class_names
    guesses = answers.logits.argmax(-1)
    captions = [
        names[guess] if guess == label else f"{names[guess]} (is {names[label]})"
        for guess, label in zip(guesses.tolist(), test.labels.tolist(), strict=True)
    ]
    correct = guesses == test.labels
    plot_steps(output / "steps.png", answers.steps, correct, model.num_steps, test.difficulty)
    plot_glimpses(
        output / "glimpses.png", test.images, answers.locations, answers.steps, captions, model.glimpse_crop
    )
