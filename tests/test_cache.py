"""Decoding of photographs, and the cache of what was decoded: right pixels, once, whole or not at all."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dtram_hub.data import cache as canvas_cache
from dtram_hub.data import canvas
from dtram_hub.data.sources import DataConfig
from dtram_hub.data.sources import load as load_source
from dtram_hub.data.splits import Data
from folders import make_folder, pixels


def load(root: Path, cache: str, image_size: int = 16) -> Data:
    config = DataConfig("imagefolder", str(root), cache=cache)
    return load_source(config, seed=0, image_size=image_size, in_chans=3)


def test_canvases_are_decoded_once_and_never_confused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, cache = make_folder(tmp_path / "pets", {"train": 10, "test": 4}), tmp_path / "cache"
    caplog.set_level(logging.INFO, "dtram_hub")
    first = load(root, cache=str(cache))
    assert [message[message.index("data: ") :] for message in caplog.messages] == [
        f"data: decoding 20 train images, once, into 0.0 MB under {cache}",
        f"data: decoding 8 test images, once, into 0.0 MB under {cache}",
    ]
    again = load(root, cache=str(cache))
    assert len(caplog.messages) == 2
    assert torch.equal(pixels(first.splits["train"]), pixels(again.splits["train"]))
    first.splits["test"].canvases.zero_()  # a copy of the pages, never the file
    assert pixels(load(root, cache=str(cache)).splits["test"]).any()
    Image.new("RGB", (30, 20), (9, 9, 9)).save(root / "test" / "cat" / "0.png")  # same name, other content
    changed = load(root, cache=str(cache))
    assert len(caplog.messages) == 3
    assert (pixels(changed.splits["test"]) == 9).flatten(1).all(1).sum() == 1
    load(root, cache=str(cache), image_size=24)
    assert len(caplog.messages) == 5


def test_a_cache_that_does_not_fit_is_refused_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder(tmp_path / "pets", {"train": 10, "test": 4})
    usage = canvas_cache.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(canvas_cache.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ValueError, match=r"has 0\.0 MB free, and the decoded train images take 0\.0 MB"):
        load(root, cache=str(tmp_path / "cache"))
    assert not list((tmp_path / "cache").glob("*.npy"))


def test_a_cache_that_cannot_be_written_to_its_end_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    root, cache = make_folder(tmp_path / "pets", {"train": 10, "test": 4}), tmp_path / "cache"
    resource = pytest.importorskip("resource")  # Unix alone
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        with pytest.raises(ValueError, match=r"data\.cache='.*cache' cannot be written \(File too large\)"):
            load(root, cache=str(cache))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.suffix for path in cache.iterdir()} == {".lock"}
    assert len(load(root, cache=str(cache)).splits["train"]) == 18


def test_a_damaged_cache_is_written_again(tmp_path: Path) -> None:
    root, cache = make_folder(tmp_path / "pets", {"train": 10, "test": 4}), tmp_path / "cache"
    first = pixels(load(root, cache=str(cache)).splits["train"])
    for suffix, length in ((".npy", 200), (".npy", 0), (".notes.json", 1)):
        for path in cache.glob(f"*{suffix}"):
            path.write_bytes(path.read_bytes()[:length])
        assert torch.equal(pixels(load(root, cache=str(cache)).splits["train"]), first)


def test_a_cache_of_an_older_version_is_decoded_again(tmp_path: Path) -> None:
    root, cache = make_folder(tmp_path / "pets", {"": 10}), tmp_path / "cache"
    Image.new("F", (20, 30), 0.5).save(root / "cat" / "float.tiff")
    with pytest.raises(ValueError, match=r"float\.tiff \(its levels are floats, of which no range is known"):
        load(root, cache=str(cache))
    for notes in cache.glob("*.notes.json"):  # the old version had decoded it, black
        notes.rename(notes.with_name(notes.name.replace(".notes", ""))).write_text("[]")
    with pytest.raises(ValueError, match=r"float\.tiff \(its levels are floats"):
        load(root, cache=str(cache))


def test_a_cache_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ValueError, match=r"data\.cache='.*file' cannot be written \(File exists\)"):
        load(make_folder(tmp_path / "pets", {"": 10}), cache=str(tmp_path / "file"))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_large_turned_and_coloured_files_are_read_right(tmp_path: Path) -> None:
    halves = Image.new("RGB", (60, 60), (200, 0, 0))
    halves.paste((0, 0, 200), (0, 30, 60, 60))  # red above blue
    turned = halves.rotate(90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    upright = canvas.decode({"path": str(tmp_path / "turned.png"), "bytes": None}, canvas.Form(3, 20)).pixels
    assert (upright[0, :8] == 200).all()
    assert (upright[2, 12:] == 200).all()
    Image.new("L", (10_000, 10_000), 77).save(tmp_path / "large.jpg")
    assert (
        canvas.decode({"path": str(tmp_path / "large.jpg"), "bytes": None}, canvas.Form(3, 20)).pixels == 77
    ).all()
    levels = np.full((20, 20), 120 * 257, dtype=np.uint16)
    Image.fromarray(levels).save(tmp_path / "wide.png")  # 16 bits
    assert (
        canvas.decode({"path": str(tmp_path / "wide.png"), "bytes": None}, canvas.Form(3, 20)).pixels == 120
    ).all()
    grey = canvas.decode({"path": str(tmp_path / "turned.png"), "bytes": None}, canvas.Form(1, 20)).pixels
    assert grey.shape == (1, 20, 20)
