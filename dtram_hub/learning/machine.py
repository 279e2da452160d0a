"""The machine of a run: devices, processes, CPU threads and trackers."""

import os
import platform
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import broadcast_object_list

from ..checks import check_choice
from .recipe import Recipe


def make_accelerator(recipe: Recipe) -> Accelerator:
    """Make the accelerator of a run, and set the number of CPU threads.

    Raises:
        ValueError: the processes do not divide the batch evenly, or a tracker is unknown or not installed.
    """
    check_trackers(recipe.trackers)
    accelerator = Accelerator(
        mixed_precision=recipe.precision,
        gradient_accumulation_steps=recipe.accumulation,
        log_with=recipe.trackers or None,
        project_dir=recipe.output,
    )
    world = accelerator.num_processes
    if recipe.batch_size % world:
        raise ValueError(f"batch_size={recipe.batch_size} is not divisible by {world} processes.")
    if accelerator.device.type == "cpu":
        # accelerate's launcher sets one thread by default.
        torch.set_num_threads(recipe.threads or max(1, os.cpu_count() // world))
    return accelerator


def check_trackers(names: list[str]) -> None:
    """ValueError unless accelerate knows every tracker and its package is installed.

    accelerate itself leaves a tracker out that is not installed, without a word.
    """
    installed = [str(getattr(tracker, "value", tracker)) for tracker in get_available_trackers()]
    for name in names:
        check_choice("trackers", name, LOGGER_TYPE_TO_CLASS)
        if name not in installed:
            raise ValueError(
                f"trackers={name!r} is not installed; accepted here: {', '.join(installed) or 'none'}. "
                f"pip install {name}, or pass trackers=[]."
            )


def on_main(accelerator: Accelerator, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in the main process alone; every process gets its result, or its error.

    Raises:
        ValueError, OSError: as the function.
    """
    found = [None, None]
    if accelerator.is_main_process:
        try:
            found[0] = function(*args)
        except (ValueError, OSError) as error:
            found[1] = error
    result, error = broadcast_object_list(found)
    if error is not None:
        raise error
    return result


def count_machine(accelerator: Accelerator) -> dict[str, int]:
    """The numbers on which the last bits of the weights depend."""
    return {"processes": accelerator.num_processes, "threads": torch.get_num_threads()}


def describe_machine(accelerator: Accelerator) -> str:
    """Describe processes, devices and CPU threads in words."""
    world, device = accelerator.num_processes, accelerator.device
    if device.type == "cuda":
        return f"{world} x {torch.cuda.get_device_name(device)}"
    threads = torch.get_num_threads()
    processes = "" if world == 1 else f", each of {world} processes"
    return f"{threads} CPU thread{'s' if threads > 1 else ''}{processes} ({platform.machine()})"
