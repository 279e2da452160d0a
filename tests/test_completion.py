"""Completion in a shell: what the program prints for it, without importing anything large."""

import os
import shutil
import subprocess
import sys

import pytest

from dtram_cli.words import TRAINING

PROGRAM = [sys.executable, "-X", "importtime", "-m", "dtram_cli"]


def ask(instruction: str, *words: str) -> tuple[list[str], str]:
    """What the program prints for a shell: the lines, and the modules that it imported."""
    environment = {
        "_DTRAM_COMPLETE": instruction,
        "COMP_WORDS": " ".join(["dtram", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(PROGRAM, capture_output=True, text=True, env=os.environ | environment)
    return done.stdout.splitlines(), done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_a_script(shell: str) -> None:
    if shell == "bash" and not shutil.which("bash"):
        pytest.skip("click asks bash for its version")
    printed, _ = ask(f"{shell}_source")
    assert any(f"_DTRAM_COMPLETE={shell}_complete" in line for line in printed)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ex"], ["plain,export"]),
        (["train", "mnist_ra"], ["plain,mnist_ram"]),
        (["train", "data.root="], ["file,data.root="]),
        (["info", "dtram_mob"], ["plain,dtram_mobilenetv2_100.cub50"]),
        (["compare", "runs"], ["dir,runs"]),
        (["calibrate", "--lat"], ["plain,--latency"]),
    ],
)
def test_words_are_completed_at_once(words: list[str], expected: list[str]) -> None:
    printed, imported = ask("bash_complete", *words)
    assert printed == expected
    assert "click" in imported
    assert "torch" not in imported
    assert "dtram_hub" not in imported


def test_all_recipes_are_completed() -> None:
    printed, _ = ask("bash_complete", "train", "")
    assert printed == [f"plain,{path.stem}" for path in sorted((TRAINING / "recipes").glob("*.yaml"))]
