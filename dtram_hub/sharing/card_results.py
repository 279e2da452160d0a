"""The results of a run as the model card shows them."""

from ..inference.uncertainty import Budget
from ..learning.class_metrics import weakest
from ..learning.curriculum import KINDS
from ..learning.run_folder import LEARNED_STOPS, own_result
from ..models.flops import accuracy_at_mean_steps


def describe_results(metrics: dict, recipe: dict, num_steps: int) -> dict:
    """The template's values for a finished run."""
    result = own_result(metrics)
    return {
        "test_error": _error(result["accuracy"]),
        "validation_error": _error(result["validation_accuracy"]),
        "budget": str(Budget(**metrics["budget"])) if "budget" in metrics else None,
        "learned_on_validation": _learned_on_validation(recipe, metrics),
        "histogram": [
            {"steps": steps, "images": images, "error": _error(result["accuracy_by_steps"][steps])}
            for steps, images in result["step_histogram"].items()
        ],
        "pointing": _pointing(metrics),
        "scores": metrics.get("scores"),
        "weakest": weakest(metrics["scores"], metrics["classes"]) if metrics.get("scores") else [],
        "tradeoff": _tradeoff(metrics, num_steps) if metrics.get("curves") else None,
        "minutes": sum(metrics["seconds"].values()) / 60,
        "stages": [
            {"name": name, "epochs": recipe["stages"][kind]["epochs"], "seconds": metrics["seconds"][name]}
            for name, kind in metrics["stage_kinds"].items()
        ],
    }


def _learned_on_validation(recipe: dict, metrics: dict) -> str | None:
    """The parts that the stages learned on validation images, in words; None if there are none."""
    found = [
        about.subject
        for kind, about in KINDS.items()
        if kind in metrics["stage_kinds"].values()
        and "validation" in (recipe["stages"][kind].get("split") or "train").split("+")
    ]
    return " and ".join(found).capitalize() if found else None


def _error(accuracy: float) -> float:
    return 100 * (1 - accuracy)


def _pointing(metrics: dict) -> dict | None:
    """The share of boxes that the glimpses of each model find, in percent; None without boxes."""
    rows = [row for row in metrics["results"] if len(row.get("pointing", [])) > 1]
    most = max((len(row["pointing"]) for row in rows), default=0)
    rows = [
        row for row in rows if len(row["pointing"]) == most
    ]  # those of the longest RAM, and of the DT-RAM
    shown = [
        {"model": row["model"], "shares": [100 * share for share in row["pointing"][1:]]} for row in rows
    ]
    return {"steps": list(range(2, most + 1)), "rows": shown} if rows else None


def _tradeoff(metrics: dict, num_steps: int) -> dict:
    """The errors of every stop policy at budgets of mean steps, as far as one of them changes.

    Runs of older versions know no stop thresholds, and have budgets of 1, 1.5, 2, .. steps.
    """
    measured = [row for row in metrics.get("budgets", []) if row["budget"] is not None]
    others = {
        name: curve for name, curve in metrics["curves"].items() if not measured or name != LEARNED_STOPS
    }
    points = measured or [{"mean_steps": steps / 2} for steps in range(2, 2 * num_steps + 1)]
    rows: list[dict] = []
    for point in points:
        errors = [accuracy_at_mean_steps(curve, point["mean_steps"]) for curve in others.values()]
        errors = [_error(accuracy) for accuracy in ([point["accuracy"]] if measured else []) + errors]
        if not rows or any(_differs(*pair) for pair in zip(rows[-1]["errors"], errors, strict=True)):
            threshold = point.get("stop_threshold")
            rows.append({"steps": point["mean_steps"], "stop_threshold": threshold, "errors": errors})
    return {
        "has_thresholds": bool(measured),
        "policies": [LEARNED_STOPS] * bool(measured) + [*others],
        "rows": rows,
    }


def _differs(error: float, other: float) -> bool:
    """Whether two errors differ by more than a twentieth."""
    return abs(error - other) > error / 20
