"""The state of a training run, written whole or not at all, so that a killed run goes on exactly."""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from accelerate import Accelerator


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
