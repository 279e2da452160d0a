"""The functions behind the commands of the program `dtram`, which `dtram_cli.py` defines."""

import json
import sys
from pathlib import Path

import timm
import torch
from PIL import Image, UnidentifiedImageError
from timm.data import create_transform, resolve_model_data_config
from tqdm import tqdm

from .checks import nearest
from .data.canvas import as_photograph
from .learning.run_folder import RunFolder, own_result
from .models import checkpoint
from .models.dtram import DTRAM
from .models.flops import count_compute
from .models.records import Prediction
from .models.registry import WEIGHTS

UNREADABLE = (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError)


def list_models(pattern: str, pretrained: bool) -> list[str]:
    """The names of DT-RAMs that match `pattern`; with `pretrained` the names of weights, with their tags.

    Raises:
        ValueError: no name matches.
    """
    pattern = pattern if pattern.startswith("dtram") else f"dtram*{pattern}"
    names = timm.list_models(pattern, pretrained=pretrained)
    if not names:
        raise ValueError(f"no model is called {pattern!r}.")
    return names


def info(model: str, as_json: bool) -> None:
    """Print the facts of a model, one per line or as one JSON object."""
    facts = _facts(model)
    if as_json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        print(f"{name.replace('_', ' '):20} {_readable(value)}")


def predict(
    model: str,
    images: tuple[Path, ...],
    save: Path | None,
    as_json: bool,
    stop_threshold: float | None,
    max_steps: int | None,
    device: str,
) -> int:
    """Print the answer to every image, and write a picture of its glimpses into the folder `save`.

    Returns:
        The number of unreadable images; a message on stderr names each.
    """
    built = _load(model).to(device)
    transform = create_transform(**resolve_model_data_config(built), is_training=False)
    failed = 0
    for path in tqdm(images, disable=not sys.stderr.isatty() or len(images) < 2, leave=False):
        try:
            image = transform(_open(path, built.in_chans))[None].to(device)
        except UNREADABLE as error:
            print(f"dtram: {path} is no readable image ({error}).", file=sys.stderr)
            failed += 1
            continue
        found = built.predict(image, stop_threshold, max_steps)
        answer = _answer(path, built, found)
        if save:
            answer["picture"] = str(_draw(save, path, built, image, found, answer["class"]))
        print(json.dumps(answer) if as_json else _sentence(answer), flush=True)
    return failed


def _facts(model: str) -> dict:
    """The facts of `info`: architecture, sizes, GFLOPs, and the results of a finished run."""
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
    run = RunFolder(folder) if folder else None
    if run and run.exists and run.is_finished:
        measured = own_result(run.read_metrics())
        facts |= {name: measured[name] for name in ("accuracy", "mean_steps")}
        facts["gflops_mean_steps"] = compute.at(measured["mean_steps"])
    return facts | {"tags": _tags(cfg["architecture"])}


def _folder(model: str) -> Path | None:
    """The folder of a model's files, downloaded from the Hub if necessary; None for a name without files."""
    path = Path(model.removeprefix("local-dir:"))
    if path.is_dir():
        return path
    if "/" in model:
        from .sharing.pull import download  # a local model needs no client of the Hub

        repo_id, _, revision = model.removeprefix("hf-hub:").partition("@")
        return download(repo_id, revision or None)
    shipped = WEIGHTS / model
    return shipped if shipped.is_dir() else None


def _load(model: str) -> DTRAM:
    folder = _folder(model)
    return checkpoint.load(folder) if folder else _create(model, pretrained=True)


def _create(name: str, pretrained: bool) -> DTRAM:
    """Create a model by name, with the weights of its tag, or of the default tag."""
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


def _answer(path: Path, model: DTRAM, found: Prediction) -> dict:
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
            None if location.isnan().any() else [round(value, 4) for value in location.tolist()]
            for location in found.locations[0, :steps]
        ],
    }


def _draw(
    folder: Path, path: Path, model: DTRAM, image: torch.Tensor, found: Prediction, caption: str
) -> Path:
    """Write a picture of one image with its glimpses, and return its path."""
    from .plots import plot_glimpses  # needs matplotlib, unlike prediction

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


def _sentence(answer: dict) -> str:
    looks = f"{answer['steps']} look{'s' * (answer['steps'] > 1)}"
    return f"{answer['image']}: {answer['class']} ({100 * answer['confidence']:.0f} %), {looks}"


def _readable(value: object) -> str:
    if isinstance(value, list):
        return (" x " if value and isinstance(value[0], int) else ", ").join(map(str, value)) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
