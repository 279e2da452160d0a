"""The folder of a run: written whole or not at all, read whatever its age, shared without private paths."""

import os
from pathlib import Path

import pytest
import yaml

from dtram_hub import files
from dtram_hub.learning.run_folder import RunFolder, own_result, stage_rows
from dtram_hub.models.registry import SHIPPED, WEIGHTS

RECIPE = {"output": "runs/a", "data": {"source": "digits"}}


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    files.write_text(path, "whole")

    def write_half() -> None:
        with files.replacing(path) as temporary:
            temporary.write_text("ha")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        write_half()
    with pytest.raises(TypeError):
        files.write_json(path, {"results": object()})
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"]
    assert path.read_text() == "whole"


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    files.write_text(path, "old")
    with files.replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_new_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    """Whoever has the old file open reads it to its end: nothing is written into it."""
    folder = RunFolder(tmp_path)
    writes = {
        tmp_path / "text": lambda path: files.write_text(path, "new"),
        tmp_path / "json": lambda path: files.write_json(path, "new"),
        folder.recipe_path: lambda path: folder.write_recipe(RECIPE),
        folder.metrics_path: lambda path: folder.write_metrics(rows()),
    }
    for path, write in writes.items():
        path.write_text("old")
        with path.open() as reader:
            write(path)
            assert reader.read() == "old", path.name
        assert path.read_text() != "old"


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_are_those_of_an_ordinary_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        files.write_text(tmp_path / "new", "")
        with files.replacing(tmp_path / "private") as temporary:
            temporary.chmod(0o600)  # as a writer with a temporary file of its own leaves it
        (tmp_path / "there").touch()
        (tmp_path / "there").chmod(0o640)
        files.write_text(tmp_path / "there", "")
    finally:
        os.umask(before)
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert modes == {"new": 0o666 & ~umask, "private": 0o666 & ~umask, "there": 0o640}


def rows() -> dict:
    """metrics.json of an old run, which does not say which rows are stages."""
    ram = {"model": "RAM, 2 steps", "stage": "ram_2", "mean_steps": 2.0, "accuracy": 0.7}
    moved = ram | {"model": "RAM 2, glimpses anywhere", "accuracy": 0.5}
    last = {"model": "DT-RAM", "stage": "dtram", "mean_steps": 1.5, "accuracy": 0.8}
    own = [row | {"num_steps": 2, "validation_accuracy": 0.6} for row in (ram, last)]
    return {"results": [own[0], moved, own[1], last], "seconds": {"encoder": 1.0, "ram_2": 2.0, "dtram": 3.0}}


def test_old_and_new_metrics_are_read_alike(tmp_path: Path) -> None:
    folder, old = RunFolder(tmp_path), rows()
    folder.write_metrics(old)
    found = folder.read_metrics()
    assert [row["kind"] for row in found["results"]] == ["stage", "comparison", "stage", "comparison"]
    assert [row["stage_kind"] for row in stage_rows(found)] == ["ram", "dtram"]
    assert found["stage_kinds"] == {"encoder": "encoder", "ram_2": "ram", "dtram": "dtram"}
    assert own_result(found)["model"] == "DT-RAM"
    assert own_result(found)["validation_accuracy"] == 0.6
    folder.write_metrics(found)
    assert folder.read_metrics() == found


def test_kinds_that_are_written_are_believed(tmp_path: Path) -> None:
    folder, new = RunFolder(tmp_path), rows()
    for row, kind in zip(new["results"], ("comparison", "comparison", "stage", "comparison"), strict=True):
        row |= {"kind": kind, "stage_kind": "ram"}
    new["stage_kinds"] = {"encoder": "encoder", "ram_2": "ram", "dtram": "ram"}
    folder.write_metrics(new)
    assert folder.read_metrics() == new
    assert [row["stage"] for row in stage_rows(folder.read_metrics())] == ["dtram"]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_metrics_have_one_stage(name: str) -> None:
    metrics = RunFolder(WEIGHTS / name).read_metrics()
    (own,) = stage_rows(metrics)
    assert own == own_result(metrics) == metrics["results"][0]
    assert own["stage_kind"] == ("ram" if "mnist_ram" in name else "dtram")
    assert list(metrics["stage_kinds"]) == list(metrics["seconds"])


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"results": [], "seconds": {}}', "3", "\xff"])
def test_other_metrics_are_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(ValueError, match=r"has no metrics\.json; accepted is the folder of a finished run\."):
        folder.read_metrics()
    folder.metrics_path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"metrics\.json is not in the format of a run \(") as refused:
        folder.read_metrics()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "[", "data: 3", "data: {}", "a: b: c", "- 1", "\xff"])
def test_other_recipes_are_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    folder = RunFolder(tmp_path)
    folder.recipe_path.write_text(text, encoding="latin-1")
    for read in (folder.read_recipe, lambda: folder.public_recipe("x")):
        with pytest.raises(ValueError, match=r"recipe\.yaml is not in the format of a run \(") as refused:
            read()
        assert "\n" not in str(refused.value)


def test_a_recipe_comes_back_as_it_was_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_recipe(
        RECIPE | {"words": "größer: ja", "rate": 1e-5}, versions="torch 2", command="train.py"
    )
    assert folder.recipe_path.read_text(encoding="utf-8").startswith(
        "# versions: torch 2\n# command: train.py\n"
    )
    assert folder.read_recipe() == RECIPE | {"words": "größer: ja", "rate": 1e-5}


def test_a_public_recipe_names_nothing_of_this_machine(tmp_path: Path) -> None:
    folder, home = RunFolder(tmp_path), "/home/ann"
    recipe = {
        "output": f"{home}/runs/x",
        "architecture": "dtram",
        "encoder_weights": f"{home}/weights/resnet.safetensors",
        "stages_from": f"{home}/runs/y",
        "data": {"source": "imagefolder", "root": f"{home}/birds", "cache": f"{home}/cache", "flip": True},
    }
    folder.write_recipe(recipe, versions="torch 2", command=f"train.py data.root={home}/birds")
    text = folder.public_recipe("birds", stage="ram_2")
    assert home not in text
    assert text.splitlines()[:2] == ["# versions: torch 2", "# stage: ram_2"]
    assert yaml.safe_load(text) == {
        "output": "runs/birds",
        "architecture": "dtram",
        "encoder_weights": "resnet.safetensors",
        "stages_from": None,
        "data": {"source": "imagefolder", "root": None, "cache": None, "flip": True},
    }
    assert folder.read_recipe() == recipe


@pytest.mark.parametrize(
    ("given", "public"),
    [
        ("/home/ann/runs/x", "x"),
        ("runs/old/x", "x"),
        ("ann/birds", "ann/birds"),
        ("hf-hub:ann/birds@v1.0", "hf-hub:ann/birds@v1.0"),
        ("dtram_resnet18.a1_in1k", "dtram_resnet18.a1_in1k"),
        ("local-dir:/home/ann/x", "x"),
        (None, None),
    ],
)
def test_a_public_recipe_keeps_of_a_folder_its_name(
    tmp_path: Path, given: str | None, public: str | None
) -> None:
    folder = RunFolder(tmp_path)
    folder.write_recipe({"init_from": given, "data": {"source": "digits"}})
    assert yaml.safe_load(folder.public_recipe("x"))["init_from"] == public


def test_a_public_recipe_names_no_folder_that_looks_like_a_model_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "secret").mkdir(parents=True)
    folder = RunFolder(tmp_path)
    folder.write_recipe({"init_from": "runs/secret", "data": {"source": "digits"}})
    assert yaml.safe_load(folder.public_recipe("x"))["init_from"] == "secret"


def test_what_is_there_is_told_by_its_files(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert (folder.exists, folder.is_finished, folder.kept_stages(), folder.pictures()) == (
        False,
        False,
        set(),
        [],
    )
    folder.make()
    folder.write_recipe(RECIPE)
    assert (folder.exists, folder.is_finished) == (True, False)
    folder.stage_weights("ram_2").touch()
    folder.picture("steps.png").touch()
    folder.write_metrics(rows())
    assert (folder.is_finished, folder.kept_stages(), folder.pictures()) == (True, {"ram_2"}, ["steps.png"])
