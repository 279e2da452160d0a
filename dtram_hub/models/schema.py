"""The types and ranges of config.json; `config_file.py` checks what belongs together."""

from dataclasses import fields
from typing import Annotated, Any, Literal

import timm
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, ValidationError
from timm.models._pretrained import PretrainedCfg

from ..checks import short

# Keys of timm's configuration that say where weights come from; timm itself fills them in.
WEIGHT_SOURCES = {"url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source"}

Side = Annotated[int, Field(ge=1, le=16384)]
Size = Annotated[list[Side], Field(min_length=3, max_length=3)]
Fraction = Annotated[FiniteFloat, Field(ge=0.1, le=2)]
Means = list[Annotated[FiniteFloat, Field(ge=-1e3, le=1e3)]]
Deviations = list[Annotated[FiniteFloat, Field(ge=1e-4, le=1e4)]]
Names = str | list[str] | None


def known_to_timm(values: object) -> object:
    if isinstance(values, dict):
        known = {field.name for field in fields(PretrainedCfg)}
        for key in values:
            if key in WEIGHT_SOURCES:
                raise ValueError(f"{key!r} names weights, which a configuration must not")
            if key not in known:
                raise ValueError(f"timm {timm.__version__} does not know {short(key)}")
    return values


class Preprocessing(BaseModel):
    """`pretrained_cfg` of any timm model: how images are prepared, and which weights are adapted."""

    model_config = ConfigDict(strict=True)

    mean: Means = [0.485, 0.456, 0.406]
    std: Deviations = [0.229, 0.224, 0.225]
    input_size: Size = [3, 224, 224]
    test_input_size: Size | None = None
    min_input_size: Size | None = None
    interpolation: Literal["bicubic", "bilinear", "nearest", "lanczos", "box", "hamming", "random"] = (
        "bicubic"
    )
    crop_pct: Fraction = 0.875
    test_crop_pct: Fraction | None = None
    crop_mode: Literal["center", "squash", "border"] = "center"
    fixed_input_size: bool = False
    custom_load: Literal[False] = False
    label_offset: Literal[0] | None = None
    first_conv: Names = None
    classifier: Names = None
    tag: str | None = None


class WholePreprocessing(Preprocessing):
    """`pretrained_cfg` of a DT-RAM, which timm's defaults do not describe."""

    mean: Means
    std: Deviations
    input_size: Size
    fixed_input_size: Literal[False] = False  # a DT-RAM cuts its views out of images of any size


class Config(BaseModel):
    """The whole of config.json; timm and transformers may add keys."""

    model_config = ConfigDict(strict=True, protected_namespaces=())

    architecture: str
    num_classes: Annotated[int, Field(ge=0, le=1_000_000)]
    label_names: list[str] | None = None
    label_descriptions: dict[str, str] | None = None
    model_args: dict[str, Any] = {}
    pretrained_cfg: Annotated[WholePreprocessing, BeforeValidator(known_to_timm)]


def validated(schema: type[BaseModel], values: dict) -> Any:
    """An instance of `schema`; a ValueError names the first value that does not fit."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise ValueError(f"{where} is missing.") from None
        if first["type"] == "value_error":  # from a check of ours, which names the value
            raise ValueError(f"{where}: {first['msg'].removeprefix('Value error, ')}.") from None
        raise ValueError(f"{where}={short(first['input'])} is refused: {first['msg']}.") from None
