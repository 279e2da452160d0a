"""The licence of weights: their owner states it, and nothing else does."""

import re
from pathlib import Path

import yaml
from huggingface_hub import metadata_load

from ..prompt import one_line


def check_license(license: str | None) -> None:
    """ValueError unless `license` is None or written as the Hub writes licences; the Hub knows them all."""
    if license is None:
        return
    if not isinstance(license, str) or not re.fullmatch(r"[a-z0-9]+([.+-][a-z0-9]+)*", license):
        raise ValueError(
            f"license={license!r} is no licence as the Hub writes them: 'apache-2.0', 'cc-by-4.0', 'other'."
        )


def licence_of(card: Path) -> object:
    """The licence in the metadata of a card; None if it states none.

    Raises:
        ValueError: the metadata are no YAML.
    """
    try:
        return (metadata_load(card) or {}).get("license")
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{str(card)!r} has metadata that are no YAML ({one_line(error, 200)}).") from None


def without_licence(card: str) -> str:
    """The sentence about a card that states no licence."""
    return (
        f"{card} states no licence, which leaves open what others may do with the weights; "
        "license='apache-2.0' (--license apache-2.0), for example, states one."
    )
