"""DeepPCB (Tang et al. 2019): real circuit boards of 640 x 640 pixels with small defects of six kinds.

Every board comes with a template without defects, and with the boxes of its defects. `repair` takes defects
away, so one board gives many images. An image of the task `kind` has one defect or none, and the label is its
kind. An image of the task `defective` is a board as it is, or repaired.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..checks import check_choice, check_integer, short
from .canvas import Form, UnreadableImage, open_photograph
from .config import DataConfig, check_form
from .repair import Patch, repair
from .splits import Data, Split

SIDE = 640
KINDS = ("open", "short", "mousebite", "spur", "copper", "pin-hole")  # 1 to 6 in the files of boxes
CLASSES = {"kind": ["clean", *KINDS], "defective": ["clean", "defective"]}
LISTS = {"train": "trainval.txt", "test": "test.txt"}
ENDINGS = (".jpg", ".png")
VALIDATION_SEED, DRAW_SEED = 1, 2

Image = tuple[int, tuple[int, ...], int]  # board, its defects that are shown, label


@dataclass(frozen=True)
class Board:
    """One board.

    repaired: (S, S) uint8, the board without any defect.
    patches: its defects.
    boxes: (K, 4) int64, top, left, bottom, right of each defect in pixels.
    kinds: (K,) int64, 1 + an index of KINDS.
    group: the name of its layout, which many boards share.
    """

    repaired: np.ndarray
    patches: list[Patch]
    boxes: np.ndarray
    kinds: np.ndarray
    group: str


@dataclass(frozen=True)
class Composed:
    """The canvases of N images, composed when they are read: a repaired board, and some of its defects.

    boards: all boards.
    images: the boards and defects of the images. An image shows all defects of its board, one, or none.
    """

    boards: list[Board]
    images: list[Image]

    @property
    def shape(self) -> torch.Size:
        """(N, 1, S, S)."""
        return torch.Size((len(self.images), 1, SIDE, SIDE))

    def __getitem__(self, index: Tensor) -> Tensor:
        """Compose the images at `index` (B,) int64, as (B, 1, S, S) uint8."""
        images = np.empty((len(index), 1, SIDE, SIDE), np.uint8)
        for image, i in zip(images, index.tolist(), strict=True):
            self._compose(image[0], *self.images[i])
        return torch.from_numpy(images)

    def _compose(self, image: np.ndarray, number: int, defects: tuple[int, ...], _: int) -> None:
        board = self.boards[number]
        image[:] = board.repaired
        for defect in defects:
            patch = board.patches[defect]
            shown = patch.alone if len(defects) == 1 else np.ones_like(patch.alone)
            image[patch.window][shown] = patch.pixels[shown]


def load_deeppcb(
    config: DataConfig,
    seed: int,
    form: Form,
    *,
    task: str = "kind",
    draws: int = 5,
    test_draws: int = 4,
    boards: int | None = None,
    control: bool = False,
) -> Data:
    """Load DeepPCB in its original layout, and hold boards of train out for validation.

    Args:
        config, seed, form: as in `sources.load`.
        task: "kind" for one defect or none of seven classes, "defective" for two classes.
        draws: images of one board in train, for the task "kind".
        test_draws: the same in validation and test.
        boards: the number of boards in train, for experiments with few; None for all.
        control: whether to repair the defect of the label as well. A model that learns more than chance then
            has found a trace of the repair.

    Raises:
        ValueError: no folder with the lists of boards, a broken file, or images that are not grey or not of
            640 pixels.
    """
    check_form(config, form, SIDE)
    check_choice("data.options.task", task, CLASSES)
    check_integer("data.options.draws", draws, 1)
    check_integer("data.options.test_draws", test_draws, 1)
    if config.root is None or not (Path(config.root) / LISTS["test"]).is_file():
        raise ValueError(
            f"data.root={config.root!r} is not the folder of DeepPCB, which has trainval.txt and test.txt."
        )
    found = {name: read_boards(Path(config.root), file) for name, file in LISTS.items()}
    order = np.random.default_rng([seed, VALIDATION_SEED]).permutation(len(found["train"]))
    held, train = np.split(order, [max(1, round(config.validation_fraction * len(order)))])
    if boards is not None:
        check_integer("data.options.boards", boards, 1, len(train))
    parts = {"train": train[:boards], "validation": held, "test": np.arange(len(found["test"]))}
    splits = {}
    for name, numbers in parts.items():
        own = found["test" if name == "test" else "train"]
        count = draws if name == "train" else test_draws
        splits[name] = compose(own, np.sort(numbers), task, count, seed, control)
    identity = {name: checksum(own) for name, own in found.items()}
    return Data(splits, CLASSES[task], identity=identity)


def read_boards(root: Path, list_name: str) -> list[Board]:
    """Read and repair all boards of a list, in its order."""
    lines = [line.split() for line in (root / list_name).read_text().splitlines() if line.strip()]
    for words in lines:
        if len(words) != 2:
            raise ValueError(
                f"{root / list_name}: {short(' '.join(words))} is not a line of an image and a file of boxes."
            )
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda words: read_board(root, *words), lines))


def read_board(root: Path, image: str, boxes: str) -> Board:
    """Read and repair one board.

    Args:
        root: the folder of the data.
        image: the board's name in a list, without "_test" and "_temp": group00041/00041/00041000.jpg.
        boxes: the name of its file of boxes, with lines "left top right bottom kind".
    """
    stem = root / image.rpartition(".")[0]
    tested, template = (_read_image(f"{stem}_{which}") for which in ("test", "temp"))
    path = root / boxes
    try:
        rows = [
            [int(word) for word in line.split()] for line in path.read_text().splitlines() if line.strip()
        ]
        found = np.array(rows, np.int64).reshape(-1, 5)
    except (OSError, ValueError):
        raise ValueError(f"{path} is not a file of lines 'left top right bottom kind'.") from None
    corners, kinds = found[:, [1, 0, 3, 2]], found[:, 4]
    if not len(found) or not ((kinds >= 1) & (kinds <= len(KINDS))).all():
        raise ValueError(f"{path} has no boxes, or a kind outside of 1 to {len(KINDS)}.")
    if (corners < 0).any() or (corners > SIDE).any() or (corners[:, :2] >= corners[:, 2:]).any():
        raise ValueError(f"{path} has a box that is empty or leaves the board of {SIDE} pixels.")
    return Board(*repair(tested, template, corners), corners, kinds, Path(image).parts[0])


def _read_image(stem: str) -> np.ndarray:
    path = next((Path(stem + ending) for ending in ENDINGS if Path(stem + ending).is_file()), None)
    if path is None:
        raise ValueError(f"there is neither {stem}.jpg nor {stem}.png.")
    try:
        image = np.asarray(open_photograph(path, 1))
    except UnreadableImage as error:
        raise ValueError(f"{path} is no readable image ({error}).") from None
    if image.shape != (SIDE, SIDE):
        raise ValueError(
            f"{path} has {image.shape[1]} x {image.shape[0]} pixels; accepted are {SIDE} x {SIDE}."
        )
    return image


def compose(
    boards: list[Board], numbers: np.ndarray, task: str, draws: int, seed: int, control: bool = False
) -> Split:
    """The images of some boards; arguments as in `load_deeppcb`, and `numbers` (M,) the boards' indices."""
    images = [
        image for number in numbers.tolist() for image in TASKS[task](boards[number], number, draws, seed)
    ]
    boxes = [torch.from_numpy(boards[number].boxes[list(defects)]).float() for number, defects, _ in images]
    boxes = pad_sequence(boxes, batch_first=True, padding_value=torch.nan)
    shown: list[Image] = [(number, (), label) for number, _, label in images] if control else images
    labels = torch.tensor([label for *_, label in images])
    return Split(Composed(boards, shown), labels, boxes=boxes / SIDE * 2 - 1)


def draw_kinds(board: Board, number: int, draws: int, seed: int) -> list[Image]:
    """Images of the task "kind". A draw is clean with probability 1 / 7, else of any kind on the board.

    No image comes twice while there is another one.
    """
    rng = np.random.default_rng([seed, DRAW_SEED, number])
    images: list[Image] = []
    while len(images) < draws:
        if rng.random() < 1 / (1 + len(KINDS)):
            image = (number, (), 0)
        else:
            kind = int(rng.choice(np.unique(board.kinds)))
            image = (number, (int(rng.choice((board.kinds == kind).nonzero()[0])),), kind)
        if image not in images or len(set(images)) > len(board.kinds):
            images.append(image)
    return images


def draw_defective(board: Board, number: int, draws: int, seed: int) -> list[Image]:
    """Images of the task "defective": the board with all its defects, and repaired."""
    return [(number, (), 0), (number, tuple(range(len(board.kinds))), 1)]


TASKS = {"kind": draw_kinds, "defective": draw_defective}


def checksum(boards: list[Board]) -> str:
    """A checksum of all boards and their boxes, in order."""
    found = hashlib.sha256()
    for board in boards:
        found.update(board.repaired.tobytes() + board.boxes.tobytes() + board.kinds.tobytes())
    return found.hexdigest()
