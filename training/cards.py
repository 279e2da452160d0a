"""Write the model cards of the checkpoints that ship with the package, from their own files.

python training/cards.py
"""

import argparse
from pathlib import Path

from dtram_hub.cards import render_card
from dtram_hub.registry import SHIPPED, WEIGHTS

CARDS = Path(__file__).parents[1] / "model_cards"


def main(argv: list[str] | None = None) -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(argv)
    for name in SHIPPED:
        render_card(WEIGHTS / name, CARDS / "template.md").save(CARDS / f"{name}.md")
        print(CARDS / f"{name}.md")


if __name__ == "__main__":
    main()
