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

from dtram_hub.learning.evaluation import Evaluator
from dtram_hub.learning.messages import show_messages
from dtram_hub.learning.recipe import load_data, read_recipe
from dtram_hub.models import checkpoint
from dtram_hub.models.normalise import Normalise

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
    args = parser.parse_args(argv)
    show_messages(sys.stderr)
    recipes = [word for word in args.words if "=" not in word] or [Path(args.checkpoint) / "recipe.yaml"]
    try:
        model = checkpoint.load(args.checkpoint)
        recipe = read_recipe(recipes[0], [word for word in args.words if "=" in word])
        splits = load_data(recipe)
        if args.split not in splits.splits:
            raise ValueError(f"--split={args.split!r} is not one of {', '.join(splits.splits)}.")
        if len(splits.class_names) != model.num_classes:
            classes = f"{model.num_classes} classes, the data {len(splits.class_names)}"
            raise ValueError(f"checkpoint {args.checkpoint!r} knows {classes}.")
    except ValueError as error:
        sys.exit(f"validate.py: {error}")
    accelerator = Accelerator()
    model.to(accelerator.device)
    normalise = Normalise(model.pretrained_cfg).to(accelerator.device)
    evaluator = Evaluator(model, normalise, accelerator, 4 * recipe.batch_size)
    split = splits.splits[args.split]
    table = Table(title=f"{args.checkpoint}: {len(split)} {args.split} images, each answered once")
    for heading in ("stop threshold", "mean steps", "accuracy"):
        table.add_column(heading, justify="right")
    for threshold in sorted({*THRESHOLDS, model.stop_threshold}) if model.dynamic else [1.0]:
        answers = evaluator.predict(split, threshold)
        scores = answers.scores()
        if args.json:
            accelerator.print(json.dumps({"stop_threshold": threshold} | scores))
        mark = " (its own)" if threshold == model.stop_threshold and model.dynamic else ""
        table.add_row(
            f"{threshold:.2f}{mark}", f"{scores['mean_steps']:.2f}", f"{100 * scores['accuracy']:.2f} %"
        )
    if accelerator.is_main_process and not args.json:
        Console().print(table)


if __name__ == "__main__":
    main()
