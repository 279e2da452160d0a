"""The results of one full pass at several budgets of mean steps, as rows."""

from ..inference.budget import threshold_for
from ..models.dtram import DTRAM
from .evaluation import FullPass

BUDGETS = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5)  # mean steps; whole numbers follow up to T


def rows_of(seen: FullPass, model: DTRAM) -> list[dict]:
    """A row at the model's own threshold, and one for each budget of mean steps; a RAM has the first alone.

    The images of the pass set the thresholds of the budgets.

    Returns:
        The scores of `Answers.scores`, with "stop_threshold" (None for a RAM) and "budget" (None in the first
        row).
    """
    own = {"stop_threshold": model.stop_threshold if model.dynamic else None, "budget": None}
    rows = [own | seen.at(model).scores()]
    if not model.dynamic:
        return rows
    most = model.num_steps
    for budget in sorted({budget for budget in (*BUDGETS, *range(1, most + 1)) if budget <= most}):
        threshold = threshold_for(seen.stop_probs, budget)
        row = {"stop_threshold": threshold, "budget": float(budget)}
        rows.append(row | seen.at_threshold(threshold).scores())
    return rows
