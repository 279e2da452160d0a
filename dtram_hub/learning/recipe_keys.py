"""All keys of a recipe, with types and defaults, read off the dataclasses and off the model's constructor."""

import inspect
import types
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from ..models.dtram import DTRAM
from .recipe import Recipe


@dataclass(frozen=True)
class Key:
    """One key: its full name, such as "data.root", its type in words, and its default in YAML."""

    name: str
    type: str
    default: str


def all_keys() -> list[Key]:
    """The keys of a recipe in the order of its sections; those of "model" are the keywords of DTRAM."""
    return [*_keys_of(Recipe)]


def _keys_of(kind: Any, prefix: str = "") -> Iterator[Key]:
    hints = get_type_hints(kind)
    for field in fields(kind):
        hint, name = hints[field.name], prefix + field.name
        if is_dataclass(hint):
            yield from _keys_of(hint, f"{name}.")
        elif name == "model":
            yield from _model_keys()
        else:
            default = field.default if field.default_factory is MISSING else field.default_factory()
            yield Key(name, _in_words(hint), _as_yaml(default))


def _model_keys() -> Iterator[Key]:
    hints = get_type_hints(DTRAM.__init__)
    for name, parameter in inspect.signature(DTRAM).parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD and name not in ("backbone", "levels"):
            yield Key(f"model.{name}", _in_words(hints[name]), _as_yaml(parameter.default))


def _in_words(hint: Any) -> str:
    """A type as users of YAML know it, such as "number or null"."""
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(map(_in_words, get_args(hint)))
    if get_origin(hint) in (list, tuple):
        inner = [_in_words(part) for part in get_args(hint) if part is not ...]
        return f"list of {inner[0]}s"
    if get_origin(hint) is dict:
        return "mapping"
    names = {int: "integer", float: "number", str: "word", bool: "true or false", types.NoneType: "null"}
    return names.get(hint, "any value")


def _as_yaml(value: Any) -> str:
    if value is MISSING:
        return "no default"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
