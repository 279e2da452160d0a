"""The machine of a run: devices, processes, CPU threads and trackers."""

import os
import platform
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import broadcast_object_list
from torch import distributed

from ..checks import check_choice
from ..freed_memory import keep_freed_memory
from .recipe import Recipe

LOST = re.compile("connection (closed|reset|refused)|broken pipe|timed out|gloo|nccl", re.IGNORECASE)
# Threads that compose and augment images for a GPU. More are no faster. Several programs that each have a
# thread for every processor wait for one another, and take tens of times as long.
BESIDE_A_GPU = 4
# Ways of training in accelerate's configuration that are not offered, by the variables that ask for them.
REFUSED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
}


def make_accelerator(recipe: Recipe) -> Accelerator:
    """Make the accelerator of a run, and set the number of CPU threads.

    Raises:
        ValueError: the processes do not divide the batch evenly, a tracker is unknown or not installed, or as
            in `join_processes`.
    """
    check_trackers(recipe.trackers)
    accelerator = join_processes(
        mixed_precision=recipe.precision,
        gradient_accumulation_steps=recipe.accumulation,
        log_with=recipe.trackers or None,
        project_dir=recipe.output,
    )
    world = accelerator.num_processes
    if recipe.batch_size % world:
        raise ValueError(f"batch_size={recipe.batch_size} is not divisible by {world} processes.")
    set_up_cpu(accelerator, recipe.threads)
    return accelerator


def join_processes(**words: Any) -> Accelerator:
    """An accelerator of all processes that the launcher has started; arguments as in `Accelerator`.

    Raises:
        ValueError: accelerate's configuration asks for a way of training that is not offered, or for more
            processes than it has started.
    """
    for name, way in REFUSED.items():
        if os.environ.get(name, "").lower() in ("1", "true"):
            raise ValueError(
                f"accelerate's configuration asks for {way}; accepted is DDP (--multi_gpu), in which every "
                "device holds the whole model."
            )
    check_started()
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1
    # Without `cpu` accelerate would leave processes alone that have no GPU.
    return Accelerator(cpu=several and not torch.accelerator.is_available(), **words)


def check_started() -> None:
    """ValueError if accelerate's launcher was asked for several processes, but has started one."""
    if "WORLD_SIZE" in os.environ:
        return
    try:
        words = psutil.Process(os.getppid()).cmdline()
    except psutil.Error:
        return
    pairs = [(word.partition("="), after) for word, after in zip(words, [*words[1:], ""], strict=True)]
    options = ("--num_processes", "--num-processes")
    asked = [value or after for (option, _, value), after in pairs if option in options]
    is_launcher = any("accelerate" in word for word in words[:3])
    if is_launcher and asked and asked[-1].isdigit() and int(asked[-1]) > 1:
        raise ValueError(
            f"accelerate has started one process, not the {asked[-1]} of --num_processes; without a GPU, "
            f"type torchrun --nproc_per_node {asked[-1]} in the place of accelerate launch and its options."
        )


@contextmanager
def telling_of_lost_processes() -> Iterator[None]:
    """ConnectionError in one sentence if another process of the run has ended while this one waits for it."""
    try:
        yield
    except RuntimeError as error:  # of torch.distributed
        if not (distributed.is_initialized() and LOST.search(str(error))):
            raise
        raise ConnectionError(
            "another process of this run has ended; --resume continues after the last finished epoch."
        ) from error


def set_up_cpu(accelerator: Accelerator, threads: int | None) -> None:
    """Set the number of CPU threads, and keep freed memory if the CPU is what trains.

    Args:
        accelerator: that of the run.
        threads: of this process; None for a share of all processors on a CPU, and for at most BESIDE_A_GPU
            beside a GPU.
    """
    on_cpu = accelerator.device.type == "cpu"
    if threads is None:
        # On a CPU not torch's own number, because accelerate's launcher sets it to one.
        share = max(1, os.cpu_count() // accelerator.num_processes)
        threads = share if on_cpu else min(torch.get_num_threads(), BESIDE_A_GPU)
    torch.set_num_threads(threads)
    if on_cpu:
        keep_freed_memory()


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
    found: list[Any] = [None, None]
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
