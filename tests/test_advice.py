"""What a training tells its user, and when it keeps silent."""

import pytest
import timm
import torch

from dtram_hub.learning.advice import (
    below_most_frequent,
    better_stage,
    dead_encoder,
    few_images,
    offer,
    one_answer,
)
from dtram_hub.learning.curriculum import Stage
from dtram_hub.learning.epoch_log import duration, seconds_left

NAMES = ["clean", "crack", "hole"]


def test_classes_with_few_images_are_named_the_rarest_first() -> None:
    labels = torch.tensor([0] * 30 + [1] * 19 + [2] * 4)
    assert "'hole' (4), 'crack' (19) have fewer than 20" in few_images(labels, NAMES)
    assert few_images(torch.arange(60) % 3, NAMES) is None
    assert "and 1 more" in few_images(torch.arange(6), [str(i) for i in range(6)])


def test_an_encoder_whose_last_units_are_zero_is_told() -> None:
    model = timm.create_model("test_resnet", num_classes=3).eval()
    images, labels = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 0])
    assert dead_encoder(model(images), labels) is None
    assert dead_encoder(torch.eye(3)[[0, 0, 0, 1]], labels) is None  # one image differs
    torch.nn.init.constant_(model.layer4[-1].bn2.bias, -100.0)
    torch.nn.init.constant_(model.layer4[-1].downsample[-1].bias, -100.0)
    loss = torch.nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    assert not model.conv1[0].weight.grad.any()
    assert "no gradient revives them" in dead_encoder(model(images), labels)
    assert dead_encoder(model(images), torch.zeros(4, dtype=torch.int64)) is None


def test_one_answer_for_all_images_is_told_unless_it_is_right() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    assert "calls all validation images 'clean', and 75.0 % of them are" in one_answer(
        torch.zeros(4, dtype=torch.int64), labels, NAMES
    )
    assert one_answer(labels, labels, NAMES) is None
    assert one_answer(torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), NAMES) is None


def test_a_training_accuracy_below_that_of_the_most_frequent_class_is_told() -> None:
    shares = torch.tensor([0.71, 0.2, 0.09])
    assert "64.0 %; 'clean' for every image would give 71.0 %" in below_most_frequent(0.64, shares, NAMES)
    assert below_most_frequent(0.72, shares, NAMES) is None


def test_an_earlier_stage_is_offered_if_it_is_better_and_no_dearer() -> None:
    def row(stage: str, accuracy: float, steps: float) -> dict:
        return {"stage": stage, "validation_accuracy": accuracy, "mean_steps": steps}

    rows = [row("encoder", 0.799, 1.0), row("ram_3", 0.9, 3.0), row("dtram", 0.776, 1.4)]
    assert better_stage(rows)["stage"] == "encoder"
    sentence = offer(rows[0], rows[2], "runs/mine")
    assert "dtram with 77.6 % at 1.40 looks, encoder with 79.9 % at 1.00 looks" in sentence
    assert "dtram export runs/mine --stage encoder --out FOLDER" in sentence
    assert better_stage([row("encoder", 0.7, 1.0), row("ram_3", 0.9, 3.0), row("dtram", 0.8, 1.4)]) is None


def test_the_time_that_is_left_counts_looks_of_all_stages() -> None:
    stages = [Stage(kind="encoder", num_steps=1, epochs=4), Stage(kind="ram", num_steps=3, epochs=2)]
    # Ten seconds for 100 looks: three epochs more of 100, and two of 50 images with three looks each.
    assert seconds_left(stages, [100, 50], 0, 1, 10.0) == pytest.approx(30 + 2 * 15)
    assert seconds_left(stages, [100, 50], 1, 2, 15.0) == 0
    assert [duration(seconds) for seconds in (7.4, 210, 7560)] == ["7 s", "3.5 min", "2.1 h"]
