"""Train a DT-RAM through its curriculum: encoder -> RAM with 2, 3, .. T steps -> DT-RAM.

    accelerate launch training/train.py [recipe] [key=value ...] [--resume]

A recipe is a YAML file, or the name of a file in `recipes/`. The default, `digits`, takes minutes on a CPU.
With `--resume` an interrupted run continues after its last finished epoch, to the same weights as without
the interruption.
"""

import argparse
import platform
import sys
import time
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

import accelerate
import timm
import torch
from accelerate.logging import get_logger

import dtram_hub
from asked_recipe import read_words
from dtram_hub.data.streaming import Stream
from dtram_hub.learning import advice
from dtram_hub.learning.curriculum import Stage, plan_stages, stage_before
from dtram_hub.learning.epoch_log import line, seconds_left
from dtram_hub.learning.evaluation import Evaluator
from dtram_hub.learning.interrupt import end_on_signals, end_with_launcher
from dtram_hub.learning.judges import images_of
from dtram_hub.learning.machine import (
    count_machine,
    describe_machine,
    make_accelerator,
    on_main,
    telling_of_lost_processes,
)
from dtram_hub.learning.messages import show_messages
from dtram_hub.learning.recipe import Recipe, build_model, load_data
from dtram_hub.learning.report import write_report
from dtram_hub.learning.resume import Progress, continue_run, save_progress, writing
from dtram_hub.learning.run_folder import RunFolder, stage_rows
from dtram_hub.learning.same_run import check_same_recipe, identify, tell_longer
from dtram_hub.learning.shared_stages import copy_stages, shared_stages
from dtram_hub.learning.stage_training import StageTraining, check_stages
from dtram_hub.learning.starting_weights import start_from
from dtram_hub.learning.tracked_pictures import show_glimpses
from dtram_hub.models import checkpoint
from dtram_hub.prompt import ending_in_a_sentence
from dtram_hub.sharing.named_models import find_model

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
        self.said: set[str] = set()
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
        check_stages(recipe, self.model, self.stages, self.data, self.accelerator.num_processes)
        if not isinstance(self.data.splits["train"], Stream):
            self.advise(advice.few_images(self.data.splits["train"].labels, self.data.class_names))
        self.find_start(resume)

    def find_start(self, resume: bool) -> None:
        """Find the progress of the run, or of the run whose stages it takes, and write the recipe."""
        recipe = self.recipe
        self.progress, self.state = Progress(), None
        names, data = [stage.name for stage in self.stages], identify(self.data)
        if resume:
            self.progress, self.state = continue_run(self.accelerator, self.folder, names, data)
        if recipe.init_from:
            start_from(self.model, find_model(recipe.init_from).build(), recipe.init_from, recipe.data)
        has_folds = any(stage.fold for stage in self.stages)
        self.start = deepcopy(self.model.state_dict()) if has_folds else None
        borrowed = []
        if recipe.stages_from and self.state is None:
            borrowed = shared_stages(Path(recipe.stages_from), recipe, self.stages, data)
        if not resume or tell_longer(self.folder, recipe, self.stages, self.progress.stage):
            self.open_folder()
        if borrowed:
            source = RunFolder(recipe.stages_from)
            self.progress = on_main(self.accelerator, copy_stages, self.model, source, self.folder, borrowed)
        self.progress.data, self.progress.machine = data, count_machine(self.accelerator)

    def open_folder(self) -> None:
        """Make the run's folder and write the recipe. A run that grows is not finished any more."""
        if self.accelerator.is_main_process:
            packages = (dtram_hub, timm, torch, accelerate)
            versions = [f"{package.__name__} {package.__version__}" for package in packages]
            self.folder.make()
            self.folder.metrics_path.unlink(missing_ok=True)
            self.folder.write_recipe(
                asdict(self.recipe),
                versions=", ".join([*versions, f"python {platform.python_version()}"]),
                command=" ".join(["accelerate launch", *sys.argv]),
            )
        self.accelerator.wait_for_everyone()

    def advise(self, sentence: str | None) -> None:
        """Say a sentence, once in a run."""
        if sentence and sentence not in self.said:
            self.said.add(sentence)
            logger.warning(sentence)

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
        progress = self.progress
        if before := stage_before(self.stages, progress.stage):
            checkpoint.load_weights(self.model, self.folder.stage_weights(before.name))
        elif self.start:
            self.model.load_state_dict(self.start)
        training = StageTraining(
            self.recipe, self.evaluator, self.stages, progress.stage, self.data, self.folder
        )
        if self.state is not None:
            training.load(self.state)
            self.state = None
        for epoch in range(progress.epochs_done, stage.epochs):
            if progress.is_stale(self.recipe.patience):
                logger.info(f"{stage.name}: no epoch was better than {progress.best_epoch}; the stage ends.")
                break
            start = time.perf_counter()
            scores = training.train_epoch(epoch)
            self.keep_if_best(training, epoch, scores)
            progress.epochs_done = epoch + 1
            taken = time.perf_counter() - start
            progress.seconds[stage.name] = progress.seconds.get(stage.name, 0.0) + taken
            self.log(stage, epoch, scores, taken)
            averaged = training.average and training.average.averaged
            save_progress(self.accelerator, self.folder, progress, stage.name, averaged)
        self.evaluator.model = self.model
        checkpoint.load_weights(self.model, self.folder.stage_weights(stage.name))
        show_glimpses(self.accelerator, self.evaluator, self.data, stage, self.progress.stage)
        self.accelerator.free_memory()

    def keep_if_best(self, training: StageTraining, epoch: int, scores: dict[str, float]) -> None:
        """Add the validation scores, and save the weights if no earlier epoch had a higher return.

        The return of a RAM is its accuracy. A stage that trains on validation saves every epoch, because its
        validation return says nothing about new images.
        """
        stage, progress, names = training.stage, self.progress, self.data.class_names
        learned = "validation" in stage.splits
        self.evaluator.model = training.tested
        if not learned:
            found = self.evaluator.predict(self.data.splits["validation"])
            discount = self.recipe.loss.discount if stage.dynamic else 1.0
            quick = found.quick_scores(discount)
            scores |= {f"validation_{name}": value for name, value in quick.items()}
            dead = advice.dead_encoder(found.logits, found.labels)
            self.advise(dead or advice.one_answer(found.logits.argmax(-1), found.labels, names))
        if epoch + 1 == stage.epochs and training.shares is not None and not self.recipe.loss.balance:
            self.advise(advice.below_most_frequent(scores["train_accuracy"], training.shares, names))
        score = scores.get("validation_return", scores["train_return"])
        # Of equal epochs the last is kept: its learning rate was lower. Few validation images tie often.
        if learned or score >= progress.best:
            progress.best, progress.best_epoch = score, epoch + 1
            if self.accelerator.is_main_process:
                with writing(self.folder):
                    checkpoint.save_weights(training.tested, self.folder.stage_weights(stage.name))

    def log(self, stage: Stage, epoch: int, scores: dict[str, float], taken: float) -> None:
        """Log the scores of an epoch to the trackers and to the screen."""
        images = [len(images_of(each, self.data, self.recipe)) for each in self.stages]
        left = seconds_left(self.stages, images, self.progress.stage, epoch + 1, taken)
        values = scores | {"seconds_left": left}
        self.accelerator.log({f"{stage.name}/{name}": value for name, value in values.items()}, step=epoch)
        logger.info(line(stage, epoch, scores, self.progress.seconds[stage.name], left))

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
        metrics = write_report(
            self.folder, self.evaluator, self.data, self.stages, facts, self.recipe.mean_steps
        )
        rows = stage_rows(metrics)
        if better := advice.better_stage(rows):
            self.advise(advice.offer(better, rows[-1], str(self.folder)))
        minutes = sum(self.progress.seconds.values()) / 60
        logger.info(f"All stages together trained for {minutes:.1f} minutes.")
        self.accelerator.end_training()


if __name__ == "__main__":
    main()
