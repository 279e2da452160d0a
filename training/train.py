"""Train a DT-RAM through its curriculum: encoder -> RAM with 2, 3, .. T steps -> DT-RAM.

    accelerate launch training/train.py [recipe] [key=value ...] [--resume]

A recipe is a YAML file, or the name of a file in `recipes/`. The default, `digits`, takes minutes on a CPU.
With `--resume` an interrupted run continues after its last finished epoch, to the same weights as without
the interruption.
"""

import argparse
import itertools
import math
import platform
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import accelerate
import timm
import torch
from accelerate.logging import get_logger
from tqdm.auto import tqdm

import dtram_hub
from asked_recipe import read_words
from dtram_hub.data.augment import Augmentation
from dtram_hub.data.loader import Batch, epoch_seed, train_loader
from dtram_hub.data.splits import join
from dtram_hub.learning.curriculum import Stage, enter_stage, first_layers, location_std, plan_stages
from dtram_hub.learning.evaluation import Evaluator
from dtram_hub.learning.first_looks import keep_first_looks
from dtram_hub.learning.interrupt import end_on_signals, end_with_launcher
from dtram_hub.learning.losses import Loss
from dtram_hub.learning.machine import (
    count_machine,
    describe_machine,
    make_accelerator,
    on_main,
    telling_of_lost_processes,
)
from dtram_hub.learning.messages import show_messages
from dtram_hub.learning.optimizer import make_optimizer, rate_factor, set_learning_rate
from dtram_hub.learning.recipe import Recipe, build_model, load_data
from dtram_hub.learning.report import write_report
from dtram_hub.learning.resume import (
    Progress,
    check_same_recipe,
    continue_run,
    identify,
    load_state,
    save_progress,
    writing,
)
from dtram_hub.learning.run_folder import RunFolder
from dtram_hub.learning.shared_stages import copy_stages, shared_stages
from dtram_hub.learning.task import check_way, make_task
from dtram_hub.models import checkpoint
from dtram_hub.models.records import Noise
from dtram_hub.prompt import ending_in_a_sentence

# Spawn keys of seeds: for the noise of a batch, and for all other randomness of a process.
NOISE, PROCESS = (2,), (3,)

logger = get_logger("dtram_hub.train")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="recipe | key=value")
    parser.add_argument(
        "--resume", action="store_true", help="continue the run in output= after its last finished epoch"
    )
    args = parser.parse_intermixed_args(argv)
    show_messages(sys.stdout)
    end_on_signals()
    end_with_launcher()
    with ending_in_a_sentence("train.py", "stopped; --resume continues after the last finished epoch."):
        run = Run(read_words(args.words, args.resume), args.resume)
        try:
            with telling_of_lost_processes():
                run.train()
                run.finish()
        finally:
            run.folder.release()


class Run:
    """One training run: a recipe, its data, its model and its progress.

    Raises:
        ValueError: recipe, data or output folder are wrong. The constructor checks them all, so that no
            training is lost.
    """

    def __init__(self, recipe: Recipe, resume: bool):
        self.recipe = recipe
        self.folder = RunFolder(recipe.output)
        self.accelerator = make_accelerator(recipe)
        on_main(self.accelerator, self.folder.claim)
        try:
            self.prepare(resume)
        except BaseException:
            self.folder.release()
            raise

    def prepare(self, resume: bool) -> None:
        """Check everything, load the data, build the model, and find where the training begins."""
        recipe = self.recipe
        if resume:
            check_same_recipe(self.folder, recipe)
        elif self.folder.exists:
            raise ValueError(
                f"output={str(self.folder)!r} holds a run already; pass --resume to continue it, "
                "or output=FOLDER for another folder."
            )
        self.data = load_data(recipe)
        if self.data.skipped:
            logger.info(f"data: skipped {self.data.skipped} unreadable images")
        self.model = build_model(recipe, len(self.data.class_names))
        self.evaluator = Evaluator(self.model, self.accelerator, 4 * recipe.batch_size)
        self.stages = plan_stages(
            self.model.num_steps,
            recipe.stages,
            curriculum=recipe.curriculum,
            context=self.model.context != "none",
        )
        self.check_stages()
        self.progress, self.state = Progress(), None
        names, data = [stage.name for stage in self.stages], identify(self.data)
        if resume:
            self.progress, self.state = continue_run(self.accelerator, self.folder, names, data)
        borrowed = []
        if recipe.stages_from and self.state is None:
            borrowed = shared_stages(Path(recipe.stages_from), recipe, self.stages, data)
        if not resume:
            self.open_folder()
        if borrowed:
            source = RunFolder(recipe.stages_from)
            self.progress = on_main(self.accelerator, copy_stages, self.model, source, self.folder, borrowed)
        self.progress.data, self.progress.machine = data, count_machine(self.accelerator)

    def check_stages(self) -> None:
        """ValueError for a plan without stages, and for a stage that cannot be trained."""
        if not self.stages:
            raise ValueError("stages.encoder.epochs, ram.epochs and dtram.epochs leave nothing to train.")
        check_way(self.model, self.recipe.loss)
        for stage in self.stages:
            try:
                split = join(self.data.splits, stage.splits)
                for encoder in self.model.encoders:
                    first_layers(encoder, stage.freeze_layers)
            except ValueError as error:
                raise ValueError(f"stages.{stage.kind}.{error}") from None
            batches = max(1, len(split) // self.recipe.batch_size)
            if self.recipe.accumulation > batches:
                raise ValueError(
                    f"accumulation={self.recipe.accumulation} is more than the {batches} batches in an "
                    f"epoch of stage {stage.name!r}, which trains on {stage.split!r}."
                )

    def open_folder(self) -> None:
        """Make the run's folder and write the recipe."""
        if self.accelerator.is_main_process:
            packages = (dtram_hub, timm, torch, accelerate)
            versions = [f"{package.__name__} {package.__version__}" for package in packages]
            self.folder.make()
            self.folder.write_recipe(
                asdict(self.recipe),
                versions=", ".join([*versions, f"python {platform.python_version()}"]),
                command=" ".join(["accelerate launch", *sys.argv]),
            )
        self.accelerator.wait_for_everyone()

    def train(self) -> None:
        """Train all stages that are not finished."""
        if self.recipe.trackers:
            self.accelerator.init_trackers("logs")
        while self.progress.stage < len(self.stages):
            stage = self.stages[self.progress.stage]
            self.train_stage(stage)
            self.progress = self.progress.next_stage(stage.name, self.folder)

    def train_stage(self, stage: Stage) -> None:
        """Train the remaining epochs of a stage, and keep the weights with the best validation return."""
        if self.progress.stage:
            before = self.stages[self.progress.stage - 1]
            checkpoint.load_weights(self.model, self.folder.stage_weights(before.name))
        enter_stage(self.model, stage)
        task = make_task(self.model, self.recipe, stage)
        optimizer = make_optimizer(self.model, self.recipe.optimizer, stage.learning_rate)
        split = join(self.data.splits, stage.splits)
        self.first_looks = None
        if stage.epochs > 1:
            self.first_looks = keep_first_looks(self.evaluator, split, self.augmentation(stage))
        self.task, self.optimizer = self.accelerator.prepare(task, optimizer)
        if self.state is not None:
            load_state(self.accelerator, self.state, self.optimizer)
            self.state = None
        for epoch in range(self.progress.epochs_done, stage.epochs):
            start = time.perf_counter()
            scores = self.train_epoch(stage, epoch)
            self.keep_if_best(stage, scores)
            self.progress.epochs_done = epoch + 1
            seconds = self.progress.seconds.get(stage.name, 0.0) + time.perf_counter() - start
            self.progress.seconds[stage.name] = seconds
            self.log(stage, epoch, scores, seconds)
            save_progress(self.accelerator, self.folder, self.progress, stage.name)
        self.accelerator.free_memory()

    def augmentation(self, stage: Stage) -> Augmentation:
        """The augmentation of a stage."""
        return self.recipe.data if stage.crop is None else replace(self.recipe.data, crop=stage.crop)

    def keep_if_best(self, stage: Stage, scores: dict[str, float]) -> None:
        """Add the validation return to `scores`, and save the weights if no earlier epoch had a higher one.

        The return of a RAM is its accuracy. A stage that trains on validation saves every epoch, because its
        validation return says nothing about new images.
        """
        learned = "validation" in stage.splits
        if not learned:
            found = self.evaluator.predict(self.data.splits["validation"])
            discount = self.recipe.loss.discount if stage.dynamic else 1.0
            scores["validation_return"] = found.mean_return(discount)
        score = scores.get("validation_return", scores["train_return"])
        # Of equal epochs the last is kept: its learning rate was lower. Few validation images tie often.
        if learned or score >= self.progress.best:
            self.progress.best = score
            if self.accelerator.is_main_process:
                with writing(self.folder):
                    checkpoint.save_weights(self.model, self.folder.stage_weights(stage.name))

    def log(self, stage: Stage, epoch: int, scores: dict[str, float], seconds: float) -> None:
        """Log the scores of an epoch to the trackers and to the screen."""
        self.accelerator.log({f"{stage.name}/{name}": value for name, value in scores.items()}, step=epoch)
        text = "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in scores.items())
        logger.info(f"{stage.name:8} epoch {epoch + 1:2}/{stage.epochs}  {text}  {seconds:.0f} s")

    def train_epoch(self, stage: Stage, epoch: int) -> dict[str, float]:
        """Train one epoch; return its mean loss, mean return and mean steps over all rollouts.

        Order, augmentation and noise depend on seed, stage and epoch alone.
        """
        recipe, accelerator = self.recipe, self.accelerator
        key, rank = self.epoch_key(epoch), accelerator.process_index
        accelerate.utils.set_seed(epoch_seed((*key, rank), PROCESS))
        loader = train_loader(
            join(self.data.splits, stage.splits),
            recipe.batch_size,
            seed=key,
            rank=rank,
            world=accelerator.num_processes,
            augmentation=self.augmentation(stage),
            workers=recipe.data.workers,
            pin_memory=accelerator.device.type == "cuda",
        )
        # A saved state holds no accumulated gradients, so an epoch ends with a step of the optimizer.
        count = max(1, len(loader) // recipe.accumulation * recipe.accumulation)
        quiet = not accelerator.is_main_process or not sys.stderr.isatty()
        batches = tqdm(itertools.islice(loader, count), stage.name, count, leave=False, disable=quiet)
        self.task.train()
        totals = torch.zeros(3, dtype=torch.float64)
        for number, batch in enumerate(batches):
            loss = self.train_batch(stage, epoch, number, epoch + number / count, batch)
            totals += torch.stack([loss.total, loss.mean_return, loss.steps]).detach().cpu().double()
        totals = accelerator.reduce(totals.to(accelerator.device, torch.float32), "mean").cpu() / count
        return dict(zip(("loss", "train_return", "steps"), totals.tolist(), strict=True))

    def train_batch(self, stage: Stage, epoch: int, number: int, elapsed: float, batch: Batch) -> Loss:
        """Train one batch, `elapsed` epochs after the start of the stage, and return its loss.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        settings, accelerator = self.recipe.optimizer, self.accelerator
        factor = rate_factor(settings, elapsed, stage.epochs)
        set_learning_rate(self.optimizer, stage.learning_rate * factor)
        std = location_std(stage, self.model.location_std, elapsed)
        noise = self.draw_noise(stage, epoch, number).to(accelerator.device)
        images, labels = (tensor.to(accelerator.device) for tensor in batch[:2])
        first = self.first_looks and self.first_looks.at(batch[2], accelerator.device)
        with accelerator.accumulate(self.task):
            loss = self.task(images, labels, noise, std, first)
            if not math.isfinite(loss.total.item()):
                raise FloatingPointError(
                    f"the loss of stage {stage.name!r}, epoch {epoch + 1}, batch {number + 1} is not finite; "
                    f"the last good state is in {self.folder}. A smaller learning_rate may help."
                )
            accelerator.backward(loss.total)
            if accelerator.sync_gradients and settings.clip_norm:
                accelerator.clip_grad_norm_(self.task.parameters(), settings.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return loss

    def epoch_key(self, epoch: int) -> tuple[int, int, int]:
        """The key of all randomness of an epoch: seed, stage, epoch."""
        return self.recipe.seed, self.progress.stage, epoch

    def draw_noise(self, stage: Stage, epoch: int, number: int) -> Noise:
        """Draw the noise of a whole batch, and return the share of this process."""
        images = sum(len(self.data.splits[name]) for name in stage.splits)
        seed = epoch_seed((*self.epoch_key(epoch), number), NOISE)
        return self.accelerator.unwrap_model(self.task).draw_noise(
            min(images, self.recipe.batch_size),
            torch.Generator().manual_seed(seed),
            slice(self.accelerator.process_index, None, self.accelerator.num_processes),
        )

    def finish(self) -> None:
        """Test every stage once, then write the model, the metrics and the pictures and print a table."""
        self.model.to(self.accelerator.device)
        facts = {
            "seed": self.recipe.seed,
            "seconds": self.progress.seconds,
            "machine": describe_machine(self.accelerator),
            "version": dtram_hub.__version__,
            "data": self.progress.data,
        }
        write_report(self.folder, self.evaluator, self.data, self.stages, facts, self.recipe.mean_steps)
        minutes = sum(self.progress.seconds.values()) / 60
        logger.info(f"All stages together trained for {minutes:.1f} minutes.")
        self.accelerator.end_training()


if __name__ == "__main__":
    main()
