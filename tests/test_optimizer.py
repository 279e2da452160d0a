"""Parameter groups: layers, weight decay, and the rates that the policies declare; schedules."""

import pytest
import torch
from timm.models import group_parameters

from dtram_hub import DTRAM
from dtram_hub.learning.curriculum import Stage, enter_stage
from dtram_hub.learning.optimizer import (
    OPTIMIZERS,
    OptimizerConfig,
    make_optimizer,
    parameter_groups,
    rate_factor,
    set_learning_rate,
)


def build(backbone: str = "test_efficientnet", **keywords) -> DTRAM:
    views = {"image_size": 64, "context": "resize", "context_size": 32, "glimpse_crop": 32}
    model = DTRAM(backbone, 5, 3, 3, hidden_size=16, locator="stepwise", **views | keywords)
    enter_stage(model, Stage(kind="dtram", num_steps=3))
    return model


def by_name(model: DTRAM, groups: list[dict], key: str) -> dict[str, float]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[parameter]: group[key] for group in groups for parameter in group["params"]}


def test_learning_rates_fall_with_depth_and_policies_have_their_own() -> None:
    model = build(aggregate="last")
    config = OptimizerConfig(layer_decay=0.5, locator_rate=0.1, locations_rate=30)
    scales = by_name(model, parameter_groups(model, config), "lr_scale")
    layers = group_parameters(model, model.group_matcher(), reverse=True)
    assert scales.keys() == {name for name, _ in model.named_parameters()}
    assert scales["head.weight"] == scales["input_to_hidden.weight"] == scales["baseline.bias"] == 1
    assert (scales["locator.linear.weight"], scales["locator.linear.bias"]) == (0.1, 0.1)
    assert scales["locator.locations"] == 30
    assert scales["encoder.conv_stem.weight"] == 0.5 ** layers["head.weight"]
    assert (
        0 == layers["encoder.conv_stem.weight"] < layers["encoder.conv_head.weight"] < layers["head.weight"]
    )


def test_only_weights_are_decayed() -> None:
    """Biases, norms and the model's own `no_weight_decay` are not; the locations are among these."""
    model = build()
    decays = by_name(model, parameter_groups(model, OptimizerConfig(weight_decay=0.05)), "weight_decay")
    for name, parameter in model.named_parameters():
        expected = 0.0 if parameter.ndim <= 1 or name in model.no_weight_decay() else 0.05
        assert decays[name] == expected, name
    assert decays["locator.locations"] == decays["encoder.bn1.weight"] == decays["head.bias"] == 0.0
    assert decays["locator.linear.weight"] == decays["encoder.conv_stem.weight"] == 0.05


def test_frozen_parameters_are_in_no_group() -> None:
    model = build()
    enter_stage(model, Stage(kind="ram", num_steps=3, freeze="answers"))
    found = by_name(model, parameter_groups(model, OptimizerConfig()), "lr_scale")
    assert {name.split(".")[0] for name in found} == {"locator", "baseline"}


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_locations_without_a_gradient_stay_where_they_are(name: str) -> None:
    """A gradient of zero moves weights by weight decay alone, and locations by nothing."""
    model = build()
    optimizer = make_optimizer(model, OptimizerConfig(name=name, weight_decay=0.1), 0.5)
    torch.nn.init.ones_(model.locator.linear.weight)
    before = model.locator.locations.clone()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.equal(model.locator.locations, before)
    torch.testing.assert_close(model.locator.linear.weight, torch.full((2, 16), 1 - 0.5 * 0.1))


def test_groups_learn_at_their_share_of_the_rate() -> None:
    model = build()
    optimizer = make_optimizer(model, OptimizerConfig(locations_rate=3.0), 0.5)
    set_learning_rate(optimizer, 0.2)
    rates = by_name(model, optimizer.param_groups, "lr")
    assert rates["locator.locations"] == pytest.approx(0.6)
    assert rates["head.weight"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("settings", "factors"),
    [
        ({"schedule": "constant"}, {0: 1, 5: 1, 9: 1}),
        ({"schedule": "cosine"}, {0: 1, 5: 0.5, 10: 0}),
        ({"schedule": "cosine", "warmup": 0.2}, {0: 0, 1: 0.5, 2: 1, 6: 0.5, 10: 0}),
        ({"schedule": "step", "step_epochs": 4, "step_factor": 0.1}, {3.9: 1, 4: 0.1, 8.5: 0.01}),
    ],
)
def test_schedules_by_hand(settings: dict, factors: dict[float, float]) -> None:
    config = OptimizerConfig(**settings)
    for epoch, factor in factors.items():
        assert rate_factor(config, epoch, 10) == pytest.approx(factor)
