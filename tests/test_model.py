"""What comes out of a DT-RAM: shapes, determinism, early exit, refusals."""

import pytest
import timm
import torch

import dtram_hub
from conftest import make_undecided
from dtram_hub import DTRAM
from dtram_hub.models.glimpse import retina
from dtram_hub.models.records import State


def masked_rollout(model: DTRAM, images: torch.Tensor, threshold: float) -> tuple[torch.Tensor, ...]:
    """Prediction without early exit: all steps for all images, then cut off at the first stop."""
    rollout = model.rollout(images)
    stops = rollout.stop_logits.sigmoid() > threshold
    stops[:, -1] = True
    steps = stops.float().argmax(1) + 1
    taken = torch.arange(1, model.num_steps + 1) <= steps[:, None]
    logits = rollout.logits[torch.arange(len(images)), steps - 1]
    locations = rollout.locations.masked_fill(~taken[:, :, None], torch.nan)
    return logits, steps, locations, rollout.stop_logits.sigmoid().masked_fill(~taken, torch.nan)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("context", ["crop", "resize", "none"])
@pytest.mark.parametrize("aggregate", ["last", "residual", "average"])
def test_compaction_equals_the_masked_rollout(context: str, aggregate: str, threshold: float) -> None:
    if context == "none" and aggregate != "last":
        pytest.skip("no context view, no encoder classifier")
    model = DTRAM(
        "test_efficientnet_ln",
        5,
        3,
        4,
        40,
        context,
        32,
        16,
        hidden_size=32,
        aggregate=aggregate,
        location_input=True,
    ).eval()
    images = torch.randn(33, 3, 40, 40)
    make_undecided(model, images)
    found = model.predict(images, stop_threshold=threshold)
    logits, steps, locations, stop_probs = masked_rollout(model, images, threshold)
    assert torch.equal(found.steps, steps)
    assert torch.equal(found.logits.argmax(1), logits.argmax(1))
    torch.testing.assert_close(found.logits, logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.locations, locations, equal_nan=True, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.stop_probs, stop_probs, equal_nan=True, rtol=1e-4, atol=1e-4)
    assert found.steps.dtype == torch.int64
    if threshold == 0.5:
        assert len(steps.unique()) > 1
        assert torch.equal(model(images), found.logits)


def test_early_exit_encodes_only_the_images_still_looking(small_model: DTRAM) -> None:
    seen = []
    small_model.encoder.conv1.register_forward_hook(lambda module, args, out: seen.append(len(args[0])))
    steps = small_model.predict(torch.rand(64, 1, 32, 32)).steps
    assert seen == [int((steps >= t).sum()) for t in range(1, int(steps.max()) + 1)]
    assert sum(seen) == int(steps.sum()) < 64 * 4


def test_thresholds_bound_the_steps(small_model: DTRAM) -> None:
    images = torch.rand(16, 1, 32, 32)
    assert small_model.predict(images, stop_threshold=0.0).steps.eq(1).all()
    assert small_model.predict(images, stop_threshold=1.0).steps.eq(4).all()
    assert small_model.predict(images, stop_threshold=1.0, max_steps=2).steps.eq(2).all()
    assert small_model.predict(images, stop_threshold=1.0, max_steps=9).locations.shape == (16, 9, 2)


def test_ram_always_takes_all_steps(small_model: DTRAM) -> None:
    small_model.dynamic = False
    images = torch.rand(6, 1, 32, 32)
    found = small_model.predict(images)
    assert found.steps.eq(4).all()
    assert found.stop_probs.isnan().all()
    assert small_model.rollout(images, sample=True).steps.eq(4).all()


def test_evaluation_is_deterministic_and_batch_order_does_not_matter(small_model: DTRAM) -> None:
    images = torch.rand(32, 1, 32, 32)
    assert torch.equal(small_model(images), small_model(images))
    torch.testing.assert_close(small_model(images.flip(0)).flip(0), small_model(images))


def test_rollout_shapes_and_what_they_say(small_model: DTRAM) -> None:
    rollout = small_model.rollout(torch.rand(3, 1, 32, 32), sample=True, num_rollouts=2)
    assert rollout.logits.shape == (6, 4, 5)
    assert rollout.locations.shape == (6, 4, 2)
    assert rollout.locations[:, 0].isnan().all()
    assert rollout.locations[:, 1:].abs().max() <= 1
    assert rollout.location_log_probs[:, 0].eq(0).all()
    assert rollout.stop_logits.shape == (6, 4)
    assert rollout.baselines.shape == (6, 5)
    assert rollout.steps.min() >= 1
    assert rollout.steps.max() <= 4
    # Rollouts of one image are neighbours: they share the first answer, not the first glimpse.
    assert torch.equal(rollout.logits[0, 0], rollout.logits[1, 0])
    assert not torch.equal(rollout.locations[0, 1], rollout.locations[1, 1])


@pytest.mark.parametrize("context", ["resize", "none"])
def test_several_rollouts_equal_a_repeated_batch(context: str) -> None:
    model = DTRAM("glimpse_convnet", 5, 1, 3, 32, context, 12, 12, hidden_size=32, aggregate="last").eval()
    images = torch.rand(4, 1, 32, 32)
    locations = torch.rand(12, 3, 2) * 2 - 1
    together = model.rollout(images, num_rollouts=3, locations=locations)
    apart = model.rollout(images.repeat_interleave(3, 0), locations=locations)
    torch.testing.assert_close(together.logits, apart.logits)
    torch.testing.assert_close(together.locations, apart.locations, equal_nan=True)


@pytest.mark.parametrize("context", ["resize", "none"])
def test_log_probs_are_those_of_the_draws_under_the_policy_of_the_step_before(context: str) -> None:
    model = DTRAM("glimpse_convnet", 5, 1, 3, 32, context, 12, 12, hidden_size=32, aggregate="last").eval()
    torch.nn.init.normal_(model.locator.linear.weight)
    model.location_std = 0.01  # so that next to no draw falls outside of the image, where it would be clipped
    images = torch.rand(6, 1, 32, 32)
    found = model.rollout(images, sample=True)
    state = model.begin(images)
    for t in range(3):
        location = None if t == 0 and context != "none" else found.locations[:, t]
        if location is not None:
            policy = torch.distributions.Normal(model.best_location(state), 0.01)
            inside = (location.abs() < 1).all(1)
            expected = policy.log_prob(location).sum(1)
            assert inside.any()
            torch.testing.assert_close(
                found.location_log_probs[inside, t], expected[inside], rtol=1e-3, atol=1e-2
            )
        else:
            assert found.location_log_probs[:, t].eq(0).all()
        state = model.advance(images, state, location)
        torch.testing.assert_close(found.logits[:, t], model.logits(state))
        torch.testing.assert_close(found.baselines[:, t + 1], model.baseline(state.hidden).squeeze(1))


def test_the_retina_is_what_the_encoder_sees() -> None:
    model = DTRAM(
        "glimpse_mlp",
        10,
        1,
        2,
        28,
        "none",
        glimpse_crop=4,
        glimpse_size=8,
        glimpse_scales=3,
        aggregate="last",
    )
    assert model.encoder.what.in_channels == 3
    seen = []
    model.encoder.forward_features = lambda views, *where: seen.append(views) or torch.zeros(len(views), 256)
    images, locations = torch.rand(2, 1, 28, 28), torch.zeros(2, 2, 2)
    model.rollout(images, locations=locations)
    assert torch.equal(seen[0], retina(images, locations[:, 0], 4, 8, 3))


def test_a_stepwise_locator_starts_from_a_location_of_every_step() -> None:
    model = DTRAM(
        "glimpse_mlp",
        10,
        1,
        3,
        28,
        "none",
        glimpse_crop=8,
        aggregate="last",
        locator="stepwise",
        dynamic=False,
    ).eval()
    found = model.predict(torch.rand(4, 1, 28, 28), max_steps=5)
    expected = model.locator.locations.tanh().expand(4, 3, 2)
    torch.testing.assert_close(found.locations[:, :3], expected)
    torch.testing.assert_close(found.locations[:, 4], expected[:, 2])  # beyond T: the last location again
    rollout = model.rollout(torch.rand(4, 1, 28, 28), sample=True)
    rollout.location_log_probs.sum().backward()
    slope = (rollout.locations - expected) / model.location_std**2 * (1 - expected**2)
    inside = rollout.locations.abs().max() < 1
    assert inside
    torch.testing.assert_close(model.locator.locations.grad, slope.sum(0).detach(), rtol=1e-4, atol=1e-3)
    assert model.arguments()["locator"] == "stepwise"


def test_given_locations_are_looked_at(small_model: DTRAM) -> None:
    locations = torch.rand(5, 4, 2) * 2 - 1
    rollout = small_model.rollout(torch.rand(5, 1, 32, 32), locations=locations)
    assert torch.equal(rollout.locations[:, 1:], locations[:, 1:])


@pytest.mark.parametrize("name", ["dtram_resnet18", "dtram_resnet50", "dtram_mobilenetv2_100"])
def test_registered_models_are_the_timm_classifier_until_trained(name: str) -> None:
    model = timm.create_model(name, image_size=96, context_size=64, glimpse_crop=32, num_classes=7).eval()
    images = torch.randn(2, 3, 96, 96)
    found = model.predict(images)
    torch.testing.assert_close(found.logits, model.encoder(images[:, :, 16:80, 16:80]), rtol=1e-5, atol=1e-5)
    assert found.steps.eq(1).all()
    everything = model.predict(images, stop_threshold=1.0)
    torch.testing.assert_close(everything.logits, found.logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("aggregate", ["last", "residual", "average"])
def test_without_classes_the_features_come_out(aggregate: str) -> None:
    model = DTRAM("resnet18", 0, 3, 2, 64, "resize", 32, 32, hidden_size=16, aggregate=aggregate).eval()
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, model.num_features) == (2, 16)


@pytest.mark.parametrize("aggregate", ["last", "residual", "average"])
def test_reset_classifier(aggregate: str) -> None:
    model = DTRAM("resnet18", 10, 3, 2, 64, "resize", 32, 32, hidden_size=16, aggregate=aggregate).eval()
    model.reset_classifier(4)
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 4)
    assert model.get_classifier().out_features == model.num_classes == model.arguments()["num_classes"] == 4


def test_training_forward_samples(small_model: DTRAM) -> None:
    small_model.train()
    images = torch.rand(16, 1, 32, 32)
    assert small_model(images).shape == (16, 5)
    assert not torch.equal(small_model(images), small_model(images))


def test_a_margin_stopper_reads_the_answer_and_the_number_of_looks_alone() -> None:
    model = DTRAM("glimpse_convnet", 3, 1, 3, 24, "resize", 12, 12, hidden_size=8, stopper="margin").eval()
    torch.nn.init.normal_(model.stopper.net[-1].weight)
    images = torch.rand(5, 1, 24, 24)
    with torch.no_grad():
        rollout, found = model.rollout(images), model.predict(images, stop_threshold=1.0)
        logits = rollout.logits.clone()
        # Shifted, with a third choice that is no rival, and with another state: the margin is the same.
        logits = logits - 3 + (logits - logits.topk(2).values[..., 1:] < 0) * -2
        for t in range(3):
            state = State(torch.randn(5, 8), torch.tensor(t + 1))
            expected = model.stop_logit(state, logits[:, t])
            torch.testing.assert_close(rollout.stop_logits[:, t], expected)
    torch.testing.assert_close(found.stop_probs, rollout.stop_logits.sigmoid())
    assert rollout.stop_logits.std(0).min() > 0
    assert len(set(rollout.stop_logits.mean(0).tolist())) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": "zoom"}, "context='zoom' is not one of 'crop', 'resize', 'fit', 'none'"),
        ({"aggregate": "mean"}, "aggregate='mean'"),
        ({"stopper": "mlp"}, "stopper='mlp'"),
        ({"crop_mode": "bicubic"}, "crop_mode='bicubic'"),
        ({"num_steps": 0}, r"num_steps=0 is not an integer in \[1, 1000\]"),
        ({"glimpse_crop": 7.5}, "glimpse_crop=7.5"),
        ({"location_std": 0}, r"location_std=0 is not a number in \(0, 2\]"),
        ({"stop_threshold": 1.5}, r"stop_threshold=1.5 is not a number in \[0, 1\]"),
        ({"image_size": 10}, "image_size=10 is smaller than the largest view, 12 pixels"),
        ({"backbone": "resnet81"}, "backbone='resnet81' is not a timm model. Did you mean 'resnet18'?"),
        ({"context": "none", "aggregate": "residual"}, "aggregate='residual' needs a context view"),
        ({"glimpse_scales": 2}, "glimpse_scales=2 stacks channels"),
        ({"context_size": 16}, "takes no views of 12 and 16 pixels and 1 channels"),
    ],
)
def test_bad_arguments_are_named(change: dict, message: str) -> None:
    good = {
        "backbone": "glimpse_convnet",
        "in_chans": 1,
        "image_size": 32,
        "context": "resize",
        "context_size": 12,
        "glimpse_crop": 12,
        "aggregate": "last",
    }
    DTRAM(**good)
    with pytest.raises(ValueError, match=message):
        DTRAM(**(good | change))


def test_bad_prediction_settings_are_named(small_model: DTRAM) -> None:
    images = torch.rand(2, 1, 32, 32)
    with pytest.raises(ValueError, match=r"stop_threshold=-0.1"):
        small_model.predict(images, stop_threshold=-0.1)
    with pytest.raises(ValueError, match=r"max_steps=0"):
        small_model.predict(images, max_steps=0)


def test_images_of_another_size_work(small_model: DTRAM) -> None:
    assert small_model(torch.rand(2, 1, 45, 29)).shape == (2, 5)


def test_calibration_meets_a_budget_and_is_kept(small_model: DTRAM) -> None:
    images = torch.rand(200, 1, 32, 32)
    for budget in (1.5, 2.5, 3.5):
        threshold = dtram_hub.calibrate(small_model, images, budget)
        assert small_model.arguments()["stop_threshold"] == threshold
        assert budget - 0.15 <= small_model.predict(images).steps.double().mean() <= budget + 0.01
    with pytest.raises(ValueError, match=r"mean_steps=5 is not a number in \[1, 4\]"):
        dtram_hub.calibrate(small_model, images, 5)


def test_a_ram_has_no_budget(small_model: DTRAM) -> None:
    small_model.dynamic = False
    threshold = small_model.stop_threshold
    with pytest.raises(ValueError, match=r"dynamic=False takes 4 steps with every image; a budget needs"):
        dtram_hub.calibrate(small_model, torch.rand(4, 1, 32, 32), 2)
    assert small_model.stop_threshold == threshold


def test_public_names() -> None:
    assert set(dtram_hub.__all__) == {
        "DTRAM",
        "Prediction",
        "Pyramid",
        "Rollout",
        "calibrate",
        "pull",
        "push",
        "stream",
    }


def test_averaged_answers_are_the_mean_of_the_encoders_own() -> None:
    model = DTRAM("test_efficientnet", 4, 3, 3, 64, "resize", 32, 32, hidden_size=8, aggregate="average")
    torch.nn.init.normal_(model.encoder.classifier.weight)
    images, locations = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 2) - 0.5
    rollout = model.eval().rollout(images, locations=locations)
    views = [model.view(images, None)] + [model.view(images, locations[:, t]) for t in (1, 2)]
    answers = torch.stack([model.encoder(view) for view in views], dim=1)
    expected = answers.softmax(-1).cumsum(1) / torch.arange(1, 4).view(1, 3, 1)
    torch.testing.assert_close(rollout.own_logits.softmax(-1), expected)
    assert torch.equal(rollout.own_logits, rollout.logits)  # the correction starts at zero
    assert torch.equal(rollout.logits[:, 0], answers[:, 0])
