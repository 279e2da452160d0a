"""`dtram predict` and `dtram info`: each image is answered or named, each model tells its own facts."""

import contextlib
import json
import os
import re
import resource
import signal
import struct
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from hub_faults import make_model
from loopback_hub import LoopbackHub

DIGITS = "dtram_glimpse_mlp.mnist_dtram98"


def folder_of(tmp_path: Path) -> Path:
    """A small model with hostile class names, as a folder."""
    make_model(1).save_pretrained(tmp_path / "run", ["\x1b[31mant", "b|ee\n# cow", "<b>cat</b>"])
    return tmp_path / "run"


def test_predict(dtram, images: list[Path], tmp_path: Path) -> None:
    code, printed, _ = dtram("predict", DIGITS, *images, "--json", "--save", tmp_path / "seen")
    assert code == 0
    rows = [json.loads(line) for line in printed.splitlines()]
    model = timm.create_model(DIGITS, pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    for path, row in zip(images, rows, strict=True):
        found = model.predict(transform(Image.open(path).convert("L"))[None])
        assert (row["image"], row["index"], row["steps"]) == (
            str(path),
            int(found.logits.argmax()),
            int(found.steps),
        )
        assert row["class"] == str(row["index"])
        np.testing.assert_allclose(row["locations"], found.locations[0, : row["steps"]], atol=1e-4)
        with Image.open(row["picture"]) as picture:
            assert min(picture.size) > 300
    code, printed, _ = dtram("predict", DIGITS, images[0], "--max-steps", 1)
    assert printed.startswith(f"{images[0]}: ")
    assert printed.endswith("1 look\n")


def test_predict_names_what_it_cannot_read_and_goes_on(dtram, images: list[Path]) -> None:
    images[1].write_bytes(images[1].read_bytes()[:200])
    code, printed, complaint = dtram("predict", DIGITS, *images)
    assert code == 1
    assert [line.split(":")[0] for line in printed.splitlines()] == [str(images[0]), str(images[2])]
    assert f"{images[1]} is no readable image" in complaint


def test_images_of_one_name_have_a_picture_each(dtram, images: list[Path], tmp_path: Path) -> None:
    (tmp_path / "B").mkdir()
    twin, relative = images[1].rename(tmp_path / "B" / "one.png"), images[0].parent / "x_glimpses.png"
    (tmp_path / "x.png").write_bytes(twin.read_bytes())
    relative.write_bytes(twin.read_bytes())
    paths = [images[0], twin, tmp_path / "x.png", relative]
    before = [path.read_bytes() for path in paths]
    code, printed, complaint = dtram("predict", DIGITS, *paths, "--save", tmp_path, "--json")
    assert (code, complaint) == (0, "")
    rows = [json.loads(line) for line in printed.splitlines()]
    pictures = [Path(row["picture"]) for row in rows]
    assert len({path.resolve() for path in [*pictures, *paths]}) == 8
    assert [path.read_bytes() for path in paths] == before
    for row, picture in zip(rows, pictures, strict=True):
        with Image.open(picture) as drawn:
            assert drawn.size[0] > 300
        line = dtram("predict", DIGITS, row["image"], "--save", tmp_path / "g")[1]
        assert (
            line
            == f"{row['image']}: {row['class']} ({100 * row['confidence']:.0f} %), {row['steps']} "
            + (f"look{'s' * (row['steps'] > 1)}, {tmp_path / 'g' / Path(row['image']).stem}_glimpses.png\n")
        )


def test_info_tells_a_models_own_origin_and_classes(dtram, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    found = json.loads(dtram("info", folder, "--json")[1])
    assert found["origin"] == f"folder {folder}"
    assert found["class_names"] == ["\x1b[31mant", "b|ee\n# cow", "<b>cat</b>"]
    assert not {"tag", "tags"} & found.keys()
    code, printed, _ = dtram("info", folder)
    assert code == 0
    assert printed.replace("\n", "").isprintable()
    assert r"class names \x1b[31mant, b|ee\n# cow, <b>cat</b>" in " ".join(
        printed.replace("\n", "  ").split()
    )
    named = json.loads(dtram("info", DIGITS, "--json")[1])
    assert (named["tag"], named["origin"]) == ("mnist_dtram98", "ships with dtram-hub")
    assert "mnist_ram4" in named["tags"]
    printed = dtram("info", "dtram_mobilenetv2_100.cub50")[1]
    assert "Groove billed Ani, Crested Auklet, Least Auklet, Parakeet Auklet" in printed
    assert ", ... (50 in all)\n" in printed
    assert re.search(r"^tag +a1_in1k$", dtram("info", "dtram_resnet18")[1], re.MULTILINE)


def test_info_tells_the_licence_of_the_weights_and_not_of_the_encoder(dtram, tmp_path: Path) -> None:
    birds = json.loads(dtram("info", "dtram_mobilenetv2_100.cub50", "--json")[1])
    assert (birds["license"], birds["data"]) == (
        "non-commercial-research-and-education",
        "50 classes of CUB-200-2011",
    )
    assert birds["weights"] == "trained by dtram-hub 0.1.0, seed 0"
    boards = json.loads(dtram("info", "dtram_tf_efficientnet_lite0.deeppcb", "--json")[1])
    assert (boards["license"], boards["encoder_weights"]) == ("mit", "timm/tf_efficientnet_lite0.in1k")
    fresh = json.loads(dtram("info", "dtram_mobilenetv2_100.ra_in1k", "--json")[1])
    assert (fresh["weights"], fresh["encoder_weights"]) == (
        "none of its own",
        "timm/mobilenetv2_100.ra_in1k",
    )
    assert fresh["encoder_license"] == "apache-2.0"
    assert not {"license", "data", "accuracy"} & fresh.keys()
    assert json.loads(dtram("info", "dtram_glimpse_mlp", "--json")[1])["origin"] == "ships with dtram-hub"
    # Trained further, they are another's; the licence of the encoder does not hold for them.
    for name in ("dtram_mobilenetv2_100.ra_in1k", "dtram_mobilenetv2_100.cub50"):
        timm.create_model(name, num_classes=3, hidden_size=8).save_pretrained(tmp_path / name)
    found = [json.loads(dtram("info", folder, "--json")[1]) for folder in sorted(tmp_path.iterdir())]
    assert [each["license"] for each in found] == ["non-commercial-research-and-education", None]
    assert re.search(r"^license +not stated$", dtram("info", sorted(tmp_path.iterdir())[1])[1], re.MULTILINE)
    (tmp_path / name / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# Birds\n")
    assert json.loads(dtram("info", tmp_path / name, "--json")[1])["license"] == "cc-by-4.0"


def test_hostile_labels_and_names_do_not_reach_the_terminal(dtram, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    image = tmp_path / "\x1b]0;evil\x07\n\u202egnp.png"
    Image.new("L", (16, 16), 90).save(image)
    bad = tmp_path / "bad\x1b[2J.png"
    bad.write_bytes(b"none")
    code, printed, complaint = dtram("predict", folder, image, bad, "--save", tmp_path / "g\x1b[1m")
    assert code == 1
    for text in (printed, complaint):
        assert all(line.isprintable() for line in text.splitlines())
    assert len(printed.splitlines()) == 1
    assert r"\x1b]0;evil\x07\n\u202egnp.png" in printed
    assert r"bad\x1b[2J.png is no readable image" in complaint
    (picture,) = (tmp_path / "g\x1b[1m").iterdir()
    assert picture.name == "_]0;evil___gnp_glimpses.png"
    code, _, complaint = dtram("predict", tmp_path / "\x1b[2Jnone", image)
    assert code == 1
    assert complaint.isprintable()


def test_every_image_is_answered_or_named(dtram, images: list[Path], tmp_path: Path) -> None:
    faulty = [empty, floats, other] = [tmp_path / name for name in ("empty.jpg", "floats.tif", "other.dds")]
    empty.touch()
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(floats)
    other.write_bytes(b"DDS " + struct.pack("<31I", 124, *[1] * 30))  # NotImplementedError in Pillow
    paths = [images[0], *faulty, images[1], images[2]]
    code, printed, complaint = dtram("predict", DIGITS, *paths, "--json")
    assert code == 1
    assert [json.loads(line)["image"] for line in printed.splitlines()] == [
        str(path) for path in paths if path not in faulty
    ]
    for path, line in zip(faulty, complaint.splitlines(), strict=False):
        assert line.startswith(f"dtram: {path} is no readable image (")
    assert complaint.splitlines()[-1] == f"dtram: {len(faulty)} of {len(paths)} images failed."


def test_a_strip_takes_no_more_memory_than_another_image(dtram, tmp_path: Path) -> None:
    shape = {"image_size": 512, "context": "resize", "context_size": 12, "glimpse_crop": 12}
    model = timm.create_model("dtram", backbone="glimpse_convnet", num_classes=3, num_steps=2, **shape)
    model.save_pretrained(tmp_path / "run")
    before, rows = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for size in [(600, 600), (1, 3000), (3000, 1)]:
        Image.new("RGB", size, (90, 60, 30)).save(tmp_path / "image.png")
        rows.append(json.loads(dtram("predict", tmp_path / "run", tmp_path / "image.png", "--json")[1]))
    assert rows[0] == rows[1] == rows[2]  # all are of one colour
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300e3
    )  # kB; 512 x 1,536,000 pixels took 3e6


def test_an_answer_that_is_no_number_is_an_error(dtram, images: list[Path], tmp_path: Path) -> None:
    model = make_model(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1e30  # finite, unlike the logits
    model.save_pretrained(tmp_path / "run")
    code, printed, complaint = dtram("predict", tmp_path / "run", *images, "--json")
    assert (code, printed) == (1, "")
    for path, line in zip(images, complaint.splitlines(), strict=False):
        assert line == f"dtram: {path} has no answer: the model's logits are not finite."


@pytest.mark.parametrize("device", ["nope", "meta", "cuda:99", "cpu:1", "", "cuda:x", "fpga", "cpu:"])
def test_a_device_that_is_not_here_is_refused_before_anything_is_read(
    dtram, images: list[Path], device: str
) -> None:
    code, _, complaint = dtram("predict", "runs/nowhere", images[0], "--device", device)
    assert code == 1
    assert complaint.startswith(
        f"dtram: --device={device!r} is none of this machine's devices; accepted: cpu"
    )


def test_a_model_that_is_not_there_is_named_with_both_places(
    dtram, hub: LoopbackHub, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for word in ("runs/nope", "a/b/c", "./nope", "/nope", "../x/y", "~/nope", "local-dir:nope", "runs\\nope"):
        code, _, complaint = dtram("predict", word, images[0])
        assert code == 1
        assert complaint.startswith(f"dtram: model {word!r}: no such folder exists"), complaint
    assert "is a file; accepted is the folder of a model" in dtram("info", images[0])[2]
    assert hub.requests == []
    complaint = dtram("info", "me/none")[2]
    assert complaint.startswith(
        "dtram: no folder 'me/none' exists here, and on the Hub repo_id='me/none' does"
    )
    assert "folder" not in dtram("info", "hf-hub:runs/nope")[2].partition("runs/nope")[0]


def test_the_words_of_predict_are_used_or_refused(dtram, images: list[Path], tmp_path: Path) -> None:
    ram = "dtram_glimpse_mlp.mnist_ram4"
    code, printed, complaint = dtram("predict", ram, images[0], "--stop-threshold", 0.5)
    assert (code, printed) == (1, "")
    assert complaint.startswith(f"dtram: --stop-threshold=0.5 is of no use to model {ram!r}, a RAM")
    assert dtram("predict", ram, images[0], "--max-steps", 2)[1].endswith(" 2 looks\n")
    for place in (images[0], images[0] / "inside"):
        code, printed, complaint = dtram("predict", DIGITS, images[0], "--save", place)
        assert code in (1, 2)
        assert printed == ""
        assert "--save" in complaint
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    code, _, complaint = dtram("predict", DIGITS, images[0], pipe)
    assert code == 1
    assert f"{str(pipe)!r} is no regular file" in complaint


def test_a_reader_that_leaves_ends_in_no_traceback(
    dtram, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.pipe()
    os.close(read)
    stdout = os.fdopen(write, "w")
    monkeypatch.setattr(sys, "stdout", stdout)
    code, _, complaint = dtram("predict", DIGITS, *images)
    assert (code, complaint) == (1, "")
    with contextlib.suppress(BrokenPipeError):
        stdout.close()


def test_ctrl_c_ends_in_no_traceback(dtram, images: list[Path]) -> None:
    def interrupt() -> None:
        while not os.fstat(1).st_size:  # the file that keeps what is printed
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    code, printed, complaint = dtram("predict", DIGITS, *images * 3000)
    assert code == 1
    assert 0 < len(printed.splitlines()) < 9000
    assert complaint.split() == ["Aborted!"]
