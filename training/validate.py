"""Evaluate a saved DT-RAM on one split, at several budgets of steps: accuracy and steps, in one pass.

    python training/validate.py runs/digits [recipe.yaml] [key=value ...] [--split test]

The default recipe is that of the checkpoint; it names the data.
"""

import argparse
import json
import sys
from pathlib import Path

import accelerate
import torch
from accelerate import Accelerator
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dtram_hub.checks import check_integer
from dtram_hub.data.splits import Data, Split
from dtram_hub.files import write_json
from dtram_hub.inference.answers import class_names
from dtram_hub.learning.budget_rows import rows_of
from dtram_hub.learning.class_metrics import class_metrics, sentences
from dtram_hub.learning.evaluation import Evaluator, FullPass
from dtram_hub.learning.machine import join_processes, set_up_cpu
from dtram_hub.learning.messages import show_messages
from dtram_hub.learning.recipe import load_split, read_recipe, split_words
from dtram_hub.models import checkpoint
from dtram_hub.models.dtram import DTRAM
from dtram_hub.prompt import ending_in_a_sentence, printable, say


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="a directory with config.json and model.safetensors")
    parser.add_argument("words", nargs="*", metavar="recipe.yaml | key=value")
    parser.add_argument("--split", default="test", help="train, validation or test")
    parser.add_argument("--batch-size", type=int, help="images per look; four batches of training by default")
    parser.add_argument("--out", type=Path, help="JSON file for all scores, class by class")
    parser.add_argument("--picture", type=Path, help="file for a picture of the confusion matrix")
    parser.add_argument("--json", action="store_true", help="print one JSON object per row, without a table")
    args = parser.parse_intermixed_args(argv)  # overrides may follow an option
    show_messages(sys.stderr)
    with ending_in_a_sentence("validate.py"):
        validate(args)


def validate(args: argparse.Namespace) -> None:
    """Print accuracy and steps of a checkpoint at its own threshold and at budgets; a RAM has one row."""
    folder, words, split, batch_size = args.checkpoint, args.words, args.split, args.batch_size
    name, overrides = split_words(words)
    model = checkpoint.load(folder).to(memory_format=torch.channels_last)
    recipe = read_recipe(name or Path(folder) / "recipe.yaml", overrides)
    batch_size = 4 * recipe.batch_size if batch_size is None else batch_size
    check_integer("--batch-size", batch_size, 1)
    data = load_split(recipe, split, model.pretrained_cfg["mean"])
    check_classes(folder, model, data)
    accelerator = join_processes()
    set_up_cpu(accelerator, recipe.threads)
    evaluator = Evaluator(model.to(accelerator.device), accelerator, batch_size, shows_progress=True)
    seen = evaluator.full(data.splits[split])
    seen = without_faults(seen, data.splits[split], accelerator)
    if accelerator.is_main_process:
        rows = rows_of(seen, model)
        scores = class_metrics(seen.at(model).logits, seen.labels)
        show(folder, split, rows, args.json)
        if not args.json:
            for sentence in sentences(scores, data.class_names):
                say(sentence)
        if args.out:
            write_json(args.out, {"rows": rows, "classes": data.class_names} | scores)
        if args.picture:
            from dtram_hub.plots import plot_confusion

            plot_confusion(args.picture, scores["confusion"], data.class_names)


def without_faults(seen: FullPass, split: Split, accelerator: Accelerator) -> FullPass:
    """The results without those of unreadable images, which are counted."""
    found = accelerate.utils.gather_object([split.faults()])
    faults = {number: fault for part in found for number, fault in part.items()}
    if not faults:
        return seen
    first = faults[min(faults)]
    say(f"{len(faults)} of {len(split)} images are unreadable and left out; the first: {first}.", error=True)
    readable = torch.ones(len(split), dtype=torch.bool)
    readable[list(faults)] = False
    return seen.take(readable)


def show(folder: str, split: str, rows: list[dict], as_json: bool) -> None:
    """Print rows as JSON objects, or as a table."""
    if as_json:
        for row in rows:
            say(json.dumps(row, allow_nan=False))
        return
    count = sum(rows[0]["step_histogram"].values())
    table = Table(title=Text(printable(f"{folder}: {count} {split} images, each looked at once")))
    for heading in ("mean steps wanted", "stop threshold", "mean steps", "accuracy", "balanced accuracy"):
        table.add_column(heading, justify="right")
    for row in rows:
        wanted = "its own threshold" if row["budget"] is None else f"{row['budget']:g}"
        threshold = "none" if row["stop_threshold"] is None else f"{row['stop_threshold']:.4f}"
        accuracies = [f"{100 * row[name]:.2f} %" for name in ("accuracy", "balanced_accuracy")]
        table.add_row(wanted, threshold, f"{row['mean_steps']:.2f}", *accuracies)
    Console().print(table)


def check_classes(folder: str, model: DTRAM, data: Data) -> None:
    """ValueError unless model and data have equally many classes, with the same names if both have names."""
    if len(data.class_names) != model.num_classes:
        classes = f"{model.num_classes} classes, the data {len(data.class_names)}"
        raise ValueError(f"checkpoint {folder!r} knows {classes}.")
    known = class_names(model) or data.class_names
    for label, (own, name) in enumerate(zip(known, data.class_names, strict=True)):
        if own != name:
            raise ValueError(f"checkpoint {folder!r} calls class {label} {own!r}, and the data {name!r}.")


if __name__ == "__main__":
    main()
