"""The commands of `dtram` that make and judge runs."""

import runpy
import sys
from pathlib import Path

import click

from .words import MODEL, NEW_FILE, NEW_FOLDER, TRAINING, ModelName, RecipeWord, Seconds, recipes


class TrainCommand(click.Command):
    """Its help lists the recipes, and all their keys."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write both lists. The second asks the package, which takes seconds to import."""
        from dtram_hub.learning.recipe_keys import all_keys

        with formatter.section("Recipes"):
            formatter.write_dl([*recipes().items()])
        with formatter.section("Keys of a recipe, with type and default"):
            formatter.write_dl([(key.name, f"{key.type}, {key.default}") for key in all_keys()])


@click.command(cls=TrainCommand, context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=RecipeWord(), metavar="[RECIPE] [KEY=VALUE]...")
@click.option("--resume", is_flag=True, help="Continue the run in output= after its last finished epoch.")
@click.option("--list", "lists", is_flag=True, help="List the recipes, each with its purpose, and end.")
def train(words: tuple[str, ...], resume: bool, lists: bool) -> None:
    """Train by a recipe; the same as `accelerate launch training/train.py`.

    RECIPE is a name of the list below, or a YAML file; digits by default. KEY=VALUE changes one of its keys,
    which the file of the recipe explains.

    \b
    dtram train imagefolder data.root=path/to/images output=runs/birds
    dtram train output=runs/birds --resume
    dtram train --list
    """
    if lists:
        for name, purpose in recipes().items():
            click.echo(f"{name:18} {purpose}")
        return
    from dtram_hub.learning.launch import launch

    launch(str(TRAINING / "train.py"), (*words, *["--resume"] * resume))


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def validate(words: tuple[str, ...]) -> None:
    """Evaluate a model at several budgets of looks; the same as `python training/validate.py`.

    \b
    dtram validate runs/birds
    dtram validate --help
    """
    path = str(TRAINING / "validate.py")
    sys.argv = [path, *words]
    sys.path.insert(0, str(TRAINING))  # where Python looks for the modules of a script
    runpy.run_path(path, run_name="__main__")


@click.command(epilog=MODEL)
@click.argument("models", nargs=-1, required=True, type=ModelName())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per model.")
def compare(models: tuple[str, ...], as_json: bool) -> None:
    """Compare models side by side: results, cost, data, and the keys of their recipes that differ.

    Runs that differ in their seed alone are shown as mean and standard deviation instead.

    \b
    dtram compare runs/birds-0 runs/birds-1 runs/birds-2
    dtram compare runs/birds runs/birds-resnet50
    """
    from dtram_hub.cli import compare

    compare.compare(models, as_json)


@click.command()
@click.argument("model", type=ModelName())
@click.argument("words", nargs=-1, metavar="[RECIPE] [KEY=VALUE]...")
@click.option("--mean-steps", type=float, help="The budget: mean number of looks per image.")
@click.option("--latency", type=Seconds(), help="In place of it the mean time of one image here, as 20ms.")
@click.option("--split", default="validation", show_default=True, help="Split of the recipe's data.")
@click.option("--images", multiple=True, help="Folder, pattern or table of other images; may be repeated.")
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Images per look.")
@click.option("--device", default="auto", show_default=True, help="For example cpu, cuda or mps.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def calibrate(model: str, words: tuple[str, ...], **options) -> None:
    """Set another budget of looks in a model's folder, from images that were not used in training.

    MODEL is a folder. Its config.json gets another stop threshold, and nothing else changes in the model. The
    images are those of the recipe in the folder. Another recipe, and key=value, may say where they lie.

    \b
    dtram calibrate runs/birds --mean-steps 1.4
    dtram calibrate runs/birds --latency 20ms --images photos/
    dtram calibrate checkpoints/birds data.root=path/to/images --mean-steps 2
    """
    from dtram_hub.cli import calibrate

    calibrate.calibrate(model, words, **options)


@click.command(epilog=MODEL)
@click.argument("model", type=ModelName())
@click.option("--stage", help="A stage of a run: encoder, ram_2, ram_3, .. or dtram.")
@click.option("--out", type=NEW_FOLDER, help="Folder for the stage as a model; RUN_STAGE by default.")
@click.option("--half", is_flag=True, help="Weights in 16 bits, at half the size.")
@click.option("--onnx", type=NEW_FILE, help="File .onnx for a graph.")
@click.option("--pt2", type=NEW_FILE, help="File .pt2 for a graph, read by torch.export.load.")
@click.option("--looks", is_flag=True, help="Two graphs: the first look, and a look that follows.")
def export(model: str, onnx: Path | None, pt2: Path | None, **options) -> None:
    """Export a stage of a run as a model, or a model as a graph.

    A graph takes all looks, because it cannot stop. With --looks there are two, and a loop around them can:
    the files NAME.first and NAME.following. Every graph is run once and compared with the model.

    \b
    dtram export runs/birds --stage ram_3 --half
    dtram export runs/birds --onnx birds.onnx
    dtram export runs/birds --pt2 birds.pt2 --looks
    """
    from dtram_hub.cli import exports

    graphs = {ending: path for ending, path in ((".onnx", onnx), (".pt2", pt2)) if path}
    exports.export(model, graphs=graphs, **options)
