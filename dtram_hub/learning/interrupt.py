"""Signals that end a training: Ctrl-C, SIGTERM, SIGHUP, and the death of the launcher."""

import os
import signal
import threading
import time

ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
# Variables that `accelerate launch` and torchrun set for the processes that they start.
LAUNCHED = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")
INTERVAL = 0.5  # seconds between two looks at the launcher
PATIENCE = 30.0  # seconds for files to be closed and other processes to be left


class Interrupted(KeyboardInterrupt):
    """A signal has asked the process to end. `number` is the signal's."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number


def end_on_signals() -> None:
    """Let Ctrl-C, SIGTERM and SIGHUP raise `Interrupted` in the main thread, so that files are closed.

    Further signals do not disturb this end, and a process that hangs in it is cut off. A process that ignores
    a signal, as under nohup, goes on ignoring it.
    """
    for number in (signal.SIGINT, *ENDING):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def end_with_launcher() -> None:
    """Send SIGTERM to this process when its launcher has died, which does not tell it.

    A process without a launcher outlives its parent, as programs do.
    """
    if any(name in os.environ for name in LAUNCHED):
        threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _interrupt(number: int, _: object) -> None:
    for ending in (signal.SIGINT, *ENDING):  # launchers and terminals may send several
        signal.signal(ending, signal.SIG_IGN)
    timer = threading.Timer(PATIENCE, os._exit, [128 + number])
    timer.daemon = True
    timer.start()
    raise Interrupted(number)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(INTERVAL)
    os.kill(os.getpid(), signal.SIGTERM)
