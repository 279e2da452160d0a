"""How many steps several DT-RAMs take, side by side in one picture (Fig. 5).

python training/histograms.py runs/mnist_dtram_98 runs/mnist_dtram_99 --output docs/images/mnist_steps.png
"""

import argparse
import json
import sys
from pathlib import Path

from dtram_hub.plots import plot_histograms


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs that end with a DT-RAM")
    parser.add_argument("--output", type=Path, default=Path("steps.png"), help="the picture to write")
    args = parser.parse_args(argv)
    histograms = {}
    for run in args.runs:
        if not (run / "metrics.json").is_file():
            sys.exit(f"histograms.py: run {str(run)!r} has no metrics.json.")
        rows = json.loads((run / "metrics.json").read_text())["results"]
        own = next((row for row in rows if row["stage"] == "dtram"), None)
        if own is None:
            sys.exit(f"histograms.py: run {str(run)!r} does not end with a DT-RAM.")
        histograms[run.name] = own["step_histogram"]
    plot_histograms(args.output, histograms)


if __name__ == "__main__":
    main()
