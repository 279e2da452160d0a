"""Checkpoints of strangers: a lie in config.json ends in one sentence, opens no file and fills no memory."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf

import dtram_hub
from dtram_hub import DTRAM
from dtram_hub.models import checkpoint
from loopback_hub import LoopbackHub

WATCHED: dict[str, list[str]] = {}  # the files that were opened, by the folder that was watched


def _notice(event: str, details: tuple, watched: dict[str, list[str]] = WATCHED) -> None:
    # A default outlives the module, whose names are gone when the interpreter ends.
    for folder, opened in watched.items():
        if event == "open" and str(details[0]).startswith(folder):
            opened.append(str(details[0]))


sys.addaudithook(_notice)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A small checkpoint of three classes."""
    words = {"num_classes": 3, "in_chans": 1, "num_steps": 3, "image_size": 24, "context": "resize"}
    words |= {"context_size": 12, "glimpse_crop": 12, "hidden_size": 16, "aggregate": "last"}
    timm.create_model("dtram", backbone="glimpse_convnet", **words).save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[tuple[Path, list[str]]]:
    """A folder that a configuration must not open, and what was opened in it."""
    encoder = timm.create_model("test_resnet", num_classes=2)
    save_for_hf(encoder, str(tmp_path / "secret"), safe_serialization=True)
    torch.save(encoder.state_dict(), tmp_path / "secret" / "weights.pth")  # safetensors opens files unnoticed
    WATCHED[str(tmp_path / "secret")] = []
    yield tmp_path / "secret", WATCHED[str(tmp_path / "secret")]
    WATCHED.clear()


def lie(folder: Path, where: str, change: dict) -> None:
    config = json.loads((folder / "config.json").read_text())
    (config[where] if where else config).update(change)
    (folder / "config.json").write_text(json.dumps(config))


def transformers_of(folder: Path) -> object:
    return pytest.importorskip("transformers").AutoModelForImageClassification.from_pretrained(folder)


LOADERS: dict[str, Callable[[Path], object]] = {
    "ours": checkpoint.load,
    "from_pretrained": DTRAM.from_pretrained,
    "timm": lambda folder: timm.create_model(f"local-dir:{folder}", pretrained=True),
    "timm without weights": lambda folder: timm.create_model(f"local-dir:{folder}"),
    "transformers": transformers_of,
}
FILES = {  # what names a file, a repository or a device, and who refuses it
    "checkpoint_path": ("{}/weights.pth", LOADERS),
    "pretrained_cfg": ({"file": "{}/weights.pth"}, ["ours", "from_pretrained", "transformers"]),
    "pretrained_cfg_overlay": ({"file": "{}/weights.pth"}, ["ours", "from_pretrained", "transformers"]),
    "pretrained": (True, ["ours", "from_pretrained"]),
    "cache_dir": ("{}", ["ours", "from_pretrained", "transformers"]),
    "pruned": (True, LOADERS),
    "device": ("meta", LOADERS),
    "dtype": ("float16", LOADERS),
    "backbone": ("local-dir:{}", LOADERS),
    "num_steps": (10**9, LOADERS),
}


@pytest.mark.parametrize(
    ("loader", "key"), [(loader, key) for key, (_, loaders) in FILES.items() for loader in loaders]
)
def test_a_configuration_opens_no_file(saved: Path, secret: tuple, loader: str, key: str) -> None:
    folder, opened = secret
    lie(saved, "model_args", json.loads(json.dumps({key: FILES[key][0]}).replace("{}", str(folder))))
    with pytest.raises(ValueError, match=rf"{key}.*(is no keyword|is not a timm model|is not an integer)"):
        LOADERS[loader](saved)
    assert opened == []


@pytest.mark.parametrize("key", ["backbone", "checkpoint_path"])
def test_a_repository_names_no_other(hub: LoopbackHub, saved: Path, key: str) -> None:
    lie(saved, "model_args", {key: "hf-hub:evil/other"})
    hub.add("me/lie", {path.name: path.read_bytes() for path in saved.iterdir()})
    hub.add("evil/other", {"config.json": b"{}"})
    for load in (dtram_hub.pull, lambda name: timm.create_model(f"hf-hub:{name}", pretrained=True)):
        with pytest.raises(ValueError, match=f"{key}.*(is no keyword|is not a timm model)"):
            load("me/lie")
    assert not any(
        "evil" in str(path) for path in Path(dtram_hub.sharing.pull.constants.HF_HUB_CACHE).iterdir()
    )


LIES = {
    "names 5": ("", {"label_names": 5}, "label_names=5 is refused"),
    "names in a dict": ("", {"label_names": {"a": 1}}, "label_names={'a': 1} is refused"),
    "names of others": ("", {"label_names": ["a"]}, "it names 1 labels for 3 classes"),
    "no classes": ("", {"num_classes": None}, "num_classes=None is refused"),
    "many classes": ("", {"num_classes": 10**9}, "num_classes=1000000000 is refused"),
    "no configuration": ("", {"pretrained_cfg": {}}, r"pretrained_cfg\.mean is missing"),
    "a list of arguments": ("", {"model_args": [1]}, r"model_args=\[1\] is refused"),
    "no mean": (
        "pretrained_cfg",
        {"mean": []},
        r"pretrained_cfg\.mean is for 0 channels, but the model has 1",
    ),
    "mean of three": ("pretrained_cfg", {"mean": [0.5] * 3}, "mean is for 3 channels, but the model has 1"),
    "mean NaN": ("pretrained_cfg", {"mean": [float("nan")]}, "mean.0=nan is refused"),
    "std of nothing": ("pretrained_cfg", {"std": [0]}, "std.0=0 is refused"),
    "std in words": ("pretrained_cfg", {"std": "x"}, "std='x' is refused"),
    "size in words": ("pretrained_cfg", {"input_size": "x"}, "input_size='x' is refused"),
    "interpolation": ("pretrained_cfg", {"interpolation": "evil"}, "interpolation='evil' is refused"),
    "crop": ("pretrained_cfg", {"crop_pct": 1e-9}, "crop_pct=1e-09 is refused"),
    "key": ("pretrained_cfg", {"evil": 1}, "timm .* does not know 'evil'"),
    "file": ("pretrained_cfg", {"hf_hub_filename": "x.bin"}, "'hf_hub_filename' names weights"),
    "two architectures": ("pretrained_cfg", {"architecture": "dtram_vgg11"}, "architecture is not 'dtram'"),
    "image": (
        "model_args",
        {"image_size": 10**9},
        r"image_size=1000000000 is not an integer in \[1, 16384\]",
    ),
    "image and channels": ("model_args", {"image_size": 16384, "in_chans": 1000}, "is for 1 channels"),
    "width": ("model_args", {"hidden_size": 10**9}, "hidden_size=1000000000 is not an integer"),
    "width of others": (
        "model_args",
        {"hidden_size": 16384},
        r"tensors do not fit.* instead of \[1, 16384\]",
    ),
    "scales": ("model_args", {"glimpse_scales": 60}, "glimpse_scales=60 is not an integer in"),
    "levels of three": ("model_args", {"levels": [0, 1, 2]}, "is not a pair of numbers"),
    "levels upside down": ("model_args", {"levels": [1, 0]}, r"levels=\[1, 0\] has no range"),
    "levels of words": ("model_args", {"levels": ["a", 1]}, "levels='a' is not a number"),
    "a word for a flag": ("model_args", {"dynamic": "no"}, "dynamic='no' is neither True nor False"),
    "a list for a word": ("model_args", {"context": ["crop"]}, r"context=\['crop'\] is not one of"),
    "keyword of none": ("model_args", {"nope": 1}, "model_args has 'nope', which is no keyword of"),
    "keyword of timm": ("model_args", {"features_only": True}, "model_args has 'features_only'"),
    "nested": (
        "model_args",
        {"widths": [[1], 2]},
        r"model_args\.widths=\[\[1\], 2\]; accepted are short words",
    ),
    "not finite": ("model_args", {"num_features": float("inf")}, r"model_args\.num_features=inf"),
    "encoder of others": ("model_args", {"num_features": 16384}, "tensors do not fit"),
    "encoder of millions": ("model_args", {"num_features": 10**7}, r"model_args\.num_features=10000000"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_ends_in_one_sentence(saved: Path, name: str) -> None:
    where, change, message = LIES[name]
    lie(saved, where, change)
    with pytest.raises(ValueError, match=rf"checkpoint '{saved}' cannot be loaded: .*{message}") as refused:
        checkpoint.load(saved)
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 500
    if where == "model_args":
        with pytest.raises(ValueError, match=message):
            timm.create_model(f"local-dir:{saved}", pretrained=True)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "\x00", "\udcff", "[]", "", "1" * 5000])
def test_what_is_no_json_ends_in_one_sentence(saved: Path, text: str) -> None:
    (saved / "config.json").write_text(text, errors="surrogateescape")
    with pytest.raises(ValueError, match=r"its config\.json is no JSON object") as refused:
        checkpoint.load(saved)
    assert len(str(refused.value).splitlines()) == 1


RETINA = {"context": "none", "aggregate": "last", "glimpse_crop": 4096, "glimpse_scales": 8}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"in_chans": 1024, "image_size": 16384}, "image_size=16384 with in_chans=1024"),
        ({"context_size": 4096, "context": "resize", "in_chans": 1024}, "context_size=4096 with in_chans"),
        (RETINA | {"image_size": 8192}, "glimpse_scales=8 makes tensors of 524288 x 524288 pixels"),
        ({"num_classes": 1_000_000, "hidden_size": 16384}, "num_classes=1000000 with hidden_size=16384"),
        ({"checkpoint_path": "/etc/passwd"}, "'checkpoint_path' is no keyword of an encoder"),
        ({"pretrained": True}, "'pretrained' is no keyword of an encoder"),
    ],
)
def test_no_keywords_fill_the_memory_or_load(words: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DTRAM("resnet10t", **words)


def test_plain_keywords_of_the_encoder_pass(saved: Path, tmp_path: Path) -> None:
    lie(saved, "model_args", {"num_features": 128, "widths": [16, 32]})
    assert checkpoint.load(saved).encoder.num_features == 128
    shutil.copytree(saved, tmp_path / "again")
    lie(tmp_path / "again", "", {"made_by": "a later version", "transformers_version": "9"})
    assert checkpoint.load(tmp_path / "again").num_classes == 3


BAD = {
    "NaN": (lambda tensor: tensor.fill_(torch.nan), "holds NaN or infinity"),
    "infinity": (lambda tensor: tensor.fill_(-torch.inf), "holds NaN or infinity"),
    "int8": (lambda tensor: tensor.to(torch.int8), "holds integers"),
}


@pytest.mark.parametrize("kind", BAD)
def test_weights_that_are_no_finite_floats_are_named(saved: Path, kind: str, tmp_path: Path) -> None:
    spoil, message = BAD[kind]
    weights = load_file(saved / "model.safetensors")
    save_file(weights | {"head.weight": spoil(weights["head.weight"].clone())}, saved / "model.safetensors")
    stage = shutil.copy(saved / "model.safetensors", tmp_path / "ram_2.safetensors")
    for loader in ("ours", "from_pretrained", "timm"):
        with pytest.raises(ValueError, match=rf"'head\.weight' {message}"):
            LOADERS[loader](saved)
    model = timm.create_model(f"local-dir:{saved}")
    for fitting in (False, True):
        with pytest.raises(ValueError, match=rf"ram_2.safetensors is damaged: 'head\.weight' {message}"):
            checkpoint.load_weights(model, stage, fitting)


@pytest.mark.parametrize("kind", BAD)
def test_weights_of_an_encoder_that_are_no_finite_floats_are_named(tmp_path: Path, kind: str) -> None:
    spoil, message = BAD[kind]
    weights = timm.create_model("test_resnet").state_dict()
    save_file(
        weights | {"conv1.0.weight": spoil(weights["conv1.0.weight"].clone())}, tmp_path / "a.safetensors"
    )
    model = timm.create_model("dtram_test_resnet", image_size=96, context_size=64, glimpse_crop=32)
    before = model.encoder.conv1[0].weight.clone()
    with pytest.raises(
        ValueError, match=rf"a\.safetensors' do not fit 'test_resnet': 'conv1\.0\.weight' {message}"
    ):
        model.load_encoder(str(tmp_path / "a.safetensors"))
    assert torch.equal(model.encoder.conv1[0].weight, before)
