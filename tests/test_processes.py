"""Several processes against one: with the same global batch they act and learn alike."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from small_runs import SCRIPT, run_here

# 20 batches of 32 images in every stage. Plain SGD: first steps of Adam depend on signs of gradients alone,
# and make the rounding of a sum, which differs with the number of summands, as large as a step.
WORDS = [
    *("threads=1", "trackers=[]", "batch_size=32", "num_rollouts=2", "mean_steps=2.0"),
    *("model.num_steps=3", "model.image_size=32", "model.hidden_size=16", "model.locator=stepwise"),
    *("data.options.num_train=640", "data.options.num_closeup=0", "data.options.zoom=2"),
    *("data.options.num_validation=63", "data.options.num_test=65", "data.flip=true", "data.crop=0.5"),
    *(
        "stages.encoder.epochs=1",
        "stages.encoder.split=train",
        "stages.ram.epochs=1",
        "stages.dtram.epochs=1",
    ),
    *(
        "stages.ram.location_std=0.4",
        "optimizer.name=sgd",
        "optimizer.momentum=0",
        "optimizer.locations_rate=3",
    ),
]


def train(output: Path, processes: int) -> tuple[dict, list[str]]:
    """metrics.json of a run, and the figures that it printed after every epoch."""
    words = [*WORDS, f"output={output}"]
    printed = run_here(words) if processes == 1 else launch(words, processes)
    assert printed.count("encoder alone") == 1
    figures = re.findall(r"^(\w+ +epoch .*?) \| \d+ s, about", printed, flags=re.MULTILINE)
    return json.loads((output / "metrics.json").read_text()), figures


def launch(words: list[str], processes: int) -> str:
    port = socket.create_server(("127.0.0.1", 0))
    launcher = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}"]
    launcher += [f"--master_port={port.getsockname()[1]}"]
    port.close()
    done = subprocess.run(
        [sys.executable, *launcher, str(SCRIPT), *words],
        capture_output=True,
        text=True,
        env=os.environ | {"ACCELERATE_USE_CPU": "true"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, list[str]]:
    output = tmp_path_factory.mktemp("processes") / "one"
    return output, *train(output, 1)


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.long)])
def test_several_processes_learn_as_one(
    processes: int, alone: tuple[Path, dict, list[str]], tmp_path: Path
) -> None:
    output, metrics, figures = alone
    found, printed = train(tmp_path / "run", processes)
    assert len(figures) == 4
    assert printed == figures
    for stage in ("encoder", "ram_2", "ram_3", "dtram"):
        name = f"stages/{stage}.safetensors"
        expected, weights = load_file(output / name), load_file(tmp_path / "run" / name)
        assert expected.keys() == weights.keys()
        for key, tensor in expected.items():
            torch.testing.assert_close(weights[key], tensor, atol=1e-6, rtol=0, msg=f"{stage}: {key}")
    assert found["results"] == metrics["results"]
