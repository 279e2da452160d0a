"""Training on images of any size: they are decoded once, as they are, and views alone are cut out."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import dtram_hub
from dtram_hub.data import augment
from dtram_hub.data.augment import Augmentation
from dtram_hub.data.canvas import Form, box_in
from dtram_hub.data.loader import train_loader
from dtram_hub.data.sources import DataConfig, load
from dtram_hub.data.splits import Split, join
from dtram_hub.data.streaming import decode_rows
from dtram_hub.images.pyramid import Pyramid
from dtram_hub.sharing.cards import render_card
from small_runs import SCRIPT, run_here

SIZES = [(40, 40), (24, 120), (120, 24), (60, 45), (33, 50), (50, 33)]
WORDS = [
    *("threads=1", "trackers=[]", "batch_size=8", "num_rollouts=2", "mean_steps=null", "seed=3"),
    *("architecture=dtram_test_resnet", "encoder_weights=null", "model.num_steps=3", "model.hidden_size=16"),
    *("model.context_size=64", "model.glimpse_crop=32", "data.turn=true", "data.crop=0.5"),
    *("stages.encoder.epochs=1", "stages.ram.epochs=1", "stages.dtram.epochs=1"),
    *("optimizer.name=sgd", "optimizer.momentum=0"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 24 images, dark and bright, of shapes from 1:5 to 5:1; one is turned by its EXIF."""
    root, rng = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    for label, name in enumerate(("dark", "bright")):
        (root / name).mkdir()
        for i in range(24):
            pixels = rng.integers(100 * label, 100 * label + 100, (*SIZES[i % 6], 3), np.uint8)
            image, exif = Image.fromarray(pixels), Image.Exif()
            exif[0x0112] = 6 if i == 1 else 1
            image.save(root / name / f"{i:02}.png", exif=exif)
    return root


def load_folder(root: Path, cache: Path, side: int | None = None, **words):
    config = DataConfig("imagefolder", str(root), cache=str(cache), **words)
    return load(config, seed=0, image_size=side, in_chans=3, keeps_aspect=True)


def test_images_are_decoded_once_and_read_as_they_are(root: Path, tmp_path: Path) -> None:
    for _ in range(2):
        splits = load_folder(root, tmp_path).splits
        whole = join(splits, ["train", "validation", "test"])
        images = whole.at(torch.arange(48))
        found = {image.read(0, 0, 0, *image.size).tobytes() for image in images.images}
        expected = set()
        for path in root.rglob("*.png"):
            with Image.open(path) as image:
                turned = np.asarray(image)
            expected.add((np.rot90(turned, -1) if path.name == "01.png" else turned).tobytes())
        assert found == expected
        assert len(list(tmp_path.glob("*.flat"))) == 1
    part = splits["test"]
    assert part.sizes().tolist() == [list(image.size) for image in part.at(torch.arange(len(part))).images]


def test_the_longer_side_is_resized_and_the_aspect_stays(root: Path, tmp_path: Path) -> None:
    train = load_folder(root, tmp_path, 60).splits["train"]
    sizes = train.sizes()
    assert sizes.max(1).values.eq(60).all()
    assert set(map(tuple, sizes.tolist())) == {(60, 60), (12, 60), (60, 12), (60, 45), (40, 60), (60, 40)}


def test_a_large_image_is_stored_with_its_levels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1100, 1000, 3), np.uint8)
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i}.png", compress_level=1)
    train = load_folder(tmp_path / "images", tmp_path / "cache").splits["train"]
    (image,), expected = train.at(torch.tensor([0])).images, Pyramid([pixels])
    assert len(image) == len(expected) == 4
    for level in range(4):
        size = expected.level_size(level)
        assert np.array_equal(image.read(level, 0, 0, *size), expected.read(level, 0, 0, *size))


def test_a_file_that_was_cut_short_is_decoded_again(root: Path, tmp_path: Path) -> None:
    load_folder(root, tmp_path)
    (flat,) = tmp_path.glob("*.flat")
    content = flat.read_bytes()
    flat.write_bytes(content[:-1])
    load_folder(root, tmp_path)
    assert flat.read_bytes() == content


def test_boxes_are_locations_in_the_whole_image(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    box = box_in({"path": str(tmp_path / "a.png")}, [50, 25, 100, 50], Form(3, None))
    assert box == [-0.5, -0.5, 0.5, 0.5]


def test_augmentation_changes_what_is_read(root: Path, tmp_path: Path) -> None:
    train = load_folder(root, tmp_path).splits["train"]
    images, settings = train.at(torch.arange(12)), Augmentation(flip=True, turn=True, crop=0.3)
    draws = torch.rand(12, settings.columns, generator=torch.Generator().manual_seed(0))
    found = settings(images, draws)
    for image, region, own in zip(images.images, found.images, draws, strict=True):
        top, left, height, width = augment.crop_boxes(0.3, image.size, own[None, 2:])[0].tolist()
        part = image.read(0, top, left, top + height, left + width)
        part = part[:, ::-1] if own[0] < 0.5 else part
        expected = np.rot90(part, int(own[1] * 4))
        assert region.size == expected.shape[:2]
        assert np.array_equal(region.read(0, 0, 0, *region.size), expected)
        assert height / image.size[0] > 0.3 * 3 / 4


def test_rows_of_a_stream_keep_their_size(root: Path) -> None:
    paths = [root / "dark" / f"{i:02}.png" for i in (0, 1, 2)]
    rows = [{"image": {"path": None, "bytes": path.read_bytes()}, "label": 1} for path in paths]
    images, labels = decode_rows(rows, Form(3, None), 2)
    assert images.sizes.tolist() == [[40, 40], [120, 24], [120, 24]]
    assert labels.tolist() == [1, 1, 1]
    assert Split(images, labels).take(torch.tensor([2, 0])).at(torch.tensor([1])).sizes.tolist() == [[40, 40]]


def test_other_processes_give_the_same_batches(root: Path, tmp_path: Path) -> None:
    train = load_folder(root, tmp_path).splits["train"]
    settings, found = Augmentation(flip=True, crop=0.3), []
    for workers in (0, 2):
        loader = train_loader(train, 8, seed=(0, 1, 2), augmentation=settings, workers=workers)
        found.append(
            [
                (image.box, image.mirrored, int(label))
                for batch, labels, _ in loader
                for image, label in zip(batch.images, labels, strict=True)
            ]
        )
    assert found[0] == found[1]
    assert len(found[0]) == len(train) // 8 * 8


@pytest.mark.parametrize("name", ["colour", "distort"])
def test_augmentation_of_squares_is_refused(name: str, root: Path, tmp_path: Path) -> None:
    words = {"colour": {"colour": 0.2}, "distort": {"distort": {"shift": 2}}}[name]
    with pytest.raises(
        ValueError,
        match=rf"data.{name}=.* changes squares; accepted with context=.fit. or image_size=null are",
    ):
        load_folder(root, tmp_path, **words)


def test_a_float_file_has_the_levels_that_are_declared(tmp_path: Path) -> None:
    root = tmp_path / "images"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(np.full((9, 9), -1 + i, np.float32)).save(root / name / f"{i}.tif")
    with pytest.raises(ValueError, match="its levels are floats"):
        load_folder(root, tmp_path / "cache")
    splits = load_folder(root, tmp_path / "cache", levels=[-1, 2]).splits
    images = join(splits, ["train", "validation", "test"]).at(torch.arange(8)).images
    assert sorted(int(image.read(0, 0, 0, 1, 1)[0, 0, 0]) for image in images) == [
        0,
        0,
        85,
        85,
        170,
        170,
        255,
        255,
    ]


def words_of(root: Path, output: Path) -> list[str]:
    cache = f"data.cache={root.parent / 'cache'}"
    return ["inspection", *WORDS, f"data.root={root}", cache, f"output={output}"]


def weights_of(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "stages" / "dtram.safetensors")


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("native") / "run"
    printed = run_here(words_of(root, output))
    assert re.search(r"decoding \d+ train images, once, into \d+\.\d MB", printed)
    return output


def test_a_run_on_images_of_any_shape_gives_a_model_for_them(finished: Path, root: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["results"][0]["model"] == "encoder alone"
    model = dtram_hub.DTRAM.from_pretrained(finished)
    assert (model.image_size, model.arguments()["image_size"]) == (None, "native")
    with Image.open(root / "bright" / "02.png") as image:
        found = model.predict([np.asarray(image)])
    assert found.logits.isfinite().all()
    for name in ("glimpses.png", "steps.png"):
        assert (finished / name).stat().st_size > 1000


def test_its_card_and_facts_say_that_images_have_any_size(dtram, finished: Path) -> None:
    _, printed, _ = dtram("info", finished, "--json")
    assert json.loads(printed)["input"] == [3, "native", "native"]
    card = render_card(finished, "shapes").content
    assert "Images are of any size and shape, scaled to [0, 1], then normalised" in card
    code = card.partition("```python\n")[2].partition("```")[0]
    exec(code.replace('"shapes"', f'"local-dir:{finished}"'), {})


@pytest.mark.long
def test_a_killed_run_continues_to_the_same_weights(finished: Path, root: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *words_of(root, tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("ram_2 "):
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "run" / "metrics.json").exists()
    again = [sys.executable, str(SCRIPT), *words_of(root, tmp_path / "run"), "--resume"]
    done = subprocess.run(again, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected, found = weights_of(finished), weights_of(tmp_path / "run")
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.long
def test_two_processes_learn_as_one(finished: Path, root: Path, tmp_path: Path) -> None:
    port = socket.create_server(("127.0.0.1", 0))
    launch = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port.getsockname()[1]}"]
    port.close()
    done = subprocess.run(
        [sys.executable, *launch, str(SCRIPT), *words_of(root, tmp_path / "run")],
        capture_output=True,
        text=True,
        env=os.environ | {"ACCELERATE_USE_CPU": "true"},
    )
    assert done.returncode == 0, done.stderr
    expected, found = weights_of(finished), weights_of(tmp_path / "run")
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=0, msg=name)
