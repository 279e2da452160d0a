"""Resuming a killed run from its last whole state, and starting a run from the stages of another run."""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from accelerate import Accelerator

from ..checks import check_choice
from .curriculum import Stage
from .recipe import Recipe, read_recipe
from .run_folder import RunFolder

# Arguments of the model that a kind of stage does not use. Runs that differ in them can share its stages.
NOT_IN_RAM = {"num_steps", "stopper", "stop_threshold"}
NOT_IN_ENCODER = {"glimpse_crop", "glimpse_size", "crop_mode", "location_std", "locator"}


@dataclass
class Progress:
    """The progress of a run.

    stage: index of the stage in training.
    epochs_done: finished epochs of this stage.
    best: best validation return of this stage.
    seconds: training time of each stage, by name.
    """

    stage: int = 0
    epochs_done: int = 0
    best: float = -1.0
    seconds: dict[str, float] = field(default_factory=dict)


def save_progress(accelerator: Accelerator, folder: Path, progress: Progress) -> None:
    """Write weights, optimizer, random states and progress as a new state, then remove the older state.

    A whole state therefore exists at any moment after the first epoch, and `last_progress` finds it.
    """
    partial = folder / "partial"
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()  # every process writes its own random state
    if accelerator.is_main_process:
        (partial / "progress.json").write_text(json.dumps(asdict(progress), allow_nan=False))
        whole = folder / f"{progress.stage:03d}-{progress.epochs_done:05d}"
        older = [path for path in folder.glob("[0-9]*") if path != whole]
        shutil.rmtree(whole, ignore_errors=True)
        partial.rename(whole)
        for path in older:
            shutil.rmtree(path)
    accelerator.wait_for_everyone()


def last_progress(folder: Path) -> tuple[Progress, Path | None]:
    """The progress and the path of the newest state; a fresh progress and None if there is no state.

    Raises:
        ValueError: the state is damaged.
    """
    states = sorted(folder.glob("[0-9]*"))
    if not states:
        return Progress(), None
    try:
        return Progress(**json.loads((states[-1] / "progress.json").read_text())), states[-1]
    except (OSError, ValueError, TypeError):
        raise ValueError(f"the state of the run in {str(states[-1])!r} is damaged.") from None


def shared_stages(source: Path, recipe: Recipe, stages: list[Stage]) -> list[Stage]:
    """The first stages of this run that another, finished run has trained.

    Args:
        source: the folder of the other run.
        recipe: this run's recipe; its `stages_until` names the last stage to share.
        stages: this run's stages, in order.

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
    unused = _unused(shared, theirs["model"], mine["model"])
    for either in (theirs, mine):
        either["model"] = {name: value for name, value in either["model"].items() if name not in unused}
        del either["data"]["workers"]  # training does not depend on the number of workers
    for key in ("seed", "architecture", "model", "data"):
        if theirs[key] != mine[key]:
            raise ValueError(f"stages_from={str(folder)!r}: that run has another {key!r}.")
    return shared


def _unused(stages: list[Stage], theirs: dict, mine: dict) -> set[str]:
    """The arguments of the model in which two runs with these shared stages may differ."""
    if any(stage.kind != "encoder" for stage in stages):
        return NOT_IN_RAM
    answers_itself = "last" not in (theirs.get("aggregate"), mine.get("aggregate"))
    return NOT_IN_RAM | NOT_IN_ENCODER | ({"aggregate"} if answers_itself else set())
