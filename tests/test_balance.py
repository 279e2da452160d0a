"""Rare classes: shares, weights and draws, and what they do to the loss."""

import pytest
import torch

from dtram_hub.data.balance import Resampled, class_shares, class_weights
from dtram_hub.data.splits import Split
from dtram_hub.learning.losses import Counts, LossConfig, Targets, classification_loss, dtram_loss
from dtram_hub.models.records import Rollout

LABELS = torch.tensor([0] * 12 + [1] * 3 + [3])  # no image of class 2


def test_shares_and_weights_of_classes_have_closed_forms() -> None:
    assert class_shares(LABELS, 4).tolist() == [0.75, 0.1875, 0, 0.0625]
    assert class_shares(LABELS, 4, 1.0).tolist() == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3])
    shares = class_shares(LABELS, 4)
    assert class_weights(shares, 0.0).tolist() == [1, 1, 0, 1]
    assert class_weights(shares, 1.0).tolist() == pytest.approx([16 / 36, 16 / 9, 0, 16 / 3])
    half = class_weights(shares, 0.5)
    assert (half * shares).sum().item() == pytest.approx(1)
    assert (half[3] / half[0]).item() == pytest.approx(12**0.5)
    # Balanced draws leave nothing to weigh.
    assert class_weights(class_shares(LABELS, 4, 1.0), 1.0).tolist() == pytest.approx([1, 1, 0, 1])


def test_draws_are_those_of_the_shares_and_bring_their_images() -> None:
    canvases = torch.arange(len(LABELS), dtype=torch.uint8)[:, None, None, None]
    split = Split(canvases, LABELS)
    drawn = [Resampled(split, 0.5, torch.Generator().manual_seed(seed)) for seed in range(400)]
    counts = torch.cat([each.labels for each in drawn]).bincount(minlength=4).double()
    expected = class_shares(LABELS, 4, 0.5)
    errors = (counts / counts.sum() - expected).abs() / (expected * (1 - expected) / counts.sum()).sqrt()
    assert errors[expected > 0].max() < 4
    index = torch.tensor([5, 0, 15])
    assert torch.equal(drawn[0].at(index)[:, 0, 0, 0].long(), drawn[0].chosen[index])
    assert torch.equal(drawn[0].labels, LABELS[drawn[0].chosen])
    again = Resampled(split, 0.5, torch.Generator().manual_seed(0))
    assert torch.equal(again.chosen, drawn[0].chosen)


@pytest.mark.parametrize("where", ["reinforce", "value"])
def test_a_weight_of_two_is_the_image_twice(where: str) -> None:
    """In every term of the loss but the baseline's."""
    torch.manual_seed(0)
    rollout = Rollout(
        logits=torch.randn(3, 3, 4),
        locations=torch.zeros(3, 3, 2),
        location_log_probs=torch.randn(3, 3),
        stop_logits=torch.randn(3, 3),
        steps=torch.tensor([1, 2, 3]),
        baselines=torch.rand(3, 4),
        location_scores=torch.randn(3, 3),
        glimpse_logits=torch.randn(3, 3, 4),
    )
    labels, twice = torch.tensor([1, 0, 3]), torch.tensor([0, 1, 2, 1])
    repeated = Rollout(
        **{name: None if value is None else value[twice] for name, value in vars(rollout).items()}
    )
    config = LossConfig(baseline_weight=0.0, where=where, reward="probability")
    counts = Counts(torch.tensor(4.0), torch.tensor(8.0))

    def total(seen: Rollout, targets: torch.Tensor | Targets) -> float:
        return dtram_loss(seen, targets, config, dynamic=True, counts=counts).total.item()

    weighted = total(rollout, Targets(labels, torch.tensor([1.0, 2.0, 1.0])))
    assert weighted == pytest.approx(total(repeated, labels[twice]), rel=1e-6)
    assert weighted != pytest.approx(total(rollout, labels), rel=1e-3)


def test_shares_of_one_class_are_its_label_and_others_their_mean() -> None:
    logits, steps = torch.randn(3, 2, 4, dtype=torch.float64), torch.tensor([1, 2, 2])
    labels = torch.tensor([3, 0, 1])
    whole = torch.nn.functional.one_hot(labels, 4).double()
    for words in (("all", 0.1), ("taken", 0.0), ("last", 0.1)):
        expected = classification_loss(logits, labels, steps, *words)
        assert classification_loss(logits, whole, steps, *words).item() == pytest.approx(expected.item())
        other = classification_loss(logits, labels.flip(0), steps, *words)
        mixed = classification_loss(logits, 0.3 * whole + 0.7 * whole.flip(0), steps, *words)
        assert mixed.item() == pytest.approx(0.3 * expected.item() + 0.7 * other.item())
