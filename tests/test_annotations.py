"""Lists of images: each mistake in them is one sentence, and none gives other images or labels in silence."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from dtram_hub.data.canvas import Form, box_in
from dtram_hub.data.layouts import open_cub
from dtram_hub.data.sources import DataConfig, load
from dtram_hub.data.splits import Data
from folders import make_cub, photographs, records


def read(source: str, root: Path) -> Data:
    return load(DataConfig(source, str(root), cache=str(root / "cache")), seed=0, image_size=8, in_chans=3)


@pytest.mark.parametrize(
    ("name", "line", "other", "message"),
    [
        (
            "classes.txt",
            "3 003.Sooty_Albatross\n",
            "",
            r"_labels\.txt has class '3', which classes\.txt has not",
        ),
        ("image_class_labels.txt", "103 7\n", "103 abc\n", r"has class 'abc', which classes\.txt has not"),
        ("images.txt", "103 ", "102 ", r"'.*images\.txt', line 4: '102' is listed before"),
        ("image_class_labels.txt", "103 7\n", "103 7\n103 3\n", "line 5: '103' is listed before"),
        (
            "train_test_split.txt",
            "103 1\n",
            "103\n",
            "line 4: '103' is one word; accepted is a key and a text",
        ),
        (
            "train_test_split.txt",
            "103 1\n",
            "",
            r"images\.txt and train_test_split\.txt do not list the same",
        ),
        (
            "train_test_split.txt",
            "103 1\n",
            "103 2\n",
            r"train_test_split\.txt has other values than 0 and 1",
        ),
        ("train_test_split.txt", " 1\n", " 0\n", "lists no images for training"),
        (
            "images.txt",
            "103 007.Parakeet_Auklet/3",
            "103 ../3",
            r"images': the listed path '\.\./3\.png' leaves",
        ),
        (
            "images.txt",
            "103 007.Parakeet_Auklet",
            "103 /etc",
            r"the listed path '/etc/3\.png' leaves the folder",
        ),
        ("images.txt", "Auklet/3.png", "Auklet/1.png", r"lists '.*Auklet/1\.png' more than once"),
        ("images.txt", "Auklet/3.png", "Auklet/" + "x" * 999, "lacks 1 of its images"),
        (
            "classes.txt",
            "007.Parakeet_Auklet",
            "008.Sooty_Albatross",
            "two classes of the name 'Sooty Albatross'",
        ),
    ],
)
def test_a_mistake_in_a_list_of_cub_is_named(
    tmp_path: Path, name: str, line: str, other: str, message: str
) -> None:
    root = make_cub(tmp_path)
    text = (root / name).read_text()
    assert line in text
    (root / name).write_text(text.replace(line, other))
    with pytest.raises(ValueError, match=message) as refused:
        read("cub", root)
    assert len(str(refused.value).splitlines()) == 1


def test_a_list_of_other_bytes_than_utf_8_is_named(tmp_path: Path) -> None:
    (make_cub(tmp_path) / "classes.txt").write_bytes(b"3 003.Caf\xe9\n7 007.Th\xe9\n")
    with pytest.raises(ValueError, match=r"'.*classes\.txt' cannot be read \('utf-8' codec"):
        read("cub", tmp_path)


def make_cars(root: Path, **changes: list) -> Path:
    """Six training and two test images of two classes, in one .mat file."""
    columns = {
        "relative_im_path": [f"car_ims/{i}.png" for i in range(8)],
        "class": [1 + i % 2 for i in range(8)],
        "test": [int(i >= 6) for i in range(8)],
    }
    (root / "car_ims").mkdir()
    for i, image in enumerate(photographs(8, 1)):
        image.save(root / "car_ims" / f"{i}.png")
    names = np.array(["Hummer", "Acura"], dtype=object)
    savemat(root / "cars_annos.mat", {"annotations": records(**(columns | changes)), "class_names": names})
    return root


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"relative_im_path": ["../1.png"] * 8}, r"the listed path '\.\./1\.png' leaves the folder"),
        ({"relative_im_path": ["/etc/passwd"] * 8}, "the listed path '/etc/passwd' leaves the folder"),
        ({"relative_im_path": ["car_ims/1.png"] * 8}, r"lists '.*car_ims/1\.png' more than once"),
        ({"class": [1, 2, 3, 1, 2, 1, 2, 1]}, "has class numbers 1 to 3, and 2 names"),
        ({"class": [0, 2, 1, 1, 2, 1, 2, 1]}, "has class numbers 0 to 2, and 2 names"),
        ({"class": ["x"] * 8}, "annotation 0 lacks relative_im_path, class, test, or one is of another type"),
        ({"test": [1] * 8}, "lists no images for training"),
    ],
)
def test_a_mistake_in_the_list_of_cars_is_named(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read("cars", make_cars(tmp_path, **changes))


@pytest.mark.parametrize("content", [b"", b"no .mat file at all", b"MATLAB 5.0 MAT-file" + bytes(200)])
def test_a_damaged_mat_file_is_named(tmp_path: Path, content: bytes) -> None:
    root = make_cars(tmp_path)
    assert len(read("cars", root).splits["test"]) == 2
    (root / "cars_annos.mat").write_bytes(content)
    with pytest.raises(ValueError, match=r"'.*cars_annos\.mat' (is no \.mat file|has no class_names)"):
        read("cars", root)
    savemat(root / "cars_annos.mat", {"class_names": np.array(["a", "b"], dtype=object)})
    with pytest.raises(ValueError, match=r"'.*cars_annos\.mat' has no annotations"):
        read("cars", root)


def test_boxes_follow_their_images_onto_the_canvas(tmp_path: Path) -> None:
    """Photographs of 30 x 20 pixels, of which the canvas keeps the middle 20 x 20."""
    root = make_cub(tmp_path)
    boxes = [f"{100 + i} {5 + i}.0 {i}.0 4.0 2.0" for i in range(16)]
    (root / "bounding_boxes.txt").write_text("\n".join(boxes))
    config = DataConfig(source="cub", root=str(root), cache=str(tmp_path / "cache"), validation_fraction=0.5)
    splits = load(config, seed=0, image_size=40, in_chans=3).splits
    for i, box in zip(range(12, 16), splits["test"].boxes[:, 0].tolist(), strict=True):
        assert box == pytest.approx([i / 10 - 1, i / 10 - 1, (i + 2) / 10 - 1, min((i + 4) / 10 - 1, 1)])
    held = torch.cat([splits[name].boxes for name in ("train", "validation")])
    assert sorted(round(10 * top + 10) for top in held[:, 0, 0].tolist()) == list(range(12))
    for i, row in enumerate(splits["train"].rows.tolist()):
        assert splits["train"].boxes[i, 0, 0].item() == pytest.approx(row / 10 - 1)
    (root / "bounding_boxes.txt").write_text("100 1 2 3\n")
    with pytest.raises(ValueError, match="is no box of left, top, width, height"):
        open_cub(root)
    (root / "bounding_boxes.txt").write_text("\n".join(boxes[1:]))
    with pytest.raises(ValueError, match=r"bounding_boxes.txt has no box of image '100'"):
        open_cub(root)


def test_a_box_turns_with_a_photograph_on_its_side(tmp_path: Path) -> None:
    """The orientation tag of a camera; 4 pixels of a photograph of 20 x 30 make a fifth of the canvas."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert box_in({"path": str(tmp_path / "a.jpg")}, [0, 5, 4, 4], Form(3, 8)) == pytest.approx(
        [-1, -1, -0.6, -0.6]
    )
    assert all(math.isnan(side) for side in box_in({"path": "none.jpg"}, [0, 5, 4, 4], Form(3, 8)))
