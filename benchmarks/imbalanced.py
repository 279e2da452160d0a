"""A folder of inspection photographs of which most show no defect, made from the circuit boards of DeepPCB.

    python benchmarks/imbalanced.py DeepPCB photographs
    accelerate launch training/train.py inspection data.root=photographs
    accelerate launch training/train.py imagefolder data.root=photographs

A photograph is a strip of a board, from 1:5 to 5:1, with one defect or none. 71 % of the photographs show
none, and the rarest kind has 32. `train/` has 1,344 of them, `test/` as many of other boards. The box of a
defect covers 0.9 % of its photograph in the median.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dtram_hub.data.deeppcb import KINDS, LISTS, SIDE, Board, Composed, read_boards
from dtram_hub.prompt import ending_in_a_sentence, say

# As many photographs of each class as in a public set of 1,344 magnetic tiles.
COUNTS = {"clean": 952, "open": 115, "spur": 103, "mousebite": 85, "short": 57, "copper": 32}
LONGEST = 5  # aspect
AREAS = (100_000, 250_000)  # pixels of a photograph


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("boards", type=Path, help="the folder of DeepPCB")
    parser.add_argument("folder", type=Path, help="new folder for train/ and test/")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with ending_in_a_sentence("imbalanced.py"):
        for number, (split, file) in enumerate(LISTS.items()):
            shares = write_split(
                read_boards(args.boards, file),
                args.folder / split,
                np.random.default_rng([args.seed, number]),
            )
            say(f"{split}: {sum(COUNTS.values())} photographs; a box covers {100 * np.median(shares):.2f} %")


def write_split(boards: list[Board], folder: Path, rng: np.random.Generator) -> list[float]:
    """Write the photographs of one split; return the share of its photograph that each box covers."""
    shares = []
    for name, count in COUNTS.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            image, share = photograph(boards, name, rng)
            Image.fromarray(image).save(folder / name / f"{number:04d}.png")
            shares += [share] if share else []
    return shares


def photograph(boards: list[Board], name: str, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """One photograph (H, W) uint8 of a class, and the share of it that the defect's box covers."""
    own = 0 if name == "clean" else 1 + KINDS.index(name)
    with_it = [number for number, board in enumerate(boards) if not own or (board.kinds == own).any()]
    number = int(rng.choice(with_it))
    board = boards[number]
    defects = (int(rng.choice((board.kinds == own).nonzero()[0])),) if own else ()
    whole = Composed(boards, [(number, defects, own)])[torch.tensor([0])][0, 0].numpy()
    height, width = size(rng)
    box = board.boxes[defects[0]] if own else np.array([0, 0, 1, 1]) + rng.integers(SIDE - 1)
    top, left = (
        int(rng.integers(max(0, high - side), min(low, SIDE - side) + 1))
        for low, high, side in ((box[0], box[2], height), (box[1], box[3], width))
    )
    share = (box[2] - box[0]) * (box[3] - box[1]) / (height * width) if own else 0.0
    return whole[top : top + height, left : left + width], float(share)


def size(rng: np.random.Generator) -> tuple[int, int]:
    """Height and width of a photograph; a long one is as long as the board at most."""
    aspect = math.exp(rng.uniform(-math.log(LONGEST), math.log(LONGEST)))
    area = rng.uniform(*AREAS)
    height, width = math.sqrt(area / aspect), math.sqrt(area * aspect)
    shrink = min(1.0, SIDE / max(height, width))
    return round(height * shrink), round(width * shrink)


if __name__ == "__main__":
    main()
