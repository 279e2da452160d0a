"""Photographs in every layout become the same splits; decoded ones are kept, streamed ones counted."""

import io
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from huggingface_hub import HfApi
from PIL import Image
from scipy.io import savemat

from dtram_hub.data import canvas
from dtram_hub.data.augment import Augmentation
from dtram_hub.data.loader import epoch_draws, train_loader
from dtram_hub.data.sources import DataConfig
from dtram_hub.data.sources import load as load_source
from dtram_hub.data.splits import Data, join
from dtram_hub.data.streaming import Stream
from dtram_hub.models import checkpoint
from folders import make_cub, make_folder, photographs, pixels, records
from loopback_hub import LoopbackHub
from small_runs import run_here

TOKEN = "hf_loopback"
CLASSES = ["ant", "bee", "cow"]


def make_dataset(count: int, seed: int) -> datasets.Dataset:
    """Columns are called as in many data sets of the Hub: not `image` and `label`."""
    features = {"img": datasets.Image(), "kind": datasets.ClassLabel(names=CLASSES)}
    columns = {"img": photographs(count, seed), "kind": [i % 3 for i in range(count)]}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)


@pytest.fixture(scope="module")
def hub() -> LoopbackHub:
    """A Hub with two data sets: one that has every split, one that has only train."""
    from conftest import HUB

    HUB.clear()
    splits = {"train": make_dataset(50, 0), "valid": make_dataset(9, 1), "test": make_dataset(12, 2)}
    shards = {"train": 4, "valid": 1, "test": 1}
    datasets.DatasetDict(splits).push_to_hub("me/whole", token=TOKEN, num_shards=shards)
    datasets.DatasetDict({"train": make_dataset(90, 3)}).push_to_hub("me/only-train", token=TOKEN)
    return HUB


def load(source: str, root: Path | None = None, image_size: int = 16, **settings) -> Data:
    config = DataConfig(source, None if root is None else str(root), **settings)
    return load_source(config, seed=0, image_size=image_size, in_chans=3)


def sizes(found: Data) -> dict[str, int]:
    return {name: len(split) for name, split in found.splits.items()}


def contents(images: torch.Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


def test_a_data_set_of_the_hub(hub: LoopbackHub) -> None:
    found = load("hub:me/whole")
    assert sizes(found) == {"train": 50, "validation": 9, "test": 12}
    assert found.class_names == CLASSES
    expected = [
        canvas.decode({"bytes": png(image), "path": None}, canvas.Form(3, 16)).pixels
        for image in photographs(12, 2)
    ]
    assert np.array_equal(pixels(found.splits["test"]).numpy(), np.stack(expected))
    assert found.splits["test"].labels.tolist() == [i % 3 for i in range(12)]
    held = load("hub:me/only-train")
    assert sizes(held) == {"train": 72, "test": 9, "validation": 9}


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_stream_stores_nothing_and_gives_the_same_test_set(hub: LoopbackHub) -> None:
    hub.requests.clear()
    streamed, whole = load("hub:me/whole", streaming=True), load("hub:me/whole")
    assert isinstance(streamed.splits["train"], Stream)
    assert sizes(streamed) == sizes(whole)
    assert torch.equal(pixels(streamed.splits["test"]), pixels(whole.splits["test"]))


@pytest.mark.parametrize("world", [1, 2])
def test_a_streamed_epoch_is_every_image_once_over_all_processes(hub: LoopbackHub, world: int) -> None:
    found = load("hub:me/whole", streaming=True, shuffle_buffer=16)
    train = found.splits["train"]
    known = dict(zip(contents(pixels(load("hub:me/whole").splits["train"])), range(50), strict=True))

    def epoch(seed: int) -> list[int]:
        shares = [list(train_loader(train, 10, seed=(seed,), rank=r, world=world)) for r in range(world)]
        assert {len(share) for share in shares} == {5}
        order = []
        for parts in zip(*shares, strict=True):
            assert [len(images) for images, *_ in parts] == [10 // world] * world
            for images, labels, _ in parts:
                order += [known[content] for content in contents(images)]
                assert labels.tolist() == [i % 3 for i in order[-len(labels) :]]
        return order

    first, again, other = epoch(1), epoch(1), epoch(2)
    assert Counter(first) == Counter(other) == Counter(range(50))
    assert first == again != other


def test_what_a_stream_lacks_is_held_out_and_stays_out(hub: LoopbackHub) -> None:
    found = load("hub:me/only-train", streaming=True, test_fraction=0.2)
    whole = load("hub:me/only-train", test_fraction=0.2)
    everything = [content for split in whole.splits.values() for content in contents(pixels(split))]
    held = [c for name in ("validation", "test") for c in contents(pixels(found.splits[name]))]
    count = len(found.splits["train"])
    assert count + len(held) == 90
    for seed in (1, 2):  # in whatever order the stream comes
        loader = train_loader(found.splits["train"], 1, seed=(seed,))
        seen = [content for images, *_ in loader for content in contents(images)]
        assert Counter(seen + held) == Counter(everything)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("source", ["hub:me/whole", "hub:me/only-train"])
def test_the_order_of_a_stream_does_not_depend_on_the_number_of_workers(
    hub: LoopbackHub, source: str, workers: int
) -> None:
    train = load(source, streaming=True, shuffle_buffer=16).splits["train"]
    change = Augmentation(flip=True, crop=0.5)

    def epoch(count: int, world: int = 1) -> list[list[torch.Tensor]]:
        settings = {"seed": (4, 2), "world": world, "augmentation": change, "workers": count}
        shares = [list(train_loader(train, 8, rank=rank, **settings)) for rank in range(world)]
        return [
            [
                torch.stack(column, dim=1).flatten(0, 1)
                for column in zip(*(part[:2] for part in parts), strict=True)
            ]
            for parts in zip(*shares, strict=True)
        ]

    alone = epoch(0)
    assert len(alone) == len(train) // 8
    for other in (epoch(workers), epoch(workers, world=2)):
        for batch, expected in zip(other, alone, strict=True):
            assert torch.equal(batch[0], expected[0])
            assert torch.equal(batch[1], expected[1])


def test_the_draws_of_a_stream_belong_to_positions(hub: LoopbackHub) -> None:
    train, change = load("hub:me/whole", streaming=True).splits["train"], Augmentation(crop=0.5)
    plain = torch.cat([images for images, *_ in train_loader(train, 10, seed=(4,))])
    changed = torch.cat([images for images, *_ in train_loader(train, 10, seed=(4,), augmentation=change)])
    assert torch.equal(changed, change(plain, epoch_draws((4,), 50, change.columns)))


def test_a_stream_stands_alone(hub: LoopbackHub) -> None:
    splits = load("hub:me/whole", streaming=True).splits
    assert join(splits, ["train"]) is splits["train"]
    with pytest.raises(ValueError, match=r"split='train\+validation' joins the streamed split 'train' with"):
        join(splits, ["train", "validation"])


def test_a_stream_names_its_commit(hub: LoopbackHub) -> None:
    found, commit = load("hub:me/whole", streaming=True), HfApi().dataset_info("me/whole").sha
    assert found.identity == {
        "train": f"{commit}, 50 images",
        "test": f"{commit}, 12 images",
        "validation": f"{commit}, 9 images",
    }


def test_a_stream_of_files_is_refused(hub: LoopbackHub, tmp_path: Path) -> None:
    root, client = make_folder(tmp_path, {"train": 10}), HfApi(token=TOKEN)
    client.create_repo("me/files", repo_type="dataset")
    client.upload_folder(repo_id="me/files", folder_path=root, repo_type="dataset")
    assert sizes(load("hub:me/files")) == {"train": 16, "test": 2, "validation": 2}
    with pytest.raises(
        ValueError, match=r"'hub:me/files' is a folder of files; data\.streaming=true reads tables"
    ):
        load("hub:me/files", streaming=True)


def test_training_on_a_stream(hub: LoopbackHub, tmp_path: Path) -> None:
    words = [
        *("imagefolder", "data.source=hub:me/only-train", "data.streaming=true"),
        *(f"output={tmp_path / 'run'}", "architecture=dtram", "encoder_weights=null", "curriculum=false"),
        *("model.backbone=test_efficientnet", "model.image_size=32"),
        *("model.context_size=32", "model.glimpse_crop=16", "model.hidden_size=16", "model.num_steps=2"),
        *("batch_size=10", "threads=1", "trackers=[]", "mean_steps=null", "stages.encoder.epochs=0"),
        *("stages.ram.epochs=1", "stages.dtram.epochs=0"),
    ]
    run_here(words)
    assert checkpoint.load(tmp_path / "run").pretrained_cfg["label_names"] == CLASSES


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("hub:me/none", {}, "'hub:me/none' is no data set on the Hub, or your token may not see it"),
        ("hub:whole", {}, "not of the form 'hub:org/name'"),
        ("imagefolder", {"streaming": True}, "data.streaming=true reads from the Hub"),
        ("hub:me/whole", {"streaming": True, "skip_broken": True}, "needs data.streaming=false"),
    ],
)
def test_bad_hub_sources_are_named(hub: LoopbackHub, source: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(source, **options)


def test_parquet(tmp_path: Path) -> None:
    make_dataset(30, 0).to_parquet(tmp_path / "train.parquet")
    make_dataset(12, 2).to_parquet(tmp_path / "test.parquet")
    found = load("parquet", tmp_path)
    assert sizes(found) == {"train": 27, "test": 12, "validation": 3}
    assert found.class_names == CLASSES
    with pytest.raises(ValueError, match=r"holds no \.parquet files"):
        load("parquet", make_folder(tmp_path / "folder", {"": 2}))


def test_cub(tmp_path: Path) -> None:
    root = make_cub(tmp_path / "CUB_200_2011")
    for given in (root, tmp_path):
        found = load("cub", given, validation_fraction=0.2)
        assert sizes(found) == {"train": 10, "test": 4, "validation": 2}
        assert found.class_names == ["Sooty Albatross", "Parakeet Auklet"]
        assert found.splits["test"].labels.tolist() == [0, 1, 0, 1]
    (root / "images" / "003.Sooty_Albatross" / "4.png").unlink()
    with pytest.raises(ValueError, match=r"lacks 1 of its images, .*/4\.png for one"):
        load("cub", root)
    (root / "classes.txt").unlink()
    with pytest.raises(ValueError, match=r"has no classes\.txt"):
        load("cub", root)


@pytest.mark.parametrize("layout", ["cars_annos", "devkit", "folders"])
def test_cars(tmp_path: Path, layout: str) -> None:
    names = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012"]
    images = photographs(16, 6)
    labels, is_test = [1 + i % 2 for i in range(16)], [int(i >= 12) for i in range(16)]
    if layout == "cars_annos":
        paths = [f"car_ims/{i:06}.png" for i in range(16)]
        rows = records(relative_im_path=paths, **{"class": labels}, test=is_test)
        savemat(
            tmp_path / "cars_annos.mat", {"annotations": rows, "class_names": np.array(names, dtype=object)}
        )
    elif layout == "devkit":
        paths = [f"cars_{'test' if test else 'train'}/{i:05}.png" for i, test in enumerate(is_test)]
        (tmp_path / "devkit").mkdir()
        savemat(tmp_path / "devkit" / "cars_meta.mat", {"class_names": np.array(names, dtype=object)})
        for file, test in {"devkit/cars_train_annos": 0, "cars_test_annos_withlabels": 1}.items():
            chosen = [i for i in range(16) if is_test[i] == test]
            fnames = [Path(paths[i]).name for i in chosen]
            rows = records(fname=fnames, **{"class": [labels[i] for i in chosen]})
            savemat(tmp_path / f"{file}.mat", {"annotations": rows})
    else:
        paths = [
            f"car_data/{'test' if test else 'train'}/{names[label - 1]}/{i}.png"
            for i, (test, label) in enumerate(zip(is_test, labels, strict=True))
        ]
    for path, image in zip(paths, images, strict=True):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / path)
    found = load("cars", tmp_path, validation_fraction=0.2)
    assert sizes(found) == {"train": 10, "test": 4, "validation": 2}
    assert found.class_names == names
    expected = [
        canvas.decode({"bytes": png(image), "path": None}, canvas.Form(3, 16)).pixels.tobytes()
        for image in images[12:]
    ]
    assert sorted(contents(pixels(found.splits["test"]))) == sorted(expected)


def test_a_wrong_root_is_named(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"": 3})
    with pytest.raises(ValueError, match=r"has no images\.txt, which CUB-200-2011 has beside images/"):
        load("cub", root)
    with pytest.raises(ValueError, match="is not Stanford Cars"):
        load("cars", root)
