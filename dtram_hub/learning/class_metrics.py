"""How well single classes are known, and how far the confidences can be believed."""

import numpy as np
from sklearn.metrics import balanced_accuracy_score, confusion_matrix
from torch import Tensor

BINS = 15  # of confidences, for the calibration error


def class_metrics(logits: Tensor, labels: Tensor) -> dict:
    """The scores of answers, class by class.

    Args:
        logits: (N, C).
        labels: (N,) int64.

    Returns:
        "accuracy"; "balanced_accuracy", the mean over the classes that occur; "top5_accuracy", if C > 5;
        "calibration_error"; "class_accuracy", None for a class that does not occur; and "confusion", C rows
        of C counts, one row for each right class.
    """
    answers, count = logits.argmax(-1), logits.shape[1]
    confusion = confusion_matrix(labels, answers, labels=range(count))
    totals = confusion.sum(1)
    found = {
        "accuracy": (answers == labels).double().mean().item(),
        "balanced_accuracy": float(balanced_accuracy_score(labels, answers)),
        "calibration_error": calibration_error(logits.softmax(-1), labels),
        "class_accuracy": [float(confusion[i, i] / totals[i]) if totals[i] else None for i in range(count)],
        "confusion": confusion.tolist(),
    }
    if count > 5:
        top = logits.topk(5).indices
        found["top5_accuracy"] = (top == labels[:, None]).any(1).double().mean().item()
    return found


def calibration_error(probs: Tensor, labels: Tensor) -> float:
    """The expected calibration error (Guo et al. 2017), in [0, 1].

    It is the mean distance of confidence and accuracy over BINS bins of confidence of equal width.

    Args:
        probs: (N, C), class probabilities.
        labels: (N,) int64.
    """
    confidence, answers = probs.double().max(-1)
    correct = (answers == labels).double()
    bins = (confidence * BINS).long().clamp(max=BINS - 1)
    counts, sums, rights = (
        np.bincount(bins.numpy(), weights, BINS) for weights in (None, confidence.numpy(), correct.numpy())
    )
    return float(np.abs(sums - rights).sum() / max(1, counts.sum()))


def weakest(scores: dict, names: list[str], count: int = 5) -> list[tuple[str, float]]:
    """The classes with the lowest accuracy, the lowest first: name and accuracy."""
    known = [
        (name, value)
        for name, value in zip(names, scores["class_accuracy"], strict=True)
        if value is not None
    ]
    return sorted(known, key=lambda pair: pair[1])[:count]
