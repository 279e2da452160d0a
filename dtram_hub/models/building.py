"""How an entry point builds a DT-RAM: what it is asked for, by whom, and where weights come from.

An entry point gets keywords of a user, of a checkpoint's config.json that timm has read, or of timm's
scripts, which pass on the configuration that timm has registered.
"""

from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub.errors import EntryNotFoundError
from timm.models import (
    build_model_with_cfg,
    load_model_config_from_hf,
    parse_model_name,
    resolve_pretrained_cfg,
    split_model_name_tag,
)
from timm.models._hub import download_from_hf, load_model_config_from_path
from timm.models._pretrained import PretrainedCfg

from ..checks import short
from ..prompt import one_line
from . import checkpoint
from .arguments import IMAGE_SIZE, NATIVE, check_each, usual_side
from .config_file import (
    CONFIG,
    check_config,
    check_encoder_args,
    check_model_args,
    check_preprocessing,
    config_of_transformers,
    read_config,
)
from .dtram import DTRAM
from .encoder import check_backbone, has_classifier, own_size, size_keywords
from .preprocessing import adapt, around
from .shipped import SHIPPED, encoder_inside

VIEWS = ("context", "context_size", "glimpse_crop", "glimpse_size", "glimpse_scales")
# Sizes of the images, not of the views.
SIZES = ("input_size", "test_input_size", "min_input_size", "fixed_input_size")


@dataclass
class Asked:
    """What a model is made of, apart from the caller's keywords.

    cfg: timm's configuration of the model, with the caller's changes.
    arguments: keywords of a checkpoint or of the encoder's own configuration.
    whole: whether pretrained weights fill the whole model; otherwise they fill the encoder.
    backbone: the registered name of the encoder's architecture, if a tag or a source stands beside it.
    encoder_source: as in `TimmModel`.
    """

    cfg: PretrainedCfg
    arguments: dict
    whole: bool
    backbone: str | None = None
    encoder_source: Callable[[], dict] | None = None


def create(variant: str, pretrained: bool, kwargs: dict, **defaults) -> DTRAM:
    """Build a model by the caller's keywords, then a checkpoint's, then `defaults`.

    Pretrained weights of a DT-RAM fill the whole model. Those of timm fill the encoder alone.

    Args:
        variant: our timm name.
        pretrained: whether to load weights.
        kwargs: the caller's keywords.
        defaults: keywords of the variant, `backbone` among them.

    Raises:
        ValueError: a keyword has a value that is not accepted, or files do not hold a DT-RAM.
    """
    asking = config_of_transformers()
    if asking is not None:
        check_model_args(variant, asking.model_args or {})
    asked = _resolve(variant, pretrained, kwargs, defaults["backbone"])
    kwargs = defaults | asked.arguments | kwargs
    kwargs["backbone"] = asked.backbone or kwargs["backbone"]
    for name in ("pretrained_cfg", "pretrained_cfg_overlay"):
        kwargs.pop(name, None)
    device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
    kwargs = _complete(kwargs, asked.cfg)

    def build(**arguments) -> DTRAM:
        with nullcontext() if device is None else torch.device(device):
            model = DTRAM(**arguments)
        model.encoder_source = asked.encoder_source
        if pretrained and not asked.whole:
            model.load_encoder(cache_dir=kwargs.get("cache_dir"))
        return model.to(dtype=dtype)

    # Weights for the same channels must stay as they are; older versions of timm take them for three.
    adapted = asked.cfg.first_conv if kwargs["in_chans"] != asked.cfg.input_size[0] else None
    loading: dict[str, Any] = {
        "pretrained_cfg": replace(asked.cfg, first_conv=adapted),
        "pretrained_filter_fn": checkpoint.sound,
    }
    model = build_model_with_cfg(build, variant, pretrained and asked.whole, **loading, **kwargs)
    for stated in (model.pretrained_cfg, getattr(model, "_traits", {})):
        stated["first_conv"] = asked.cfg.first_conv
    classes = kwargs.get("num_classes", asked.cfg.num_classes)
    adapt(model.pretrained_cfg, kwargs["in_chans"], usual_side(kwargs), kwargs.get("aggregate"), classes)
    return model


def _resolve(variant: str, pretrained: bool, kwargs: dict, own_backbone: str) -> Asked:
    """Find out what `kwargs` ask for; for a checkpoint, check its files."""
    config, overlay = kwargs.get("pretrained_cfg"), dict(kwargs.get("pretrained_cfg_overlay") or {})
    cache_dir, tag = kwargs.get("cache_dir"), config
    if isinstance(config, PretrainedCfg):
        config = config.to_dict()
    if isinstance(config, dict):
        if config.get("source"):
            _check_checkpoint(config, pretrained, cache_dir)
        registered = None if config.get("source") else _registered(variant, config)
        if registered is None:
            cfg = resolve_pretrained_cfg(variant, config, overlay)
            return Asked(cfg, {"num_classes": cfg.num_classes}, whole=True)
        tag, changes = registered
        overlay = changes | overlay
        if not pretrained and tag == timm.get_pretrained_cfg(variant).tag:
            tag = None  # timm's scripts name the default tag where the user names none
    name = f"{variant}.{tag or (timm.get_pretrained_cfg(variant).tag if pretrained else None)}"
    if name in SHIPPED:
        return _shipped(name, pretrained, overlay)
    backbone = kwargs.get("backbone", own_backbone)
    architecture, encoder, arguments = _encoder_of(backbone, tag, cache_dir)
    is_own = backbone == own_backbone
    cfg = timm.get_pretrained_cfg(f"{variant}.{tag}" if tag else variant) if is_own else around(encoder)
    encoder = replace(encoder, **{key: value for key, value in overlay.items() if key not in SIZES})
    return Asked(
        resolve_pretrained_cfg(variant, cfg.to_dict(), overlay),
        arguments,
        whole=False,
        backbone=architecture,
        encoder_source=partial(PretrainedCfg.to_dict, encoder),
    )


def _shipped(name: str, pretrained: bool, overlay: dict) -> Asked:
    """What the name of a shipped checkpoint asks for; only its weights know its classes by name."""
    shipped, variant = SHIPPED[name], name.partition(".")[0]
    names = {"label_names": tuple(shipped["label_names"])} if pretrained else {}
    cfg = resolve_pretrained_cfg(variant, timm.get_pretrained_cfg(name).to_dict(), names | overlay)
    arguments = shipped["model_args"] | {"num_classes": shipped["num_classes"]}
    return Asked(cfg, arguments, whole=True, encoder_source=partial(encoder_inside, name))


def _registered(variant: str, config: dict) -> tuple[str, dict] | None:
    """The tag and the changes of a configuration that timm has registered; None for any other."""
    tag = config.get("tag") or ""
    name = f"{variant}.{tag}" if tag else variant
    known = timm.get_pretrained_cfg(name) if not tag or timm.models.is_model_pretrained(name) else None
    if known is None or config.get("architecture") != variant:
        return None
    values = known.to_dict()
    return tag, {key: value for key, value in config.items() if values.get(key) != value}


def _encoder_of(backbone: Any, tag: str | None, cache_dir: str | None) -> tuple[str, PretrainedCfg, dict]:
    """The architecture of a `backbone`, timm's configuration of its weights, and its own keywords."""
    if not isinstance(backbone, str):
        check_backbone(backbone)
    try:
        source, name = parse_model_name(backbone)
    except ValueError:
        source, name = None, backbone  # no name of a model either
    if not source:
        architecture, own_tag = split_model_name_tag(name)
        check_backbone(architecture)
        tag = own_tag or tag
        try:
            return architecture, timm.get_pretrained_cfg(f"{architecture}.{tag}" if tag else architecture), {}
        except RuntimeError as error:
            raise ValueError(f"backbone={name!r}: {error}.") from None
    load = load_model_config_from_path
    if source == "hf-hub":
        load = partial(load_model_config_from_hf, cache_dir=cache_dir)
    try:
        found, architecture, arguments = load(name)
        check_backbone(architecture)
        arguments = {key: value for key, value in arguments.items() if key != "img_size"}  # of its own views
        check_encoder_args(architecture, arguments.keys() - {"num_classes", "in_chans"}, arguments)
        check_preprocessing(found)
        return architecture, PretrainedCfg(**found), arguments
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = one_line(error, 300)
        raise ValueError(f"backbone={backbone!r} cannot be read: {reason}") from None


def _check_checkpoint(config: dict, pretrained: bool, cache_dir: str | None) -> None:
    """ValueError unless the files from which timm has read `config` describe a DT-RAM, and hold one.

    The header of the weights proves the sizes in the configuration before memory is taken.
    """
    if config["source"] == "local-dir":
        folder = Path(config["file"])
    else:
        fetch = partial(download_from_hf, config["hf_hub_id"], cache_dir=cache_dir)
        folder = Path(fetch(filename=CONFIG)).parent
        if pretrained:
            with suppress(EntryNotFoundError):  # then timm looks for weights of another type
                fetch(filename=checkpoint.WEIGHTS)
    with checkpoint.naming(folder):
        found = read_config(folder)
        check_config(found)
        if not pretrained or not (folder / checkpoint.WEIGHTS).is_file():
            return
        arguments = {"in_chans": found["pretrained_cfg"]["input_size"][0]} | found.get("model_args", {})
        arguments |= {"num_classes": found["num_classes"], "device": "meta"}
        with torch.random.fork_rng(devices=[]):
            empty = timm.create_model(found["architecture"], **arguments)
        checkpoint.check_weights(folder / checkpoint.WEIGHTS, empty)


def _complete(kwargs: dict, cfg: PretrainedCfg) -> dict:
    """The keywords with those that depend on others: channels, views, and the answer."""
    kwargs = dict(kwargs)
    if "img_size" in kwargs:
        kwargs["image_size"] = _square(kwargs.pop("img_size"))
    kwargs.setdefault("in_chans", cfg.input_size[0])
    check_each(kwargs)
    if not any(name in kwargs for name in VIEWS):
        kwargs = _views(kwargs["backbone"], _side_in(kwargs), kwargs["in_chans"]) | kwargs
    if not has_classifier(kwargs["backbone"]):
        kwargs.setdefault("aggregate", "last")
    kwargs.setdefault("feature_cfg", {"feature_cls": "getter", "out_indices": 3})
    return kwargs


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


def _side_in(kwargs: dict) -> int | None:
    """The image size that keywords name; None for none, or for images as large as they come."""
    side = kwargs.get("image_size")
    return None if side == NATIVE else side


def _square(size: int | tuple[int, int]) -> int:
    sides = size if isinstance(size, list | tuple) else [size]
    if not sides or any(side != sides[0] for side in sides):
        raise ValueError(f"img_size={short(size)} is not square; accepted is one side in pixels.")
    return sides[0]
