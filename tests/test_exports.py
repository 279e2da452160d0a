"""`dtram export`: graphs that answer like the model, in files that say how to use them; stages as models."""

import json
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import make_undecided, tiny_model
from dtram_hub import DTRAM
from dtram_hub.models import checkpoint
from dtram_hub.models.graph_files import FACTS, whole_graph, write_graph
from dtram_hub.models.registry import WEIGHTS

SHIPPED = "dtram_glimpse_mlp.mnist_dtram98"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = make_undecided(tiny_model("resize", "last").eval(), torch.rand(8, 1, 24, 24))
    model.save_pretrained(tmp_path / "run", ["ant", "bee", "cow"])
    return tmp_path / "run"


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 1, 24, 24)


def test_a_graph_of_torch_answers_like_the_model(dtram, folder: Path) -> None:
    file = folder.with_name("whole.pt2")
    code, printed, _ = dtram("export", folder, "--pt2", file)
    assert code == 0
    assert printed.splitlines()[0].startswith(f"{file}: differs from the model by at most ")
    assert printed.splitlines()[1].startswith("The graph takes 3 looks at every image; --looks")
    extra = {FACTS: ""}
    graph, model = torch.export.load(file, extra_files=extra).module(), checkpoint.load(folder)
    for count in (1, 5):
        given = images(count)
        expected = model.predict(given, stop_threshold=1.0).logits
        torch.testing.assert_close(graph(given), expected)
    facts = json.loads(extra[FACTS])
    assert facts["label_names"] == ["ant", "bee", "cow"]
    assert (facts["input_size"], facts["num_steps"], facts["stop_threshold"]) == ([1, 24, 24], 3, 0.5)
    assert (facts["mean"], facts["std"]) == ([*model.pretrained_cfg["mean"]], [*model.pretrained_cfg["std"]])


@pytest.mark.long
def test_onnx_looks_in_a_loop_stop_where_the_model_stops(dtram, folder: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    code, printed, _ = dtram("export", folder, "--onnx", folder.with_name("eye.onnx"), "--looks")
    files = [folder.with_name(f"eye.{name}.onnx") for name in ("first", "following")]
    assert code == 0
    assert [line.partition(": ")[0] for line in printed.splitlines()] == [*map(str, files)]
    differences = [float(line.split()[8].rstrip(",")) for line in printed.splitlines()]
    assert max(differences) < 1e-4
    first, following = (runtime.InferenceSession(file) for file in files)
    facts = following.get_modelmeta().custom_metadata_map
    assert json.loads(facts["label_names"]) == ["ant", "bee", "cow"]
    assert (facts["architecture"], float(facts["stop_threshold"])) == ("dtram", 0.5)
    given = images(12)
    found = checkpoint.load(folder).predict(given)
    assert len(found.steps.unique()) > 1
    for image, logits, steps in zip(given.split(1), found.logits, found.steps, strict=True):
        packed, location, stop_prob, answer = first.run(None, {"images": image.numpy()})
        taken = 1
        while stop_prob <= float(facts["stop_threshold"]) and taken < int(facts["num_steps"]):
            state = {"images": image.numpy(), "packed": packed, "location": location}
            step = torch.tensor(taken).numpy()
            packed, location, stop_prob, answer = following.run(None, state | {"step": step})
            taken += 1
        assert taken == steps
        torch.testing.assert_close(torch.from_numpy(answer[0]), logits, rtol=1e-4, atol=1e-4)


def of_one_look() -> DTRAM:
    return DTRAM("glimpse_convnet", 3, 1, 1, 24, "resize", 12, 12, hidden_size=16, aggregate="last").eval()


def test_a_graph_that_answers_otherwise_is_not_written(tmp_path: Path) -> None:
    model = of_one_look()
    other = deepcopy(model)
    with torch.no_grad():
        other.head.bias += 0.01
    graph = replace(whole_graph(model), module=other)
    with pytest.raises(ValueError, match=r"^the graph's logits differ by up to 1\.0e-02 from the model's"):
        write_graph(graph, tmp_path / "lie.pt2", model)
    assert [*tmp_path.iterdir()] == []


def test_a_stage_becomes_a_model(dtram, tmp_path: Path) -> None:
    run = tmp_path / "digits"
    shutil.copytree(WEIGHTS / SHIPPED, run)
    (run / "stages").mkdir()
    shutil.copy(run / "model.safetensors", run / "stages" / "dtram.safetensors")
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    code, printed, _ = dtram("export", run, "--stage", "dtram", "--half")
    assert (code, printed.strip()) == (0, str(tmp_path / "digits_dtram"))
    assert "output: runs/digits_dtram\n" in (tmp_path / "digits_dtram" / "recipe.yaml").read_text()
    found, model = (checkpoint.load(path) for path in (tmp_path / "digits_dtram", run))
    assert torch.equal(found.head.weight, model.head.weight.half().float())
    sizes = [(path / "model.safetensors").stat().st_size for path in (tmp_path / "digits_dtram", run)]
    assert sizes[0] < 0.51 * sizes[1] + 10_000
    for words, message in [
        ((run, "--stage", "dtram"), "is not empty; accepted is a new folder."),
        ((run, "--stage", "dtram", "--out", run), "is not empty; accepted is a new folder."),
        ((run, "--stage", "nope"), "stage='nope' is not one of 'dtram'"),
        ((SHIPPED, "--stage", "dtram"), "is no folder; --stage='dtram' needs that of a finished run."),
        ((run,), "nothing is to be exported; accepted is --stage, --onnx or --pt2."),
        ((run, "--looks", "--stage", "dtram"), "--looks is of no use without --onnx or --pt2."),
        ((run, "--out", tmp_path / "x", "--pt2", "x.pt2"), "is of no use without --stage."),
        ((run, "--onnx", tmp_path / "x.pt2"), "does not end in .onnx."),
        ((run, "--pt2", tmp_path / "none" / "x.pt2"), "none' does not exist."),
    ]:
        code, _, complaint = dtram("export", *words)
        assert (code, message in complaint) == (1, True), complaint
    (tmp_path / "x.pt2").touch()
    assert dtram("export", run, "--pt2", tmp_path / "x.pt2")[2].endswith(
        "exists already; accepted is a new file."
    )
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_a_model_of_one_look_has_no_look_that_follows(dtram, tmp_path: Path) -> None:
    of_one_look().save_pretrained(tmp_path / "run")
    code, _, complaint = dtram("export", tmp_path / "run", "--pt2", tmp_path / "x.pt2", "--looks")
    assert (code, "num_steps=1 leaves no look after the first" in complaint) == (1, True)
