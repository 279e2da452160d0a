"""Repair of circuit boards: a defect is replaced by pixels of the board's template, which has none.

Board and template are not exactly aligned, so every patch of the template is shifted to where its border
agrees best with the board.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

MARGIN = 4  # pixels around a box that are repaired with it
MOST_SHIFT = 6  # of the template, in pixels along each axis
INK = 127  # levels above are white

Window = tuple[slice, slice]  # rows and columns of an image


@dataclass(frozen=True)
class Patch:
    """The pixels of one defect, to be put back into the repaired board.

    window: the rows and columns of the board that the patch covers.
    pixels: (h, w) uint8, the board's own pixels.
    alone: (h, w) bool, the pixels to put back if this is the only defect: its box, and what of the margin
        belongs to no other defect.
    """

    window: Window
    pixels: np.ndarray
    alone: np.ndarray


def repair(board: np.ndarray, template: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, list[Patch]]:
    """Repair every defect of a board, and cut the defects out.

    Args:
        board, template: (S, S) uint8.
        boxes: (K, 4) integers, top, left, bottom, right of every defect in pixels.

    Returns:
        The repaired board (S, S) uint8, and one patch for each box, with its margin.
    """
    windows = [_window(box, MARGIN, board.shape) for box in boxes]
    owners = np.zeros(board.shape, np.uint8)  # the number of defects that a pixel belongs to
    for window in windows:
        owners[window] += 1
    repaired, patches = board.copy(), []
    for box, window in zip(boxes, windows, strict=True):
        alone = owners[window] == 1
        alone[_inside(_window(box, 0, board.shape), window)] = True
        patches.append(Patch(window, board[window].copy(), alone))
        repaired[window] = template_at(board, template, box, owners)
    return repaired, patches


def template_at(board: np.ndarray, template: np.ndarray, box: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """The template's pixels for a box and its margin, at the shift where the borders agree best.

    The border is the margin and as many pixels around it, without pixels of other defects. Of equally good
    shifts the smallest is taken.

    Args:
        board, template, box: as in `repair`.
        owners: (S, S), the number of defects, with margins, that each pixel belongs to.

    Returns:
        (h, w) uint8.
    """
    outer, window, core = (_window(box, margin, board.shape) for margin in (2 * MARGIN, MARGIN, 0))
    border = owners[outer] == 0
    border[_inside(window, outer)] = owners[window] == 1
    border[_inside(core, outer)] = False
    padded = np.pad(template, MOST_SHIFT, mode="edge")
    area = tuple(slice(side.start, side.stop + 2 * MOST_SHIFT) for side in outer)
    shifted = sliding_window_view(padded[area], border.shape)
    counts = (((shifted > INK) != (board[outer] > INK)) & border).sum((2, 3))
    offsets = np.arange(-MOST_SHIFT, MOST_SHIFT + 1)
    distances = offsets[:, None] ** 2 + offsets**2
    best = np.unravel_index(np.lexsort((distances.ravel(), counts.ravel()))[0], counts.shape)
    return shifted[best][_inside(window, outer)]


def _window(box: np.ndarray, margin: int, shape: tuple[int, int]) -> Window:
    """Rows and columns of a box with a margin, within the board."""
    top, left, bottom, right = (int(side) for side in box)
    return (
        slice(max(top - margin, 0), min(bottom + margin, shape[0])),
        slice(max(left - margin, 0), min(right + margin, shape[1])),
    )


def _inside(window: Window, outer: Window) -> Window:
    """A window of the board as a window of `outer`, which contains it."""
    rows, columns = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(window, outer, strict=True))
    return rows, columns
