"""Graphs of our models give what the models give: compiled, exported, as ONNX, and look by look."""

from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from conftest import first_of
from dtram_hub import DTRAM
from dtram_hub.models.export import export_looks

MODELS = {
    "dtram_resnet18": {"image_size": 96, "context_size": 64, "glimpse_crop": 32},
    "dtram_test_vit": {
        "image_size": 96,
        "context_size": 64,
        "glimpse_crop": 32,
        "context": "resize",
    },
    "dtram_glimpse_mlp": {"num_steps": 3},
}


def trained(name: str, **changes) -> tuple[DTRAM, Tensor]:
    """A small model whose every look matters, and images for it."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **MODELS[name], **changes).eval()
    torch.nn.init.normal_(model.head.weight, std=0.1)
    torch.nn.init.normal_(model.stopper.net[-1].weight)
    model.requires_grad_(False)
    return model, torch.randn(5, model.in_chans, model.image_size, model.image_size)


@pytest.mark.parametrize("name", first_of(MODELS))
def test_a_fixed_number_of_steps_compiles_in_one_graph_and_exports_for_any_batch(name: str) -> None:
    model, images = trained(name, dynamic=False)
    expected = model(images)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), expected)
    batch = torch.export.Dim("batch", max=2**20)
    program = torch.export.export(model, (images[:2],), dynamic_shapes=({0: batch},))
    for count in (1, 3, 5):
        torch.testing.assert_close(program.module()(images[:count]), model(images[:count]))


@pytest.mark.long
def test_onnx_gives_the_same_logits(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, images = trained("dtram_resnet18", dynamic=False)
    path = tmp_path / "model.onnx"
    shapes = ({0: torch.export.Dim("batch", max=2**20)},)
    torch.onnx.export(model, (images[:2],), str(path), dynamo=True, dynamic_shapes=shapes, verbose=False)
    session = runtime.InferenceSession(str(path))
    for count in (1, 5):
        found = session.run(None, {session.get_inputs()[0].name: images[:count].numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(found), model(images[:count]), rtol=1e-4, atol=1e-4)


RECORDERS = {
    "trace": lambda model, images, path: torch.jit.trace(model, (images,)),
    "torch.export": lambda model, images, path: torch.export.export(model, (images,)),
    "ONNX": lambda model, images, path: torch.onnx.export(model, (images,), path, dynamo=True, verbose=False),
    "old ONNX": lambda model, images, path: torch.onnx.export(model, (images,), path, dynamo=False),
}


@pytest.mark.parametrize("name", first_of(RECORDERS))
def test_a_graph_of_a_model_that_stops_by_itself_is_refused(name: str, tmp_path: Path) -> None:
    """`torch.jit.trace` would record the steps of one image for all images."""
    pytest.importorskip("onnxscript")
    model, images = trained("dtram_glimpse_mlp")
    sentence = (
        r"dynamic=True stops at a step .* export with dynamic=False, or look by look with .*export_looks\."
    )
    with pytest.raises(Exception, match=sentence) as refused:
        RECORDERS[name](model, images, str(tmp_path / "model.onnx"))
    assert len(str(refused.value).splitlines()) <= 10  # torch.onnx adds advice of its own
    assert isinstance(refused.value, ValueError) or isinstance(refused.value.__cause__, ValueError)
    compiled = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(compiled(images), model(images))


@pytest.mark.parametrize("stopper", first_of(["confidence", "margin"]))
@pytest.mark.parametrize("name", MODELS)
def test_exported_looks_in_a_loop_stop_where_predict_stops(name: str, stopper: str) -> None:
    model, images = trained(name, stopper=stopper)
    # Between two images, since a batch and a single image may differ in the last bit.
    probs = model.rollout(images).stop_logits[:, 0].sigmoid().sort().values
    model.stop_threshold = float(probs[2:4].mean())
    found = model.predict(images)
    assert len(found.steps.unique()) > 1, "the test needs images that stop at different steps"
    first, following = (program.module() for program in export_looks(model))
    for image, logits, steps in zip(images.split(1), found.logits, found.steps, strict=True):
        state, location, stop_prob, answer = first(image)
        taken = 1
        while stop_prob <= model.stop_threshold and taken < model.num_steps:
            state, location, stop_prob, answer = following(image, state, location, torch.tensor(taken))
            taken += 1
        assert taken == steps
        torch.testing.assert_close(answer[0], logits, rtol=1e-4, atol=1e-4)
