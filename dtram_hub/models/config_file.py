"""config.json of a checkpoint, checked by a schema before anything is built.

A configuration may come from a stranger. It gives numbers and words to a registered architecture. It names no
file, no repository and no device.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm

from ..checks import short
from ..files import write_text
from .arguments import CHECKS, check_each
from .encoder import check_no_loading, keywords_of

CONFIG = "config.json"
QUOTES = "'\""
LARGEST_FILE = 64 * 2**20  # bytes; a million names of classes fit
LARGEST_NUMBER, LONGEST_LIST, LONGEST_WORD = 16384, 256, 256  # of an encoder's keyword


def read_config(directory: str | Path) -> dict:
    """Read config.json.

    Raises:
        ValueError: the file holds no JSON object.
    """
    path = Path(directory) / CONFIG
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"it has more than {LARGEST_FILE:,} bytes")
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError(f"it is a {type(config).__name__}")
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"checkpoint {str(directory)!r} cannot be loaded: its {CONFIG} is no JSON object ({error})."
        ) from None
    return config


def set_threshold(directory: str | Path, stop_threshold: float) -> None:
    """Change the stop threshold of a checkpoint, and nothing else; config.json is replaced as a whole.

    Raises:
        ValueError: as in `read_config` and `check_config`.
    """
    config = read_config(directory)
    config["model_args"]["stop_threshold"] = stop_threshold
    check_config(config)
    write_text(Path(directory) / CONFIG, json.dumps(config, indent=2, allow_nan=False))


def check_config(config: dict) -> None:
    """ValueError unless `config`, from config.json, describes a DT-RAM."""
    from .schema import Config, validated  # pydantic, which building a model does not need

    name = config.get("architecture")
    if not isinstance(name, str) or not name.startswith("dtram"):
        raise ValueError(f"it holds a {short(name).strip(QUOTES)}, not a DT-RAM.")
    if not timm.is_model(name):
        raise ValueError(
            f"it holds a {short(name).strip(QUOTES)}, which timm {timm.__version__} does not know."
        )
    found = validated(Config, config)
    if config["pretrained_cfg"].get("architecture", name) != name:
        raise ValueError(f"pretrained_cfg.architecture is not {name!r}.")
    check_model_args(name, found.model_args)
    labels, classes = found.label_names, found.num_classes
    if labels is not None and len(labels) != classes:
        raise ValueError(f"it names {len(labels)} labels for {classes} classes.")
    cfg = found.pretrained_cfg
    channels = found.model_args.get("in_chans", cfg.input_size[0])
    for key, count in (("mean", len(cfg.mean)), ("std", len(cfg.std)), ("input_size", cfg.input_size[0])):
        if count != channels:
            raise ValueError(f"pretrained_cfg.{key} is for {count} channels, but the model has {channels}.")


def check_model_args(architecture: str, arguments: Mapping[str, Any]) -> None:
    """ValueError unless the keywords are a DTRAM's, or plain values of keywords that its encoder names."""
    check_each(arguments)
    check_no_loading(arguments)
    own = {"dtram": "resnet50"}.get(architecture, architecture.removeprefix("dtram_"))
    backbone = arguments.get("backbone", own)
    check_encoder_args(backbone, arguments.keys() - CHECKS.keys(), arguments)


def check_encoder_args(backbone: str, names: set[str], arguments: Mapping[str, object]) -> None:
    """ValueError unless every name is a keyword of the encoder's class, with a plain value or a flat list."""
    check_no_loading(names)
    for name in sorted(names):
        if name not in keywords_of(backbone):
            raise ValueError(f"model_args has {short(name)}, which is no keyword of {backbone!r}.")
        value = arguments[name]
        for item in value if isinstance(value, list | tuple) and len(value) <= LONGEST_LIST else [value]:
            if not _is_plain(item):
                raise ValueError(
                    f"model_args.{name}={short(value)}; accepted are short words, finite numbers up to "
                    f"{LARGEST_NUMBER}, and flat lists of these."
                )


def check_preprocessing(cfg: dict) -> None:
    """ValueError unless `cfg` is a `pretrained_cfg` of any timm model."""
    from .schema import Preprocessing, validated

    validated(
        Preprocessing, {key: [*value] if isinstance(value, tuple) else value for key, value in cfg.items()}
    )


def config_of_transformers() -> Any:
    """The configuration from which transformers builds a model right now; None if it builds none.

    transformers passes `model_args` of config.json to timm as if they were a user's keywords. So only the
    callers know where they come from.
    """
    wrapper = "transformers.models.timm_wrapper.modeling_timm_wrapper"
    frame = sys._getframe() if wrapper in sys.modules else None
    while frame is not None:
        if frame.f_globals.get("__name__") == wrapper and "config" in frame.f_locals:
            return frame.f_locals["config"]
        frame = frame.f_back
    return None


def _is_plain(value: object) -> bool:
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, int | float):
        return abs(value) <= LARGEST_NUMBER  # neither NaN nor infinity is
    return isinstance(value, str) and len(value) <= LONGEST_WORD
