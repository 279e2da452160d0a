"""Compare runs of one recipe: mean and standard deviation over seeds, as a Markdown table.

python training/compare.py runs/digits-0 runs/digits-1 runs/digits-2
"""

import argparse
import statistics

from dtram_hub.learning.run_folder import RunFolder
from dtram_hub.prompt import ending_in_a_sentence, say
from dtram_hub.sharing.markdown import as_text


def spread(values: list[float], scale: float = 1.0, digits: int = 2) -> str:
    """Format values as "mean ± sample standard deviation", or one value alone."""
    text = f"{scale * statistics.mean(values):.{digits}f}"
    return text if len(values) < 2 else f"{text} ± {scale * statistics.stdev(values):.{digits}f}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=RunFolder, help="folders of finished runs")
    args = parser.parse_args(argv)
    with ending_in_a_sentence("compare.py"):
        metrics = [run.read_metrics("seed", "test_images") for run in args.runs]
        titles = [[row["model"] for row in run["results"]] for run in metrics]
        if any(title != titles[0] for title in titles):
            raise ValueError("the runs have different models; accepted are runs of one recipe.")
        print_table(metrics)


def print_table(metrics: list[dict]) -> None:
    """Print one row for each model; `metrics` are those of runs with the same models."""
    seeds = ", ".join(str(run["seed"]) for run in metrics)
    say(f"{metrics[0]['test_images']} test images, each answered once; seeds {seeds}")
    say("")
    say("| model | mean steps | accuracy (%) | each run (%) |")
    say("|---|---:|---:|---|")
    for rows in zip(*(run["results"] for run in metrics), strict=True):
        accuracies = [row["accuracy"] for row in rows]
        each = ", ".join(f"{100 * accuracy:.2f}" for accuracy in accuracies)
        steps = spread([row["mean_steps"] for row in rows])
        say(f"| {as_text(rows[0]['model'])} | {steps} | {spread(accuracies, 100)} | {each} |")
    correlations = [run.get("spearman_steps_difficulty") for run in metrics]
    if None not in correlations:
        say("")
        say(f"Spearman of steps and difficulty: {spread(correlations)}")
    say(f"Training time: {spread([sum(run['seconds'].values()) for run in metrics], digits=0)} s")


if __name__ == "__main__":
    main()
