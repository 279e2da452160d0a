"""The timm names of our models, registered when this package is imported.

`dtram_<name>` is the DT-RAM around the timm architecture `<name>`, with the same tags. Every architecture of
the installed timm has one. `dtram` takes the architecture as `backbone`. Every folder of `weights/` is a
checkpoint that ships with the package, named `<architecture>.<tag>`.
"""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import timm
import torch
from timm.models import (
    build_model_with_cfg,
    load_model_config_from_hf,
    parse_model_name,
    register_model,
    split_model_name_tag,
)
from timm.models._hub import load_model_config_from_path
from timm.models._pretrained import DefaultCfg, PretrainedCfg

# timm's public function copies every entry, which takes longer than the rest of this module.
from timm.models._registry import _model_pretrained_cfgs, _model_with_tags

from . import small_encoders  # noqa: F401  (registers the encoders of small glimpses)
from .dtram import DTRAM
from .encoder import check_backbone, has_classifier, module_names, own_size, size_keywords

WEIGHTS = Path(__file__).parents[1] / "weights"
SHIPPED = {path.parent.name: json.loads(path.read_text()) for path in sorted(WEIGHTS.glob("*/config.json"))}
IMAGE_SIZE = 512  # section 4.2, with context views of 448 and glimpses of 224 pixels
VIEWS = ("context", "context_size", "glimpse_crop", "glimpse_size", "glimpse_scales")
# The MNIST model of section 4.2: every look is a glimpse.
MNIST = {
    "backbone": "glimpse_mlp",
    "num_classes": 10,
    "in_chans": 1,
    "num_steps": 7,
    "image_size": 28,
    "context": "none",
    "glimpse_crop": 8,
    "hidden_size": 256,
    "aggregate": "last",
    "location_std": 0.05,
    "location_input": True,
    "locator": "stepwise",
}


def _around(encoder: PretrainedCfg) -> PretrainedCfg:
    """Turn an encoder's configuration into its DT-RAM's, with "encoder." before the names of modules."""
    return replace(
        encoder,
        architecture=None,
        input_size=(encoder.input_size[0], IMAGE_SIZE, IMAGE_SIZE),
        test_input_size=None,
        min_input_size=None,
        fixed_input_size=False,
        pool_size=None,
        test_pool_size=None,
        first_conv=tuple(f"encoder.{name}" for name in module_names(encoder.first_conv)),
        classifier=("head", *(f"encoder.{name}" for name in module_names(encoder.classifier))),
    )


def _shipped_cfg(name: str) -> PretrainedCfg:
    values = SHIPPED[name]["pretrained_cfg"].items()
    cfg = {key: tuple(value) if isinstance(value, list) else value for key, value in values}
    return PretrainedCfg(**cfg | {"file": str(WEIGHTS / name / "model.safetensors")})


def _default_cfg(architecture: str, encoder: str) -> DefaultCfg:
    """All tags of a DT-RAM: the encoder's, of which the first is the default, then the shipped ones."""
    cfgs = {}
    for name in _model_with_tags[encoder]:
        tag = name.partition(".")[2]
        cfgs[tag] = _around(_model_pretrained_cfgs[name])
    for name in SHIPPED:
        if name.startswith(f"{architecture}."):
            cfgs.pop("", None)  # an empty tag means no weights
            cfgs[name.partition(".")[2]] = _shipped_cfg(name)
    return DefaultCfg(tags=list(cfgs), cfgs=cfgs)


def _views(backbone: str, image_size: int | None, in_chans: int) -> dict:
    """View sizes: the paper's two, scaled to the image, if the encoder takes both; else the encoder's own."""
    side = image_size or IMAGE_SIZE
    large, small = (max(32, side * sixteenths // 512 * 32) for sixteenths in (14, 7))
    if size_keywords(backbone, {large, small}, in_chans)[0] is not None:
        return {"image_size": side, "context_size": large, "glimpse_crop": small}
    own = own_size(backbone)
    if image_size is None and own > IMAGE_SIZE // 2:
        side = 2 * own
    view = own if own <= side else small
    return {"image_size": side, "context": "resize", "context_size": view, "glimpse_crop": view}


def _square(size: int | tuple[int, int]) -> int:
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) > 1:
        raise ValueError(f"img_size={size!r} is not square; accepted is one side in pixels.")
    return sides.pop()


def _create(
    variant: str,
    pretrained: bool,
    kwargs: dict,
    encoder_cfg: dict | None = None,
    **defaults,
) -> DTRAM:
    """Build a model by the caller's keywords, then its shipped checkpoint's, then `defaults`.

    Pretrained weights of a DT-RAM fill the whole model. Those of timm fill the encoder alone.

    Args:
        variant: our timm name.
        pretrained: whether to load weights.
        kwargs: the caller's keywords.
        encoder_cfg: timm's configuration of the encoder's weights; by default that of the variant's tag.
        defaults: keywords of the variant.
    """
    config = kwargs.get("pretrained_cfg")
    if config is None and pretrained:
        config = timm.get_pretrained_cfg(variant).tag
    shipped = SHIPPED.get(f"{variant}.{config}", {}).get("model_args", {})
    whole = bool(shipped) or (isinstance(config, dict) and encoder_cfg is None)
    kwargs = defaults | shipped | kwargs
    device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
    if "img_size" in kwargs:
        kwargs["image_size"] = _square(kwargs.pop("img_size"))
    cfg = timm.models.resolve_pretrained_cfg(variant, kwargs.get("pretrained_cfg"))
    channels = kwargs.get("in_chans", cfg.input_size[0])
    check_backbone(kwargs["backbone"])
    if not any(name in kwargs for name in VIEWS):
        kwargs |= _views(kwargs["backbone"], kwargs.get("image_size"), channels)
    if not has_classifier(kwargs["backbone"]):
        kwargs.setdefault("aggregate", "last")
    kwargs.setdefault("feature_cfg", {"feature_cls": "getter", "out_indices": 3})
    loading = {"pretrained_cfg": encoder_cfg or config, "cache_dir": kwargs.get("cache_dir")}
    if not whole:
        loading["pretrained_cfg_overlay"] = kwargs.pop("pretrained_cfg_overlay", None)

    def build(**arguments) -> DTRAM:
        with nullcontext() if device is None else torch.device(device):
            model = DTRAM(**arguments)
        if pretrained and not whole:
            model.load_encoder(**loading)
        return model.to(dtype=dtype)

    model = build_model_with_cfg(build, variant, pretrained and whole, **kwargs)
    _adapt(model.pretrained_cfg, channels, kwargs.get("image_size", IMAGE_SIZE), kwargs.get("aggregate"))
    return model


def _adapt(cfg: dict, channels: int, side: int, aggregate: str | None) -> None:
    """Correct a timm configuration by the channels, the image size and the answer of the built model."""
    cfg["input_size"] = (channels, side, side)
    if aggregate == "last":
        cfg["classifier"] = "head"
    for key in ("mean", "std"):
        if len(cfg[key]) != channels:
            cfg[key] = (sum(cfg[key]) / len(cfg[key]),) * channels


def dtram(pretrained: bool = False, **kwargs) -> DTRAM:
    """A DT-RAM around `backbone`: any timm model, with its tag, as `hf-hub:...` or as `local-dir:...`.

    The preprocessing, and with `pretrained` the encoder's weights, are those of the timm model.
    """
    backbone = kwargs.get("backbone", "resnet50")
    if isinstance(kwargs.get("pretrained_cfg"), dict):
        return _create("dtram", pretrained, kwargs)
    if not isinstance(backbone, str):
        check_backbone(backbone)
    source, name = parse_model_name(backbone)
    if not source:
        architecture, _ = split_model_name_tag(name)
        check_backbone(architecture)
        encoder, arguments = timm.get_pretrained_cfg(name), {}
    else:
        load = load_model_config_from_hf if source == "hf-hub" else load_model_config_from_path
        encoder, architecture, arguments = load(name)
        encoder = PretrainedCfg(**encoder)
    kwargs = (arguments or {}) | kwargs | {"backbone": architecture}
    kwargs["pretrained_cfg"] = _around(encoder).to_dict() | {"architecture": "dtram"}
    return _create("dtram", pretrained, kwargs, encoder_cfg=encoder.to_dict())


def dtram_glimpse_mlp(pretrained: bool = False, **kwargs) -> DTRAM:
    """The paper's DT-RAM for MNIST (section 4.2), with glimpses of 8 pixels; the steps depend on the tag."""
    return _create("dtram_glimpse_mlp", pretrained, kwargs, **MNIST)


def _of_architecture(backbone: str):
    """Make the entry point `dtram_<backbone>`."""

    def create(pretrained: bool = False, **kwargs) -> DTRAM:
        return _create(create.__name__, pretrained, kwargs, backbone=backbone)

    create.__name__ = create.__qualname__ = f"dtram_{backbone}"
    create.__doc__ = f"DT-RAM around timm's `{backbone}`."
    return create


def _register() -> None:
    ours = timm.list_models(module="small_encoders")
    entries = {dtram: "resnet50", dtram_glimpse_mlp: "glimpse_mlp"}
    entries |= {_of_architecture(name): name for name in timm.list_models(exclude_filters=ours)}
    for create, encoder in entries.items():
        globals()[create.__name__] = create
        default_cfgs[create.__name__] = _default_cfg(create.__name__, encoder)
        register_model(create)


default_cfgs: dict[str, DefaultCfg] = {}
_register()
