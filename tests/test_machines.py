"""Several processes: who starts them, who dies, who goes on, and who answers which image."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dtram_hub.learning.machine import REFUSED, set_up_cpu
from hub_faults import make_model
from small_runs import SCRIPT, SMALL, command, refusal, start

PROGRAM = ["-m", "dtram_cli"]
ALONE = {"OMP_NUM_THREADS": "1"}
SHORT = ["stages.ram.epochs=3", "stages.dtram.epochs=0", "model.num_steps=2", "batch_size=8"]


def torchrun(*words: object, processes: int = 2) -> list[str]:
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return [sys.executable, *launch, *map(str, words)]


@pytest.mark.long
def test_a_process_that_dies_ends_the_others_and_one_process_goes_on(tmp_path: Path) -> None:
    output = tmp_path / "run"
    words = torchrun(SCRIPT, *SMALL, *SHORT, "stages.ram.epochs=500")
    process = start(words, output, "001-*", env=os.environ | ALONE)
    trainers = [p for p in psutil.Process(process.pid).children(recursive=True) if str(SCRIPT) in p.cmdline()]
    assert len(trainers) == 2
    victim = next(p for p in trainers if p.environ()["RANK"] == "1")
    victim.send_signal(signal.SIGKILL)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert psutil.wait_procs(trainers, timeout=10)[1] == []
    assert re.search(r"^train\.py: (another process of this run has ended|stopped); --resume", printed, re.M)
    recipe = output / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("epochs: 500", "epochs: 4"))
    done = subprocess.run(
        command(*SHORT, "stages.ram.epochs=4", f"output={output}", "--resume"),
        capture_output=True,
        text=True,
        env=os.environ | ALONE,
    )
    assert done.returncode == 0, done.stderr
    assert "--resume: processes 2 -> 1; the last bits of the weights may differ" in done.stdout
    assert json.loads((output / "metrics.json").read_text())["machine"].startswith("1 CPU thread (")


@pytest.mark.long
def test_two_processes_resume_to_the_same_weights(tmp_path: Path) -> None:
    words = [SCRIPT, *SMALL, *SHORT]
    for name in ("whole", "killed"):
        output = tmp_path / name
        process = subprocess.Popen(
            torchrun(*words, f"output={output}"), stdout=subprocess.PIPE, text=True, env=os.environ | ALONE
        )
        if name == "killed":
            while not any((output / "checkpoints").glob("001-*")):
                time.sleep(0.01)
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()
            again = torchrun(*words, f"output={output}", "--resume")
            process = subprocess.Popen(again, stdout=subprocess.PIPE, text=True, env=os.environ | ALONE)
        process.communicate(timeout=300)
        assert process.returncode == 0
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.long
def test_accelerate_that_starts_one_process_of_two_is_told_apart(tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--quiet", "--cpu"]
    done = subprocess.run(
        [*launch, "--num_processes=2", str(SCRIPT), *SMALL, f"output={tmp_path / 'run'}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "started one process, not the 2 of --num_processes; without a GPU, type torchrun" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", REFUSED)
def test_ways_of_training_that_are_not_offered_are_refused(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(name, "true")
    sentence = refusal(f"output={tmp_path / 'run'}")
    assert sentence.startswith(
        f"train.py: accelerate's configuration asks for {REFUSED[name]}; accepted is DDP"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_several_processes_answer_an_image_each(tmp_path: Path) -> None:
    make_model(1).save_pretrained(tmp_path / "model", ["ant", "bee", "cat"])
    for number in range(11):
        Image.new("L", (16, 16), 20 * number).save(tmp_path / f"{number:02d}.png")
    (tmp_path / "05.png").write_bytes(b"broken")
    words = [*PROGRAM, "predict", tmp_path / "model", tmp_path, "--device", "cpu", "--out"]
    environment = os.environ | ALONE
    done = subprocess.run(
        torchrun(*words, tmp_path / "shared.jsonl"), env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0  # else the launcher would end the process that has not finished
    assert "05.png is no readable image" in done.stderr
    alone = [sys.executable, *map(str, words), str(tmp_path / "alone.jsonl")]
    subprocess.run(alone, env=environment, capture_output=True)
    parts = [tmp_path / f"shared.{rank:05d}-of-00002.jsonl" for rank in range(2)]
    rows = [[json.loads(line) for line in path.read_text().splitlines()] for path in parts]
    assert [len(part) for part in rows] == [6, 5]
    expected = [json.loads(line) for line in (tmp_path / "alone.jsonl").read_text().splitlines()]
    assert sorted(rows[0] + rows[1], key=lambda row: row["image"]) == expected
    assert [row["image"][-6:] for row in expected if "error" in row] == ["05.png"]


def test_threads_beside_a_gpu_are_few_unless_asked_for() -> None:
    beside_a_gpu = SimpleNamespace(device=torch.device("cuda"), num_processes=1)
    before = torch.get_num_threads()
    try:
        set_up_cpu(beside_a_gpu, 7)
        assert torch.get_num_threads() == 7
        set_up_cpu(beside_a_gpu, None)
        assert torch.get_num_threads() == 4
        torch.set_num_threads(1)  # as a launcher may
        set_up_cpu(beside_a_gpu, None)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
