"""Starting a run from the stages of another run."""

import inspect
from dataclasses import asdict
from pathlib import Path

from ..checks import check_choice
from ..models import checkpoint
from ..models.answer import ANSWERS
from ..models.dtram import DTRAM
from .curriculum import Stage
from .recipe import Recipe, read_recipe
from .resume import Progress, writing
from .run_folder import RunFolder
from .same_run import check_same_data

# Arguments of the model that a kind of stage does not use. Runs that differ in them can share its stages.
NOT_IN_RAM = {"num_steps", "stopper", "stop_threshold"}
NOT_IN_ENCODER = {"glimpse_crop", "glimpse_size", "crop_mode", "location_std", "locator"}
DEFAULT_ANSWER = inspect.signature(DTRAM).parameters["aggregate"].default


def shared_stages(source: Path, recipe: Recipe, stages: list[Stage], data: dict[str, str]) -> list[Stage]:
    """The first stages of this run that another, finished run has trained.

    Args:
        source: the folder of the other run.
        recipe: this run's recipe; its `stages_until` names the last stage to share.
        stages: this run's stages, in order.
        data: `resume.identify` of this run's images.

    Raises:
        ValueError: the other run is not finished, lacks the first stage, or has another seed, model or data.
    """
    folder = RunFolder(source)
    if not folder.is_finished:
        raise ValueError(f"stages_from={str(folder)!r} is not the folder of a finished run.")
    kept = folder.kept_stages()
    shared = [stage for stage in stages if stage.name in kept and not stage.dynamic]
    if recipe.stages_until is not None:
        names = [stage.name for stage in shared]
        check_choice("stages_until", recipe.stages_until, names)
        shared = shared[: names.index(recipe.stages_until) + 1]
    if not shared or shared != stages[: len(shared)]:
        raise ValueError(
            f"stages_from={str(folder)!r} has {', '.join(sorted(kept))}; "
            f"this run starts with {stages[0].name}."
        )
    theirs, mine = asdict(read_recipe(folder.recipe_path)), asdict(recipe)
    counts = [either["stages"]["folds"]["count"] for either in (theirs, mine)]
    if any(stage.fold for stage in shared) and counts[0] != counts[1]:
        raise ValueError(
            f"stages_from={str(folder)!r}: that run has stages.folds.count={counts[0]}, this one {counts[1]}."
        )
    unused = _unused(shared, theirs["model"], mine["model"])
    for either in (theirs, mine):
        either["model"] = {name: value for name, value in either["model"].items() if name not in unused}
        del either["data"]["workers"]  # training does not depend on the number of workers
    for key in ("seed", "architecture", "model", "data"):
        if theirs[key] != mine[key]:
            raise ValueError(f"stages_from={str(folder)!r}: that run has another {key!r}.")
    # Runs of older versions do not say which images they saw.
    check_same_data(f"stages_from={str(folder)!r}: that run", folder.read_metrics().get("data", data), data)
    return shared


def copy_stages(model: DTRAM, source: RunFolder, folder: RunFolder, stages: list[Stage]) -> Progress:
    """Copy the weights of these stages from the run `source` into `folder`.

    A part of another shape in this run, which the stages did not train, keeps its fresh weights.

    Args:
        model: the model of this run.
        source: the other run.
        folder: this run.
        stages: from `shared_stages`.

    Returns:
        The progress of this run, with the training times of the other.

    Raises:
        OSError: the weights cannot be written.
    """
    seconds = source.read_metrics()["seconds"]
    progress = Progress()
    for stage in stages:
        checkpoint.load_weights(model, source.stage_weights(stage.name), fitting=True)
        with writing(folder):
            checkpoint.save_weights(model, folder.stage_weights(stage.name))
        progress = progress.next_stage(stage.name, folder)
        progress.seconds[stage.name] = seconds[stage.name]
    return progress


def _unused(stages: list[Stage], theirs: dict, mine: dict) -> set[str]:
    """The arguments of the model in which two runs with these shared stages may differ."""
    if any(stage.num_steps > 1 for stage in stages):
        return NOT_IN_RAM
    both = [ANSWERS[model.get("aggregate", DEFAULT_ANSWER)] for model in (theirs, mine)]
    return NOT_IN_RAM | NOT_IN_ENCODER | ({"aggregate"} if all(a.asks_first for a in both) else set())
