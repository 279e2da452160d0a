"""The program `dtram`: what it prints, what it writes, and how it ends."""

import contextlib
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import dtram_cli
import dtram_hub
from dtram_hub import DTRAM
from dtram_hub.models.registry import SHIPPED, WEIGHTS
from hub_faults import TOKEN, make_model
from loopback_hub import Fault, LoopbackHub

DIGITS = "dtram_glimpse_mlp.mnist_dtram98"


@pytest.fixture
def dtram(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture):
    """Call the program: words -> exit status, what it printed, what it complained of."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["dtram", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            dtram_cli.main()
        printed = capfd.readouterr()
        code = ended.value.code or 0
        return (code, printed.out, printed.err) if isinstance(code, int) else (1, printed.out, code)

    return call


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.png" for name in ("one", "two", "three")]
    for path in paths:
        Image.fromarray(generator.integers(255, size=(40, 30, 3), dtype=np.uint8)).save(path)
    return paths


def test_help_and_version_import_nothing_large() -> None:
    code = (
        "import sys, dtram_cli\n"
        "helps = [[name, '--help'] for name in ('list', 'info', 'predict', 'card', 'push', 'pull')]\n"
        "for words in (['--version'], ['--help'], *helps):\n"
        "    dtram_cli.dtram(words, prog_name='dtram', standalone_mode=False)\n"
        "print({'dtram_hub', 'huggingface_hub', 'numpy', 'timm', 'torch'} & {*sys.modules})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert (lines[0], lines[-1]) == (f"dtram, version {dtram_hub.__version__}", "set()")
    assert sum(line.startswith("Usage: dtram ") for line in lines) == 7


def test_list(dtram) -> None:
    code, printed, _ = dtram("list", "*resnet50")
    assert code == 0
    assert "dtram_resnet50" in printed.split()
    code, printed, _ = dtram("list", "--pretrained", "dtram_glimpse_mlp*")
    assert printed.split() == [name for name in SHIPPED if name.startswith("dtram_glimpse_mlp")]
    assert dtram("list", "nothing") == (1, "", "dtram: no model is called 'dtram*nothing'.")


def test_info(dtram) -> None:
    code, printed, _ = dtram("info", DIGITS, "--json")
    found = json.loads(printed)
    assert code == 0
    weights = timm.create_model(DIGITS).named_parameters()
    # One multiplication and addition for every weight that a glimpse meets; nothing here is convolved twice.
    met = sum(p.numel() for name, p in weights if name.endswith("weight") and "baseline" not in name)
    assert found["gflops_later_look"] * 1e9 == pytest.approx(2 * met, rel=1e-12)
    measured = json.loads((WEIGHTS / DIGITS / "metrics.json").read_text())["results"][0]
    assert (found["accuracy"], found["mean_steps"]) == (measured["accuracy"], measured["mean_steps"])
    expected = found["gflops_first_look"] + (measured["mean_steps"] - 1) * found["gflops_later_look"]
    assert found["gflops_mean_steps"] == pytest.approx(expected, rel=1e-12)
    assert "parameters           242,460" in dtram("info", DIGITS)[1]


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


def test_push_pull_card(dtram, hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    make_model(1).save_pretrained(tmp_path / "run")
    code, printed, _ = dtram("push", tmp_path / "run", "me/cli", "--tag", "v1", "--private")
    assert (code, printed.strip()) == (
        0,
        f"{hub.url}/me/cli/commit/{hub.repos['models', 'me/cli'].refs['main']}",
    )
    code, printed, _ = dtram("pull", "me/cli", tmp_path / "copy", "--revision", "v1")
    assert code == 0
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
    }
    code, printed, _ = dtram("info", tmp_path / "copy", "--json")
    assert json.loads(printed)["encoder"] == "glimpse_convnet"
    assert json.loads(dtram("info", "me/cli@v1", "--json")[1])["classes"] == 3
    code, printed, _ = dtram("card", tmp_path / "copy", "me/cli")
    assert 'create_model("hf-hub:me/cli"' in Path(printed.strip()).read_text()
    code, _, complaint = dtram("pull", "me/cli", tmp_path / "copy")
    assert code == 1
    assert complaint.endswith("is not empty; accepted is a new one.")
    assert torch.equal(DTRAM.from_pretrained(tmp_path / "copy").head.weight, make_model(1).head.weight)


def test_a_users_mistakes_end_in_one_sentence(
    dtram, hub: LoopbackHub, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    for words, message in [
        (("info", "dtram_resnt50"), "Did you mean 'dtram_resnet50'?"),
        (("info", "dtram_resnet18.nope"), "tags of dtram_resnet18: a1_in1k"),
        (("info", "me/none"), "'me/none' does not exist"),
        (("info", tmp_path), "has no config.json"),
        (("predict", "resnet50", images[0]), "is no DT-RAM, folder or org/name"),
        (("push", tmp_path, "me/x"), "has no config.json"),
    ]:
        code, _, complaint = dtram(*words)
        assert code == 1
        assert complaint.startswith("dtram: ")
        assert message in complaint
        assert "\n" not in complaint
    for words in [
        ("nope",),
        ("predict", DIGITS),
        ("predict", DIGITS, "nowhere.jpg"),
        ("push", "nowhere", "me/x"),
    ]:
        assert dtram(*words)[0] == 2
    hub.faults["head"] = [Fault("status", 500)] * 50
    hub.add("timm/resnet34.a1_in1k", {"model.safetensors": b"..."})
    code, _, complaint = dtram("predict", "dtram_resnet34.a1_in1k", images[0])
    assert code == 1
    assert complaint.startswith("dtram: ")


def test_help_has_examples(dtram) -> None:
    for name in ("list", "info", "predict", "card", "push", "pull"):
        code, printed, _ = dtram(name, "--help")
        assert code == 0
        assert f"\n  dtram {name} " in printed


def test_scripts_are_found_and_their_status_is_handed_on(dtram, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr("subprocess.call", lambda command: called.append(command) or 3)
    assert dtram("validate", "runs/birds", "--split", "train")[0] == 3
    assert dtram("train", "imagefolder", "seed=1", "--resume")[0] == 3
    validate, train = called
    assert Path(validate[1]).is_file()
    assert validate[2:] == ["runs/birds", "--split", "train"]
    assert train[1:3] == ["-m", "accelerate.commands.launch"]
    assert Path(train[3]).is_file()
    assert train[4:] == ["imagefolder", "seed=1", "--resume"]


def folder_of(tmp_path: Path, **changes) -> Path:
    """A small model with hostile class names, as a folder."""
    model = make_model(1)
    for name, value in changes.items():
        setattr(model, name, value)
    model.save_pretrained(tmp_path / "run", class_names=["\x1b[31mant", "b|ee\n# cow", "<b>cat</b>"])
    return tmp_path / "run"


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
    assert r"class names          \x1b[31mant, b|ee\n# cow, <b>cat</b>" in printed.splitlines()
    named = json.loads(dtram("info", DIGITS, "--json")[1])
    assert (named["tag"], named["origin"]) == ("mnist_dtram98", "ships with dtram-hub")
    assert "mnist_ram4" in named["tags"]
    printed = dtram("info", "dtram_mobilenetv2_100.cub50")[1]
    assert "Groove billed Ani, Crested Auklet, Least Auklet, Parakeet Auklet" in printed
    assert ", ... (50 in all)\n" in printed
    assert "tag                  a1_in1k" in dtram("info", "dtram_resnet18")[1]


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
    assert code == 2
    assert f"{str(pipe)!r} is no regular file" in complaint


@pytest.mark.parametrize("repo", ["noslash", "a/b/c", "me/x y", "", "me/", "-me/x", "me/a--b"])
def test_a_card_takes_the_names_that_a_push_takes(dtram, hub: LoopbackHub, tmp_path: Path, repo: str) -> None:
    folder = folder_of(tmp_path)
    code, _, complaint = dtram("card", folder, "--", repo)
    assert code == 1
    assert complaint.startswith(f"dtram: repo_id={repo!r}")
    assert not (folder / "README.md").exists()
    assert dtram("push", folder, "--", repo)[2] == complaint
    assert hub.requests == []


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
    threading.Timer(1, signal.raise_signal, [signal.SIGINT]).start()
    code, printed, complaint = dtram("predict", DIGITS, *images * 3000)
    assert code == 1
    assert 0 < len(printed.splitlines()) < 9000
    assert complaint.split() == ["Aborted!"]
