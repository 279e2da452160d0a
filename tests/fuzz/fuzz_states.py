"""Damaged folders of runs: only a whole state is taken; a recipe and a result are read or refused."""

import filecmp
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from accelerate import Accelerator
from hypothesis import strategies as st
from safetensors.torch import load_file

from campaign import FINE, REFUSED, refusing
from dtram_hub.learning.recipe import read_recipe
from dtram_hub.learning.resume import Progress, continue_run, save_progress
from dtram_hub.learning.run_folder import RunFolder
from dtram_hub.models import checkpoint

STAGES, DATA = ["encoder", "ram_2"], {"classes": "c", "train": "t"}
STATES = ("checkpoints/001-00001", "checkpoints/001-00002")
CONTENT = ["model.safetensors", "optimizer.bin", "best.safetensors", "progress.json"]
FILES = [f"{state}/{name}" for state in STATES for name in (*CONTENT, "SHA256SUMS")]
FILES += ["stages/encoder.safetensors", "stages/ram_2.safetensors", "recipe.yaml", "metrics.json"]
RECIPE = {"seed": 3, "data": {"source": "digits"}, "model": {"num_steps": 2}}
SCORES = {"mean_steps": 2.0, "accuracy": 0.7, "validation_accuracy": 0.6}
ROW = {"model": "RAM", "stage": "ram_2", "num_steps": 2} | SCORES


@dataclass
class Damage:
    """One change of one file: how, at which part of its length, with which bytes."""

    file: str
    how: str
    at: float
    content: bytes


CASES = st.lists(
    st.builds(
        Damage,
        file=st.sampled_from(FILES),
        how=st.sampled_from(["remove", "truncate", "flip", "insert", "replace", "to a folder", "stray"]),
        at=st.floats(0, 1),
        content=st.binary(max_size=40) | st.text(max_size=40).map(str.encode),
    ),
    min_size=1,
    max_size=3,
)


@cache
def whole_run() -> RunFolder:
    """A run of two stages with two states, made once; `best` of each state tells it from the others."""
    folder = RunFolder(tempfile.mkdtemp(prefix="dtram-fuzz-"))
    folder.make()
    folder.write_recipe(RECIPE)
    folder.write_metrics({"results": [ROW], "seconds": {"ram_2": 1.0}})
    accelerator = Accelerator(cpu=True)
    model = accelerator.prepare(torch.nn.Linear(3, 2))
    accelerator.prepare(torch.optim.SGD(model.parameters(), 0.1))
    checkpoint.save_weights(model, folder.stage_weights("encoder"))
    progress = Progress(data=DATA).next_stage("encoder", folder)
    for epoch in (1, 2):
        with torch.no_grad():
            model.weight.fill_(epoch)
        checkpoint.save_weights(model, folder.stage_weights("ram_2"))
        progress.epochs_done, progress.best = epoch, epoch / 10
        save_progress(accelerator, folder, progress, "ram_2")
    accelerator.free_memory()
    return folder


def apply(damage: Damage, root: Path) -> None:
    path = root / damage.file
    if damage.how == "stray":
        (path.parent / f"{damage.at:.3f}").write_bytes(damage.content)
        return
    if not path.is_file():
        return
    old = path.read_bytes()
    at = int(damage.at * max(0, len(old) - 1))
    path.unlink()
    if damage.how == "to a folder":
        path.mkdir()
    elif damage.how != "remove":
        flipped = old[:at] + bytes([old[at] ^ 1]) + old[at + 1 :] if old else b"\0"
        changed = {"truncate": old[:at], "flip": flipped, "insert": old[:at] + damage.content + old[at:]}
        path.write_bytes(changed.get(damage.how, damage.content))


def outcome(case: list[Damage]) -> str:
    with tempfile.TemporaryDirectory() as temporary:
        folder = RunFolder(Path(temporary) / "run")
        shutil.copytree(whole_run().path, folder.path)
        for damage in case:
            apply(damage, folder.path)
        readings = [
            refusing(lambda: read_recipe(folder.recipe_path)),
            refusing(folder.read_recipe),
            refusing(folder.read_metrics),
            resumed(folder),
        ]
    return next((word for word in readings if word not in (FINE, REFUSED)), max(readings))


def resumed(folder: RunFolder) -> str:
    """Whether the state that is taken is bit for bit one of those that were saved."""
    found = []
    accelerator = Accelerator(cpu=True)
    word = refusing(
        lambda: found.extend(continue_run(accelerator, folder, STAGES, DATA)), (ValueError, OSError)
    )
    if word != FINE:
        return word
    progress, state = found
    original = whole_run().states / state.name if state else None
    if original is None or filecmp.cmpfiles(state, original, CONTENT, shallow=False)[0] != CONTENT:
        return "a damaged state was taken"
    if load_file(folder.stage_weights("ram_2"))["weight"][0, 0] != progress.epochs_done:
        return "best weights of another state"
    encoder = folder.stage_weights("encoder").read_bytes()
    return FINE if encoder == whole_run().stage_weights("encoder").read_bytes() else "damaged weights taken"
