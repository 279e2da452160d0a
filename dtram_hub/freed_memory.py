"""Freed memory of this process, kept for the next tensors on the CPU.

glibc takes every block of 32 MiB or more from the kernel, and gives it back as soon as it is free. The
kernel clears its pages one by one when they are touched. On a virtual machine this can take as long as the
computation.
"""

import ctypes
import os
import platform

# Settings of mallopt(3), and their values: no block of its own for a large request, no return of free memory.
SETTINGS = {-4: 0, -1: -1}  # M_MMAP_MAX, M_TRIM_THRESHOLD
ASKED_BY = (
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "GLIBC_TUNABLES",
    "LD_PRELOAD",
)


def keep_freed_memory() -> bool:
    """Let the C library keep the memory that this process frees, for a program that a user has started.

    The process holds its peak of memory until it ends. Values of tensors stay the same.

    Returns:
        Whether the settings hold. They are those of glibc alone, and the user's environment comes first.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in ASKED_BY):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(setting, value) for setting, value in SETTINGS.items())
