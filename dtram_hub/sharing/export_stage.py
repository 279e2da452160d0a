"""One stage of a finished run as a model of its own, for example RAM-4 from the curriculum of a DT-RAM."""

from pathlib import Path

import timm

from ..checks import check_choice
from ..files import write_text
from ..learning.curriculum import KINDS
from ..learning.run_folder import RunFolder, own_result, stage_rows
from ..models import checkpoint
from ..models.dtram import DTRAM


def stage_model(run: RunFolder, stage: str) -> DTRAM:
    """The model of a stage, in evaluation mode.

    Args:
        run: a finished run with the weights of its stages.
        stage: encoder, ram_2, ram_3, .. or dtram.

    Raises:
        ValueError: no such stage, or no finished run.
    """
    trained, rows = checkpoint.load(run.path), {row["stage"]: row for row in stage_rows(run.read_metrics())}
    check_choice("stage", stage, rows)
    check_choice("stage_kind", rows[stage]["stage_kind"], KINDS)
    if stage not in run.kept_stages():
        raise ValueError(f"{str(run)!r} has no {run.stage_weights(stage).name} in its folder stages.")
    arguments = trained.arguments() | {"num_steps": rows[stage]["num_steps"]}
    if not KINDS[rows[stage]["stage_kind"]].dynamic:
        arguments |= {"dynamic": False, "stop_threshold": 0.5}
    model = timm.create_model(trained.pretrained_cfg["architecture"], **arguments)
    model.pretrained_cfg = dict(trained.pretrained_cfg)
    checkpoint.load_weights(model, run.stage_weights(stage))
    return model.eval()


def export_stage(run: RunFolder, stage: str, output: Path, half: bool = False) -> None:
    """Write the weights of a stage, its configuration, its metrics and its recipe into a folder.

    Args:
        run, stage: as in `stage_model`.
        output: a folder that is new or empty.
        half: whether to save the weights in 16 bits, at half the size.

    Raises:
        ValueError: as in `stage_model`, or `output` holds files.
    """
    if output.is_dir() and any(output.iterdir()):
        raise ValueError(f"output={str(output)!r} is not empty; accepted is a new folder.")
    model, metrics = stage_model(run, stage), run.read_metrics()
    output.mkdir(parents=True, exist_ok=True)
    checkpoint.save(model.half() if half else model, output, model.pretrained_cfg.get("label_names"))
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
    if stage != own_result(metrics)["stage"]:
        for name in ("budgets", "scores"):
            own.pop(name, None)
    return own
