"""Starting a training script through accelerate's launcher, as `accelerate launch` does, in this process."""

import logging
import signal
import sys

import psutil
from accelerate.commands.launch import launch_command, launch_command_parser
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from .interrupt import ENDING


def launch(script: str, words: tuple[str, ...]) -> None:
    """Run a script in the processes that accelerate's configuration asks for, and exit with its status.

    The script prints its own errors. Signals reach the script, which ends in its own way.
    """
    signal.signal(signal.SIGINT, _wait)  # Ctrl-C reaches the script without help
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _forward)
    # It would list all defaults of a launcher that the user did not call.
    logging.getLogger("accelerate.commands.launch").setLevel(logging.ERROR)
    args = launch_command_parser().parse_args(["--quiet", script, *words])
    try:
        launch_command(args)
    except (ChildFailedError, SignalException):
        sys.exit(1)


def _wait(number: int, _: object) -> None:
    """Do nothing; the launcher waits for the script to end."""


def _forward(number: int, _: object) -> None:
    for child in psutil.Process().children():
        child.send_signal(number)
