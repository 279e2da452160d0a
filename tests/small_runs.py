"""Runs of training/train.py that take seconds."""

import contextlib
import io
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState, GradientState

import train as train_script

SCRIPT = Path(__file__).parents[1] / "training" / "train.py"
SMALL = [
    *("threads=1", "trackers=[]", "batch_size=32", "mean_steps=null"),
    *("model.num_steps=3", "model.image_size=32", "model.hidden_size=16"),
    *("data.options.num_train=640", "data.options.num_closeup=64", "data.options.zoom=2"),
    *("data.options.num_validation=64", "data.options.num_test=64"),
    *("stages.encoder.epochs=1", "stages.ram.epochs=2", "stages.dtram.epochs=2"),
]


def command(*words: str) -> list[str]:
    return [sys.executable, str(SCRIPT), *SMALL, *words]


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """accelerate keeps one state for the process; a run of another precision needs another one."""
    _forget_state()  # of a test that ran before
    try:
        yield
    finally:
        _forget_state()


def _forget_state() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def run_here(words: list[str]) -> str:
    """Train in this process, which saves the imports of another one, and return what is printed."""
    with apart(), contextlib.redirect_stdout(io.StringIO()) as printed:
        train_script.main(words)
    return printed.getvalue()


def train(*words: str) -> str:
    return run_here([*SMALL, *words])


def start(words: list[str], output: Path, state: str = "0*", **kwargs) -> subprocess.Popen:
    """Start a run, and wait until it has written a state whose name has the pattern `state`."""
    process = subprocess.Popen(
        [*words, f"output={output}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kwargs
    )
    deadline = time.monotonic() + 120
    while not any((output / "checkpoints").glob(state)):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def refusal(*words: str) -> str:
    """The sentence with which a run is refused."""
    with pytest.raises(SystemExit) as refused:
        train(*words)
    return str(refused.value)
