"""How well single classes are known, and how far the confidences can be believed."""

import numpy as np
from sklearn.metrics import confusion_matrix, recall_score
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
        "balanced_accuracy": balanced_accuracy(answers, labels),
        "calibration_error": calibration_error(logits.softmax(-1), labels),
        "class_accuracy": [float(confusion[i, i] / totals[i]) if totals[i] else None for i in range(count)],
        "confusion": confusion.tolist(),
    }
    if count > 5:
        top = logits.topk(5).indices
        found["top5_accuracy"] = (top == labels[:, None]).any(1).double().mean().item()
    return found


def balanced_accuracy(answers: Tensor, labels: Tensor) -> float:
    """The mean accuracy of the classes that occur, in [0, 1].

    Args:
        answers, labels: (N,) int64.
    """
    occurring = labels.unique()
    return float(recall_score(labels, answers, labels=occurring, average="macro", zero_division=0))


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


def sentences(scores: dict, names: list[str]) -> list[str]:
    """Scores of `class_metrics` in words, which a mean over all images hides."""
    top = f", among the first five {100 * scores['top5_accuracy']:.2f} %" if "top5_accuracy" in scores else ""
    worst = ", ".join(f"{name} ({100 * value:.0f} %)" for name, value in weakest(scores, names))
    return [
        f"Mean accuracy of the classes {100 * scores['balanced_accuracy']:.2f} %{top}; the confidence is off "
        f"by {100 * scores['calibration_error']:.1f} points on average.",
        f"Known least: {worst}.",
    ]
