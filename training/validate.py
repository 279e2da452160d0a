"""Evaluate a saved DT-RAM on one split, at several stop thresholds: accuracy and steps.

    python training/validate.py runs/digits [recipe.yaml] [key=value ...] [--split test]

The default recipe is that of the checkpoint; it names the data.
"""

import argparse
import json
import sys
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dtram_hub.checks import check_choice
from dtram_hub.data.splits import Data
from dtram_hub.inference.answers import class_names
from dtram_hub.learning.evaluation import Evaluator
from dtram_hub.learning.messages import show_messages
from dtram_hub.learning.recipe import load_data, read_recipe, split_words
from dtram_hub.models import checkpoint
from dtram_hub.models.dtram import DTRAM
from dtram_hub.prompt import ending_in_a_sentence, printable, say

THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="a directory with config.json and model.safetensors")
    parser.add_argument("words", nargs="*", metavar="recipe.yaml | key=value")
    parser.add_argument("--split", default="test", help="train, validation or test")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object per threshold, without a table"
    )
    args = parser.parse_intermixed_args(argv)  # overrides may follow an option
    show_messages(sys.stderr)
    with ending_in_a_sentence("validate.py"):
        validate(args.checkpoint, args.words, args.split, args.json)


def validate(folder: str, words: list[str], split: str, as_json: bool) -> None:
    """Print accuracy and steps of a checkpoint at every threshold; those of a RAM have none."""
    name, overrides = split_words(words)
    model = checkpoint.load(folder)
    recipe = read_recipe(name or Path(folder) / "recipe.yaml", overrides)
    data = load_data(recipe)
    check_choice("--split", split, data.splits)
    check_classes(folder, model, data)
    accelerator, images = Accelerator(), data.splits[split]
    model.to(accelerator.device)
    evaluator = Evaluator(model, accelerator, 4 * recipe.batch_size)
    table = Table(title=Text(printable(f"{folder}: {len(images)} {split} images, each answered once")))
    for heading in ("stop threshold", "mean steps", "accuracy"):
        table.add_column(heading, justify="right")
    for threshold in sorted({*THRESHOLDS, model.stop_threshold}) if model.dynamic else [None]:
        scores = evaluator.predict(images, threshold).scores()
        if as_json and accelerator.is_main_process:
            say(json.dumps({"stop_threshold": threshold} | scores, allow_nan=False))
        shown = "none" if threshold is None else f"{threshold:.2f}"
        mark = " (its own)" if threshold == model.stop_threshold else ""
        table.add_row(shown + mark, f"{scores['mean_steps']:.2f}", f"{100 * scores['accuracy']:.2f} %")
    if accelerator.is_main_process and not as_json:
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
