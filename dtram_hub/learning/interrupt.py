"""Signals that end a training: Ctrl-C, SIGTERM, SIGHUP, and the death of the launcher."""

import os
import signal
import threading
import time

ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
# Variables that `accelerate launch` and torchrun set for the processes that they start.
LAUNCHED = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")
INTERVAL = 0.5  # seconds between two looks at the launcher


class Interrupted(KeyboardInterrupt):
    """A signal has asked the process to end. `number` is the signal's."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number


def end_on_signals() -> None:
    """Let SIGTERM and SIGHUP raise `Interrupted` in the main thread, so that files are closed and removed.

    A process that ignores a signal, as under nohup, goes on ignoring it.
    """
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def end_with_launcher() -> None:
    """Send SIGTERM to this process when its launcher has died, which does not tell it.

    A process without a launcher outlives its parent, as programs do.
    """
    if any(name in os.environ for name in LAUNCHED):
        threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _interrupt(number: int, _: object) -> None:
    raise Interrupted(number)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(INTERVAL)
    os.kill(os.getpid(), signal.SIGTERM)
