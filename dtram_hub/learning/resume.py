"""Going on: with a killed run, exactly, as its state is written whole or not at all; or from another run."""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from accelerate import Accelerator

from ..checks import check_choice
from .curriculum import Stage
from .recipe import Recipe, read_recipe
from .run_folder import RunFolder

# Arguments of the model that a stage does not use, so that runs which differ in them can share it.
NOT_IN_RAM = {"num_steps", "stopper", "stop_threshold"}
NOT_IN_ENCODER = {"glimpse_crop", "glimpse_size", "crop_mode", "location_std", "locator"}


@dataclass
class Progress:
    """How far a run has come.

    stage: index of the stage in training.
    epochs_done: of that stage.
    best: its best validation return so far.
    seconds: training time of each stage, by name.
    """

    stage: int = 0
    epochs_done: int = 0
    best: float = -1.0
    seconds: dict[str, float] = field(default_factory=dict)


def save_progress(accelerator: Accelerator, folder: Path, progress: Progress) -> None:
    """Write weights, optimizer, random states and progress beside the last state, then drop the last one.

    Whenever the process dies, `folder` holds at least one whole state, and `last_progress` finds it.
    """
    partial = folder / "partial"
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()  # each process writes its own random state into it
    if accelerator.is_main_process:
        (partial / "progress.json").write_text(json.dumps(asdict(progress)))
        whole = folder / f"{progress.stage:03d}-{progress.epochs_done:05d}"
        older = [path for path in folder.glob("[0-9]*") if path != whole]
        shutil.rmtree(whole, ignore_errors=True)
        partial.rename(whole)
        for path in older:
            shutil.rmtree(path)
    accelerator.wait_for_everyone()


def last_progress(folder: Path) -> tuple[Progress, Path | None]:
    """The newest whole state: how far it is and where it lies; a fresh start where there is none.

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
    """The leading stages of a run that another, finished one has trained already.

    Args:
        source: the other run's folder.
        recipe: of this run; `stages_until` names the last stage to take.
        stages: of this run, in order.

    Raises:
        ValueError: no finished run, one with another seed, model or data, or one without the first stages.
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
        del either["data"]["workers"]  # which changes nothing that is learned
    for key in ("seed", "architecture", "model", "data"):
        if theirs[key] != mine[key]:
            raise ValueError(f"stages_from={str(folder)!r}: that run has another {key!r}.")
    return shared


def _unused(stages: list[Stage], theirs: dict, mine: dict) -> set[str]:
    """The arguments of the model that may differ between two runs that share these stages."""
    if any(stage.kind != "encoder" for stage in stages):
        return NOT_IN_RAM
    answers_itself = "last" not in (theirs.get("aggregate"), mine.get("aggregate"))
    return NOT_IN_RAM | NOT_IN_ENCODER | ({"aggregate"} if answers_itself else set())
