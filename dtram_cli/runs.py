"""The commands of `dtram` that make and judge runs."""

import runpy
import sys
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
# An installed package holds training/; in a checkout training/ lies beside this folder.
TRAINING = next(path for path in (ROOT / "dtram_hub" / "training", ROOT / "training") if path.is_dir())


def script(name: str, summary: str, launched: bool = False) -> click.Command:
    """A command that runs training/`name`.py with all its arguments, if `launched` by accelerate."""
    words_as_they_are = {"ignore_unknown_options": True, "help_option_names": []}

    @click.command(name, help=summary, context_settings=words_as_they_are)
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    def command(words: tuple[str, ...]) -> None:
        path = str(TRAINING / f"{name}.py")
        if launched and not {"-h", "--help"} & {*words}:
            from dtram_hub.learning.launch import launch

            launch(path, words)
        else:
            sys.argv = [path, *words]
            sys.path.insert(0, str(TRAINING))  # where Python looks for the modules of a script
            runpy.run_path(path, run_name="__main__")

    return command


train = script(
    "train",
    "Train by a recipe; the same as `accelerate launch training/train.py`.\n\n\b\n"
    "dtram train imagefolder data.root=path/to/images output=runs/birds\ndtram train --help",
    launched=True,
)
validate = script(
    "validate",
    "Evaluate a model at several budgets of looks; the same as `python training/validate.py`.\n\n\b\n"
    "dtram validate runs/birds\ndtram validate --help",
)
