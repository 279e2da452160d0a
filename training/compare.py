"""Several runs of one recipe side by side: mean and spread over their seeds, as a Markdown table.

python training/compare.py runs/digits-0 runs/digits-1 runs/digits-2
"""

import argparse
import json
import statistics
import sys
from pathlib import Path


def spread(values: list[float], scale: float = 1.0, digits: int = 2) -> str:
    """'mean +- sample standard deviation', or the value alone."""
    text = f"{scale * statistics.mean(values):.{digits}f}"
    return text if len(values) < 2 else f"{text} ± {scale * statistics.stdev(values):.{digits}f}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="folders that hold a metrics.json")
    args = parser.parse_args(argv)
    missing = [str(run) for run in args.runs if not (run / "metrics.json").is_file()]
    if missing:
        sys.exit(f"compare.py: no metrics.json in {', '.join(missing)}.")
    metrics = [json.loads((run / "metrics.json").read_text()) for run in args.runs]
    seeds = ", ".join(str(run["seed"]) for run in metrics)
    print(f"{metrics[0]['test_images']} test images, each answered once; seeds {seeds}\n")
    print("| model | mean steps | accuracy (%) | each run (%) |\n|---|---:|---:|---|")
    for rows in zip(*(run["results"] for run in metrics), strict=True):
        if len({row["model"] for row in rows}) > 1:
            sys.exit("compare.py: the runs do not have the same models.")
        accuracies = [row["accuracy"] for row in rows]
        each = ", ".join(f"{100 * accuracy:.2f}" for accuracy in accuracies)
        steps = spread([row["mean_steps"] for row in rows])
        print(f"| {rows[0]['model']} | {steps} | {spread(accuracies, 100)} | {each} |")
    correlations = [run.get("spearman_steps_difficulty") for run in metrics]
    if None not in correlations:
        print(f"\nSpearman of steps and difficulty: {spread(correlations)}")
    print(f"Training time: {spread([sum(run['seconds'].values()) for run in metrics], digits=0)} s")


if __name__ == "__main__":
    main()
