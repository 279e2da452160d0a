"""The program `dtram`: its commands, their arguments and their help.

This folder lies outside of `dtram_hub`, which imports torch and timm, so that help and version appear at
once. Each command imports the package when it runs.
"""

import sys
from pathlib import Path

import click

from .runs import calibrate, compare, export, train, validate
from .words import FOLDER, LICENSE, MODEL, NEW_FILE, NEW_FOLDER, ModelName

EXTRAS = {"gradio": "demo"}  # of the packages that `dtram-hub[train]` does not bring


def main() -> None:
    """Run the program. The exit code is 0 for success, 1 for an error and 2 for wrong arguments.

    An error of the user ends in one sentence without a traceback.
    """
    try:
        dtram(prog_name="dtram")
    except (ValueError, OSError) as error:
        from dtram_hub.prompt import sentence_of  # what raises such an error has imported the package

        sys.exit(sentence_of("dtram", error))
    except ImportError as error:
        extra = EXTRAS.get(error.name or "", "train")
        sys.exit(f"dtram: this command needs {error.name}; pip install 'dtram-hub[{extra}]' installs it.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dtram-hub", prog_name="dtram")
def dtram() -> None:
    """Image classifiers that look again, and learn when to stop looking."""


@dtram.command("list")
@click.argument("pattern", default="*")
@click.option("--pretrained", is_flag=True, help="List only models with weights, with their tags.")
def list_models(pattern: str, pretrained: bool) -> None:
    """List the names of models for `timm.create_model`.

    \b
    dtram list "*resnet*"
    dtram list --pretrained "dtram_glimpse*"
    """
    from dtram_hub.cli import facts

    facts.list_models(pattern, pretrained)


@dtram.command(epilog=MODEL)
@click.argument("model", type=ModelName())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def info(model: str, as_json: bool) -> None:
    """Print the facts of a model: origin, encoder, class names, parameters, GFLOPs per look.

    \b
    dtram info dtram_resnet50
    dtram info dtram_glimpse_mlp.mnist_dtram98
    dtram info runs/digits
    """
    from dtram_hub.cli import facts

    facts.info(model, as_json)


@dtram.command(epilog=MODEL)
@click.argument("model", type=ModelName())
@click.argument("images", nargs=-1, required=True)
@click.option(
    "--out",
    type=NEW_FILE,
    help="File for the answers: .jsonl, .csv or .parquet. A call that was cut off goes on.",
)
@click.option("--save", type=NEW_FOLDER, help="Folder for pictures of the glimpses.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per image.")
@click.option(
    "--top", type=click.IntRange(1), default=1, show_default=True, help="Number of classes per image."
)
@click.option(
    "--stop-threshold", type=click.FloatRange(0, 1), help="Lower stops earlier; the model's own by default."
)
@click.option("--mean-steps", type=float, help="Mean number of looks, in place of a threshold.")
@click.option(
    "--max-steps", type=click.IntRange(1), help="Largest number of steps; the model's own by default."
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    help="Largest image that is decoded as a whole; 178,956,970 by default.",
)
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True, help="Images per look.")
@click.option("--workers", type=click.IntRange(1), help="Threads that decode; one per processor by default.")
@click.option("--device", default="auto", show_default=True, help="For example cpu, cuda or mps.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="That of the weights by default.",
)
@click.option(
    "--compile", "compiled", is_flag=True, help="Compile the encoder first, which pays off for many images."
)
def predict(**words) -> None:
    """Classify images: class, confidence and number of looks.

    IMAGES are files, folders, patterns in quotes, and tables of paths (.csv, .jsonl, .parquet). An image that
    cannot be answered is named, the others are answered, and the exit code is 1.

    \b
    dtram predict runs/birds wren.jpg jay.jpg --save glimpses
    dtram predict my-name/birds photos/ --out answers.parquet --mean-steps 1.5
    """
    from dtram_hub.cli import predict

    sys.exit(1 if predict.predict(**words) else 0)


@dtram.command(epilog=MODEL)
@click.argument("model", required=False, type=ModelName())
@click.option("--host", help="Address to listen at; this machine's own by default, 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(1, 65535), help="The first free one from 7860 on by default.")
def demo(model: str | None, host: str | None, port: int | None) -> None:
    """Show in a browser where models look, what they believe after each look, and when they stop.

    The page has the models that ship, and MODEL before them if there is one.

    \b
    dtram demo
    dtram demo runs/birds
    """
    from dtram_hub.demo.layout import launch

    launch(model, host, port)


for _command in (train, validate, compare, calibrate, export):
    dtram.add_command(_command)


@dtram.command()
@click.argument("folder", type=FOLDER)
@click.argument("repo")
@click.option("--overwrite", is_flag=True, help="Replace a README.md that is there.")
@LICENSE
@click.option(
    "--no-pictures", "pictures", is_flag=True, flag_value=False, default=True, help="Show no pictures."
)
def card(folder: Path, repo: str, **words) -> None:
    """Write README.md, the model card of a run, for editing before a push.

    REPO is the org/name on the Hub that the card shows. Without a README.md, `push` writes the card itself.

    \b
    dtram card runs/birds my-name/birds --license apache-2.0
    """
    from dtram_hub.prompt import say
    from dtram_hub.sharing.cards import write_card
    from dtram_hub.sharing.licence import without_licence

    path = write_card(folder, repo, **words)
    say(path)
    if words["license"] is None:
        say(without_licence(str(path)), error=True)


@dtram.command()
@click.argument("folder", type=FOLDER)
@click.argument("repo")
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option("--revision", help="Branch; main by default.")
@click.option("--tag", help="A new tag for the commit.")
@click.option("--message", "commit_message", help="Title of the commit.")
@click.option("--create-pr", is_flag=True, help="Open a pull request in place of a commit.")
@LICENSE
@click.option(
    "--no-pictures",
    "pictures",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Upload no pictures; one of them shows test images.",
)
def push(folder: Path, repo: str, **words) -> None:
    """Upload a run's model with its card to the Hub. First log in with `hf auth login`, or set HF_TOKEN.

    The files are named on stderr before they are sent.

    \b
    dtram push runs/birds my-name/birds --license apache-2.0
    dtram push runs/birds my-name/birds --tag v1.0 --private
    """
    import dtram_hub
    from dtram_hub.learning.messages import show_messages
    from dtram_hub.prompt import say

    show_messages(sys.stderr)
    commit = dtram_hub.push(folder, repo, **words)
    say(commit.pr_url or commit.commit_url)


@dtram.command()
@click.argument("repo")
@click.argument("folder", type=NEW_FOLDER)
@click.option("--revision", help="Branch, tag or commit; main by default.")
def pull(repo: str, folder: Path, revision: str | None) -> None:
    """Download a model from the Hub into a new folder, and check its checksums.

    \b
    dtram pull my-name/birds checkpoints/birds
    dtram pull my-name/birds checkpoints/birds --revision v1.0
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"folder {str(folder)!r} is not empty; accepted is a new one.")
    from dtram_hub.prompt import say
    from dtram_hub.sharing.pull import copy

    copy(repo, folder, revision)
    say(folder)
