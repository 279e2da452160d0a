"""`dtram list` and `dtram info`: the names and the facts of models."""

import json
import math

import timm

from ..inference.answers import class_names
from ..learning.run_folder import RunFolder, own_result
from ..models.arguments import NATIVE
from ..models.flops import count_compute
from ..prompt import say
from ..sharing.named_models import NamedModel, find_model, tags_of
from .origin import origin_of

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
    width = max(map(len, facts))
    for name, value in facts.items():
        unknown = "not stated" if "license" in name else "none"
        say(f"{name.replace('_', ' '):{width}} {unknown if value is None else _readable(value)}")


def _facts(named: NamedModel) -> dict:
    """The facts of `info`: origin, architecture, sizes, GFLOPs, and the results of a finished run."""
    built = named.build(pretrained=False)
    compute, cfg = count_compute(built), built.pretrained_cfg
    facts = {
        "model": named.word,
        "origin": named.origin,
        **_tags(named, cfg),
        **origin_of(named, built),
        "architecture": cfg["architecture"],
        "encoder": built.backbone,
        "parameters": sum(p.numel() for p in built.parameters()),
        "classes": built.num_classes,
        "class_names": class_names(built),
        "input": list(cfg["input_size"]) if built.image_size else [built.in_chans, NATIVE, NATIVE],
        "steps": built.num_steps,
        "stop_threshold": built.stop_threshold if built.dynamic else None,
        "gflops_first_look": compute.first_look,
        "gflops_later_look": compute.later_look,
        "gflops_all_steps": compute.at(built.num_steps),
    }
    run = RunFolder(named.folder) if named.folder else None
    if run and run.exists and run.is_finished:
        measured = own_result(run.read_metrics())
        facts |= {name: _finite(run, name, measured[name]) for name in ("accuracy", "mean_steps")}
        facts["gflops_mean_steps"] = compute.at(measured["mean_steps"])
        if measured.get("stop_threshold", built.stop_threshold) != built.stop_threshold:
            facts["results_at_stop_threshold"] = measured["stop_threshold"]
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


def _readable(value: object) -> str:
    if isinstance(value, list):
        if value and isinstance(value[0], int):
            return " x ".join(map(str, value))
        rest = [f"... ({len(value)} in all)"] if len(value) > SHOWN_NAMES else []
        return ", ".join([*map(str, value[:SHOWN_NAMES]), *rest]) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
