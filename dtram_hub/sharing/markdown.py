"""Markdown from a template. Every value shows as it is: none is markup, whatever a file says."""

import re
from pathlib import Path
from typing import Any

from ..prompt import one_line, printable

SPECIAL = re.compile(r"[&<>|`*\[\]\\$~]")


def as_text(value: Any) -> Any:
    """Escape what Markdown, HTML or a table would read as markup in a text, and join its lines.

    Anything but a text stays as it is, and so does a text that the template calls `safe`.
    """
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return SPECIAL.sub(lambda found: f"&#{ord(found[0])};", printable(one_line(value)))


def render(template: Path, values: dict) -> str:
    """Fill a template of jinja with values, each of which goes through `as_text`.

    Raises:
        ValueError: a value is missing, or is no number where a number is shown.
    """
    from jinja2 import Environment, StrictUndefined, TemplateError  # a push with a card of its own needs none

    environment = Environment(finalize=as_text, undefined=StrictUndefined)
    try:
        return environment.from_string(template.read_text(encoding="utf-8")).render(values)
    except (TemplateError, TypeError) as error:
        raise ValueError(f"the card cannot be written ({one_line(error)}).") from None
