"""Export one stage of a finished run as a checkpoint, for example RAM-4 from the curriculum of a DT-RAM.

    python training/export_stage.py runs/mnist_dtram_98-0 ram_4 checkpoints/my_ram4

`timm.create_model("local-dir:checkpoints/my_ram4", pretrained=True)` loads the checkpoint. Its metrics.json
has the results of this stage alone.
"""

import argparse
from pathlib import Path

import timm

from dtram_hub.checks import check_choice
from dtram_hub.files import write_text
from dtram_hub.learning.curriculum import KINDS
from dtram_hub.learning.run_folder import RunFolder, stage_rows
from dtram_hub.models import checkpoint
from dtram_hub.prompt import ending_in_a_sentence


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=RunFolder, help="folder of a finished run")
    parser.add_argument("stage", help="encoder, ram_2, ram_3, ... or dtram")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--half", action="store_true", help="save the weights in 16 bits, at half the size")
    args = parser.parse_args(argv)
    with ending_in_a_sentence("export_stage.py"):
        export(args.run, args.stage, args.output, args.half)


def export(run: RunFolder, stage: str, output: Path, half: bool = False) -> None:
    """Write the weights of a stage, its configuration, its metrics and its recipe into `output`.

    Raises:
        ValueError: no such stage, no finished run, or an `output` that holds a run itself.
    """
    if (output / "stages").exists():
        raise ValueError(f"output={str(output)!r} holds a run, which the export would overwrite.")
    trained, metrics = checkpoint.load(run.path), run.read_metrics()
    rows = {row["stage"]: row for row in stage_rows(metrics)}
    check_choice("stage", stage, rows)
    check_choice("stage_kind", rows[stage]["stage_kind"], KINDS)
    arguments = trained.arguments() | {"num_steps": rows[stage]["num_steps"]}
    if not KINDS[rows[stage]["stage_kind"]].dynamic:
        arguments |= {"dynamic": False, "stop_threshold": 0.5}
    config = dict(trained.pretrained_cfg)
    class_names = config.pop("label_names", None)
    model = timm.create_model(config["architecture"], **arguments)
    model.pretrained_cfg = config
    checkpoint.load_weights(model, run.stage_weights(stage))
    output.mkdir(parents=True, exist_ok=True)
    checkpoint.save(model.half() if half else model, output, class_names)
    exported = RunFolder(output)
    exported.write_metrics(metrics_of(metrics, stage))
    write_text(exported.recipe_path, run.public_recipe(output.absolute().name, stage=stage))


def metrics_of(metrics: dict, stage: str) -> dict:
    """The metrics of one stage, with the training times of the stages up to it."""
    names = list(metrics["seconds"])
    names = names[: names.index(stage) + 1]
    own = metrics | {"results": [row for row in metrics["results"] if row["stage"] == stage]}
    own |= {key: {name: metrics[key][name] for name in names} for key in ("stage_kinds", "seconds")}
    if not KINDS[metrics["stage_kinds"][stage]].dynamic:
        for name in ("curves", "budget"):
            own.pop(name, None)
    return own


if __name__ == "__main__":
    main()
