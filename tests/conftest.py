"""Shared fixtures: a model small enough to run anywhere, and two threads at most."""

import pytest
import torch

from dtram_hub import DTRAM

torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def make_undecided(model: DTRAM, images: torch.Tensor) -> DTRAM:
    """Random heads, and a stop policy that stops half of `images` after the first look."""
    for module in (model.stop_head[-1], model.locator, model.head):
        torch.nn.init.normal_(module.weight)
    with torch.no_grad():
        model.stop_head[-1].bias -= model.rollout(images).stop_logits[:, 0].median()
    return model


@pytest.fixture
def small_model() -> DTRAM:
    """A DT-RAM of at most four looks at 32-pixel grey images, whose stop policy is undecided."""
    model = DTRAM("glimpse_convnet", 5, 1, 4, 32, "resize", 12, 12, hidden_size=32, aggregate="last")
    return make_undecided(model.eval(), torch.rand(64, 1, 32, 32))
