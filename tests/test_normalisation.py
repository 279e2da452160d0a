"""Mean and std: those of the recipe, of the weights' file, of what lies beside it, or of the encoder."""

import json
import logging
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from dtram_hub.data.config import DataConfig
from dtram_hub.learning.recipe import Recipe, build_model
from dtram_hub.models.weights_cfg import stated_by_file

OTHER = {"mean": [0.4, 0.5, 0.6], "std": [0.3, 0.2, 0.1]}
VIEWS = {"image_size": 64, "context_size": 64, "glimpse_crop": 32}


def write_weights(path: Path, metadata: dict | None = None, beside: dict | None = None) -> Path:
    """Weights of a test_resnet, and the JSON files beside them, by name."""
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), path, metadata)
    for name, content in (beside or {}).items():
        path.with_name(name).write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def build(caplog: pytest.LogCaptureFixture, weights: Path | None, in_chans: int = 3, **data):
    """The model of a recipe, and what the log says of its images."""
    caplog.clear()
    caplog.set_level(logging.INFO, "dtram_hub")
    source = None if weights is None else str(weights)
    model = VIEWS | {"in_chans": in_chans}
    recipe = Recipe(
        architecture="dtram_test_resnet", model=model, encoder_weights=source, data=DataConfig(**data)
    )
    built = build_model(recipe, 2)
    said = [message.partition("images: ")[2] for message in caplog.messages if "images: " in message]
    assert len(said) == 1
    return built, said[0]


CONFIG = {"architecture": "test_resnet", "pretrained_cfg": OTHER | {"input_size": [3, 160, 160]}}
STATED = {
    "the metadata": ("a", {key: json.dumps(value) for key, value in OTHER.items()}, {}, "of the metadata of"),
    "timm's layout": ("model", None, {"config.json": CONFIG}, "/config.json'"),
    "a flat file": ("a.b", None, {"a.b.json": {"architecture": "test_resnet"} | OTHER}, "/a.b.json'"),
}


@pytest.mark.parametrize("where", STATED)
def test_what_a_file_states_is_used_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    name, metadata, beside, words = STATED[where]
    path = write_weights(tmp_path / f"{name}.safetensors", metadata, beside)
    model, said = build(caplog, path)
    assert said.startswith("normalised by mean 0.4 0.5 0.6 and std 0.3 0.2 0.1, of ")
    assert words in said
    assert [*model.pretrained_cfg["mean"]] == OTHER["mean"]
    grey, said = build(caplog, path, in_chans=1)
    assert grey.pretrained_cfg["mean"] == (pytest.approx(0.5),)
    loaded = timm.create_model("dtram_test_resnet", **VIEWS)
    loaded.load_encoder(str(path))
    loaded.save_pretrained(tmp_path / "saved")
    again = timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True)
    assert {key: again.pretrained_cfg[key] for key in OTHER} == OTHER


def test_a_name_of_timm_has_its_own_mean_and_std(tmp_path: Path) -> None:
    found, words = stated_by_file(
        tmp_path / "tf_efficientnet_lite0.in1k.safetensors", "tf_efficientnet_lite0"
    )
    assert (found, words) == ({"mean": (0.5,) * 3, "std": (0.5,) * 3}, "of timm's tf_efficientnet_lite0.in1k")
    name = tmp_path / "efficientnet_b0.ra4_e3600_r224_in1k.safetensors"  # not timm's default tag
    assert stated_by_file(name, "efficientnet_b0")[0]["mean"] == (0.5,) * 3
    assert stated_by_file(name, "resnet50") is None
    assert stated_by_file(tmp_path / "efficientnet_b0.mine.safetensors", "efficientnet_b0") is None


def test_the_recipe_is_asked_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_weights(tmp_path / "model.safetensors", beside={"config.json": CONFIG})
    model, said = build(caplog, path, mean=[0.5], std=[0.25, 0.5, 1.0])
    assert said == "normalised by mean 0.5 0.5 0.5 and std 0.25 0.5 1, of data.mean and data.std"
    assert [*model.pretrained_cfg["std"]] == [0.25, 0.5, 1.0]
    model, said = build(caplog, path, std=[1.0])
    assert said.startswith("normalised by mean 0.4 0.5 0.6 and std 1 1 1, of data.std, the other of '")


def test_weights_that_state_nothing_have_those_of_the_encoder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = {"config.json": CONFIG | {"architecture": "resnet50"}, "a.json": "{"}
    model, said = build(caplog, write_weights(tmp_path / "a.safetensors", {"mean": "[0.1]"}, foreign))
    assert said.endswith("a.safetensors' states neither; data.mean and data.std change them")
    assert "of the encoder test_resnet" in said
    assert model.pretrained_cfg["mean"] == model.pretrained_cfg["std"] == (0.5,) * 3
    assert build(caplog, None)[1].endswith("of the encoder test_resnet.r160_in1k")


@pytest.mark.parametrize("damage", ["[0.1", "0.5", "[]", "[NaN, 0, 0]", '["a"]'])
def test_a_file_that_states_no_numbers_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = write_weights(tmp_path / "a.safetensors", {"mean": damage, "std": "[0.5]"})
    with pytest.raises(ValueError, match=r"^mean and std of the metadata of '.*a.safetensors'"):
        build(caplog, path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"mean": [123.7]}, r"data.mean=123.7 is not a number in \[0.0, 1\]"),
        ({"std": [0.0]}, r"data.std=0.0 is not a number in \[0.0001, 1\]"),
        ({"std": [0.5, 0.5]}, r"data.std=\[0.5, 0.5\] has 2 numbers; accepted is one number, or 3"),
        ({"mean": []}, r"data.mean=\[\] has 0 numbers; accepted is one number, or 3"),
    ],
)
def test_a_mean_of_other_units_or_channels_is_refused(data: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(data=DataConfig(**data))
