"""The functions behind the commands of the program `dtram`, which `dtram_cli.py` defines."""

import json
import math
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import timm
import torch
from tqdm import tqdm

from .data.canvas import MOST_DECODED
from .inference.answers import Answerer, NoAnswer, class_names, draw, sentence
from .learning.run_folder import RunFolder, own_result
from .models.arguments import NATIVE
from .models.dtram import DTRAM
from .models.flops import count_compute
from .output_names import unique_names
from .prompt import say
from .sharing.named_models import NamedModel, find_model, tags_of

SHOWN_NAMES = 8  # class names in the text of `info`


def list_models(pattern: str, pretrained: bool) -> None:
    """Print the names of DT-RAMs that match `pattern`; with `pretrained` those of weights, with their tags.

    Raises:
        ValueError: no name matches.
    """
    pattern = pattern if pattern.startswith("dtram") else f"dtram*{pattern}"
    names = timm.list_models(pattern, pretrained=pretrained)
    if not names:
        raise ValueError(f"no model is called {pattern!r}.")
    for name in names:
        say(name)


def info(model: str, as_json: bool) -> None:
    """Print the facts of a model, one per line or as one JSON object."""
    facts = _facts(find_model(model))
    if as_json:
        say(json.dumps(facts, allow_nan=False))
        return
    for name, value in facts.items():
        say(f"{name.replace('_', ' '):20} {_readable(value)}")


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show warnings as sentences, without the line of code that gave them."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: say(f"dtram: {message}", error=True)
        yield


@plain_warnings()
def predict(
    model: str,
    images: tuple[Path, ...],
    save: Path | None,
    as_json: bool,
    stop_threshold: float | None,
    max_steps: int | None,
    max_pixels: int | None,
    device: str,
) -> int:
    """Print the answer to every image, and write a picture of its glimpses into the folder `save`.

    The names of the pictures are those of `unique_names`. A picture of an earlier call is replaced.

    Returns:
        The number of images without an answer, or without the picture that was asked for. A message on stderr
        names each.

    Raises:
        ValueError: an argument cannot be used, before any image is answered.
    """
    _check_device(device)
    pictures = _picture_paths(images, save) if save else {}
    built = _put(find_model(model).build(), device)
    if stop_threshold is not None and not built.dynamic:
        raise ValueError(
            f"--stop-threshold={stop_threshold} is of no use to model {model!r}, a RAM, which never stops "
            "before its last step; accepted is --max-steps."
        )
    answerer = Answerer(built, stop_threshold, max_steps, max_pixels or MOST_DECODED)
    names = class_names(built)
    failed = 0
    for path in tqdm(images, disable=not sys.stderr.isatty() or len(images) < 2, leave=False):
        try:
            answer = answerer.answer(path)
        except NoAnswer as error:
            failed += 1
            _complain(path, str(error))
            continue
        row = answer.row(names)
        if answer.prepared.warning:
            _complain(path, f"may be misread: {answer.prepared.warning}")
        if save:
            try:
                draw(pictures[path], answer, answerer, row["class"])
                row["picture"] = str(pictures[path])
            except OSError as error:
                failed += 1
                _complain(path, f"has no picture ({error})")
        say(json.dumps(row, allow_nan=False) if as_json else sentence(row))
    if failed and len(images) > 1:
        say(f"dtram: {failed} of {len(images)} images failed.", error=True)
    return failed


def _facts(named: NamedModel) -> dict:
    """The facts of `info`: origin, architecture, sizes, GFLOPs, and the results of a finished run."""
    built = named.build(pretrained=False)
    compute, cfg = count_compute(built), built.pretrained_cfg
    facts = {
        "model": named.word,
        "origin": named.origin,
        **_tags(named, cfg),
        "architecture": cfg["architecture"],
        "encoder": built.backbone,
        "parameters": sum(p.numel() for p in built.parameters()),
        "classes": built.num_classes,
        "class_names": class_names(built),
        "input": list(cfg["input_size"]) if built.image_size else [built.in_chans, NATIVE, NATIVE],
        "steps": built.num_steps,
        "gflops_first_look": compute.first_look,
        "gflops_later_look": compute.later_look,
        "gflops_all_steps": compute.at(built.num_steps),
    }
    run = RunFolder(named.folder) if named.folder else None
    if run and run.exists and run.is_finished:
        measured = own_result(run.read_metrics())
        facts |= {name: _finite(run, name, measured[name]) for name in ("accuracy", "mean_steps")}
        facts["gflops_mean_steps"] = compute.at(measured["mean_steps"])
    return facts


def _tags(named: NamedModel, cfg: dict) -> dict:
    """The tag of a model with a name, and all tags of the architecture. The tags are none of a folder's."""
    if not named.by_name:
        return {}
    architecture, _, tag = named.word.partition(".")
    return {"tag": tag or cfg.get("tag") or None, "tags": tags_of(architecture)}


def _finite(run: RunFolder, name: str, value: object) -> float:
    """The value of a metric; ValueError unless it is a finite number."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{run.metrics_path} has {name}={value!r}, which is not a finite number.")
    return value


def _put(model: DTRAM, device: str) -> DTRAM:
    try:
        return model.to(device)
    except RuntimeError as error:
        raise ValueError(f"--device={device} cannot hold the model: {str(error).splitlines()[0]}") from None


def _check_device(name: str) -> None:
    """ValueError unless this machine has the device."""
    counts = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
        "xpu": torch.xpu.device_count(),
    }
    kind, colon, index = name.partition(":")
    accepted = [kind for kind, count in counts.items() if count]
    if kind not in accepted or (colon and index not in map(str, range(counts[kind]))):
        found = ", ".join(f"{kind} ({counts[kind]})" if counts[kind] > 1 else kind for kind in accepted)
        raise ValueError(f"--device={name!r} is none of this machine's devices; accepted: {found}.")


def _picture_paths(images: tuple[Path, ...], folder: Path) -> dict[Path, Path]:
    """The path of every picture; ValueError if the folder cannot be written."""
    import_module("dtram_hub.plots")  # ImportError without matplotlib, before any work
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"--save={str(folder)!r} cannot be written ({error.strerror}).") from None
    return {path: folder / name for path, name in unique_names(images, "_glimpses.png").items()}


def _complain(path: Path, text: str) -> None:
    say(f"dtram: {path} {text}.", error=True)


def _readable(value: object) -> str:
    if isinstance(value, list):
        if value and isinstance(value[0], int):
            return " x ".join(map(str, value))
        rest = [f"... ({len(value)} in all)"] if len(value) > SHOWN_NAMES else []
        return ", ".join([*map(str, value[:SHOWN_NAMES]), *rest]) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else "none" if value is None else str(value)
