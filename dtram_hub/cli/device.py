"""The device that `--device` names."""

import os

import torch


def find_device(name: str) -> str:
    """The device that a word names; "auto" is the first of this machine's accelerators, or else the CPU.

    Raises:
        ValueError: this machine has no such device.
    """
    counts = {
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
        "xpu": torch.xpu.device_count(),
        "cpu": 1,
    }
    accepted = [kind for kind, count in counts.items() if count]
    if name == "auto":
        local = int(os.environ.get("LOCAL_RANK", 0))
        return f"{accepted[0]}:{local % counts[accepted[0]]}" if counts[accepted[0]] > 1 else accepted[0]
    kind, colon, index = name.partition(":")
    if kind not in accepted or (colon and index not in map(str, range(counts[kind]))):
        accepted = ["cpu", *accepted[:-1]]
        found = ", ".join(f"{kind} ({counts[kind]})" if counts[kind] > 1 else kind for kind in accepted)
        raise ValueError(f"--device={name!r} is none of this machine's devices; accepted: {found}.")
    return name
