"""`dtram predict`: every image has an answer, or a reason why there is none."""

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from tqdm import tqdm

from ..data.canvas import MOST_DECODED
from ..inference.answers import check_answers_photographs, class_names, draw, row_of, sentence
from ..inference.compiled import compile_looks
from ..inference.prepare import Preparation
from ..inference.stream import Outcome, stream
from ..models.dtram import DTRAM
from ..output_names import unique_names
from ..prompt import plain_warnings, say
from ..sharing.named_models import find_model
from .answer_file import AnswerFile
from .device import find_device
from .inputs import expand

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Wanted:
    """The options of `dtram predict`, by their names there."""

    save: Path | None
    out: Path | None
    as_json: bool
    top: int
    stop_threshold: float | None
    mean_steps: float | None
    max_steps: int | None
    max_pixels: int | None
    batch_size: int
    workers: int | None
    device: str
    precision: str | None
    compiled: bool


@plain_warnings()
def predict(model: str, images: tuple[str, ...], **options) -> int:
    """Print the answer to every image, or write it to a file, and draw its glimpses if that is asked for.

    Args:
        model: the name of a model.
        images: the words that name the images, as in `expand`.
        options: the fields of `Wanted`.

    Returns:
        The number of images without an answer, or without the picture that was asked for. A message on stderr
        names each. One of several processes returns 0.

    Raises:
        ValueError: an argument cannot be used, before any image is answered.
    """
    wanted = Wanted(**options)
    rank, world = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
    device = find_device(wanted.device)
    paths = expand(images)[rank::world]
    pictures = _picture_paths(paths, wanted.save) if wanted.save else {}
    built = _built(model, device, wanted)
    if wanted.compiled:
        compile_looks(built, wanted.batch_size)
    preparation = Preparation(built, wanted.max_pixels or MOST_DECODED)
    answers = Answers(model, class_names(built), wanted, preparation, pictures, rank, world)
    left = answers.left_of(paths)
    quiet = rank > 0 or not sys.stderr.isatty() or len(left) < 2
    try:
        outcomes = stream(
            built,
            left,
            batch_size=wanted.batch_size,
            stop_threshold=wanted.stop_threshold,
            max_steps=wanted.max_steps,
            mean_steps=wanted.mean_steps,
            workers=wanted.workers,
            prepare=preparation,
        )
        for outcome in tqdm(outcomes, total=len(left), unit=" images", disable=quiet, leave=False):
            answers.take(outcome)
    finally:
        answers.close()
    answers.finish(len(paths))
    # A launcher ends all processes when one ends with an error; the others may not have finished.
    return answers.failed if world == 1 else 0


class Answers:
    """Where the answers of `dtram predict` go: to the screen, or to a file; and to pictures."""

    def __init__(
        self,
        model: str,
        names: list[str] | None,
        wanted: Wanted,
        preparation: Preparation,
        pictures: dict[Path, Path],
        rank: int,
        world: int,
    ):
        self.names, self.wanted, self.preparation, self.pictures = names, wanted, preparation, pictures
        self.failed, self.file = 0, None
        if wanted.out:
            kept = ("stop_threshold", "mean_steps", "max_steps", "top", "precision")
            call = {"model": model} | {name: getattr(wanted, name) for name in kept}
            self.file = AnswerFile(wanted.out, call, rank, world)

    def left_of(self, images: list[Path]) -> list[Path]:
        """The images that no earlier call has answered."""
        return self.file.left_of(images) if self.file else images

    def take(self, outcome: Outcome) -> None:
        """Print or keep one outcome."""
        path = outcome.given
        row = {"image": str(path)}
        if outcome.found is None:
            self.failed += 1
            _complain(path, outcome.error)
            row["error"] = outcome.error
        else:
            row |= row_of(outcome.found, self.names, self.wanted.top)
            if outcome.warning:
                _complain(path, f"may be misread: {outcome.warning}")
            if self.pictures:
                self._draw(path, outcome, row)
        if self.file:
            self.file.write(row)
        elif not outcome.error:
            say(json.dumps(row, allow_nan=False) if self.wanted.as_json else sentence(row))

    def finish(self, count: int) -> None:
        """Say what is left to say after all outcomes."""
        if self.failed and count > 1:
            say(f"dtram: {self.failed} of {count} images failed.", error=True)
        if self.file:
            say(self.file.finish())

    def close(self) -> None:
        """Keep what was answered, whatever ended the call."""
        if self.file:
            self.file.close()

    def _draw(self, path: Path, outcome: Outcome, row: dict) -> None:
        try:
            draw(self.pictures[path], outcome, self.preparation, row)
            row["picture"] = str(self.pictures[path])
        except OSError as error:
            self.failed += 1
            _complain(path, f"has no picture ({error})")


def _built(name: str, device: str, wanted: Wanted) -> DTRAM:
    """The model on its device; ValueError if it has no answers, or no use for an option."""
    model = find_model(name).build()
    if wanted.stop_threshold is not None and not model.dynamic:
        raise ValueError(
            f"--stop-threshold={wanted.stop_threshold} is of no use to model {name!r}, a RAM, which never "
            "stops before its last step; accepted is --max-steps."
        )
    check_answers_photographs(model)
    if wanted.precision:
        model = model.to(PRECISIONS[wanted.precision])
    try:
        return model.to(device)
    except RuntimeError as error:
        raise ValueError(f"--device={device} cannot hold the model: {str(error).splitlines()[0]}") from None


def _picture_paths(images: list[Path], folder: Path) -> dict[Path, Path]:
    """The path of every picture; ValueError if the folder cannot be written."""
    import_module("dtram_hub.plots")  # ImportError without matplotlib, before any work
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"--save={str(folder)!r} cannot be written ({error.strerror}).") from None
    return {path: folder / name for path, name in unique_names(images, "_glimpses.png").items()}


def _complain(path: Path, text: str) -> None:
    say(f"dtram: {path} {text}.", error=True)
