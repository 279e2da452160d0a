"""Checkpoints: directories with `model.safetensors` and `config.json`, laid out for timm's `local-dir:`."""

import json
import re
import shutil
import sys
import tempfile
from copy import deepcopy
from functools import cache
from importlib import import_module
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf
from torch import nn

from ..files import replacing, write_text

CONFIG, WEIGHTS = "config.json", "model.safetensors"
# Names of parameters in older versions, as patterns, and their names today.
RENAMED = {
    r"^places$": "locator.locations",
    r"^locator\.(weight|bias)$": r"locator.linear.\1",
    r"^stop_head\.": "stopper.net.",
}


def upgrade(model: nn.Module, weights: dict[str, torch.Tensor], prefix: str = "", *_) -> None:
    """Make weights of older versions, or of another number of steps, fit a DTRAM. Changes `weights`.

    `load_state_dict` of every DTRAM calls this function as a hook, so that all loaders share it.
    """
    for name in [name for name in weights if name.startswith(prefix)]:
        renamed = name.removeprefix(prefix)
        for pattern, today in RENAMED.items():
            renamed = re.sub(pattern, today, renamed)
        weights[prefix + renamed] = weights.pop(name)
    for part in ("locator", "stopper"):
        inside = f"{prefix}{part}."
        own = {name.removeprefix(inside): weights.pop(name) for name in [*weights] if name.startswith(inside)}
        weights |= {inside + name: tensor for name, tensor in getattr(model, part).fit(own).items()}


@cache
def _tell_transformers() -> None:
    """Register the old names with transformers, which sets parameters by name and calls no hook.

    No other timm model has parameters of these names.
    """
    conversion = import_module("transformers.conversion_mapping")
    renaming = import_module("transformers.core_model_loading").WeightRenaming
    known = conversion.get_checkpoint_conversion_mapping("timm_wrapper") or []
    ours = [
        renaming(rf"^timm_model\.{pattern.removeprefix('^')}", f"timm_model.{today}")
        for pattern, today in RENAMED.items()
    ]
    conversion.register_checkpoint_conversion_mapping("timm_wrapper", [*known, *ours], overwrite=True)


def accept_old_names(model: nn.Module) -> None:
    """Let torch, timm and transformers load weights of older versions into a DTRAM."""
    model.register_load_state_dict_pre_hook(upgrade)
    if "transformers.conversion_mapping" in sys.modules:
        _tell_transformers()


def save(model: nn.Module, directory: str | Path, class_names: list[str] | None = None) -> None:
    """Write a checkpoint; `timm.create_model("local-dir:PATH", pretrained=True)` reads it.

    config.json holds every constructor argument, and `class_names`, if given, as `label_names`.
    """
    if not all(tensor.is_contiguous() for tensor in model.state_dict().values()):
        # safetensors has no channels_last; the copy leaves the caller's model unchanged.
        model = deepcopy(model).to(memory_format=torch.contiguous_format)
    model = _of_its_steps(model)
    # The tag names the weights that the model was created with, not the present ones.
    facts = {"pretrained_cfg": {"tag": None}} | ({"label_names": list(class_names)} if class_names else {})
    with tempfile.TemporaryDirectory() as folder:
        save_for_hf(model, folder, model_config=facts, model_args=model.arguments(), safe_serialization=True)
        config = read_config(folder)
        # transformers rejects a number of classes that stands both beside and among the arguments.
        del config["model_args"]["num_classes"]
        with replacing(Path(directory) / WEIGHTS) as temporary:
            shutil.copyfile(Path(folder) / WEIGHTS, temporary)
    write_text(Path(directory) / CONFIG, json.dumps(config, indent=2))


def _of_its_steps(model: nn.Module) -> nn.Module:
    """The model; amid a training a copy without the locations of the steps it does not take yet."""
    own = model.locator.state_dict()
    fitted = model.locator.fit(own, model.num_steps)
    changed = {name: tensor for name, tensor in fitted.items() if tensor.shape != own[name].shape}
    if not changed:
        return model
    model = deepcopy(model)
    for name, tensor in changed.items():
        owner, _, last = name.rpartition(".")
        setattr(model.locator.get_submodule(owner), last, nn.Parameter(tensor.clone()))
    return model


def load(directory: str | Path, **kwargs) -> nn.Module:
    """Load a DT-RAM from a checkpoint, in evaluation mode.

    Args:
        directory: the checkpoint; no file but config.json and model.safetensors is read.
        kwargs: constructor arguments to change; `num_classes` gives the model fresh heads.

    Raises:
        ValueError: a file is missing or damaged, or the checkpoint holds another kind of model.
    """
    directory = Path(directory)
    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            raise ValueError(
                f"checkpoint {str(directory)!r} has no {name}; accepted is a directory with both."
            )
    _check_config(directory)
    try:
        model = timm.create_model(f"local-dir:{directory}", pretrained=True, **kwargs)
    except SafetensorError as error:
        raise ValueError(f"{directory / WEIGHTS} is damaged or truncated ({error}).") from None
    except (RuntimeError, KeyError, ValueError, AttributeError, TypeError) as error:
        reason = _misfit(directory) or " ".join(str(error).split())
        raise ValueError(f"checkpoint {str(directory)!r} cannot be loaded: {reason}") from None
    if not kwargs and (reason := _misfit(directory, model)):
        raise ValueError(f"checkpoint {str(directory)!r} cannot be loaded: {reason}")
    return model.eval()


def read_config(directory: str | Path) -> dict:
    """Read config.json.

    Raises:
        ValueError: the file holds no JSON object.
    """
    path = Path(directory) / CONFIG
    try:
        config = json.loads(path.read_text())
        if not isinstance(config, dict):
            raise ValueError(f"it is a {type(config).__name__}")
    except ValueError as error:
        raise ValueError(
            f"checkpoint {str(directory)!r} cannot be loaded: its {CONFIG} is no JSON object ({error})."
        ) from None
    return config


def _check_config(directory: Path) -> None:
    """ValueError unless config.json describes a DT-RAM; then no model has been built."""
    config = read_config(directory)
    name, classes, labels = (config.get(key) for key in ("architecture", "num_classes", "label_names"))
    if not isinstance(name, str) or not name.startswith("dtram"):
        raise ValueError(f"checkpoint {str(directory)!r} holds a {name}, not a DT-RAM.")
    if not timm.is_model(name):
        raise ValueError(
            f"checkpoint {str(directory)!r} holds a {name}, which timm {timm.__version__} does not know."
        )
    if labels is not None and len(labels) != classes:
        raise ValueError(f"checkpoint {str(directory)!r} names {len(labels)} labels for {classes} classes.")


def _misfit(directory: Path, model: nn.Module | None = None) -> str | None:
    """How the weights differ from the model of config.json; None if they fit or if no model can be built."""
    try:
        model = model or timm.create_model(f"local-dir:{directory}")
    except Exception:  # the caller reports the error of the configuration
        return None
    expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    with safe_open(directory / WEIGHTS, framework="pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in list(file.keys())}
    weights = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    upgrade(model, weights)
    found = {name: list(tensor.shape) for name, tensor in weights.items()}
    odd = sorted(name for name in expected | found if expected.get(name) != found.get(name))
    if not odd:
        return None
    return (
        f"{len(odd)} tensors do not fit its config.json, {odd[0]!r} for one, which has shape "
        f"{found.get(odd[0])} instead of {expected.get(odd[0])}; are they of another encoder or class count?"
    )


def write_header(path: str | Path, facts: dict[str, str]) -> None:
    """Write facts into the metadata of a safetensors file; the bytes of the tensors do not change."""
    # The library changes the order of metadata at every call, and with it the checksum of the file.
    path = Path(path)
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    facts = {"format": "pt"} | header.pop("__metadata__", {}) | facts
    header = json.dumps({"__metadata__": dict(sorted(facts.items()))} | header).encode()
    header += b" " * (-len(header) % 8)
    with replacing(path) as temporary:
        temporary.write_bytes(len(header).to_bytes(8, "little") + header + content[start:])


def save_weights(model: nn.Module, path: str | Path) -> None:
    """Write weights without configuration. The file is whole or absent, even if the process is killed."""
    with replacing(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, temporary)


def load_weights(model: nn.Module, path: str | Path, fitting: bool = False) -> None:
    """Load the weights of `save_weights` into a model of the same shape.

    Args:
        model: a DTRAM.
        path: the file.
        fitting: whether a part of the model with another shape keeps its weights.

    Raises:
        ValueError: the file is damaged.
        RuntimeError: the shapes differ and `fitting` is False.
    """
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or truncated ({error}).") from None
    if fitting:
        shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        upgrade(model, weights)
        # A part keeps all its weights or none: half of another policy is worse than a fresh policy.
        found = {name: tensor.shape for name, tensor in weights.items()}
        differing = {name.split(".")[0] for name in shapes | found if shapes.get(name) != found.get(name)}
        weights = {name: w for name, w in weights.items() if name.split(".")[0] not in differing}
    model.load_state_dict(weights, strict=not fitting)
