"""The checkpoints that ship with the package: every folder of `weights/`, named `<architecture>.<tag>`."""

import json
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import load_file
from timm.models._pretrained import PretrainedCfg

WEIGHTS = Path(__file__).parents[1] / "weights"
SHIPPED = {path.parent.name: json.loads(path.read_text()) for path in sorted(WEIGHTS.glob("*/config.json"))}


def shipped_cfg(name: str) -> PretrainedCfg:
    """timm's configuration of a shipped checkpoint."""
    values = SHIPPED[name]["pretrained_cfg"].items()
    cfg: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values}
    return PretrainedCfg(**cfg | {"file": str(WEIGHTS / name / "model.safetensors")})


def encoder_inside(name: str) -> dict:
    """timm's configuration of the encoder inside of a shipped checkpoint, weights included."""
    shipped, whole = SHIPPED[name], load_file(WEIGHTS / name / "model.safetensors")
    weights = {key.removeprefix("encoder."): w for key, w in whole.items() if key.startswith("encoder.")}
    cfg = timm.get_pretrained_cfg(shipped["model_args"]["backbone"]).to_dict(remove_source=True)
    return cfg | {"state_dict": weights, "num_classes": shipped["num_classes"]}
