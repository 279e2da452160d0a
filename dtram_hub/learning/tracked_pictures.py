"""Pictures of glimpses for the trackers of a run, one after every stage."""

import tempfile
from pathlib import Path

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
# The trackers that take pictures, and the words that they need besides.
TAKERS = {
    "tensorboard": {"dataformats": "NHWC"},
    "wandb": {},
    "aim": {},
    "clearml": {},
    "swanlab": {},
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
        picture = np.asarray(Image.open(path).convert("RGB"))[None]
    for tracker in takers:
        tracker.log_images({f"{stage.name}/glimpses": picture}, step=number, **TAKERS[tracker.name])
