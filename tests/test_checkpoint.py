"""Model directories: bit-equal round trips, and refusals in one sentence."""

import json
from pathlib import Path

import pytest
import timm
import torch

from dtram_hub import DTRAM
from dtram_hub.models import checkpoint

CHANGED = {
    "backbone": "glimpse_convnet",
    "num_classes": 5,
    "in_chans": 1,
    "num_steps": 6,
    "image_size": 40,
    "context": "none",
    "context_size": 12,
    "glimpse_crop": 10,
    "glimpse_size": 12,
    "glimpse_scales": 2,
    "hidden_size": 24,
    "aggregate": "last",
    "location_std": 0.31,
    "locator": "stepwise",
    "location_input": True,
    "dynamic": False,
    "stopper": "linear",
    "stop_threshold": 0.7,
    "crop_mode": "bilinear",
    "levels": [0, 4095],
    "context_encoder": "shared",  # the other value needs a context view
}


def test_round_trip_is_bit_equal_and_keeps_every_argument(tmp_path: Path) -> None:
    model = timm.create_model("dtram", **CHANGED).eval()
    defaults = DTRAM().arguments()
    same = {name for name in defaults if CHANGED[name] == defaults[name]}
    assert same == {"context_encoder"}, "the test must change every other argument"
    checkpoint.save(model, tmp_path, list("abcde"))
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert again.arguments() == model.arguments() == CHANGED
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(again.state_dict()[k], v) for k, v in model.state_dict().items())
    images = torch.rand(3, 1, 40, 40)
    assert torch.equal(again(images), model(images))
    assert again.pretrained_cfg["label_names"] == list("abcde")
    assert again.pretrained_cfg["input_size"] == (1, 40, 40)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


def test_new_weights_take_the_place_of_the_old_file(tmp_path: Path) -> None:
    """Whoever has the old file open reads it to its end: nothing is written into it."""
    model, path = timm.create_model("dtram", **CHANGED), tmp_path / "model.safetensors"
    checkpoint.save(model, tmp_path)
    for write in (
        lambda: checkpoint.save(model, tmp_path),
        lambda: checkpoint.save_weights(model, path),
        lambda: checkpoint.write_header(path, {"name": "a"}),
    ):
        whole = path.read_bytes()
        with path.open("rb") as reader:
            torch.nn.init.normal_(model.head.weight)
            write()
            assert reader.read() == whole
        assert path.read_bytes() != whole
    assert [file.name for file in tmp_path.glob("model*")] == ["model.safetensors"]


def test_channels_last_is_saved_as_any_other(tmp_path: Path) -> None:
    model = timm.create_model("dtram", **CHANGED).to(memory_format=torch.channels_last)
    checkpoint.save(model, tmp_path)
    assert model.encoder.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    again = checkpoint.load(tmp_path).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in model.state_dict().items())


def test_round_trip_keeps_what_the_curriculum_changed(tmp_path: Path) -> None:
    model = timm.create_model(
        "dtram_resnet18", num_classes=3, image_size=96, context_size=64, glimpse_crop=32
    )
    model.num_steps, model.stop_threshold = 5, 0.25
    checkpoint.save(model, tmp_path)
    again = checkpoint.load(tmp_path)
    assert (again.num_steps, again.stop_threshold, again.glimpse_crop) == (5, 0.25, 32)
    assert not again.training


def test_a_model_keeps_the_locations_of_the_steps_that_it_takes(tmp_path: Path) -> None:
    model = timm.create_model("dtram_glimpse_mlp", num_steps=4)
    model.num_steps = 2
    checkpoint.save(model, tmp_path)
    assert len(model.locator.locations) == 4
    images = torch.rand(5, 1, 28, 28)
    again = checkpoint.load(tmp_path)
    assert torch.equal(again.locator.locations, model.locator.locations[:2])
    assert torch.equal(again(images), model.eval()(images))
    longer = timm.create_model("dtram_glimpse_mlp", num_steps=6)
    longer.load_state_dict(model.state_dict())
    assert torch.equal(longer.locator.locations, model.locator.locations[[0, 1, 2, 3, 3, 3]])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    checkpoint.save(timm.create_model("dtram", **CHANGED), tmp_path)
    return tmp_path


def test_missing_files_are_named(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no model\.safetensors"):
        checkpoint.load(saved)


def test_truncated_weights_are_named(saved: Path) -> None:
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged or truncated"):
        checkpoint.load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model_args": {"hidden_size": 32}},
            r"8 tensors do not fit.*'baseline.weight' .* \[1, 24\] instead of \[1, 32\]",
        ),
        (
            {"num_classes": 7},
            r"2 tensors do not fit.*'head.bias' for one, which has shape \[5\] instead of \[7\]",
        ),
        (
            {"model_args": {"backbone": "resnet10t"}},
            r"tensors do not fit .* of another encoder or class count\?",
        ),
    ],
)
def test_weights_of_another_model_are_refused(saved: Path, change: dict, message: str) -> None:
    config = json.loads((saved / "config.json").read_text())
    arguments = config["model_args"] | change.get("model_args", {})
    (saved / "config.json").write_text(json.dumps(config | change | {"model_args": arguments}))
    with pytest.raises(ValueError, match=message):
        checkpoint.load(saved)


def test_truncated_configuration_is_refused(saved: Path) -> None:
    (saved / "config.json").write_text((saved / "config.json").read_text()[:50])
    with pytest.raises(ValueError, match=r"cannot be loaded"):
        checkpoint.load(saved)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    encoder = timm.create_model("test_efficientnet", num_classes=2)
    timm.models.save_for_hf(encoder, str(tmp_path), safe_serialization=True)
    with pytest.raises(ValueError, match=r"holds a test_efficientnet, not a DT-RAM"):
        checkpoint.load(tmp_path)
