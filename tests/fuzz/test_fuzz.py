"""A few cases of every target of fuzzing; `campaign.py` runs many."""

import pytest

from campaign import TARGETS, campaign

CASES = {"images": 120, "folders": 40, "configs": 80, "states": 20, "prompt": 60}  # a few seconds each


@pytest.mark.parametrize("name", TARGETS)
def test_no_case_trips(name: str) -> None:
    counts, faults = campaign(name, CASES[name])
    assert faults == {}
    assert len(counts) == 2, "cases that are all answered, or all refused, test nothing"
