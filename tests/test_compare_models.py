"""`dtram compare`: models side by side, seeds as a spread, and doubt where the test images may differ."""

import json
import shutil
from pathlib import Path

import pytest

from dtram_hub.models.registry import WEIGHTS

NAMES = [f"dtram_glimpse_mlp.mnist_dtram{budget}" for budget in (98, 99)]
DIFFER = "dtram: the test images differ; a difference in accuracy may be theirs.\n"
UNKNOWN = "dtram: nothing says whether the test images are the same.\n"


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    for name in NAMES:
        shutil.copytree(WEIGHTS / name, tmp_path / name)
    return [tmp_path / name for name in NAMES]


def change(run: Path, **changes: object) -> dict:
    metrics = json.loads((run / "metrics.json").read_text()) | changes
    (run / "metrics.json").write_text(json.dumps(metrics))
    return metrics


def test_two_models_are_shown_side_by_side(dtram) -> None:
    code, printed, doubt = dtram("compare", *NAMES)
    assert (code, doubt) == (0, UNKNOWN)
    lines = printed.splitlines()
    assert lines[0] == f"|  | {NAMES[0]} | {NAMES[1]} |"
    rows = dict(line.strip("| ").split(" | ", 1) for line in lines[2:])
    measured = [json.loads((WEIGHTS / name / "metrics.json").read_text())["results"][0] for name in NAMES]
    assert rows["accuracy"] == " | ".join(f"{100 * row['accuracy']:.2f} %" for row in measured)
    assert rows["mean steps"] == " | ".join(f"{row['mean_steps']:.2f}" for row in measured)
    assert rows["parameters"] == "242,460 | 242,460"
    assert rows["recipe: loss.discount"] == "0.98 | 0.99"
    assert [*rows][-2:] == ["recipe: mean_steps", "recipe: loss.discount"]
    code, printed, _ = dtram("compare", *NAMES, "--json")
    found = [json.loads(line) for line in printed.splitlines()]
    assert [each["recipe"]["loss.discount"] for each in found] == [0.98, 0.99]
    cost = [
        each["GFLOPs_first_look"] + (each["mean_steps"] - 1) * each["GFLOPs_later_look"] for each in found
    ]
    assert [each["GFLOPs"] for each in found] == pytest.approx(cost, rel=1e-12)


def test_a_model_that_nobody_measured_has_no_results(dtram) -> None:
    code, printed, doubt = dtram("compare", NAMES[0], "dtram_test_vit", "--json")
    found = [json.loads(line) for line in printed.splitlines()]
    assert (code, doubt, found[1]["accuracy"], found[1]["GFLOPs"]) == (0, "", None, None)
    assert found[1]["parameters"] > 0


def test_runs_that_differ_in_their_seed_alone_have_a_spread(dtram, runs: list[Path]) -> None:
    shutil.copy(runs[0] / "recipe.yaml", runs[1] / "recipe.yaml")
    for run, seed, accuracy in zip(runs, (3, 4), (0.8, 0.9), strict=True):
        recipe = (run / "recipe.yaml").read_text()
        (run / "recipe.yaml").write_text(recipe.replace("seed: 1\n", f"seed: {seed}\n"))
        row = change(run)["results"][0] | {"model": "a | b <i>\n\x1b[2J", "accuracy": accuracy}
        change(run, seed=seed, results=[row], data={"test": "sum", "classes": "names"})
    code, printed, doubt = dtram("compare", *runs)
    assert (code, doubt) == (0, "")
    assert printed.startswith("10000 test images, each answered once; seeds 3, 4\n")
    row = next(line for line in printed.splitlines() if "a &#124; b &#60;i&#62; &#92;x1b&#91;2J" in line)
    assert row.endswith("| 85.00 ± 7.07 | 80.00, 90.00 |")
    assert row.count("|") == 5


def test_other_test_images_are_named(dtram, runs: list[Path]) -> None:
    for run in runs:
        change(run, data={"test": "sum", "classes": "names"})
    assert dtram("compare", *runs)[2] == ""
    change(runs[1], data={"test": "other", "classes": "names"})
    assert dtram("compare", *runs)[2] == DIFFER
    for run in runs:  # test was held out of train, by the seed
        change(run, data={"train": "sum", "classes": "names"})
    assert dtram("compare", *runs)[2] == ""
    recipe = (runs[1] / "recipe.yaml").read_text()
    (runs[1] / "recipe.yaml").write_text(recipe.replace("seed: 1\n", "seed: 2\n"))
    assert dtram("compare", *runs)[2] == DIFFER
    change(runs[1], data={}, test_images=9)
    assert dtram("compare", *runs)[2] == DIFFER


def test_a_mistake_ends_in_a_sentence(dtram, tmp_path: Path) -> None:
    assert dtram("compare", tmp_path)[2].endswith("has no config.json; accepted is a directory with both.")
    assert "Did you mean" in dtram("compare", NAMES[0], "dtram_resnt50")[2]
