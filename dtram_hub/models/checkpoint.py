"""Checkpoints: directories with `model.safetensors` and `config.json`, laid out for timm's `local-dir:`."""

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from importlib import import_module
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf
from torch import nn

from ..files import replacing, write_text
from ..prompt import one_line
from .config_file import CONFIG, check_config, check_model_args, read_config
from .preprocessing import saved_cfg
from .weights_file import check_finite, check_floats, read_header

WEIGHTS = "model.safetensors"
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

    Raises:
        ValueError: the checkpoint could not be loaded; nothing is written then.
    """
    if not all(tensor.is_contiguous() for tensor in model.state_dict().values()):
        # safetensors has no channels_last; the copy leaves the caller's model unchanged.
        model = deepcopy(model).to(memory_format=torch.contiguous_format)
    model = _of_its_steps(model)
    facts = {"pretrained_cfg": saved_cfg(model)} | ({"label_names": list(class_names)} if class_names else {})
    with tempfile.TemporaryDirectory() as folder:
        try:
            config = _write(model, Path(folder), facts)
        except ValueError as error:
            raise ValueError(f"the model cannot be saved, because it could not be loaded: {error}") from None
        with replacing(Path(directory) / WEIGHTS) as temporary:
            shutil.copyfile(Path(folder) / WEIGHTS, temporary)
    write_text(Path(directory) / CONFIG, json.dumps(config, indent=2, allow_nan=False))


def _write(model: nn.Module, folder: Path, facts: dict) -> dict:
    """Write model.safetensors and return config.json's content; ValueError unless they make a checkpoint."""
    check_model_args(model.pretrained_cfg["architecture"], model.arguments())
    check_finite(model.state_dict())
    save_for_hf(model, str(folder), model_config=facts, model_args=model.arguments(), safe_serialization=True)
    config = read_config(folder)
    # transformers passes the number of classes itself, and a keyword must not come twice.
    del config["model_args"]["num_classes"]
    config["pretrained_cfg"].pop("label_names", None)  # the present names stand beside it
    check_config(config)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        empty = type(model)(**model.arguments())
    check_weights(folder / WEIGHTS, empty)
    return config


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
        ValueError: a file is missing, damaged or lies, or the checkpoint holds another kind of model.
    """
    directory = Path(directory)
    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            raise ValueError(
                f"checkpoint {str(directory)!r} has no {name}; accepted is a directory with both."
            )
    with naming(directory):  # before timm, which trusts both files
        check_config(read_config(directory))
    try:
        # timm calls our entry point, which checks configuration and weights again for users of timm.
        model = timm.create_model(f"local-dir:{directory}", pretrained=True, **kwargs)
    except (RuntimeError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"checkpoint {str(directory)!r} cannot be loaded: {one_line(error)}") from None
    return model.eval()


@contextmanager
def naming(directory: str | Path) -> Iterator[None]:
    """Put the name of a checkpoint before the sentence of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"checkpoint {str(directory)!r} cannot be loaded: {error}") from None


def check_weights(path: Path, model: nn.Module) -> None:
    """ValueError unless a file of weights fits a model; no tensor is read.

    Args:
        path: model.safetensors.
        model: a DTRAM; one on the meta device does.
    """
    expected, found = model.state_dict(), read_header(path)
    upgrade(model, found)
    check_floats(found, expected)
    shapes = [{name: list(w.shape) for name, w in weights.items()} for weights in (expected, found)]
    wanted, there = shapes
    odd = sorted(name for name in wanted | there if wanted.get(name) != there.get(name))
    if odd:
        raise ValueError(
            f"{len(odd)} tensors do not fit its config.json, {odd[0]!r} for one, which has shape "
            f"{there.get(odd[0])} instead of {wanted.get(odd[0])}; are they of another encoder or class "
            "count?"
        )


def sound(weights: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """Give weights that timm has read today's names; ValueError if they are no finite floats."""
    upgrade(model, weights)
    check_floats(weights, model.state_dict())
    check_finite(weights)
    return weights


def write_header(path: str | Path, facts: dict[str, str]) -> None:
    """Write facts into the metadata of a safetensors file; the bytes of the tensors do not change."""
    # The library changes the order of metadata at every call, and with it the checksum of the file.
    path = Path(path)
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    facts = {"format": "pt"} | header.pop("__metadata__", {}) | facts
    header = json.dumps({"__metadata__": dict(sorted(facts.items()))} | header, allow_nan=False).encode()
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
        ValueError: the file is damaged, or holds NaN, infinity or integers.
        RuntimeError: the shapes differ and `fitting` is False.
    """
    read_header(path)  # says what is damaged
    weights = load_file(path)
    try:
        sound(weights, model)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if fitting:
        load_fitting(model, weights)
    else:
        model.load_state_dict(weights)


def load_fitting(model: nn.Module, weights: dict[str, torch.Tensor]) -> set[str]:
    """Load the weights of all parts that have the same shapes; return the names of the others.

    Args:
        model: a DTRAM.
        weights: with today's names.
    """
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    # A part keeps all its weights or none: half of another policy is worse than a fresh policy.
    found = {name: tensor.shape for name, tensor in weights.items()}
    differing = {name.split(".")[0] for name in shapes | found if shapes.get(name) != found.get(name)}
    fitting = {name: tensor for name, tensor in weights.items() if name.split(".")[0] not in differing}
    model.load_state_dict(fitting, strict=False)
    return differing & {name.split(".")[0] for name in shapes}
