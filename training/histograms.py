"""Draw histograms of the steps of several DT-RAMs in one picture (Fig. 5).

python training/histograms.py runs/mnist_dtram_98 runs/mnist_dtram_99 --output docs/images/mnist_steps.png
"""

import argparse
import sys
from pathlib import Path

from dtram_hub.learning.curriculum import KINDS
from dtram_hub.learning.run_folder import RunFolder, own_result
from dtram_hub.plots import plot_histograms


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "runs", nargs="+", type=RunFolder, help="folders of finished runs that end with a DT-RAM"
    )
    parser.add_argument("--output", type=Path, default=Path("steps.png"), help="path of the picture")
    args = parser.parse_args(argv)
    histograms = {}
    for run in args.runs:
        try:
            own = own_result(run.read_metrics())
        except ValueError as error:
            sys.exit(f"histograms.py: {error}")
        if not KINDS[own["stage_kind"]].dynamic:
            sys.exit(f"histograms.py: run {str(run)!r} does not end with a DT-RAM.")
        histograms[run.path.name] = own["step_histogram"]
    plot_histograms(args.output, histograms)


if __name__ == "__main__":
    main()
