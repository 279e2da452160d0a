"""The program `dtram`: its commands, their words and their help.

The package `dtram_hub` imports torch and timm. This module lies outside of it, so that help and the version
come at once. Each command imports the package when it runs.
"""

import subprocess
import sys
from pathlib import Path

import click

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
NEW_FOLDER = click.Path(file_okay=False, path_type=Path)
IMAGE = click.Path(exists=True, dir_okay=False, path_type=Path)
MODEL = "MODEL is a name that `dtram list` knows, a folder, or org/name on the Hub."


def main() -> None:
    """Run the program: it ends with 0, with 1 when something failed, with 2 when it was called wrongly.

    A user's mistake ends in one sentence instead of a traceback.
    """
    try:
        dtram(prog_name="dtram")
    except (ValueError, OSError) as error:
        sys.exit(f"dtram: {' '.join(str(error).split())}")
    except ImportError as error:
        sys.exit(f"dtram: {error.name} is needed here; pip install 'dtram-hub[train]' brings it.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dtram-hub", prog_name="dtram")
def dtram() -> None:
    """Image classifiers that look again, and learn when to stop looking."""


@dtram.command("list")
@click.argument("pattern", default="*")
@click.option("--pretrained", is_flag=True, help="Only names with weights, with their tags.")
def list_models(pattern: str, pretrained: bool) -> None:
    """Names of models, for `timm.create_model` as well.

    \b
    dtram list "*resnet*"
    dtram list --pretrained "dtram_glimpse*"
    """
    from dtram_hub import cli

    click.echo("\n".join(cli.list_models(pattern, pretrained)))


@dtram.command(epilog=MODEL)
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def info(model: str, as_json: bool) -> None:
    """What a model is and what it costs: parameters, GFLOPs per look, tags.

    \b
    dtram info dtram_resnet50
    dtram info dtram_glimpse_mlp.mnist_dtram98
    dtram info runs/digits
    """
    from dtram_hub import cli

    cli.info(model, as_json)


@dtram.command(epilog=MODEL)
@click.argument("model")
@click.argument("images", nargs=-1, required=True, type=IMAGE)
@click.option("--save", type=NEW_FOLDER, help="Folder for pictures of the glimpses.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per image.")
@click.option(
    "--stop-threshold", type=click.FloatRange(0, 1), help="Smaller stops earlier; the model's own by default."
)
@click.option(
    "--max-steps", type=click.IntRange(1), help="The most looks at an image; the model's own by default."
)
@click.option("--device", default="cpu", show_default=True, help="Such as cuda or mps.")
def predict(**words) -> None:
    """Classify images: class, confidence, and how many looks it took.

    \b
    dtram predict runs/birds wren.jpg jay.jpg --save glimpses
    dtram predict my-name/birds *.jpg --json
    """
    from dtram_hub import cli

    sys.exit(1 if cli.predict(**words) else 0)


def script(name: str, summary: str, *launcher: str) -> None:
    """Make a command that hands its words to `name`.py of training/, run by python and `launcher`."""
    words_as_they_are = {"ignore_unknown_options": True, "help_option_names": []}

    @dtram.command(name, help=summary, context_settings=words_as_they_are)
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    def command(words: tuple[str, ...]) -> None:
        # An installed package holds training/; in a checkout it lies beside this module.
        here = Path(__file__).parent
        paths = [folder / "training" / f"{name}.py" for folder in (here / "dtram_hub", here)]
        path = next(path for path in paths if path.is_file())
        launch = () if {"-h", "--help"} & {*words} else launcher
        sys.exit(subprocess.call([sys.executable, *launch, str(path), *words]))


script(
    "train",
    "Train by a recipe; the same as `accelerate launch training/train.py`.\n\n\b\n"
    "dtram train imagefolder data.root=path/to/images output=runs/birds\ndtram train --help",
    "-m",
    "accelerate.commands.launch",
)
script(
    "validate",
    "Answer a split again, at several stop thresholds; the same as `python training/validate.py`.\n\n\b\n"
    "dtram validate runs/birds\ndtram validate --help",
)


@dtram.command()
@click.argument("folder", type=FOLDER)
@click.argument("repo")
def card(folder: Path, repo: str) -> None:
    """Write README.md, the model card of a run, from its own files, to be looked at or edited before a push.

    REPO is the org/name that the card tells readers to load. `push` writes a card itself where there is none.

    \b
    dtram card runs/birds my-name/birds
    """
    from dtram_hub.sharing.cards import render_card

    render_card(folder, repo.rpartition("/")[2], f"hf-hub:{repo}").save(folder / "README.md")
    click.echo(folder / "README.md")


@dtram.command()
@click.argument("folder", type=FOLDER)
@click.argument("repo")
@click.option("--private", is_flag=True, help="If the repository is made, only you see it.")
@click.option("--revision", help="Branch; main by default.")
@click.option("--tag", help="Name of the release that this becomes.")
@click.option("--message", "commit_message", help="Title of the commit.")
@click.option("--create-pr", is_flag=True, help="Open a pull request instead.")
def push(folder: Path, repo: str, **words) -> None:
    """Put a run's model on the Hub, with its card. Log in first, with `hf auth login` or HF_TOKEN.

    \b
    dtram push runs/birds my-name/birds
    dtram push runs/birds my-name/birds --tag v1.0 --private
    """
    import dtram_hub

    commit = dtram_hub.push(folder, repo, **words)
    click.echo(commit.pr_url or commit.commit_url)


@dtram.command()
@click.argument("repo")
@click.argument("folder", type=NEW_FOLDER)
@click.option("--revision", help="Branch, tag or commit; main by default.")
def pull(repo: str, folder: Path, revision: str | None) -> None:
    """Fetch a model from the Hub into a folder, checked against its checksums.

    \b
    dtram pull my-name/birds checkpoints/birds
    dtram pull my-name/birds checkpoints/birds --revision v1.0
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"folder {str(folder)!r} is not empty; accepted is a new one.")
    from dtram_hub.sharing.pull import copy

    copy(repo, folder, revision)
    click.echo(folder)


if __name__ == "__main__":
    main()
