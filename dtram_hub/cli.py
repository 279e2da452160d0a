"""The program `dtram`: what the package does, from a shell.

It ends with 0, with 1 when something failed (one sentence says what), and with 2 when it was called wrongly.
"""

import json
import subprocess
import sys
from pathlib import Path

import click
import timm
import torch
from PIL import Image, UnidentifiedImageError
from timm.data import create_transform, resolve_model_data_config
from tqdm import tqdm

import dtram_hub

from .bundled import bundled
from .checks import nearest
from .data.canvas import as_photograph
from .models import checkpoint
from .models.dtram import DTRAM
from .models.flops import count_compute
from .models.registry import WEIGHTS
from .sharing import cards, hub

MODEL = "MODEL is a name that `dtram list` knows, a folder, or org/name on the Hub."


def main() -> None:
    """Run the program; a user's mistake ends in one sentence instead of a traceback."""
    try:
        dtram(prog_name="dtram")
    except (ValueError, OSError) as error:
        sys.exit(f"dtram: {' '.join(str(error).split())}")
    except ImportError as error:
        sys.exit(f"dtram: {error.name} is needed here; pip install 'dtram-hub[train]' brings it.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(dtram_hub.__version__, prog_name="dtram")
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
    pattern = pattern if pattern.startswith("dtram") else f"dtram*{pattern}"
    names = timm.list_models(pattern, pretrained=pretrained)
    if not names:
        raise ValueError(f"no model is called {pattern!r}.")
    click.echo("\n".join(names))


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
    folder = _folder(model)
    built = checkpoint.load(folder) if folder else _create(model, pretrained=False)
    compute, cfg = count_compute(built), built.pretrained_cfg
    facts = {
        "model": model,
        "architecture": cfg["architecture"],
        "encoder": built.backbone,
        "parameters": sum(p.numel() for p in built.parameters()),
        "classes": built.num_classes,
        "input": list(cfg["input_size"]),
        "steps": built.num_steps,
        "gflops_first_look": compute.first_look,
        "gflops_later_look": compute.later_look,
        "gflops_all_steps": compute.at(built.num_steps),
    }
    measured = cards.read_results(folder) if folder else None
    if measured:
        facts |= {name: measured[name] for name in ("accuracy", "mean_steps")}
        facts["gflops_mean_steps"] = compute.at(measured["mean_steps"])
    facts["tags"] = _tags(cfg["architecture"])
    if as_json:
        click.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' '):20} {_readable(value)}")


@dtram.command(epilog=MODEL)
@click.argument("model")
@click.argument(
    "images", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--save", type=click.Path(file_okay=False, path_type=Path), help="Folder for pictures of the glimpses."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per image.")
@click.option(
    "--stop-threshold", type=click.FloatRange(0, 1), help="Smaller stops earlier; the model's own by default."
)
@click.option(
    "--max-steps", type=click.IntRange(1), help="The most looks at an image; the model's own by default."
)
@click.option("--device", default="cpu", show_default=True, help="Such as cuda or mps.")
def predict(
    model: str,
    images: tuple[Path, ...],
    save: Path | None,
    as_json: bool,
    stop_threshold: float | None,
    max_steps: int | None,
    device: str,
) -> None:
    """Classify images: class, confidence, and how many looks it took.

    \b
    dtram predict runs/birds wren.jpg jay.jpg --save glimpses
    dtram predict my-name/birds *.jpg --json
    """
    built = _load(model).to(device)
    transform = create_transform(**resolve_model_data_config(built), is_training=False)
    failed = 0
    for path in tqdm(images, disable=not sys.stderr.isatty() or len(images) < 2, leave=False):
        try:
            image = transform(_open(path, built.in_chans))[None].to(device)
        except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
            click.echo(f"dtram: {path} is no readable image ({error}).", err=True)
            failed += 1
            continue
        found = built.predict(image, stop_threshold, max_steps)
        answer = _answer(path, built, found)
        if save:
            answer["picture"] = str(_draw(save, path, built, image, found, answer["class"]))
        if as_json:
            click.echo(json.dumps(answer))
        else:
            looks = f"{answer['steps']} look{'s' * (answer['steps'] > 1)}"
            click.echo(f"{path}: {answer['class']} ({100 * answer['confidence']:.0f} %), {looks}")
    sys.exit(1 if failed else 0)


def _script(name: str, help_text: str):
    """A command that hands its words to one of the scripts in training/."""

    @dtram.command(
        name, help=help_text, context_settings={"ignore_unknown_options": True, "help_option_names": []}
    )
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    def command(words: tuple[str, ...]) -> None:
        script = str(bundled(f"training/{name}.py"))
        launcher = (
            ["-m", "accelerate.commands.launch"]
            if name == "train" and not {"-h", "--help"} & {*words}
            else []
        )
        sys.exit(subprocess.call([sys.executable, *launcher, script, *words]))


_script(
    "train",
    "Train by a recipe; the same as `accelerate launch training/train.py`.\n\n\b\n"
    "dtram train imagefolder data.root=path/to/images output=runs/birds\ndtram train --help",
)
_script(
    "validate",
    "Answer a split again, at several stop thresholds; the same as `python training/validate.py`.\n\n\b\n"
    "dtram validate runs/birds\ndtram validate --help",
)


@dtram.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("repo")
def card(folder: Path, repo: str) -> None:
    """Write README.md, the model card of a run, from its own files, to be looked at or edited before a push.

    REPO is the org/name that the card tells readers to load. `push` writes a card itself where there is none.

    \b
    dtram card runs/birds my-name/birds
    """
    cards.render_card(folder, repo.rpartition("/")[2], f"hf-hub:{repo}").save(folder / "README.md")
    click.echo(folder / "README.md")


@dtram.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("repo")
@click.option("--private", is_flag=True, help="If the repository is made, only you see it.")
@click.option("--revision", help="Branch; main by default.")
@click.option("--tag", help="Name of the release that this becomes.")
@click.option("--message", help="Title of the commit.")
@click.option("--create-pr", is_flag=True, help="Open a pull request instead.")
def push(
    folder: Path,
    repo: str,
    private: bool,
    revision: str | None,
    tag: str | None,
    message: str | None,
    create_pr: bool,
) -> None:
    """Put a run's model on the Hub, with its card. Log in first, with `hf auth login` or HF_TOKEN.

    \b
    dtram push runs/birds my-name/birds
    dtram push runs/birds my-name/birds --tag v1.0 --private
    """
    commit = hub.push(
        folder,
        repo,
        private=private,
        revision=revision,
        tag=tag,
        commit_message=message,
        create_pr=create_pr,
    )
    click.echo(commit.pr_url or commit.commit_url)


@dtram.command()
@click.argument("repo")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--revision", help="Branch, tag or commit; main by default.")
def pull(repo: str, folder: Path, revision: str | None) -> None:
    """Fetch a model from the Hub into a folder, checked against its checksums.

    \b
    dtram pull my-name/birds checkpoints/birds
    dtram pull my-name/birds checkpoints/birds --revision v1.0
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"folder {str(folder)!r} is not empty; accepted is a new one.")
    hub.copy(repo, folder, revision)
    click.echo(folder)


def _folder(model: str) -> Path | None:
    """Where the files of a model lie, fetched from the Hub if need be; None for one that is only a name."""
    path = Path(model.removeprefix("local-dir:"))
    if path.is_dir():
        return path
    if "/" in model:
        repo_id, _, revision = model.removeprefix("hf-hub:").partition("@")
        return hub.download(repo_id, revision or None)
    shipped = WEIGHTS / model
    return shipped if shipped.is_dir() else None


def _load(model: str) -> DTRAM:
    folder = _folder(model)
    return checkpoint.load(folder) if folder else _create(model, pretrained=True)


def _create(name: str, pretrained: bool) -> DTRAM:
    """A model by name, with the weights of its tag or of its first one."""
    architecture, _, tag = name.partition(".")
    names = timm.list_models("dtram*")
    if architecture not in names:
        raise ValueError(f"model {name!r} is no DT-RAM, folder or org/name.{nearest(architecture, names)}")
    tags = _tags(architecture)
    if tag and tag not in tags:
        raise ValueError(f"model {name!r} is unknown; tags of {architecture}: {', '.join(tags) or 'none'}.")
    return timm.create_model(name, pretrained=pretrained and bool(tags)).eval()


def _tags(architecture: str) -> list[str]:
    return [name.partition(".")[2] for name in timm.list_models(f"{architecture}.*", pretrained=True)]


def _open(path: Path, in_chans: int) -> Image.Image:
    with Image.open(path) as image:
        return as_photograph(image, in_chans)


def _answer(path: Path, model: DTRAM, found: dtram_hub.Prediction) -> dict:
    probs = found.logits[0].float().softmax(-1)
    index, labels = int(probs.argmax()), model.pretrained_cfg.get("label_names")
    steps = int(found.steps)
    return {
        "image": str(path),
        "class": labels[index] if labels else str(index),
        "index": index,
        "confidence": round(float(probs[index]), 4),
        "steps": steps,
        "locations": [
            None if place.isnan().any() else [round(value, 4) for value in place.tolist()]
            for place in found.locations[0, :steps]
        ],
    }


def _draw(
    folder: Path, path: Path, model: DTRAM, image: torch.Tensor, found: dtram_hub.Prediction, caption: str
) -> Path:
    """A picture of one image with its glimpses."""
    from .plots import plot_glimpses  # needs matplotlib, which prediction alone does not

    folder.mkdir(parents=True, exist_ok=True)
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(-1, 1, 1) for key in ("mean", "std"))
    pixels = ((image.cpu() * std + mean) * 255).round().clamp(0, 255).byte()
    target = folder / f"{path.stem}_glimpses.png"
    plot_glimpses(
        target,
        pixels,
        found.locations.cpu(),
        found.steps.cpu(),
        [caption],
        model.glimpse_crop,
        per_row=1,
        side=4,
    )
    return target


def _readable(value: object) -> str:
    if isinstance(value, list):
        return (" x " if value and isinstance(value[0], int) else ", ").join(map(str, value)) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
