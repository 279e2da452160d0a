"""Data that fit no disk and no memory: decoded when they are read, each process from files of its own."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import datasets
import pytest
import torch

import validate
from conftest import HUB
from dtram_hub import DTRAM
from dtram_hub.data.canvas import Form
from dtram_hub.data.config import DataConfig
from dtram_hub.data.loader import train_loader
from dtram_hub.data.sources import load
from dtram_hub.data.streaming import Stream
from dtram_hub.learning.budget_rows import BUDGETS
from folders import make_folder, photographs, pixels
from small_runs import SCRIPT

RECIPE = SCRIPT.parent / "recipes" / "imagenet_resnet50.yaml"


def load_folder(root: Path, **settings):
    config = DataConfig("imagefolder", str(root), cache=str(root.parent / "cache"), **settings)
    return load(config, seed=0, image_size=16, in_chans=3)


@pytest.mark.parametrize("splits", [{"train": 9, "validation": 3, "test": 4}, {"": 20}])
def test_photographs_that_are_not_kept_are_the_same(tmp_path: Path, splits: dict[str, int]) -> None:
    root = make_folder(tmp_path / "data", splits)
    kept, read = load_folder(root), load_folder(root, keep_decoded=False)
    assert not (tmp_path / "cache").exists() or len(list((tmp_path / "cache").glob("*.npy"))) == len(splits)
    for name, split in kept.splits.items():
        assert torch.equal(pixels(read.splits[name]), pixels(split))
        assert torch.equal(read.splits[name].labels, split.labels)
        assert torch.equal(read.splits[name].sizes(), split.sizes())
    assert set(read.held_out) == {"validation", "test"} - splits.keys()
    batches = [
        list(train_loader(data.splits["train"], 4, seed=(1,), workers=workers))
        for data, workers in ((kept, 0), (read, 2))
    ]
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[2], other[2])


def test_a_broken_photograph_is_named_or_counted_when_it_is_read(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", {"train": 5, "validation": 3, "test": 4})
    (root / "test" / "dog" / "1.png").write_bytes(b"none")
    with pytest.raises(ValueError, match=r"dog/1\.png' is unreadable \(its format is unknown\)"):
        pixels(load_folder(root, keep_decoded=False).splits["test"])
    test = load_folder(root, keep_decoded=False, skip_broken=True).splits["test"]
    assert pixels(test)[5].max() == 0
    assert list(test.faults()) == [5]


def test_validate_decodes_a_split_once_and_counts_what_it_cannot_read(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    root = make_folder(tmp_path / "data", {"train": 5, "validation": 3, "test": 20})
    (root / "test" / "dog" / "1.png").write_bytes(b"none")
    model = DTRAM("glimpse_convnet", 2, 3, 3, 24, "resize", 12, 12, hidden_size=16, aggregate="last")
    torch.nn.init.normal_(model.head.weight)
    model.save_pretrained(tmp_path / "model", ["cat", "dog"])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{num_steps: 3, image_size: 24}}\ndata: {{source: imagefolder, root: {root}}}\nthreads: 1\n"
    )
    words = [str(tmp_path / "model"), str(recipe), "--json", "--batch-size=7"]
    with pytest.raises(SystemExit, match="is unreadable"):
        validate.main(words)
    capsys.readouterr()
    validate.main([*words, "data.skip_broken=true"])
    printed = capsys.readouterr()
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert "1 of 40 images are unreadable and left out; the first: its format is unknown." in printed.err
    assert all(sum(row["step_histogram"].values()) == 39 for row in rows)
    budgets = [row["budget"] for row in rows]
    assert budgets == [None, *sorted({*BUDGETS, 3.0})]
    assert all(row["mean_steps"] <= row["budget"] + 1e-9 for row in rows[1:])
    assert (rows[1]["mean_steps"], rows[-1]["mean_steps"]) == (1, 3)
    out = tmp_path / "scores.json"
    validate.main(
        [*words[:2], "data.skip_broken=true", "--out", str(out), "--picture", str(tmp_path / "c.png")]
    )
    scores = json.loads(out.read_text())
    assert scores["rows"][0]["accuracy"] == pytest.approx(scores["accuracy"])
    assert sum(map(sum, scores["confusion"])) == 39
    assert (tmp_path / "c.png").is_file()
    assert "Mean accuracy of the classes" in capsys.readouterr().out


def shards(count: int, files: int) -> Stream:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    rows = {"image": photographs(count, 0), "label": [i % 2 for i in range(count)]}
    encoded = datasets.Dataset.from_dict(rows, features=features)
    dataset = encoded.cast_column("image", datasets.Image(decode=False)).to_iterable_dataset(num_shards=files)
    return Stream(dataset, count, Form(3, 16), 2, buffer=8, own_shards=True)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("world", "workers"), [(1, 0), (2, 0), (2, 2)])
def test_every_reader_of_a_stream_reads_files_of_its_own(world: int, workers: int) -> None:
    stream = shards(48, 4)

    def epoch(seed: int) -> list[list[bytes]]:
        settings = {"seed": (seed,), "world": world, "workers": workers}
        return [
            [
                image.numpy().tobytes()
                for images, *_ in train_loader(stream, 12, rank=rank, **settings)
                for image in images
            ]
            for rank in range(world)
        ]

    first, again, other = epoch(1), epoch(1), epoch(2)
    assert first == again != other
    assert [len(own) for own in first] == [48 // world] * world
    assert len(Counter(image for own in first for image in own)) == 48  # every image once


@pytest.mark.long
def test_the_recipe_for_imagenet_runs_from_end_to_end_on_two_processes(tmp_path: Path) -> None:
    HUB.clear()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})

    def make(count: int, seed: int, labelled: bool = True) -> datasets.Dataset:
        columns = {
            "image": photographs(count, seed),
            "label": [i % 2 if labelled else -1 for i in range(count)],
        }
        return datasets.Dataset.from_dict(columns, features=features)

    splits = {"train": make(120, 0), "validation": make(32, 1), "test": make(10, 2, labelled=False)}
    datasets.DatasetDict(splits).push_to_hub(
        "me/small", token="hf_loopback", num_shards={"train": 4, "validation": 2, "test": 1}
    )
    words = [
        *("data.source=hub:me/small", "encoder_weights=null", "batch_size=16", "data.workers=1", "threads=1"),
        *("trackers=[]", "precision=no", "architecture=dtram_test_resnet", "data.test_fraction=0.1"),
        *("model.image_size=64", "model.context_size=32", "model.glimpse_crop=32", "model.glimpse_size=32"),
        *("stages.encoder.epochs=2", "stages.dtram.epochs=2", f"output={tmp_path / 'run'}"),
    ]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launch, str(SCRIPT), str(RECIPE), *words],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "has no labels and is left out" in done.stdout
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test_images"] == 12
    assert metrics["machine"].startswith("1 CPU thread, each of 2 processes")
