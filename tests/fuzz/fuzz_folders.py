"""Folders of images as users have them: the splits and classes that they mean, or one sentence.

Every image has a colour of its own, which says where it was put, so that each is found again in the loaded
data. Every case knows whether it has one meaning, and how many of its files are of no use.
"""

import logging
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import torch
from hypothesis import strategies as st
from PIL import Image

from campaign import FINE, REFUSED
from dtram_hub.data.sources import DataConfig, load

ROOTS = ("data", "train [x]", "a*b?", "test", "ümläut")
CLASSES = ("cat", "dog", "test", "val_car", "train", "Train", "validation", "[x]*", "a b", "10", "9", "Dog")
FILES = (
    "1.png",
    "train-1.png",
    "blood test 1.png",
    "val.PNG",
    "x.avif",
    "y.Jpg",
    "[1]*.png",
    "é.bmp",
    "z.tga",
)
SPLITS = {
    "train": ("train", "Train", "TRAIN"),
    "validation": (None, "validation", "val", "valid", "dev", "Val"),
    "test": (None, "test", "Test"),
}
MEANINGS = {name.lower() for names in SPLITS.values() for name in names if name}
datasets.disable_progress_bars()


@dataclass
class Planted:
    """A folder, and what it means.

    images: the split and the class of each image, by its colour.
    unused: the number of files of no use.
    doubtful: what allows for more than one meaning.
    """

    root: Path
    home: Path  # the folder of the training images of the first class
    has_splits: bool
    images: dict[int, tuple[str, str]] = field(default_factory=dict)
    unused: int = 0
    doubtful: list[str] = field(default_factory=list)

    def paint(self, path: Path, split: str | None, name: str = "") -> None:
        """Write an image of the next colour; without a split it is of no use."""
        path.parent.mkdir(parents=True, exist_ok=True)
        number = len(self.images) + 1 if split else 0
        Image.new("RGB", (2, 2), (number, 100, 200)).save(path, "PNG")
        if split:
            self.images[number] = (split, name)
        else:
            self.unused += 1

    def write(self, path: Path) -> None:
        path.write_bytes(b"PK nothing")
        self.unused += 1

    def pipe(self) -> None:
        os.mkfifo(self.home / "pipe.png")
        self.unused += 1

    def loop(self) -> None:
        (self.home / "loop").symlink_to("..")
        self.unused += 1

    def link_class(self) -> None:
        for i in range(3):
            self.paint(self.root.parent / "elsewhere" / f"{i}.png", "train", "linked")
        (self.home.parent / "linked").symlink_to(self.root.parent / "elsewhere")

    def beside(self, path: str) -> None:
        """An image that is outside of the splits, or too deep or too high for a class."""
        self.paint(self.root / path, None)
        if not self.has_splits:
            self.doubtful.append(path)

    def doubt(self, name: str, act: Callable[[], object]) -> None:
        act()
        self.doubtful.append(name)

    def odd_bytes(self) -> None:
        content = next(self.home.iterdir()).read_bytes()
        Path(os.fsdecode(os.fsencode(self.home) + b"/caf\xe9.png")).write_bytes(content)


EXTRAS: dict[str, Callable[[Planted], object]] = {
    "text": lambda it: it.write(it.home / "train.txt"),
    "thumbs": lambda it: it.write(it.home / "Thumbs.db"),
    "zip": lambda it: it.write(it.root / "more.zip"),
    "csv": lambda it: it.write(it.root / "train.csv"),
    "hidden": lambda it: it.write(it.home / ".hidden.png"),
    "pipe": Planted.pipe,
    "loop": Planted.loop,
    "linked class": Planted.link_class,
    "folder beside": lambda it: it.beside("extra/cat/1.png"),
    "image beside": lambda it: it.beside("stray.png"),
    "dangling": lambda it: it.doubt("dangling", lambda: (it.home / "gone.png").symlink_to("nowhere")),
    "dead class": lambda it: it.doubt("dead class", lambda: (it.home.parent / "gone").symlink_to("nowhere")),
    "empty class": lambda it: it.doubt("empty class", (it.home.parent / "empty").mkdir),
    "HEIC": lambda it: it.doubt("HEIC", lambda: (it.home / "x.HEIC").write_bytes(b"\0\0\0\x18ftypheic")),
    "deeper": lambda it: it.doubt("deeper", lambda: it.paint(it.home / "deep" / "1.png", None)),
    "odd bytes": lambda it: it.doubt("odd bytes", it.odd_bytes),
}
CASES = st.fixed_dictionaries(
    {
        "root": st.sampled_from(ROOTS),
        "classes": st.lists(st.sampled_from(CLASSES), min_size=2, max_size=4, unique=True),
        "files": st.lists(st.sampled_from(FILES), min_size=3, max_size=5, unique=True),
        "splits": st.none() | st.fixed_dictionaries({key: st.sampled_from(SPLITS[key]) for key in SPLITS}),
        "extras": st.lists(st.sampled_from(list(EXTRAS)), max_size=2, unique=True),
    }
)


def plant(folder: Path, case: dict) -> Planted:
    """Write the folder of a case."""
    root, splits = folder / case["root"], case["splits"] or {"train": ""}
    planted = Planted(root, root / splits["train"] / case["classes"][0], case["splits"] is not None)
    for split, name in splits.items():
        for label in case["classes"] if name is not None else ():
            for file in case["files"] if split == "train" else case["files"][:1]:
                planted.paint(root / name / label / file, split, label)
    if not planted.has_splits and sum(name.lower() in MEANINGS for name in case["classes"]) > 1:
        planted.doubtful.append("classes like splits")
    for name in case["extras"]:
        EXTRAS[name](planted)
    return planted


def fault_of(planted: Planted, found, messages: list[str]) -> str:
    """What is wrong with the loaded data; "" for nothing."""
    if found.class_names != sorted({label for _, label in planted.images.values()}):
        return "lost or wrong class"
    given = {split for split, _ in planted.images.values()}
    seen = set()
    for name, split in found.splits.items():
        colours = split.at(torch.arange(len(split)))[:, 0, 0, 0].tolist()
        for colour, label in zip(colours, split.labels.tolist(), strict=True):
            if colour in seen or colour not in planted.images:
                return "strange image"
            seen.add(colour)
            own, own_class = planted.images[colour]
            if own_class != found.class_names[label]:
                return "wrong class"
            if own != (name if name in given else "train"):
                return "wrong split"
    if seen != planted.images.keys():
        return "lost image"
    said = sum(int(count) for text in messages for count in re.findall(r"not used: (\d+) files", text))
    return "" if said == planted.unused else "unsaid file"


def outcome(case: dict) -> str:
    """FINE for the one meaning of a folder, REFUSED for a doubtful one, else what went wrong."""
    logger, messages = logging.getLogger("dtram_hub"), []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with tempfile.TemporaryDirectory() as folder:
            planted = plant(Path(folder), case)
            config = DataConfig("imagefolder", str(planted.root), cache=f"{folder}/.cache")
            found = load(config, seed=0, image_size=8, in_chans=3)
            if planted.doubtful:
                return f"accepted: {planted.doubtful[0]}"
            return fault_of(planted, found, messages) or FINE
    except ValueError as error:
        text = str(error)
        if not planted.doubtful:
            return f"refused without cause: {type(error).__name__}"
        return REFUSED if text.isprintable() or "no readable images" in text else "refused in raw"
    except Exception as error:
        return type(error).__name__
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
