"""The early end of a training: Ctrl-C, a signal to the program, the death of the launcher, a full disk."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dtram_hub.learning import interrupt
from small_runs import SCRIPT, SMALL, command, refusal, start

PROGRAM = [sys.executable, "-m", "dtram_cli", "train", *SMALL]
LAUNCHER = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", str(SCRIPT), *SMALL]
LONG = ["stages.ram.epochs=500"]


def begin(words: list[str], output: Path, **kwargs) -> subprocess.Popen:
    """Start a long run in a session of its own, and wait for its first state."""
    return start([*words, *LONG], output, start_new_session=True, **kwargs)


def wait_for(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert alive == []


def family(process: subprocess.Popen) -> list[psutil.Process]:
    own = psutil.Process(process.pid)
    return [own, *own.children(recursive=True)]


@pytest.mark.long
def test_a_signal_to_the_program_ends_the_training_in_a_sentence(tmp_path: Path) -> None:
    output = tmp_path / "run"
    process = begin(PROGRAM, output)
    processes = family(process)
    assert "is in use by another training" in refusal(f"output={output}", *LONG, "--resume")
    assert "is in use by another training" in refusal(f"output={output}", *LONG)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)
    wait_for(processes)
    assert process.returncode == 1
    assert printed.splitlines()[-1] == (
        "train.py: stopped; --resume continues after the last finished epoch."
    )
    assert "Traceback" not in printed
    assert not [*output.rglob("*.tmp"), *output.rglob("partial")]


def test_ctrl_c_ends_in_a_sentence(tmp_path: Path) -> None:
    process = begin(command(), tmp_path / "run")
    processes = family(process)
    for _ in range(3):  # an impatient user
        os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    wait_for(processes)
    assert process.returncode == 128 + signal.SIGINT
    assert printed.splitlines()[-1].startswith("train.py: stopped;")
    assert "Traceback" not in printed


@pytest.mark.long
def test_a_killed_launcher_takes_the_trainer_with_it(tmp_path: Path) -> None:
    process = begin(LAUNCHER, tmp_path / "run")
    processes = family(process)
    assert len(processes) == 2
    process.send_signal(signal.SIGKILL)
    wait_for(processes)
    process.stdout.close()
    process.wait()


def test_nohup_is_respected() -> None:
    code = (
        "import os, runpy, signal, sys; interrupt = runpy.run_path(sys.argv[1])\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN); interrupt['end_on_signals']()\n"
        "os.kill(os.getpid(), signal.SIGHUP); print('still here')\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL); interrupt['end_on_signals']()\n"
        "try: os.kill(os.getpid(), signal.SIGHUP)\n"
        "except interrupt['Interrupted'] as stop: print(stop.number)"
    )
    # The file alone, without the imports of its package.
    words = [sys.executable, "-c", code, interrupt.__file__]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["still here", str(int(signal.SIGHUP))], done.stderr


def test_a_full_disk_ends_in_a_sentence(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk."""
    output, limits = tmp_path / "run", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
    try:
        said = refusal(f"output={output}", *LONG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"train.py: output='{output}' cannot be written (" in said.splitlines()[-1]
