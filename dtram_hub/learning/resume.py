"""Resuming a killed run: its states on disk, and their checksums.

checkpoints/SSS-EEEEE/      the state after epoch E of stage S; the last two states are kept
    model.safetensors, optimizer.bin, random_states_*.pkl    written by accelerate
    best.safetensors        a copy of the best weights of the stage so far
    average.safetensors     the averaged weights, where the recipe asks for them
    progress.json           see `Progress`
    SHA256SUMS              checksums of all other files, for `sha256sum --check`
"""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from hashlib import file_digest
from pathlib import Path
from pickle import UnpicklingError

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from safetensors import SafetensorError
from torch import nn

from ..files import replacing, write_text
from ..models.checkpoint import load_weights, save_weights
from ..prompt import one_line
from .machine import count_machine, on_main
from .run_folder import RunFolder
from .same_run import AGAIN, check_same_data

SUMS, PROGRESS, BEST, AVERAGE = "SHA256SUMS", "progress.json", "best.safetensors", "average.safetensors"
WHOLE = {PROGRESS, BEST, "model.safetensors", "optimizer.bin"}  # every state has these files
KEPT = 2  # if the newest state is damaged, the one before it costs an epoch

logger = get_logger(__name__)


@dataclass
class Progress:
    """The progress of a run.

    stage: index of the stage in training.
    epochs_done: finished epochs of this stage.
    best: best validation return of this stage.
    best_epoch: the number of epochs after which it was reached.
    seconds: training time of each stage, by name.
    weights: checksum of the weights of each finished stage, by name.
    data: `identify` of the images that the run learns from.
    machine: numbers of processes and of CPU threads.
    """

    stage: int = 0
    epochs_done: int = 0
    best: float = -1.0
    best_epoch: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    machine: dict[str, int] = field(default_factory=dict)

    def is_stale(self, patience: int | None) -> bool:
        """Whether the last `patience` epochs were no better than the best one; None never tires."""
        return patience is not None and self.epochs_done - self.best_epoch >= patience

    def next_stage(self, finished: str, folder: RunFolder) -> "Progress":
        """The progress after the stage `finished`, whose weights in `folder` will not change again."""
        weights = self.weights | {finished: checksum(folder.stage_weights(finished))}
        return replace(self, stage=self.stage + 1, epochs_done=0, best=-1.0, best_epoch=0, weights=weights)


def save_progress(
    accelerator: Accelerator,
    folder: RunFolder,
    progress: Progress,
    stage: str,
    average: nn.Module | None = None,
) -> None:
    """Write weights, optimizer, random states and progress as a new state, then remove the oldest state.

    A whole state therefore exists at any moment after the first epoch, and `last_progress` finds it.

    Args:
        accelerator: with the model and the optimizer of the stage prepared.
        folder: the run.
        progress: its progress.
        stage: name of the stage in training, whose best weights lie in the folder.
        average: a model with the averaged weights, if there are some.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    partial = folder.partial_state
    with writing(folder):
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(partial))
        accelerator.wait_for_everyone()  # every process writes its own random state
        if accelerator.is_main_process:
            shutil.copyfile(folder.stage_weights(stage), partial / BEST)  # a link would share its damage
            if average is not None:
                save_weights(average, partial / AVERAGE)
            (partial / PROGRESS).write_text(json.dumps(asdict(progress), allow_nan=False))
            lines = [f"{checksum(path)}  {path.name}\n" for path in sorted(partial.iterdir())]
            write_text(partial / SUMS, "".join(lines))
            whole = folder.states / f"{progress.stage:03d}-{progress.epochs_done:05d}"
            shutil.rmtree(whole, ignore_errors=True)
            partial.rename(whole)
            for path in states(folder)[:-KEPT]:
                shutil.rmtree(path)
    accelerator.wait_for_everyone()


def continue_run(
    accelerator: Accelerator, folder: RunFolder, stages: list[str], data: dict[str, str]
) -> tuple[Progress, Path | None]:
    """Find the newest whole state, and put back the best weights of its stage.

    Args:
        accelerator: this run's.
        folder: the run.
        stages: the names of all stages.
        data: `identify` of the images now.

    Returns:
        Its progress and its path; a fresh progress and None if there is no state yet.

    Raises:
        ValueError: all states are damaged, the weights of a finished stage are, or the data have changed.
    """
    progress, state = on_main(accelerator, last_progress, folder)
    if state is not None:
        check_same_data(f"--resume: the run in {str(folder)!r}", progress.data, data)
        _tell_changes(progress.machine, count_machine(accelerator))
        on_main(accelerator, _restore, state / BEST, folder.stage_weights(stages[progress.stage]))
    return progress, state


def last_progress(folder: RunFolder) -> tuple[Progress, Path | None]:
    """The progress and the path of the newest whole state; a fresh progress and None if there is no state.

    A message names a damaged newer state.

    Raises:
        ValueError: all states are damaged, or the weights of a finished stage are.
    """
    damaged = []
    for state in reversed(states(folder)):
        try:
            progress = _read(state)
        except ValueError as error:
            damaged.append(str(error))
            continue
        for line in damaged:
            logger.info(f"--resume: {line} The run continues from {str(state)!r}, the state before it.")
        for name, known in progress.weights.items():
            path = folder.stage_weights(name)
            if not path.is_file() or checksum(path) != known:
                raise ValueError(f"--resume: {str(path)!r} is missing or damaged. {AGAIN}")
        return progress, state
    if damaged:
        raise ValueError(f"--resume: {' '.join(damaged)} No whole state is left. {AGAIN}")
    return Progress(), None


def states(folder: RunFolder) -> list[Path]:
    """The states of a run, the oldest first. Other files in their folder are left alone."""
    found = folder.states.iterdir() if folder.states.is_dir() else ()
    return sorted(path for path in found if path.is_dir() and re.fullmatch(r"\d{3,}-\d{5,}", path.name))


def load_state(
    accelerator: Accelerator,
    state: Path,
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None = None,
) -> None:
    """Load a whole state; ValueError if it is of another model or optimizer.

    Args:
        accelerator, average: as in `save_progress`.
        state: the folder of the state.
        optimizer: that of the stage.
    """
    try:
        accelerator.load_state(str(state))
        if average is not None:
            load_weights(average, state / AVERAGE)
        fits = all("lr_scale" in group for group in optimizer.param_groups)
    except (RuntimeError, ValueError, KeyError, OSError, EOFError, SafetensorError, UnpicklingError):
        fits = False
    if not fits:
        raise ValueError(
            f"--resume: the state in {str(state)!r} does not fit this version of the package; "
            f"accepted is a state that this version wrote. {AGAIN}"
        )


def _tell_changes(before: dict[str, int], now: dict[str, int]) -> None:
    """Say that another machine may change the last bits; `before` and `now` are `Progress.machine`."""
    changed = [
        f"{name} {before[name]} -> {now[name]}" for name in now if before.get(name, now[name]) != now[name]
    ]
    if changed:
        logger.info(
            f"--resume: {', '.join(changed)}; the last bits of the weights may differ from one whole run."
        )


def checksum(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


@contextmanager
def writing(folder: RunFolder) -> Iterator[None]:
    """OSError in one sentence if a file of the run cannot be written.

    torch and safetensors have errors of their own for a full disk.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or one_line(error, 160)
        raise OSError(
            f"output={str(folder)!r} cannot be written ({reason}); make room there, then continue the run "
            "with --resume."
        ) from error


def _read(state: Path) -> Progress:
    """The progress of a state; a ValueError names its first file that is missing or damaged."""
    sums = state / SUMS
    if not sums.is_file():
        raise ValueError(f"the state {str(state)!r} has no {SUMS}.")
    lines = re.findall(r"^([0-9a-f]{64})  (.+)$", sums.read_text(errors="replace"), re.MULTILINE)
    listed = {name: known for known, name in lines}
    found = {path.name for path in state.iterdir() if not path.name.startswith(".")} - {SUMS}
    for name in sorted(WHOLE | {*listed, *found}):
        path = state / name
        if Path(name).name != name or not path.is_file() or checksum(path) != listed.get(name):
            raise ValueError(f"{str(path)!r} is missing or damaged.")
    return Progress(**json.loads((state / PROGRESS).read_text()))


def _restore(best: Path, target: Path) -> None:
    """Put the best weights of a state back, because a killed epoch may have replaced them."""
    with replacing(target) as temporary:
        shutil.copyfile(best, temporary)
