"""Scores class by class, against numbers worked out by hand."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from dtram_hub.learning.class_metrics import calibration_error, class_metrics, weakest
from dtram_hub.plots import plot_confusion


def test_scores_of_five_answers() -> None:
    answers, labels = torch.tensor([0, 0, 1, 2, 2, 0]), torch.tensor([0, 0, 0, 1, 1, 1])
    logits = torch.nn.functional.one_hot(answers, 7).float() * 4
    found = class_metrics(logits, labels)
    assert found["accuracy"] == pytest.approx(2 / 6)
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["class_accuracy"] == [pytest.approx(2 / 3), 0.0, None, None, None, None, None]
    assert found["confusion"][0] == [2, 1, 0, 0, 0, 0, 0]
    assert found["confusion"][1] == [1, 0, 2, 0, 0, 0, 0]
    confidence = logits.softmax(-1).max().item()  # the same for all
    assert found["calibration_error"] == pytest.approx(confidence - 2 / 6, abs=1e-6)
    assert weakest(found, list("abcdefg")) == [("b", 0.0), ("a", pytest.approx(2 / 3))]
    json.dumps(found, allow_nan=False)
    logits = torch.tensor([[6.0, 5, 4, 3, 2, 1, 0]] * 2)
    assert class_metrics(logits, torch.tensor([4, 5]))["top5_accuracy"] == 0.5
    assert "top5_accuracy" not in class_metrics(torch.zeros(2, 3), torch.tensor([0, 1]))


def test_confidences_that_are_right_have_no_calibration_error() -> None:
    probs = torch.tensor([[0.75, 0.25]] * 4 + [[0.5, 0.5]] * 2)
    assert calibration_error(probs, torch.tensor([0, 0, 0, 1, 0, 1])) == pytest.approx(0)
    assert calibration_error(torch.tensor([[1.0, 0.0]]), torch.tensor([1])) == pytest.approx(1)


def test_the_picture_of_a_confusion_matrix(tmp_path: Path) -> None:
    plot_confusion(tmp_path / "confusion.png", [[5, 0, 1], [2, 3, 0], [0, 0, 0]], ["ant", "$b$", "c\x1bow"])
    with Image.open(tmp_path / "confusion.png") as picture:
        assert min(picture.size) > 200
