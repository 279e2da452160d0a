"""`dtram calibrate`: another budget of looks for a model on disk, from held-out images."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..checks import check_number
from ..data.splits import Split, index_batches
from ..images.ragged import Ragged
from ..inference.budget import all_stop_probs, steps_within, threshold_for
from ..inference.uncertainty import Budget, expect_budget
from ..learning.recipe import load_split, read_recipe, split_words
from ..learning.run_folder import LEARNED_STOPS, RunFolder, own_result
from ..models import checkpoint
from ..models.config_file import set_threshold
from ..models.dtram import DTRAM
from ..models.flops import accuracy_at_mean_steps
from ..models.limits import check_budget
from ..models.shipped import WEIGHTS
from ..prompt import plain_warnings, say
from ..sharing.hub_client import CARD
from .device import find_device
from .inputs import expand


@dataclass(frozen=True)
class Wanted:
    """The options of `dtram calibrate`, by their names there; `latency` is in seconds."""

    mean_steps: float | None
    latency: float | None
    split: str
    images: tuple[str, ...]
    batch_size: int
    device: str
    as_json: bool


@plain_warnings()
def calibrate(model: str, words: tuple[str, ...], **options) -> None:
    """Set the stop threshold of a folder's config.json, and print what to expect of it.

    A run's metrics.json keeps its results, which are those of the old threshold, and says so.

    Args:
        model: the folder.
        words: a recipe that names the data, that of the folder by default, and `key=value` overrides.
        options: the fields of `Wanted`.

    Raises:
        ValueError: the model is no folder of the user, or a RAM, or an argument cannot be used.
    """
    wanted, folder = Wanted(**options), own_folder(model)
    built = checkpoint.load(folder)
    built.to(find_device(wanted.device))
    mean_steps = _budget(built, wanted)
    images = _images(folder, words, wanted, built.pretrained_cfg["mean"])
    stop_probs = all_stop_probs(built, images, wanted.batch_size)
    before, now = built.stop_threshold, threshold_for(stop_probs, mean_steps)
    budget = expect_budget(stop_probs, now, mean_steps)
    accuracy = _keep_metrics_true(RunFolder(folder), before, budget)
    set_threshold(folder, now)  # last: until here, nothing has changed for users of the model
    if wanted.as_json:
        say(json.dumps(asdict(budget) | {"stop_threshold_before": before, "test_accuracy": accuracy}))
        return
    say(f"stop threshold: {before:.4f} before, {now:.4f} now")
    if wanted.latency is not None:
        say(f"One image may take {mean_steps:.2f} steps for a mean of {wanted.latency:g} seconds here.")
    say(budget)
    if accuracy is not None:
        say(f"At so many steps the curve of the run has {100 * accuracy:.2f} % of the test images right.")
    if (folder / CARD).is_file():
        say(f"{folder / CARD} shows the old threshold; `dtram card --overwrite` writes it anew.")


def own_folder(model: str) -> Path:
    """The folder of a model that may be changed.

    Raises:
        ValueError: the word is no folder, or that of a model that ships.
    """
    folder = Path(model)
    if not folder.is_dir():
        on_hub = "/" in model and not folder.exists()
        first = f"dtram pull {model.removeprefix('hf-hub:')} FOLDER" if on_hub else "save_pretrained"
        raise ValueError(f"model {model!r} is no folder, and only a folder can be changed; first `{first}`.")
    if WEIGHTS.resolve() in folder.resolve().parents:
        raise ValueError(
            f"model {model!r} ships with dtram-hub and stays as it is; accepted is a copy of it."
        )
    return folder


def _budget(model: DTRAM, wanted: Wanted) -> float:
    """The mean steps that are asked for; ValueError for a RAM, and unless one option asks for them."""
    check_budget(model)
    if wanted.mean_steps is not None and wanted.latency is None:
        check_number("--mean-steps", wanted.mean_steps, 1, model.num_steps)
        return wanted.mean_steps
    if wanted.latency is not None and wanted.mean_steps is None:
        return steps_within(model, wanted.latency)
    raise ValueError("--mean-steps and --latency are two ways to set a budget; accepted is one of them.")


def _images(
    folder: Path, words: tuple[str, ...], wanted: Wanted, mean: Sequence[float]
) -> Iterable[Path | Tensor]:
    """The held-out images for a model of this mean: files, or a split of the recipe's data."""
    if wanted.images:
        if words:
            raise ValueError(
                f"--images takes the place of the recipe's data; {words[0]!r} is of no use then."
            )
        return expand(wanted.images)
    name, overrides = split_words([*words])
    recipe = Path(name) if name else RunFolder(folder).recipe_path
    if not recipe.is_file():
        raise ValueError(f"recipe {str(recipe)!r} is not a file; --images FOLDER gives images without one.")
    data = load_split(read_recipe(recipe, overrides), wanted.split, mean)
    held_out = data.splits[wanted.split]
    assert isinstance(held_out, Split)  # load_split refuses streams
    return _readable(held_out, wanted.batch_size)


def _readable(split: Split, batch_size: int) -> Iterator[Tensor]:
    """The images of a split, one by one, without those that turn out to be unreadable."""
    for index in index_batches(len(split), batch_size, seed=None):
        images: Any = split.at(index)
        faults = split.faults()
        singly = images.images if isinstance(images, Ragged) else images
        for number, image in zip(index.tolist(), singly, strict=True):
            if number not in faults:
                yield image
    if faults := split.faults():
        first = faults[min(faults)]
        said = f"dtram: {len(faults)} of {len(split)} images are unreadable and left out; the first: {first}."
        say(said, error=True)


def _keep_metrics_true(run: RunFolder, before: float, budget: Budget) -> float | None:
    """Write the budget into a run's metrics, and the threshold of its results.

    Returns:
        The test accuracy at the measured mean steps, read off the run's curve; None if there is no curve.
    """
    if not run.is_finished:
        return None
    metrics = run.read_metrics()
    own_result(metrics).setdefault("stop_threshold", before)
    run.write_metrics(metrics | {"budget": asdict(budget)})
    curve = metrics.get("curves", {}).get(LEARNED_STOPS)
    return accuracy_at_mean_steps(curve, budget.measured) if curve else None
