"""Draw the example pictures of the page: handwritten digits, digits among clutter, and circuit boards.

    python demo/draw_examples.py

Nothing is downloaded. The digits are scikit-learn's scans: for models of MNIST they are enlarged to 20 of 28
pixels, with more contrast. This program invents the boards. There is one folder for each data source.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from sklearn import datasets

import dtram_hub
from dtram_hub.data.digits import cluttered_digits

EXAMPLES = Path(dtram_hub.__file__).parent / "demo" / "examples"
SIDE, FINE = 640, 2  # pixels of a board, and how many times finer it is drawn
# Chosen so that some take few looks and others many. The page shows a folder's pictures by name.
BOARDS = {
    "mousebite": ("mousebite", 2),
    "open": ("open", 2),
    "pin-hole": ("pin-hole", 1),
    "spur": ("spur", 3),
    "stray-copper": ("copper", 5),
    "without-defect": ("clean", 3),  # which the model takes for a short
}
SCANS = (7, 32, 54, 251, 294)
CLUTTERED = (1, 3, 5, 9, 10)
DEFECTS = ("clean", "open", "short", "mousebite", "spur", "copper", "pin-hole")


class Board:
    """A board of black copper on white: tracks from the top edge to pads, connectors, and discs.

    Args:
        rng: the source of all that differs between boards.
    """

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.image = Image.new("L", (SIDE * FINE, SIDE * FINE), 255)
        self.pen = ImageDraw.Draw(self.image)
        self.width, self.pitch = 9, int(rng.integers(24, 29))
        self.tracks = self._lay_tracks()
        for _, (x, y), hole in self.tracks:
            self.disc(x, y, 22, 0)
            self.disc(x + hole[0], y + hole[1], 13, 255)
        for left, top, count in ((int(rng.integers(390, 440)), -20, 7), (50, 580, int(rng.integers(9, 14)))):
            for number in range(count):
                self.shape(
                    [(left + 30 * number + x, top + y) for x, y in ((0, 0), (12, 0), (12, 66), (0, 66))], 0
                )
        for _ in range(2):
            self.disc(int(rng.integers(470, 600)), int(rng.integers(100, 200)), int(rng.integers(9, 16)), 0)

    def _lay_tracks(self) -> list[tuple]:
        """Draw the tracks; the top, the pad and the offset of the pad's hole of each."""
        rng, tracks = self.rng, []
        left, fan = int(rng.integers(40, 80)), int(rng.integers(62, 68))
        bend, run = int(rng.integers(110, 170)), int(rng.integers(20, 60))
        for number in range(7):
            x, pad_x = left + self.pitch * number, left + run + fan * number
            y, pad_y = bend + 11 * (6 - number), 430 + 70 * (number % 2)
            way = [(x, -9), (x, y), (pad_x, y + pad_x - x), (pad_x, pad_y)]
            self.pen.line([(FINE * a, FINE * b) for a, b in way], 0, FINE * self.width, "curve")
            tracks.append(((x, y), (pad_x, pad_y), rng.integers(-3, 4, 2)))
        return tracks

    def disc(self, x: float, y: float, radius: float, level: int) -> None:
        """Draw a disc."""
        self.pen.ellipse([FINE * side for side in (x - radius, y - radius, x + radius, y + radius)], level)

    def shape(self, corners: list[tuple[float, float]], level: int) -> None:
        """Draw a polygon."""
        self.pen.polygon([(FINE * x, FINE * y) for x, y in corners], level)

    def blob(self, x: float, y: float, width: float, height: float, level: int) -> None:
        """Draw a rough ellipse with these half axes."""
        angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        radii = self.rng.uniform(0.8, 1.2, 14)
        xs, ys = x + width * radii * np.cos(angles), y + height * radii * np.sin(angles)
        self.shape(list(zip(xs, ys, strict=True)), level)

    def damage(self, kind: str) -> None:
        """Give the board one of DEFECTS."""
        (x, bend), pad, _ = self.tracks[int(self.rng.integers(1, 6))]
        y, edge = int(self.rng.integers(30, bend - 25)), x + self.width / 2
        if kind == "open":
            self.blob(x, y, 8, 7, 255)
        elif kind == "short":
            self.shape([(x, y - 4), (x + self.pitch, y - 3), (x + self.pitch, y + 3), (x, y + 4)], 0)
        elif kind == "mousebite":
            self.blob(edge, y, 5, 7, 255)
        elif kind == "spur":
            self.blob(edge + 2, y, 6, 5, 0)
        elif kind == "copper":
            self.blob(int(self.rng.integers(430, 600)), int(self.rng.integers(240, 330)), 6, 6, 0)
        elif kind == "pin-hole":
            self.disc(*pad, 22, 0)
            self.blob(
                pad[0] + int(self.rng.integers(-6, 7)), pad[1] + int(self.rng.integers(-6, 7)), 5, 5, 255
            )

    def pixels(self) -> np.ndarray:
        """The board (640, 640) uint8 of black and white."""
        small = np.asarray(self.image.resize((SIDE, SIDE), Image.Resampling.BOX))
        return np.where(small > 127, 255, 0).astype(np.uint8)


def draw_board(kind: str, seed: int) -> np.ndarray:
    """A board (640, 640) uint8 with one of DEFECTS."""
    board = Board(np.random.default_rng(seed))
    board.damage(kind)
    return board.pixels()


def draw_digit(scan: np.ndarray) -> np.ndarray:
    """A scan (8, 8) in 0..16 as MNIST has its digits: 20 of 28 pixels, the centre of mass in the middle."""
    large = Image.fromarray(np.uint8(scan * 255 / 16)).resize((20, 20), Image.Resampling.BICUBIC)
    levels = np.clip((np.asarray(large) / 255 - 0.5) * 1.5 + 0.5, 0, 1)
    rows, columns = np.mgrid[:20, :20]
    top, left = (
        int(np.clip(round(13.5 - (levels * along).sum() / levels.sum()), 0, 8)) for along in (rows, columns)
    )
    digit = np.zeros((28, 28), np.uint8)
    digit[top : top + 20, left : left + 20] = np.uint8(255 * levels)
    return digit


def draw_all() -> dict[str, np.ndarray]:
    """All examples, by their paths below EXAMPLES."""
    scans = datasets.load_digits()
    pictures = {f"deeppcb/board-{name}.png": draw_board(*board) for name, board in BOARDS.items()}
    pictures |= {f"mnist/digit-{scans.target[scan]}.png": draw_digit(scans.images[scan]) for scan in SCANS}
    cluttered = cluttered_digits("test", max(CLUTTERED) + 1)
    pictures |= {
        f"digits/clutter-{cluttered.labels[number]}.png": cluttered.images[number] for number in CLUTTERED
    }
    return pictures


def main() -> None:
    """Write all examples."""
    for name, pixels in draw_all().items():
        path = EXAMPLES / name
        path.parent.mkdir(parents=True, exist_ok=True)
        form = "1" if set(np.unique(pixels)) <= {0, 255} else "L"
        Image.fromarray(pixels).convert(form).save(path, optimize=True)


if __name__ == "__main__":
    main()
