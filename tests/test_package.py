"""The package as users get it: its version in every place, and what the wheel holds and does."""

import re
from pathlib import Path

import yaml

import dtram_hub

ROOT = Path(__file__).parents[1]


def test_version_and_date_are_those_of_the_changelog() -> None:
    released = re.findall(r"^## \[([\d.]+)\] - ([\d-]+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (dtram_hub.__version__, str(cited["date-released"])) == released[0]
    assert str(cited["version"]) == dtram_hub.__version__
