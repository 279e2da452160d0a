"""Run a study: train variants of one recipe with several seeds, and compare the results.

    python training/ablate.py training/studies/cub.yaml data.root=CUB_200_2011 [--only NAME ...] [--seeds 0 1]

A study is a YAML file with a recipe and its variants. A variant changes keys of the recipe. It may share the
first stages of an earlier variant with the same seed, so that the encoder is trained once. Each variant and
seed has a run folder in the study's output. Finished runs are not repeated, and interrupted runs continue.
results.csv, tables.md and variants.png show all finished runs.
"""

import argparse
import csv
import glob
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dtram_hub.checks import check_choice
from dtram_hub.cli.compare import spread
from dtram_hub.files import replacing, write_text
from dtram_hub.learning.interrupt import end_on_signals
from dtram_hub.learning.recipe import read_recipe
from dtram_hub.learning.run_folder import RunFolder
from dtram_hub.plots import plot_variants
from dtram_hub.prompt import ending_in_a_sentence, say

TRAIN = Path(__file__).parent / "train.py"


@dataclass
class Variant:
    """One variant of a study.

    changes: overrides of the recipe.
    shares: name of an earlier variant, whose first stages this variant takes.
    until: name of the last stage to take; None for all that can be shared.
    """

    changes: list[str] = field(default_factory=list)
    shares: str | None = None
    until: str | None = None


@dataclass
class Study:
    """The content of a study's YAML file; `recipe` and `output` are paths."""

    recipe: str = ""
    output: str = "runs/study"
    seeds: list[int] = field(default_factory=lambda: [0])
    variants: dict[str, Variant] = field(default_factory=dict)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="recipe keys for all variants")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        help="run these variants, and the variants whose stages they share",
    )
    parser.add_argument("--seeds", nargs="+", type=int, help="seeds in place of the study's")
    args = parser.parse_args(argv)
    try:
        study = read_study(args.study)
        seeds = args.seeds or study.seeds
        for name in args.only or []:
            check_choice("--only", name, study.variants)
        earlier = []
        for name, variant in study.variants.items():  # all keys are checked before the first run
            read_recipe(study.recipe, [*args.overrides, *variant.changes])
            if variant.shares not in (None, *earlier):
                raise ValueError(
                    f"variants.{name}.shares={variant.shares!r} is none of the variants before it: "
                    f"{', '.join(map(repr, earlier)) or 'there is none'}."
                )
            earlier.append(name)
    except ValueError as error:
        sys.exit(f"ablate.py: {error}")
    end_on_signals()  # subprocess then ends the training as well
    failed = []
    with ending_in_a_sentence("ablate.py", "stopped; the same command continues."):
        for seed in seeds:
            for name in args.only or study.variants:
                if not run(study, name, seed, args.overrides):
                    failed.append(f"{name}-{seed}")
    rows = collect(study)
    if rows:
        write(Path(study.output), rows)
    if failed:
        sys.exit(f"ablate.py: {', '.join(failed)} did not finish.")


def read_study(path: Path) -> Study:
    """Read a study from a YAML file; ValueError if a key is unknown or the recipe is missing."""
    if not path.is_file():
        raise ValueError(f"study {str(path)!r} is not a file.")
    try:
        study = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Study), OmegaConf.load(path)))
    except (OmegaConfBaseException, YAMLError) as error:
        raise ValueError(f"study {str(path)!r}: {str(error).splitlines()[0]}.") from None
    if not Path(study.recipe).is_file():
        raise ValueError(f"recipe={study.recipe!r} of study {str(path)!r} is not a file.")
    return study


def run(study: Study, name: str, seed: int, overrides: list[str]) -> bool:
    """Train one variant with one seed, after the variant that it shares, unless the run is finished.

    Returns:
        Whether the run is finished now.
    """
    folder, variant = folder_of(study, name, seed), study.variants[name]
    if folder.is_finished:
        return True
    if variant.shares is not None and not run(study, variant.shares, seed, overrides):
        return False
    words = [study.recipe, *overrides, *variant.changes, f"seed={seed}", f"output={folder}"]
    if variant.shares is not None:
        words.append(f"stages_from={folder_of(study, variant.shares, seed)}")
        words += [f"stages_until={variant.until}"] if variant.until else []
    words += ["--resume"] if folder.exists else []
    say(f"== {name}, seed {seed}")
    return subprocess.call([sys.executable, str(TRAIN), *words]) == 0


def folder_of(study: Study, name: str, seed: int) -> RunFolder:
    return RunFolder(Path(study.output) / f"{name}-{seed}")


def collect(study: Study) -> list[dict]:
    """One row for every model of every finished run, of all seeds found."""
    rows = []
    for name in study.variants:
        for seed, folder in sorted(finished_runs(study, name).items()):
            metrics = folder.read_metrics()
            for result in metrics["results"]:
                kept = ("model", "kind", "stage", "mean_steps", "accuracy", "validation_accuracy", "gflops")
                row = {"variant": name, "seed": seed} | {key: result.get(key) for key in kept}
                rows.append(row | {"seconds": round(metrics["seconds"].get(result["stage"], 0))})
    return rows


def finished_runs(study: Study, name: str) -> dict[int, RunFolder]:
    """The finished runs of a variant by their seeds."""
    found = {
        path.name.removeprefix(f"{name}-"): RunFolder(path)
        for path in Path(study.output).glob(f"{glob.escape(name)}-*")
    }
    return {int(seed): run for seed, run in found.items() if seed.isdecimal() and run.is_finished}


def write(output: Path, rows: list[dict]) -> None:
    """Write results.csv with every row, and tables.md and variants.png with means over seeds."""
    with replacing(output / "results.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    lines = ["| variant | model | mean steps | accuracy (%) | each seed (%) |", "|---|---|---:|---:|---|"]
    groups = {}
    for row in rows:
        groups.setdefault((row["variant"], row["model"]), []).append(row)
    for (variant, model), found in groups.items():
        each = ", ".join(f"{100 * row['accuracy']:.2f}" for row in found)
        steps, accuracy = ([row[key] for row in found] for key in ("mean_steps", "accuracy"))
        lines.append(f"| {variant} | {model} | {spread(steps)} | {spread(accuracy, 100)} | {each} |")
    write_text(output / "tables.md", "\n".join(lines) + "\n")
    for line in lines:
        say(line)
    stages = {}  # without rows of kind "comparison"
    for (variant, _), found in groups.items():
        if found[0]["kind"] == "stage":
            point = {key: sum(row[key] for row in found) / len(found) for key in ("mean_steps", "accuracy")}
            stages.setdefault(variant, []).append(point)
    plot_variants(output / "variants.png", stages)


if __name__ == "__main__":
    main()
