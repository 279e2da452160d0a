"""What it costs to get freed memory from the kernel anew, and to keep it (`dtram_hub/freed_memory.py`).

    python benchmarks/page_faults.py

Training steps and predictions run in processes of their own, in turns: one with the C library's own settings,
one that keeps its freed memory. Weights are random: they do not change the time.
"""

import argparse
import multiprocessing
import platform
import resource
import statistics
import time
from collections.abc import Callable

import timm
import torch

import dtram_hub
from dtram_hub.freed_memory import keep_freed_memory
from dtram_hub.learning.curriculum import Stage, enter_stage
from dtram_hub.learning.losses import LossConfig
from dtram_hub.learning.task import Task
from timing import positive

PREDICTION = "prediction"
CASES = {  # name: steps and batch
    "training, 1 step, batch 32": (1, 32),
    "training, 3 steps, batch 16": (3, 16),
    PREDICTION + ", 3 steps, batch 8": (3, 8),
}


def work(case: str, name: str) -> Callable[[], object]:
    """One training step or one prediction of a case, ready to run."""
    steps, batch = CASES[case]
    model = timm.create_model(name, num_classes=50, num_steps=3, img_size=256).to(
        memory_format=torch.channels_last
    )
    images = torch.randint(0, 256, (batch, 3, model.image_size, model.image_size), dtype=torch.uint8)
    if case.startswith(PREDICTION):
        model.eval().dynamic = False
        return lambda: model.predict(images)
    enter_stage(model, Stage(kind="ram" if steps > 1 else "encoder", num_steps=steps))
    task, labels = Task(model, LossConfig(), freeze_batch_norm=True).train(), torch.arange(batch) % 50
    return lambda: task(images, labels).total.backward()


def measure(case: str, name: str, threads: int, repeats: int, keeps: bool) -> tuple[float, int, float]:
    """Median seconds, page faults of one repeat, and the peak of resident memory in MiB."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if keeps and not keep_freed_memory():
        raise RuntimeError("these settings are glibc's, and variables of the environment come first.")
    run, times = work(case, name), []
    for repeat in range(repeats + 1):
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        run()
        if repeat:
            times.append(time.perf_counter() - start)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return statistics.median(times), usage.ru_minflt - before, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="dtram_mobilenetv2_100")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--repeats", type=positive, default=5)
    parser.add_argument("--turns", type=positive, default=3)
    args = parser.parse_args()
    print(
        f"{platform.platform()}, {args.threads} threads, {args.model}, python {platform.python_version()}, "
        f"torch {torch.__version__}, timm {timm.__version__}, dtram_hub {dtram_hub.__version__}, seed 0"
    )
    for case in CASES:
        found: dict[bool, list] = {False: [], True: []}
        for turn in range(args.turns):
            for keeps in (turn % 2 == 0, turn % 2 == 1):
                # A process of its own for each, because the settings stay until its end.
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    words = (case, args.model, args.threads, args.repeats, keeps)
                    found[keeps].append(pool.apply(measure, words))
        times = {keeps: statistics.median(seconds for seconds, _, _ in rows) for keeps, rows in found.items()}
        print(f"{case}: time {times[False] / times[True]:.2f} (returned / kept)")
        for keeps, rows in found.items():
            _, faults, peak = rows[-1]
            side = "kept" if keeps else "returned"
            print(
                f"  {side:9} {times[keeps]:7.3f} s, {faults:8} page faults, at most {peak:6.0f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
