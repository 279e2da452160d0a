"""Pictures of glimpses for the trackers of a run, one after every stage."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image

from ..data.splits import Data
from ..models.input import looks_in_words
from ..plots import plot_glimpses
from .curriculum import Stage
from .evaluation import Evaluator
from .pictures import choose, examples_of

SHOWN = 12  # validation images
# How each tracker that takes pictures is given one: the form of an array (H, W, 3), and further words.
TAKERS: dict[str, tuple[Callable[[np.ndarray], Any], dict[str, str]]] = {
    "tensorboard": (lambda picture: picture[None], {"dataformats": "NHWC"}),
    "wandb": (lambda picture: [picture], {}),
    "swanlab": (lambda picture: [picture], {}),
    "aim": (lambda picture: picture, {}),
    "clearml": (lambda picture: picture, {}),
}


def show_glimpses(
    accelerator: Accelerator, evaluator: Evaluator, data: Data, stage: Stage, number: int
) -> None:
    """Give the trackers a picture of the model's glimpses at some validation images, spread over classes.

    Args:
        accelerator: with its trackers; without one that takes pictures nothing happens.
        evaluator: its model is that of the stage.
        data: the images.
        stage: the stage that has ended.
        number: its number in the run, the step of the picture.
    """
    takers = [tracker for tracker in accelerator.trackers if tracker.name in TAKERS]
    if not takers:
        return
    model, held_out = evaluator.model, data.splits["validation"]
    few = held_out.take(choose(held_out.labels, torch.ones_like(held_out.labels), SHOWN))
    answers = evaluator.predict(few)
    if not accelerator.is_main_process:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "glimpses.png"
        shown = examples_of(model, few, data.class_names, answers, choose(few.labels, answers.steps))
        plot_glimpses(path, shown, looks_in_words(model))
        picture = np.asarray(Image.open(path).convert("RGB"))
    for tracker in takers:
        form, words = TAKERS[tracker.name]
        tracker.log_images({f"{stage.name}/glimpses": form(picture)}, step=number, **words)
