"""States of a run on disk: checksums, the way back to a whole one, other data, one process at a time."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from dtram_hub.learning.resume import (
    BEST,
    KEPT,
    PROGRESS,
    SUMS,
    Progress,
    check_same_data,
    continue_run,
    last_progress,
    save_progress,
    states,
)
from dtram_hub.learning.run_folder import RunFolder
from dtram_hub.models import checkpoint

STAGES = ["encoder", "ram_2"]
DATA = {"classes": "c", "train": "t"}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run killed in its second stage, after three states; the best weights are those of the last epoch."""
    folder, accelerator = RunFolder(tmp_path / "run"), Accelerator(cpu=True)
    folder.make()
    model = torch.nn.Linear(3, 2)
    optimizer = accelerator.prepare(torch.optim.SGD(model.parameters(), 0.1))
    model = accelerator.prepare(model)
    progress = Progress(data=DATA, machine={"processes": 1, "threads": 1})
    for stage, epochs in (("encoder", 1), ("ram_2", 2)):
        for epoch in range(epochs):
            with torch.no_grad():
                model.weight.fill_(10 * progress.stage + epoch)
            checkpoint.save_weights(model, folder.stage_weights(stage))
            progress.epochs_done, progress.best = epoch + 1, 0.5 + epoch / 10
            save_progress(accelerator, folder, progress, stage)
        if stage == "encoder":
            progress = progress.next_stage(stage, folder)
    assert optimizer is not None
    accelerator.free_memory()
    return folder


def best_of(folder: RunFolder, stage: str) -> float:
    return load_file(folder.stage_weights(stage))["weight"][0, 0].item()


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def test_the_last_two_states_are_kept_with_checksums_that_sha256sum_reads(run: RunFolder) -> None:
    assert [path.name for path in states(run)] == ["001-00001", "001-00002"]
    assert len(states(run)) == KEPT
    assert not run.partial_state.exists()
    names = {path.name for path in states(run)[-1].iterdir()}
    assert names == {"model.safetensors", "optimizer.bin", "random_states_0.pkl", BEST, PROGRESS, SUMS}
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--quiet", SUMS], cwd=states(run)[-1], check=True)


def test_the_newest_state_comes_back(run: RunFolder) -> None:
    progress, state = last_progress(run)
    assert state == run.states / "001-00002"
    assert (progress.stage, progress.epochs_done, progress.best) == (1, 2, 0.6)
    assert (progress.data, list(progress.weights)) == (DATA, ["encoder"])


@pytest.mark.parametrize("how", ["missing", "truncated", "a flipped bit"])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.bin", BEST, PROGRESS, SUMS])
def test_a_damaged_state_is_named_and_the_one_before_it_is_taken(
    run: RunFolder, name: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    damage(run.states / "001-00002" / name, how)
    with caplog.at_level("INFO"):
        progress, state = continue_run(Accelerator(cpu=True), run, STAGES, DATA)
    assert state == run.states / "001-00001"
    assert (progress.epochs_done, progress.best) == (1, 0.5)
    assert best_of(run, "ram_2") == 10.0  # that of the state, not of the epoch after it
    (line,) = [record.getMessage() for record in caplog.records if "001-00002" in record.getMessage()]
    assert ("SHA256SUMS" if name == SUMS and how == "missing" else "is missing or damaged") in line


def test_no_whole_state_is_refused_by_the_names_of_the_damaged_files(run: RunFolder) -> None:
    for state in states(run):
        damage(state / "optimizer.bin", "truncated")
    with pytest.raises(
        ValueError, match=r"001-00002/optimizer.bin' is missing or damaged.*001-00001"
    ) as found:
        last_progress(run)
    assert "output=FOLDER" in str(found.value)


@pytest.mark.parametrize("how", ["missing", "a flipped bit"])
def test_damaged_weights_of_a_finished_stage_are_named(run: RunFolder, how: str) -> None:
    damage(run.stage_weights("encoder"), how)
    with pytest.raises(ValueError, match=r"stages/encoder.safetensors' is missing or damaged"):
        last_progress(run)


def test_best_weights_of_a_killed_epoch_do_not_outlive_it(run: RunFolder) -> None:
    checkpoint.save_weights(torch.nn.Linear(3, 2), run.stage_weights("ram_2"))  # killed before its state
    continue_run(Accelerator(cpu=True), run, STAGES, DATA)
    assert best_of(run, "ram_2") == 11.0


def test_stray_files_among_the_states_are_left_alone(run: RunFolder) -> None:
    strays = [run.states / name for name in ("9", "999-00001", "notes.txt", "0-copy")]
    for stray in strays:
        stray.touch()
    (run.states / "998-1").mkdir()
    assert last_progress(run)[1] == run.states / "001-00002"
    accelerator = Accelerator(cpu=True)
    accelerator.prepare(torch.nn.Linear(3, 2))
    save_progress(accelerator, run, Progress(stage=1, epochs_done=3), "ram_2")
    accelerator.free_memory()
    assert [path.name for path in states(run)] == ["001-00002", "001-00003"]
    assert all(stray.is_file() for stray in strays)


def test_a_state_names_no_file_outside_of_its_folder(run: RunFolder) -> None:
    secret = run.path / "secret"
    secret.write_text("x")
    for state in states(run):
        sums = state / SUMS
        sums.write_text(sums.read_text() + f"{'0' * 64}  ../../secret\n")
    with pytest.raises(ValueError, match="is missing or damaged"):
        last_progress(run)


def test_other_data_are_refused_and_another_machine_is_told(
    run: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    accelerator = Accelerator(cpu=True)
    with pytest.raises(ValueError, match="learned from other data: train changed"):
        continue_run(accelerator, run, STAGES, DATA | {"train": "one image more"})
    with pytest.raises(ValueError, match="classes and validation changed"):
        check_same_data("that run", DATA, {"classes": "other", "train": "t", "validation": "v"})
    torch.set_num_threads(2)
    with caplog.at_level("INFO"):
        continue_run(accelerator, run, STAGES, DATA)
    torch.set_num_threads(1)
    assert "threads 1 -> 2; the last bits of the weights may differ" in caplog.text


def test_one_process_at_a_time_holds_a_folder_however_it_ends(tmp_path: Path) -> None:
    code = (
        "import sys, time; from dtram_hub.learning.run_folder import RunFolder\n"
        "folder = RunFolder(sys.argv[1]); folder.claim(); print('held', flush=True); time.sleep(60)"
    )
    output = tmp_path / "run"
    holder = subprocess.Popen([sys.executable, "-c", code, str(output)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    folder = RunFolder(output)
    with pytest.raises(ValueError, match=f"output='{output}' is in use by another training"):
        folder.claim()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    folder.make()
    left = [output / "recipe.yaml.0a1b2c3d.tmp", output / "stages" / "ram_2.safetensors.0a1b2c3d.tmp"]
    for path in left:
        path.write_text("half of a file")
    (folder.partial_state).mkdir(parents=True)
    folder.claim()
    assert not any(path.exists() for path in (*left, folder.partial_state))
    folder.release()
    assert [path.name for path in sorted(output.iterdir())] == ["checkpoints", "stages"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, reason in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "run", "Not a directory")):
        with pytest.raises(
            ValueError, match=rf"output='{path}' is no folder that can be written \({reason}\)"
        ):
            RunFolder(path).claim()


def test_a_folder_that_holds_nothing_is_removed_with_the_claim(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.claim()
    folder.release()
    assert not folder.path.exists()


@pytest.mark.parametrize("text", ["", "\x00\x01", "- 1", "a: [", json.dumps({"seed": "x"})])
def test_a_damaged_recipe_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    import train as script

    output = tmp_path / "run"
    output.mkdir()
    (output / "recipe.yaml").write_text(text)
    for words in ([f"output={output}"], [f"output={output}", "--resume"]):
        with pytest.raises(SystemExit) as refused:
            script.main([*words, "threads=1", "trackers=[]"])
        assert str(refused.value).startswith("train.py: ")
        assert len(str(refused.value).splitlines()) == 1
