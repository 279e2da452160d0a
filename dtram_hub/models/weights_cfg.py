"""The mean and the deviation that the weights of an encoder want, as far as their file says so."""

import json
from pathlib import Path

import timm
from safetensors import SafetensorError, safe_open
from timm.models import is_model_pretrained, split_model_name_tag

from .config_file import CONFIG, check_preprocessing

KEYS = ("mean", "std")


def stated_by_file(path: str | Path, backbone: str) -> tuple[dict[str, tuple[float, ...]], str] | None:
    """What a .safetensors file of an encoder says about the images that it wants.

    The first of these that knows is believed: the metadata in the file, lists of numbers as JSON under "mean"
    and "std"; a JSON file beside it, NAME.json or config.json, in timm's layout; timm, if NAME is one of its
    names, such as "tf_efficientnet_lite0.in1k". A config.json of another architecture is of other weights.

    Args:
        path: NAME.safetensors.
        backbone: the architecture of the encoder.

    Returns:
        "mean" and "std" for pixels in [0, 1], and who says so, in words; None if nobody does.

    Raises:
        ValueError: metadata or a file beside it are damaged, or no mean and deviation.
    """
    path = Path(path)
    for asked in (_metadata, _file_beside, _name_in_timm):
        found = asked(path, backbone)
        if found is not None:
            cfg, words = found
            return {key: tuple(cfg[key]) for key in KEYS}, words
    return None


def _metadata(path: Path, backbone: str) -> tuple[dict, str] | None:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError):
        return None  # who loads the weights says what is wrong
    if not metadata.keys() >= set(KEYS):
        return None
    words = f"of the metadata of {str(path)!r}"
    try:
        return _checked({key: json.loads(metadata[key]) for key in KEYS}, words)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError(f"mean and std {words} are no JSON.") from None


def _file_beside(path: Path, backbone: str) -> tuple[dict, str] | None:
    for beside in (path.with_suffix(".json"), path.with_name(CONFIG)):
        try:
            config = json.loads(beside.read_text(encoding="utf-8"))
            own = split_model_name_tag(config["architecture"])[0] == backbone
            cfg = config.get("pretrained_cfg", config)
            states = own and cfg.keys() >= set(KEYS)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue  # there is none, or one of another kind
        if states:
            return _checked({key: cfg[key] for key in KEYS}, f"of {str(beside)!r}")
    return None


def _name_in_timm(path: Path, backbone: str) -> tuple[dict, str] | None:
    if split_model_name_tag(path.stem)[0] != backbone or not is_model_pretrained(path.stem):
        return None
    return timm.get_pretrained_cfg(path.stem).to_dict(), f"of timm's {path.stem}"


def _checked(cfg: dict, words: str) -> tuple[dict, str]:
    try:
        check_preprocessing(cfg)
        if not all(cfg.values()):
            raise ValueError("accepted are one number or more.")
    except ValueError as error:
        raise ValueError(f"mean and std {words}: {error}") from None
    return cfg, words
