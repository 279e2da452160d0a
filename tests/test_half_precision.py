"""Half precision on a CPU, for which torch lacks some operations: every kind of model answers and learns."""

import pytest
import torch

from conftest import first_of
from dtram_hub import DTRAM

HALVES = [
    {"context": "resize", "aggregate": "last"},
    {"context": "crop", "aggregate": "residual", "glimpse_size": 24},
    {"context": "resize", "aggregate": "average", "stopper": "margin"},
    {"context": "none", "aggregate": "last", "crop_mode": "bilinear", "locator": "stepwise"},
    {"context": "resize", "aggregate": "evidence", "locator": "attend", "glimpse_crop": 12},
    {"context": "resize", "aggregate": "evidence", "locator": "attend", "context_encoder": "own"},
    {"context": "none", "aggregate": "last", "glimpse_scales": 2, "glimpse_crop": 10, "dynamic": False},
]


@pytest.mark.parametrize("change", HALVES)
@pytest.mark.parametrize("dtype", first_of([torch.bfloat16, torch.float16]))
def test_half_precision_on_a_cpu_answers_as_single(dtype: torch.dtype, change: dict) -> None:
    sizes = {"num_steps": 3, "image_size": 48, "context_size": 32, "glimpse_crop": 32, "hidden_size": 16}
    model = DTRAM("test_resnet", 5, **sizes | change).eval()
    if not model.locator.needs_map:  # a choice among cells may tip over in half precision
        torch.nn.init.normal_(model.locator.linear.weight, std=0.1)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    model, images = model.to(dtype), torch.randn(4, 3, 48, 48).to(dtype)
    found, expected = model.predict(images, 1.0), model.float().predict(images.float(), 1.0)
    model.to(dtype)
    assert found.steps.tolist() == expected.steps.tolist() == [3] * 4
    torch.testing.assert_close(found.logits.float(), expected.logits, rtol=0.1, atol=0.1)
    torch.testing.assert_close(found.locations.float(), expected.locations, rtol=0, atol=0.1, equal_nan=True)
    assert model(images).dtype == dtype
    model.train()
    rollout = model.rollout(images, sample=True, num_rollouts=2)
    assert rollout.logits.isfinite().all()
    (rollout.logits.sum() + rollout.location_log_probs.sum() + model(images).sum()).backward()
    assert model.encoder.conv1[0].weight.grad.isfinite().all()


@pytest.mark.parametrize("locator", ["shared", "stepwise", "attend", "aim"])
def test_the_location_policy_learns_under_autocast(locator: str) -> None:
    """Autocast may keep a weight that was cast without a gradient, when the location was chosen."""
    sizes = {"num_steps": 3, "image_size": 48, "context": "resize", "context_size": 32, "glimpse_crop": 16}
    model = DTRAM("test_efficientnet", 5, **sizes, hidden_size=16, locator=locator).train()
    with torch.autocast("cpu", torch.bfloat16):
        rollout = model.rollout(torch.randn(4, 3, 48, 48), sample=True)
        weights = torch.arange(12.0).view(4, 3)  # rollouts of the same sign could cancel out
        loss = (rollout.location_log_probs * weights).sum()
    loss.backward()
    policy = model.locator.query if model.locator.needs_map else model.locator.linear
    assert policy.weight.grad.abs().sum() > 0
