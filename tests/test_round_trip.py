"""What is saved loads as the same model: every kind of entry point, every keyword away from its default."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image

import dtram_hub
from conftest import tiny_model
from dtram_hub import DTRAM
from dtram_hub.models import checkpoint
from loopback_hub import LoopbackHub

SMALL = {"image_size": 96, "context_size": 64, "glimpse_crop": 32, "hidden_size": 16}
SEEN_ONCE = {"context": "none", "aggregate": "last"}
ENTRIES: dict[str, Callable[..., DTRAM]] = {
    "dtram": lambda **words: timm.create_model("dtram", **{"backbone": "test_resnet"} | SMALL | words),
    "dtram_test_resnet": lambda **words: timm.create_model("dtram_test_resnet", **SMALL | words),
    "dtram_glimpse_mlp": lambda **words: timm.create_model("dtram_glimpse_mlp", **words),
    "DTRAM": lambda **words: DTRAM(**{"backbone": "test_resnet"} | SMALL | words),
}
CHANGES = [
    *({"num_classes": 3}, {"num_classes": 0}, {"in_chans": 2}, {"num_steps": 5}, {"hidden_size": 24}),
    *({"image_size": 100}, {"context": "resize", "aggregate": "last"}, {"context_size": 48}),
    *({"glimpse_crop": 30}, {"glimpse_size": 40}, {"glimpse_scales": 2} | SEEN_ONCE, SEEN_ONCE),
    *({"aggregate": "last"}, {"aggregate": "average"}, {"location_std": 0.4}, {"locator": "stepwise"}),
    *({"location_input": True}, {"dynamic": False}, {"stopper": "margin"}, {"stopper": "linear"}),
    *({"stop_threshold": 0.9}, {"crop_mode": "bilinear"}, {"drop_rate": 0.25}, {"drop_path_rate": 0.1}),
    *(
        {"locator": "attend"},
        {"locator": "aim"},
        {"aggregate": "evidence"},
        {"locator": "attend", "aggregate": "evidence"},
    ),
    *({"context_encoder": "own", "aggregate": "evidence"}, {"context": "fit"}, {"image_size": "native"}),
    {"levels": [0, 4095]},
]
MNIST_CHANGES = [
    *({"num_classes": 3}, {"num_classes": 0}, {"in_chans": 3}, {"num_steps": 3}, {"hidden_size": 24}),
    *({"image_size": 40}, {"context": "resize", "context_size": 8}, {"glimpse_crop": 10, "glimpse_size": 8}),
    *({"glimpse_scales": 2}, {"location_std": 0.4}, {"locator": "shared"}, {"location_input": False}),
    *({"dynamic": False}, {"stopper": "margin"}, {"stop_threshold": 0.9}, {"crop_mode": "bilinear"}),
    *(
        {"levels": [0, 4095]},
        {"what_features": 32},
        {"num_features": 64},
        {"backbone": "glimpse_convnet", "img_size": 28},
    ),
]
# The plain suite has each change of a model for photographs at one entry, in turn, the long suite the rest.
PHOTOGRAPHS = [name for name in ENTRIES if "mlp" not in name]
KINDS = [
    *(
        pytest.param(name, change, marks=[pytest.mark.long] * (turn % len(PHOTOGRAPHS) != place))
        for place, name in enumerate(PHOTOGRAPHS)
        for turn, change in enumerate(CHANGES)
    ),
    *(("dtram_glimpse_mlp", change) for change in MNIST_CHANGES),
]


def check_same(again: DTRAM, model: DTRAM, images: torch.Tensor) -> None:
    assert again.arguments() == model.arguments()
    expected = model.state_dict()
    assert again.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.state_dict().items())
    assert torch.equal(again.eval()(images), model(images))
    for key in ("mean", "std", "interpolation", "crop_pct", "input_size", "architecture", "label_names"):
        found, wanted = (m.pretrained_cfg.get(key) for m in (again, model))
        assert (list(found) if isinstance(found, tuple) else found) == (
            list(wanted) if isinstance(wanted, tuple) else wanted
        )


@pytest.mark.parametrize(("name", "change"), KINDS, ids=lambda value: str(value))
def test_every_keyword_of_every_entry_point(name: str, change: dict, tmp_path: Path) -> None:
    model = ENTRIES[name](**change).eval()
    for parameter in model.locator.parameters():
        torch.nn.init.normal_(parameter)
    images = torch.randn(2, model.in_chans, model.usual_side, model.usual_side)
    model.save_pretrained(tmp_path)
    check_same(timm.create_model(f"local-dir:{tmp_path}", pretrained=True), model, images)
    check_same(DTRAM.from_pretrained(tmp_path), model, images)


def test_every_keyword_is_changed() -> None:
    for name, changes in (("dtram_test_resnet", CHANGES), ("dtram_glimpse_mlp", MNIST_CHANGES)):
        keywords = ENTRIES[name]().arguments().keys() - (
            {"backbone"} if changes is CHANGES else {"aggregate", "context_encoder"}
        )
        assert keywords <= {key for change in changes for key in change}


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("classes", [4, 0])
def test_a_new_classifier_is_kept(name: str, classes: int, tmp_path: Path) -> None:
    model = ENTRIES[name](num_classes=3).eval()
    model.save_pretrained(tmp_path / "three", list("abc"))
    model = DTRAM.from_pretrained(tmp_path / "three")
    model.reset_classifier(3)
    assert list(model.pretrained_cfg["label_names"]) == list("abc")
    model.reset_classifier(classes)
    assert "label_names" not in model.pretrained_cfg  # they named other classes
    model.save_pretrained(tmp_path / "new")
    again = DTRAM.from_pretrained(tmp_path / "new")
    images = torch.randn(2, model.in_chans, model.usual_side, model.usual_side)
    check_same(again, model, images)
    assert again.num_classes == classes


def test_a_model_of_two_classes_through_the_hub_and_transformers(hub: LoopbackHub, tmp_path: Path) -> None:
    """Three words for one model; the entry point's own default is ten classes."""
    transformers = pytest.importorskip("transformers")
    model = timm.create_model("dtram_glimpse_mlp", num_classes=2).eval()
    model.save_pretrained(tmp_path, ["cat", "dog"])
    hub.add("me/two", {path.name: path.read_bytes() for path in tmp_path.iterdir()})
    images = torch.rand(2, 1, 28, 28)
    wrapped = transformers.AutoModelForImageClassification.from_pretrained(tmp_path)
    assert torch.equal(wrapped.timm_model.eval()(images), model(images))
    for again in (timm.create_model("hf-hub:me/two", pretrained=True), dtram_hub.pull("me/two")):
        check_same(again, checkpoint.load(tmp_path), images)
        assert torch.equal(again(images), model(images))


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
def test_locations_of_each_step_follow_the_number_of_steps(steps: int, tmp_path: Path) -> None:
    model = timm.create_model("dtram_glimpse_mlp", num_steps=3).eval()
    model.num_steps = steps
    model.save_pretrained(tmp_path)
    images = torch.rand(3, 1, 28, 28)
    again = DTRAM.from_pretrained(tmp_path)
    assert len(again.locator.locations) == again.num_steps == steps
    assert torch.equal(again(images), model(images))
    again.num_steps = 7
    again.save_pretrained(tmp_path)
    longer = DTRAM.from_pretrained(tmp_path)
    assert torch.equal(
        longer.locator.locations[steps:], longer.locator.locations[steps - 1].expand(7 - steps, 2)
    )


@pytest.mark.parametrize(
    ("spoil", "names", "message"),
    [
        (lambda model: None, ["a", "b"], "it names 2 labels for 3 classes"),
        (lambda model: model.head.weight.data.fill_(torch.nan), None, "'head.weight' holds NaN or infinity"),
        (
            lambda model: model.encoder_kwargs.update(norm=torch.nn.BatchNorm2d),
            None,
            "model_args has 'norm', which is no keyword",
        ),
        (
            lambda model: model.encoder_kwargs.update(nope=1),
            None,
            "model_args has 'nope', which is no keyword",
        ),
        (
            lambda model: setattr(model, "num_steps", 2000),
            None,
            r"num_steps=2000 is not an integer in \[1, 1000\]",
        ),
        (lambda model: setattr(model, "hidden_size", 8), None, "tensors do not fit its config.json"),
        (lambda model: model.pretrained_cfg.update(mean=(torch.nan,)), None, "pretrained_cfg.mean.0=nan"),
    ],
)
def test_a_checkpoint_that_could_not_be_loaded_is_not_written(
    tmp_path: Path, spoil: Callable, names: list[str] | None, message: str
) -> None:
    model = tiny_model("resize", "last")
    spoil(model)
    with pytest.raises(ValueError, match=message):
        model.save_pretrained(tmp_path, names)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_files_have_the_permissions_that_the_user_gives_to_files(mask: int, tmp_path: Path) -> None:
    model, before = tiny_model("resize", "last"), os.umask(mask)
    try:
        model.save_pretrained(tmp_path)
        checkpoint.save_weights(model, tmp_path / "stage.safetensors")
        checkpoint.write_header(tmp_path / "model.safetensors", {"name": "a"})
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("config.json", "model.safetensors", "stage.safetensors"), 0o666 & ~mask)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_saved_in_half_precision_answers_in_transformers(dtype: torch.dtype, tmp_path: Path) -> None:
    """The pipeline keeps the precision of the file, also on a CPU."""
    transformers = pytest.importorskip("transformers")
    words = {"num_classes": 3, "context": "resize", "glimpse_size": 40}
    model = timm.create_model("dtram_test_resnet", **SMALL | words)
    torch.nn.init.normal_(model.encoder.fc.weight)
    model.to(dtype).save_pretrained(tmp_path, list("abc"))
    classify = transformers.pipeline("image-classification", model=str(tmp_path), dtype=dtype)
    assert next(classify.model.parameters()).dtype == dtype
    answer = classify(Image.new("RGB", (96, 96), (255, 0, 0)), top_k=3)
    assert {row["label"] for row in answer} == set("abc")
    assert sum(row["score"] for row in answer) == pytest.approx(1, abs=0.02)
