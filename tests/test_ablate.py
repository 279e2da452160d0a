"""training/ablate.py: studies of several variants and seeds."""

import csv
import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import ablate
import asked_recipe
from small_runs import SMALL


@pytest.mark.long
def test_a_study_shares_stages_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    study = {
        "recipe": str(asked_recipe.DEFAULT_RECIPE),
        "output": str(tmp_path / "study"),
        "seeds": [3],
        "variants": {
            "whole": {},
            "last": {"changes": ["loss.supervision=last"], "shares": "whole", "until": "encoder"},
        },
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    words = [
        str(tmp_path / "study.yaml"),
        *SMALL,
        "model.num_steps=2",
        "stages.ram.epochs=1",
        "stages.dtram.epochs=1",
    ]
    ablate.main([*words, "--only", "last"])
    metrics = json.loads((tmp_path / "study" / "whole-3" / "metrics.json").read_text())
    other = tmp_path / "study" / "whole-12"  # finished earlier, with another seed
    other.mkdir()
    (other / "metrics.json").write_text(json.dumps(metrics))
    before = (tmp_path / "study" / "whole-3" / "metrics.json").stat().st_mtime_ns
    ablate.main(words)
    assert (tmp_path / "study" / "whole-3" / "metrics.json").stat().st_mtime_ns == before
    kept = [
        load_file(tmp_path / "study" / f"{name}-3" / "stages" / "encoder.safetensors")["head.weight"]
        for name in ("whole", "last")
    ]
    assert torch.equal(*kept)
    with (tmp_path / "study" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    runs = dict.fromkeys((row["variant"], row["seed"]) for row in rows)
    assert list(runs) == [("whole", "3"), ("whole", "12"), ("last", "3")]
    for row in rows[: len(rows) // 3]:
        (result,) = [r for r in metrics["results"] if r["model"] == row["model"]]
        assert float(row["accuracy"]) == result["accuracy"]
    assert "| whole | RAM, 2 steps | 2.00 ± 0.00 |" in (tmp_path / "study" / "tables.md").read_text()
    assert (tmp_path / "study" / "variants.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        ({"recipe": "nowhere.yaml"}, [], "recipe='nowhere.yaml' of study"),
        ({"variant": {}}, [], "Key 'variant' not in 'Study'"),
        (
            {"variants": {"a": {"changes": ["sed=1"]}}},
            [],
            "recipe key 'sed' is unknown. Did you mean 'seed'?",
        ),
        (
            {"variants": {"a": {}, "b": {"shares": "c"}, "c": {"shares": "b"}}},
            [],
            "variants.b.shares='c' is none of the variants before it: 'a'.",
        ),
        (
            {"variants": {"a": {"shares": "a"}}},
            [],
            "variants.a.shares='a' is none of the variants before it: there",
        ),
        ({}, ["--only", "c"], "--only='c' is not one of 'a'"),
    ],
)
def test_bad_studies_are_named_before_the_first_run(
    tmp_path: Path, change: dict, words: list[str], message: str
) -> None:
    study = {"recipe": str(asked_recipe.DEFAULT_RECIPE), "variants": {"a": {}}} | change
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    with pytest.raises(SystemExit, match=re.escape(message)):
        ablate.main([str(tmp_path / "study.yaml"), *words])


def test_a_study_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("recipe: [a\nvariants: }")
    with pytest.raises(SystemExit, match=re.escape(f"ablate.py: study '{tmp_path / 'study.yaml'}': while")):
        ablate.main([str(tmp_path / "study.yaml")])
