"""Going on: with a killed run, exactly, as its state is written whole or not at all; or from another run."""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from accelerate import Accelerator
from omegaconf import OmegaConf

from ..checks import check_choice
from .curriculum import Stage
from .recipe import Recipe

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
    if not (source / "metrics.json").is_file():
        raise ValueError(f"stages_from={str(source)!r} is not the folder of a finished run.")
    theirs, mine = OmegaConf.load(source / "recipe.yaml"), OmegaConf.structured(recipe)
    kept = {path.stem for path in (source / "stages").glob("*.safetensors")}
    shared = [stage for stage in stages if stage.name in kept and not stage.dynamic]
    if recipe.stages_until is not None:
        names = [stage.name for stage in shared]
        check_choice("stages_until", recipe.stages_until, names)
        shared = shared[: names.index(recipe.stages_until) + 1]
    if not shared or shared != stages[: len(shared)]:
        raise ValueError(
            f"stages_from={str(source)!r} has {', '.join(sorted(kept))}; "
            f"this run starts with {stages[0].name}."
        )
    unused = set(NOT_IN_RAM)
    if [stage.name for stage in shared] == ["encoder"]:
        unused |= NOT_IN_ENCODER
        if "last" not in (theirs.model.get("aggregate"), mine.model.get("aggregate")):
            unused |= {"aggregate"}  # the first look is answered in the same way
    for either in (theirs, mine):
        for key in unused:
            either.model.pop(key, None)
    for key in ("seed", "architecture", "model", "data"):
        if theirs.get(key) != mine[key]:
            raise ValueError(f"stages_from={str(source)!r}: that run has another {key!r}.")
    return shared
