"""Write the model cards of the checkpoints that ship with the package, from the files of each checkpoint.

python training/shipped_cards.py
"""

import argparse
from pathlib import Path

from dtram_hub.files import write_text
from dtram_hub.learning.run_folder import PICTURES
from dtram_hub.models.registry import SHIPPED, WEIGHTS
from dtram_hub.sharing.cards import render_card

CARDS = Path(__file__).parents[1] / "model_cards"
# The licences of our weights by the end of their names; that of the code, where the data ask for none.
LICENCES = {
    "deeppcb": {"license": "mit"},
    "cub50": {
        "license": "other",
        "license_name": "non-commercial-research-and-education",
        "license_link": "https://www.vision.caltech.edu/datasets/cub_200_2011/",
    },
}


def main(argv: list[str] | None = None) -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(argv)
    for name in SHIPPED:
        write_text(CARDS / f"{name}.md", render_shipped(name))
        print(CARDS / f"{name}.md")


def render_shipped(name: str) -> str:
    """The text of a shipped checkpoint's card, with the pictures in `model_cards/images/NAME`."""
    images = CARDS / "images" / name
    found = {file: f"images/{name}/{file}" for file in PICTURES if (images / file).is_file()}
    terms = LICENCES.get(name.partition(".")[2], {"license": "apache-2.0"})
    return render_card(WEIGHTS / name, pictures=found, terms=terms).content


if __name__ == "__main__":
    main()
