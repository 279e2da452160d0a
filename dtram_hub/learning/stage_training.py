"""The training of one stage, epoch by epoch.

Order, augmentation and noise depend on seed, stage and epoch alone, so a resumed run repeats them.
"""

import itertools
import math
import sys
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import accelerate
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..data.augment import Augmentation
from ..data.balance import Resampled, class_shares, class_weights
from ..data.loader import Batch, Loaded, epoch_seed, train_loader
from ..data.splits import Data
from ..data.streaming import Stream
from ..models.dtram import DTRAM
from ..models.records import Noise
from .averaging import Average
from .curriculum import Stage, enter_stage, first_layers, location_std
from .evaluation import Evaluator
from .first_looks import keep_first_looks
from .judges import check_folds, find_judges, images_of
from .losses import Loss
from .mixing import MixConfig, mix
from .optimizer import make_optimizer, rate_factor, set_learning_rate
from .recipe import Recipe
from .resume import load_state
from .run_folder import RunFolder
from .task import check_way, make_task

# Spawn keys of seeds: for the noise of a batch, for what is drawn anew in an epoch, for mixing, and for all
# other randomness of a process.
NOISE, PROCESS, SAMPLE, MIX = (2,), (3,), (4,), (5,)


class StageTraining:
    """A stage in training: its task, its optimizer and its images.

    Args:
        recipe: that of the run.
        evaluator: with the model, which enters the stage, and the accelerator.
        stages: all stages of the run, in order.
        number: that of the stage, from 0.
        data: the splits of the run.
        folder: that of the run, with the weights of the stages before.
    """

    def __init__(
        self,
        recipe: Recipe,
        evaluator: Evaluator,
        stages: list[Stage],
        number: int,
        data: Data,
        folder: RunFolder,
    ):
        stage = stages[number]
        self.recipe, self.stage, self.number, self.folder = recipe, stage, number, folder
        self.model, self.accelerator = evaluator.model, evaluator.accelerator
        self.split, self.classes = images_of(stage, data, recipe), len(data.class_names)
        enter_stage(self.model, stage)
        task = make_task(self.model, recipe, stage, self._class_weights())
        optimizer = make_optimizer(self.model, recipe.optimizer, stage.learning_rate)
        self.first_looks = None
        if stage.epochs > 1 and not self.mixes:
            self.first_looks = keep_first_looks(evaluator, self.split, self.augmentation)
        self.task, self.optimizer = self.accelerator.prepare(task, optimizer)
        self.judges = find_judges(self.model, stage, stages, folder, self.split, recipe.seed)
        self.average = Average(self.model, recipe.ema) if recipe.ema else None

    @property
    def tested(self) -> DTRAM:
        """The model that validation tests and the folder keeps: with averaged weights, if the recipe asks."""
        return self.average.averaged if self.average else self.model

    @property
    def augmentation(self) -> Augmentation:
        """The augmentation of the stage."""
        data = self.recipe.data
        return data if self.stage.crop is None else replace(data, crop=self.stage.crop)

    @property
    def mixes(self) -> bool:
        """Whether images are mixed: where answers learn from one look, and no policy learns."""
        return self.recipe.mix.is_used and self.stage.num_steps == 1

    @property
    def shares(self) -> Tensor | None:
        """The share of every class among the images of an epoch, (C,); None for a stream."""
        if isinstance(self.split, Stream):
            return None
        return class_shares(self.split.labels, self.classes, self.recipe.data.balance)

    @cached_property
    def batches(self) -> int:
        """The number of batches in an epoch.

        A saved state holds no accumulated gradients, so an epoch ends with a step of the optimizer.
        """
        size, whole = self.recipe.batch_size, self.recipe.accumulation
        return max(1, len(self.split) // size // whole * whole)

    def load(self, state: Path) -> None:
        """Continue from a state of this stage; ValueError as in `resume.load_state`."""
        averaged = self.average and self.average.averaged
        load_state(self.accelerator, state, self.optimizer, averaged)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch; return means over all rollouts, and the learning rate at its middle."""
        recipe, accelerator = self.recipe, self.accelerator
        key, rank = self._key(epoch), accelerator.process_index
        accelerate.utils.set_seed(epoch_seed((*key, rank), PROCESS))
        drawn = self._draw(key)
        loader = train_loader(
            drawn,
            recipe.batch_size,
            seed=key,
            rank=rank,
            world=accelerator.num_processes,
            augmentation=self.augmentation,
            workers=recipe.data.workers,
            pin_memory=accelerator.device.type == "cuda",
        )
        count = self.batches
        quiet = not accelerator.is_main_process or not sys.stderr.isatty()
        bar = tqdm(itertools.islice(loader, count), self.stage.name, count, leave=False, disable=quiet)
        self.task.train()
        totals = torch.zeros(4, dtype=torch.float64)
        for number, batch in enumerate(bar):
            if isinstance(drawn, Resampled):
                batch = (*batch[:2], drawn.chosen[batch[2]])
            loss = self.train_batch(epoch, number, batch)
            seen = [loss.total, loss.mean_return, loss.accuracy, loss.steps]
            totals += torch.stack(seen).detach().cpu().double()
        totals = accelerator.reduce(totals.to(accelerator.device, torch.float32), "mean").cpu() / count
        scores = dict(zip(("loss", "train_return", "train_accuracy", "steps"), totals.tolist(), strict=True))
        return scores | {"learning_rate": self._rate(epoch + 0.5)}

    def train_batch(self, epoch: int, number: int, batch: Batch) -> Loss:
        """Train one batch, and return its loss.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        clip_norm, accelerator = self.recipe.optimizer.clip_norm, self.accelerator
        elapsed = epoch + number / self.batches
        set_learning_rate(self.optimizer, self._rate(elapsed))
        std = location_std(self.stage, self.model.location_std, elapsed)
        images, labels = batch[0].to(accelerator.device), batch[1].to(accelerator.device)
        noise = self.draw_noise(epoch, number).to(accelerator.device)
        first = self.first_looks and self.first_looks.at(batch[2], accelerator.device)
        judge = self.judges and self.judges.of(batch[2], accelerator.device)
        shares = None
        if self.mixes:
            seed = epoch_seed((*self._key(epoch), number, accelerator.process_index), MIX)
            images, shares = mix(self.recipe.mix, images, labels, self.classes, seed)  # type: ignore[arg-type]
            labels = shares.argmax(1)
        with accelerator.accumulate(self.task):
            loss = self.task(images, labels, noise, std, first, shares, judge)
            if not math.isfinite(loss.total.item()):
                raise FloatingPointError(
                    f"the loss of stage {self.stage.name!r}, epoch {epoch + 1}, batch {number + 1} is not "
                    f"finite; the last good state is in {self.folder}. A smaller learning_rate may help."
                )
            accelerator.backward(loss.total)
            if accelerator.sync_gradients and clip_norm:
                accelerator.clip_grad_norm_(self.task.parameters(), clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
            if self.average and accelerator.sync_gradients:
                self.average.update((epoch * self.batches + number + 1) // self.recipe.accumulation)
        return loss

    def draw_noise(self, epoch: int, number: int) -> Noise:
        """Draw the noise of a whole batch, and return the share of this process."""
        seed = epoch_seed((*self._key(epoch), number), NOISE)
        return self.accelerator.unwrap_model(self.task).draw_noise(
            min(len(self.split), self.recipe.batch_size),
            torch.Generator().manual_seed(seed),
            slice(self.accelerator.process_index, None, self.accelerator.num_processes),
        )

    def _key(self, epoch: int) -> tuple[int, int, int]:
        """The key of all randomness of an epoch: seed, stage, epoch."""
        return self.recipe.seed, self.number, epoch

    def _draw(self, key: tuple[int, int, int]) -> Loaded:
        """The images of an epoch."""
        power = self.recipe.data.balance
        if not power or isinstance(self.split, Stream):  # `DataConfig` refuses both together
            return self.split
        return Resampled(self.split, power, torch.Generator().manual_seed(epoch_seed(key, SAMPLE)))

    def _class_weights(self) -> Tensor | None:
        power = self.recipe.loss.balance
        return class_weights(self.shares, power) if power else None

    def _rate(self, elapsed: float) -> float:
        """The learning rate, `elapsed` epochs after the start of the stage."""
        return self.stage.learning_rate * rate_factor(self.recipe.optimizer, elapsed, self.stage.epochs)


def check_stages(recipe: Recipe, model: DTRAM, stages: list[Stage], data: Data, world: int) -> None:
    """Refuse a plan that cannot be trained, before anything is.

    Args:
        recipe: that of the run.
        model: its model.
        stages: its stages, in order.
        data: its images.
        world: the number of processes.

    Raises:
        ValueError: there is no stage, or one cannot be trained.
    """
    if not stages:
        raise ValueError("stages.encoder.epochs, ram.epochs and dtram.epochs leave nothing to train.")
    if recipe.mix.is_used and all(stage.num_steps > 1 for stage in stages):
        raise ValueError(
            "mix.mixup and mix.cutmix mix images in the stage of the encoder, which this plan lacks; "
            "accepted is 0."
        )
    check_way(model, recipe.loss)
    check_folds(stages, data)
    for stage in stages:
        try:
            split = images_of(stage, data, recipe)
            for encoder in model.encoders:
                first_layers(encoder, stage.freeze_layers)
        except ValueError as error:
            raise ValueError(f"stages.{stage.kind}.{error}") from None
        batches = max(1, len(split) // recipe.batch_size)
        if recipe.accumulation > batches:
            raise ValueError(
                f"accumulation={recipe.accumulation} is more than the {batches} batches in an "
                f"epoch of stage {stage.name!r}, which trains on {stage.split!r}."
            )
        if recipe.loss.balance and isinstance(split, Stream):
            raise ValueError(
                f"loss.balance={recipe.loss.balance} needs data.streaming=false; a stream does not know how "
                "many images a class has."
            )
        if recipe.mix.is_used and stage.num_steps == 1:
            check_mix(recipe.mix, model, min(recipe.batch_size, len(split)) / world)


def check_mix(config: MixConfig, model: DTRAM, share: float) -> None:
    """ValueError unless images can be mixed; `share` is the number of images in a batch of one process."""
    if model.image_size is None or model.context == "fit":
        raise ValueError(
            "mix.mixup and mix.cutmix mix squares of one size; accepted with context='fit' or "
            "image_size=null is 0."
        )
    if share % 2:
        raise ValueError(
            f"mix mixes pairs; each process has {share:g} images in a batch, accepted is an even number."
        )
