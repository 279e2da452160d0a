"""One stage of a finished run as a model directory of its own: RAM-4 from the curriculum of a DT-RAM, say.

    python training/export_stage.py runs/mnist_dtram_98-0 ram_4 checkpoints/my_ram4

`timm.create_model("local-dir:checkpoints/my_ram4", pretrained=True)` loads it. Its metrics.json has the
results of this stage alone.
"""

import argparse
import json
import sys
from pathlib import Path

import timm

from dtram_hub.checks import check_choice
from dtram_hub.learning.recipe import read_recipe, write_recipe
from dtram_hub.models import checkpoint


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("stage", help="encoder, ram_2, ram_3, ... or dtram")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--half", action="store_true", help="keep the weights in 16 bits, at half the size")
    args = parser.parse_args(argv)
    try:
        export(args.run, args.stage, args.output, args.half)
    except ValueError as error:
        sys.exit(f"export.py: {error}")


def export(run: Path, stage: str, output: Path, half: bool = False) -> None:
    """Write the weights that `stage` kept, the model's configuration, metrics and recipe into `output`."""
    trained = checkpoint.load(run)
    if not (run / "metrics.json").is_file():
        raise ValueError(f"run={str(run)!r} has no metrics.json; accepted is the folder of a finished run.")
    metrics = json.loads((run / "metrics.json").read_text())
    check_choice("stage", stage, {row["stage"]: row for row in metrics["results"]})
    rows = [row for row in metrics["results"] if row["stage"] == stage]  # the stage's own row comes first
    num_steps, config = rows[0]["num_steps"], dict(trained.pretrained_cfg)
    class_names = config.pop("label_names", None)
    arguments = trained.arguments() | {"num_steps": num_steps}
    if stage != "dtram":
        arguments |= {"dynamic": False, "stop_threshold": 0.5}
    model = timm.create_model(config["architecture"], **arguments)
    model.pretrained_cfg = config
    checkpoint.load_weights(model, run / "stages" / f"{stage}.safetensors")
    checkpoint.save(model.half() if half else model, output, class_names)
    stages = list(metrics["seconds"])
    stages = stages[: stages.index(stage) + 1]
    metrics |= {"results": rows, "seconds": {name: metrics["seconds"][name] for name in stages}}
    if not model.dynamic:
        del metrics["curves"]
    (output / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    recipe = read_recipe(run / "recipe.yaml")
    # Folders of one's own machine are nobody else's business.
    recipe.output, recipe.data.root, recipe.data.cache = f"runs/{output.name}", None, None
    recipe.stages_from = None
    recipe.encoder_weights = recipe.encoder_weights and Path(recipe.encoder_weights).name
    write_recipe(recipe, output / "recipe.yaml", stage=stage)


if __name__ == "__main__":
    main()
