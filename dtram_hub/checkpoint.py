"""Model directories: `model.safetensors` and `config.json` in timm's own layout, which `local-dir:` loads."""

import json
import os
import tempfile
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf

from .model import DTRAM


def save(model: DTRAM, directory: str | Path, class_names: list[str] | None = None) -> None:
    """Write weights and configuration; `timm.create_model("local-dir:PATH", pretrained=True)` reads both.

    Every constructor argument is kept, and the class names, if given, as `label_names`.
    """
    # The tag is that of the weights that the model came with, and these are others now.
    config = {"pretrained_cfg": {"tag": None}} | ({"label_names": list(class_names)} if class_names else {})
    save_for_hf(
        model, str(directory), model_config=config, model_args=model.arguments(), safe_serialization=True
    )
    # The number of classes stands beside the arguments; transformers does not bear it among them as well.
    path = Path(directory) / "config.json"
    config = json.loads(path.read_text())
    del config["model_args"]["num_classes"]
    path.write_text(json.dumps(config, indent=2))


def load(directory: str | Path) -> DTRAM:
    """The DT-RAM saved in a directory, in evaluation mode.

    Raises:
        ValueError: a file is missing or damaged, or the directory holds another kind of model.
    """
    directory = Path(directory)
    for name in ("config.json", "model.safetensors"):
        if not (directory / name).is_file():
            raise ValueError(
                f"checkpoint {str(directory)!r} has no {name}; accepted is a directory with both."
            )
    try:
        model = timm.create_model(f"local-dir:{directory}", pretrained=True)
    except SafetensorError as error:
        raise ValueError(f"{directory / 'model.safetensors'} is damaged or truncated ({error}).") from None
    except (RuntimeError, KeyError, ValueError, AttributeError) as error:
        reason = _misfit(directory) or " ".join(str(error).split())
        raise ValueError(f"checkpoint {str(directory)!r} cannot be loaded: {reason}") from None
    if not isinstance(model, DTRAM):
        raise ValueError(f"checkpoint {str(directory)!r} holds a {type(model).__name__}, not a DT-RAM.")
    return model.eval()


def _misfit(directory: Path) -> str | None:
    """How the weights in a directory differ from the model of its config.json; None if that is no model."""
    try:
        model = timm.create_model(f"local-dir:{directory}")
    except Exception:  # then the configuration is at fault, and the caller says so
        return None
    expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    with safe_open(directory / "model.safetensors", framework="pt") as file:
        names = list(file.keys())
        found = {name: file.get_slice(name).get_shape() for name in names}
    odd = sorted(name for name in expected | found if expected.get(name) != found.get(name))
    if not odd:
        return None
    return (
        f"{len(odd)} tensors do not fit its config.json, {odd[0]!r} for one, which has shape "
        f"{found.get(odd[0])} instead of {expected.get(odd[0])}; are they of another encoder or class count?"
    )


def save_weights(model: torch.nn.Module, path: str | Path) -> None:
    """Write weights alone, all or nothing: a reader never sees half a file, whenever the writer dies."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    os.close(handle)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, temporary)
    os.replace(temporary, path)


def load_weights(model: torch.nn.Module, path: str | Path) -> None:
    """Read what `save_weights` wrote into a model of the same shape; ValueError when the file is damaged."""
    try:
        model.load_state_dict(load_file(path))
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or truncated ({error}).") from None
