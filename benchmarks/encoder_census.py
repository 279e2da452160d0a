"""Which of timm's architectures can be the encoder of a DT-RAM, with which views, and why the others cannot.

    python benchmarks/encoder_census.py [--out census.jsonl] [--filter "dtram_resnet*"] [--real 10]

Builds every `dtram_*` model as `timm.create_model` gives it, with two steps. Runs it forward, forward in
training and backward, with three colour channels and with one. Models of at most `--real` million parameters
run with real numbers, the others on the meta device, which knows shapes alone. One line per model goes to
`--out`. A census that was cut off goes on after the names in this file.
"""

import argparse
import json
import platform
import warnings
from collections import Counter
from pathlib import Path

import timm
import torch
from tqdm import tqdm

import dtram_hub
from timing import positive


def examine(name: str, in_chans: int, real: float) -> dict:
    """Build and run one model; return its views, answer and device, or its error."""
    try:
        model = timm.create_model(name, num_steps=2, num_classes=3, in_chans=in_chans, device="meta")
        device = "cpu" if sum(p.numel() for p in model.parameters()) <= real * 1e6 else "meta"
        if device == "cpu":
            model = timm.create_model(name, num_steps=2, num_classes=3, in_chans=in_chans)
        images = torch.zeros(2, in_chans, model.image_size, model.image_size, device=device)
        model.stop_threshold = 1.0
        with torch.no_grad():
            shape = tuple(model.eval()(images).shape)
        assert shape == (2, 3), f"logits of shape {shape}"
        model.train()(images).sum().backward()
        idle = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not idle, f"{len(idle)} parameters have no gradient, {idle[0]!r} for one"
        return {
            "views": [model.context, model.context_size, model.glimpse_size],
            "aggregate": model.aggregate,
            "device": device,
        }
    except Exception as error:
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


def summary(rows: list[dict]) -> None:
    """Print the counts, and every error."""
    for chans in ("3", "1"):
        found = [row[chans] for row in rows]
        good = [entry for entry in found if "error" not in entry]
        two = sum(entry["views"][1] != entry["views"][2] for entry in good)
        real = sum(entry["device"] == "cpu" for entry in good)
        print(
            f"in_chans={chans}: {len(good)} of {len(rows)} architectures work, {two} with a context view and "
            f"smaller glimpses, {len(good) - two} with one size for both; {real} run with real numbers; "
            f"aggregate {dict(Counter(entry['aggregate'] for entry in good))}"
        )
        for row in rows:
            if "error" in row[chans]:
                print(f"  {row['name']}: {row[chans]['error']}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("census.jsonl"))
    parser.add_argument("--filter", default="dtram_*", help="wildcard for the names")
    parser.add_argument(
        "--real", type=float, default=10, help="largest model on the CPU, in million parameters"
    )
    parser.add_argument("--threads", type=positive, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    names = timm.list_models(args.filter, exclude_filters="dtram_glimpse_mlp")
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    done = {row["name"] for row in rows}
    with args.out.open("a") as file:
        for name in tqdm([name for name in names if name not in done]):
            rows.append({"name": name} | {str(c): examine(name, c, args.real) for c in (3, 1)})
            print(json.dumps(rows[-1], allow_nan=False), file=file, flush=True)
    print(f"{platform.machine()}, python {platform.python_version()}, torch {torch.__version__}, ", end="")
    print(f"timm {timm.__version__}, dtram_hub {dtram_hub.__version__}")
    summary(rows)


if __name__ == "__main__":
    main()
