"""Draw histograms of the steps of several DT-RAMs in one picture (Fig. 5).

python training/histograms.py runs/mnist_dtram_98 runs/mnist_dtram_99 --output docs/images/mnist_steps.png
"""

import argparse
from collections import Counter
from pathlib import Path

from dtram_hub.checks import check_choice
from dtram_hub.learning.curriculum import KINDS
from dtram_hub.learning.run_folder import RunFolder, own_result
from dtram_hub.plots import plot_histograms
from dtram_hub.prompt import ending_in_a_sentence


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "runs", nargs="+", type=RunFolder, help="folders of finished runs that end with a DT-RAM"
    )
    parser.add_argument("--output", type=Path, default=Path("steps.png"), help="path of the picture")
    args = parser.parse_args(argv)
    with ending_in_a_sentence("histograms.py"):
        names = Counter(run.path.absolute().name for run in args.runs)
        histograms = {}
        for run in args.runs:
            name = run.path.absolute().name
            histograms[name if names[name] == 1 else str(run)] = histogram_of(run)
        plot_histograms(args.output, histograms)


def histogram_of(run: RunFolder) -> dict[str, int]:
    """The images by their number of steps; ValueError unless the run ends with a DT-RAM."""
    own = own_result(run.read_metrics())
    check_choice(f"stage_kind of {str(run)!r}", own["stage_kind"], KINDS)
    if not KINDS[own["stage_kind"]].dynamic:
        raise ValueError(f"run {str(run)!r} does not end with a DT-RAM.")
    return own["step_histogram"]


if __name__ == "__main__":
    main()
