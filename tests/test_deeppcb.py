"""Circuit boards: exact repair, one defect left or none, boards held out, and refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dtram_hub.data.canvas import Form
from dtram_hub.data.config import DataConfig
from dtram_hub.data.deeppcb import KINDS, SIDE, load_deeppcb
from dtram_hub.data.repair import MARGIN, repair
from dtram_hub.data.sources import load
from dtram_hub.data.splits import Data

BOXES = [(40, 60, 70, 100, 1), (300, 310, 330, 350, 2), (0, 600, 20, 640, 2), (325, 345, 360, 380, 5)]


def make_template(seed: int) -> np.ndarray:
    """Tracks and pads, with structure everywhere, so that a wrong shift shows."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(2, size=(SIDE // 8 + 2, SIDE // 8 + 2))
    return (coarse.repeat(8, 0).repeat(8, 1)[:SIDE, :SIDE] * 255).astype(np.uint8)


def make_board(template: np.ndarray, boxes: list[tuple[int, ...]], shift: tuple[int, int]) -> np.ndarray:
    """The template, shifted, with inverted pixels in every box."""
    board = np.roll(template, shift, (0, 1))
    for top, left, bottom, right, _ in boxes:
        board[top:bottom, left:right] = 255 - board[top:bottom, left:right]
    return board


def make_folder(root: Path, count: int = 6, ending: str = "png") -> Path:
    """A folder in the layout of DeepPCB, with `count` boards in train and 2 in test."""
    names = []
    for number in range(count + 2):
        stem, boxes = f"group1/1/{number:04}", f"group1/1_not/{number:04}.txt"
        for folder in (root / "group1/1", root / "group1/1_not"):
            folder.mkdir(parents=True, exist_ok=True)
        template = make_template(number)
        Image.fromarray(template).save(root / f"{stem}_temp.{ending}", quality=95)
        Image.fromarray(make_board(template, BOXES, (0, 0))).save(root / f"{stem}_test.{ending}", quality=95)
        lines = [f"{left} {top} {right} {bottom} {kind}" for top, left, bottom, right, kind in BOXES]
        (root / boxes).write_text("\n".join(lines))
        names.append(f"{stem}.jpg {boxes}")
    (root / "trainval.txt").write_text("\n".join(names[:count]))
    (root / "test.txt").write_text("\n".join(names[count:]) + "\n")
    return root


def read(root: Path, seed: int = 0, **options) -> Data:
    config = DataConfig(source="deeppcb", root=str(root), validation_fraction=0.3, options=options)
    return load(config, seed=seed, image_size=SIDE, in_chans=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("boards"))


@pytest.mark.parametrize("shift", [(0, 0), (3, -6), (-5, 2)])
def test_repair_finds_the_shift_and_leaves_no_trace(shift: tuple[int, int]) -> None:
    template = make_template(1)
    boxes = np.array(BOXES)[:, :4]
    repaired, patches = repair(make_board(template, BOXES, shift), template, boxes)
    inside = slice(8, -8), slice(8, -8)  # the shifted template has other pixels at the edge
    assert np.array_equal(repaired[inside], np.roll(template, shift, (0, 1))[inside])
    assert [patch.pixels.shape for patch in patches] == [(38, 48), (38, 48), (24, 44), (43, 43)]


def test_an_image_shows_its_defect_and_no_other(root: Path) -> None:
    data = read(root, draws=4)
    split = data.splits["train"]
    templates = [make_template(number) for number in range(8)]
    assert data.class_names == ["clean", *KINDS]
    for index in range(len(split)):
        image, label = split.at(torch.tensor([index]))[0, 0].numpy(), int(split.labels[index])
        number = next(i for i, t in enumerate(templates) if (image != t).sum() < 8000)
        changed = image != templates[number]
        if label == 0:
            assert not changed.any()
            assert split.boxes[index].isnan().all()
            continue
        box = ((split.boxes[index, 0] + 1) / 2 * SIDE).round().int().tolist()
        assert label == next(kind for *corners, kind in BOXES if corners == box)
        expected = np.zeros_like(changed)
        expected[box[0] : box[2], box[1] : box[3]] = True
        # Of two defects that overlap the image shows the whole box of its own, both defects where they meet.
        wrong = changed != expected
        assert wrong.sum() <= 5 * 5 + 2 * 5 * MARGIN


def test_no_image_comes_twice_and_all_classes_come(root: Path) -> None:
    split = read(root, draws=5).splits["train"]
    assert len(split) == 4 * 5
    images = split.at(torch.arange(len(split)))
    assert len(images.flatten(1).unique(dim=0)) == len(split)  # five different ones of every board
    assert split.labels.view(4, 5).sort(1).values.tolist() == [[0, 1, 2, 2, 5]] * 4


def test_splits_share_no_board_and_the_seed_deals_them(root: Path) -> None:
    data, again, other = read(root, test_draws=1), read(root, test_draws=1), read(root, seed=1)
    assert [len(data.splits[name]) for name in ("train", "validation", "test")] == [20, 2, 2]

    def boards(data: Data, name: str) -> set[int]:
        return {number for number, *_ in data.splits[name].canvases.images}

    assert boards(data, "train").isdisjoint(boards(data, "validation"))
    assert boards(data, "train") | boards(data, "validation") == set(range(6))
    assert data.splits["train"].canvases.images == again.splits["train"].canvases.images
    assert data.splits["train"].canvases.images != other.splits["train"].canvases.images
    assert data.identity == again.identity
    few = read(root, test_draws=1, boards=2)
    assert [len(few.splits[name]) for name in ("train", "validation", "test")] == [10, 2, 2]
    assert boards(few, "train") < boards(data, "train")
    assert {board.group for board in data.splits["test"].canvases.boards} == {"group1"}


def test_the_control_repairs_the_defect_of_the_label_as_well(root: Path) -> None:
    plain, control = (read(root, control=flag).splits["test"] for flag in (False, True))
    assert torch.equal(plain.labels, control.labels)
    assert plain.labels.unique().tolist() == [0, 1, 2, 5]
    every = torch.arange(len(plain))
    assert len(control.at(every).flatten(1).unique(dim=0)) == 2  # two boards, and nothing of the labels
    assert torch.equal(plain.at(every[plain.labels == 0]), control.at(every[plain.labels == 0]))


def test_a_defective_board_is_the_board_as_it_is(root: Path) -> None:
    data = read(root, task="defective")
    split = data.splits["test"]
    assert data.class_names == ["clean", "defective"]
    assert split.labels.tolist() == [0, 1, 0, 1]
    for index, number in ((1, 6), (3, 7)):
        image = split.at(torch.tensor([index]))[0, 0].numpy()
        assert np.array_equal(image, make_board(make_template(number), BOXES, (0, 0)))
    corners = ((split.boxes[1] + 1) / 2 * SIDE).round().int().tolist()
    assert corners == [list(box[:4]) for box in BOXES]


def test_boards_as_jpeg_are_read_as_well(tmp_path: Path, root: Path) -> None:
    photographs = read(make_folder(tmp_path, 4, "jpg")).splits["test"]
    assert photographs.labels.tolist() == [label for _, _, label in photographs.canvases.images]
    assert photographs.at(torch.arange(2)).shape == (2, 1, SIDE, SIDE)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"root": None}, "data.root=None is not the folder of DeepPCB"),
        ({"image_size": 512}, "image_size=512; data.source='deeppcb' has images of 640 pixels"),
        ({"in_chans": 3}, "takes in_chans=1"),
        ({"task": "colour"}, "data.options.task='colour' is not one of 'kind', 'defective'"),
        ({"draws": 0}, "data.options.draws=0"),
        ({"boards": 0}, "data.options.boards=0 is not an integer in"),
        ({"boards": 6}, r"data.options.boards=6 is not an integer in \[1, 5\]"),
    ],
)
def test_what_it_does_not_take_is_refused(root: Path, words: dict, sentence: str) -> None:
    config = DataConfig(source="deeppcb", root=words.pop("root", str(root)))
    form = Form(words.pop("in_chans", 1), words.pop("image_size", SIDE))
    with pytest.raises(ValueError, match=sentence):
        load_deeppcb(config, 0, form, **words)


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("group1/1_not/0001.txt", "1 2 3", "is not a file of lines"),
        ("group1/1_not/0001.txt", "1 2 3 4 7", "a kind outside of 1 to 6"),
        ("group1/1_not/0001.txt", "5 2 5 4 1", "a box that is empty or leaves the board"),
        ("group1/1/0001_temp.png", "no image", "is no readable image"),
        ("trainval.txt", "group1/1/none.jpg group1/1_not/0001.txt", "there is neither"),
        ("trainval.txt", "one-word", "is not a line of an image and a file of boxes"),
    ],
)
def test_a_broken_folder_is_refused_by_name(tmp_path: Path, file: str, content: str, sentence: str) -> None:
    make_folder(tmp_path, 3)
    (tmp_path / file).write_text(content)
    with pytest.raises(ValueError, match=sentence):
        read(tmp_path)
