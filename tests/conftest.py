"""Shared fixtures: a model small enough to run anywhere, and two threads at most."""

import pytest
import torch

from dtram_hub import DTRAM

torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def small_model() -> DTRAM:
    """A dynamic DT-RAM of at most four looks at 32-pixel grey images, whose stop policy is undecided."""
    model = DTRAM("glimpse_convnet", 5, 1, 4, 32, "resize", 12, 12, hidden_size=32, aggregate="last")
    torch.nn.init.normal_(model.stop_head[-1].weight)
    torch.nn.init.normal_(model.locator.weight)
    return model.eval()
