"""Fuzzing: damaged and lying input, of which the product may refuse every piece, but trip over none.

    python tests/fuzz/campaign.py TARGET [--cases 10000] [--seed 0]

A target is a module `fuzz_NAME.py` with `CASES`, a strategy of hypothesis, and `outcome`, a function from a
case to a word. The word is FINE for an answer and REFUSED for one sentence. Every other word is a fault; it
names the fault, so that equal faults are counted together. The program prints the counts and one case of each
fault. Its exit code is 1 if there is a fault. `test_fuzz.py` runs a few cases of every target.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

FINE, REFUSED = "fine", "refused"
TARGETS = sorted(path.stem.removeprefix("fuzz_") for path in Path(__file__).parent.glob("fuzz_*.py"))


def campaign(name: str, cases: int, number: int = 0) -> tuple[Counter[str], dict[str, Any]]:
    """Run many cases of one target.

    Args:
        name: one of TARGETS.
        cases: the number of cases.
        number: the seed; another one draws other cases.

    Returns:
        The number of cases by outcome, and the first case of each fault.
    """
    target = import_module(f"fuzz_{name}")
    counts: Counter[str] = Counter()
    faults: dict[str, Any] = {}

    @seed(number)
    @settings(
        max_examples=cases,
        phases=[Phase.generate],  # count all faults; do not stop and shrink the first one
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(target.CASES)
    def run(case: Any) -> None:
        word = target.outcome(case)
        counts[word] += 1
        if word not in (FINE, REFUSED):
            faults.setdefault(word, case)

    run()
    return counts, faults


def refusing(call: Callable[[], object], refusals: tuple[type[Exception], ...] = (ValueError,)) -> str:
    """The outcome of `call`: FINE, REFUSED for one of `refusals`, else the kind of its exception.

    A refusal must be one sentence: an empty message, or a message of many lines, is a fault as well.
    """
    try:
        call()
    except refusals as error:
        text = str(error).strip()
        return (
            REFUSED if text and len(text.splitlines()) <= 3 else f"{type(error).__name__} without a sentence"
        )
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:60]}"
    return FINE


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    counts, faults = campaign(args.target, args.cases, args.seed)
    for word, count in counts.most_common():
        print(f"{count:8}  {word}")
    for word, case in faults.items():
        print(f"\n{word}\n    {str(case)[:400]}")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
