"""The machine of a run: devices, processes and CPU threads."""

import os
import platform

import torch
from accelerate import Accelerator

from .recipe import Recipe


def make_accelerator(recipe: Recipe) -> Accelerator:
    """Make the accelerator of a run, and set the number of CPU threads.

    Raises:
        ValueError: the processes do not divide the batch evenly.
    """
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


def describe_machine(accelerator: Accelerator) -> str:
    """Describe processes, devices and CPU threads in words."""
    world, device = accelerator.num_processes, accelerator.device
    if device.type == "cuda":
        return f"{world} x {torch.cuda.get_device_name(device)}"
    threads = torch.get_num_threads()
    processes = "" if world == 1 else f", each of {world} processes"
    return f"{threads} CPU thread{'s' if threads > 1 else ''}{processes} ({platform.machine()})"
