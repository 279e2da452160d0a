"""Train a DT-RAM through its whole curriculum: encoder -> RAM with 2, 3, .. T steps -> DT-RAM.

    accelerate launch training/train.py [recipe.yaml] [key=value ...] [--resume]

A recipe is a file, or the name of one of `recipes/`. Without one it trains on the embedded cluttered digits,
in minutes on a CPU. With `--resume` a run that was cut off goes on from its last finished epoch and ends with
the weights it would have had anyway.
"""

import argparse
import itertools
import json
import math
import os
import platform
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import accelerate
import numpy as np
import psutil
import timm
import torch
from accelerate import Accelerator
from omegaconf import OmegaConf
from tqdm.auto import tqdm

import dtram_hub
from dtram_hub.checks import check_choice, nearest
from dtram_hub.data import augment
from dtram_hub.data import splits as data
from dtram_hub.data.canvas import TRANSFORM
from dtram_hub.learning import report
from dtram_hub.learning.curriculum import Stage, enter_stage, plan_stages
from dtram_hub.learning.evaluation import Evaluator
from dtram_hub.learning.optimizer import make_optimizer, rate_factor, set_learning_rate
from dtram_hub.learning.recipe import Recipe, load_data, read_recipe, write_recipe
from dtram_hub.learning.resume import Progress, last_progress, save_progress, shared_stages
from dtram_hub.learning.task import Task
from dtram_hub.models import checkpoint
from dtram_hub.models.dtram import DTRAM
from dtram_hub.models.normalise import Normalise

RECIPES = Path(__file__).parent / "recipes"
DEFAULT_RECIPE = RECIPES / "digits.yaml"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="recipe | key=value")
    parser.add_argument("--resume", action="store_true", help="go on from the last finished epoch")
    args = parser.parse_args(argv)
    recipes = [word for word in args.words if "=" not in word]
    overrides = [word for word in args.words if "=" in word]
    try:
        if len(recipes) > 1:
            raise ValueError(f"{len(recipes)} recipes were given ({', '.join(recipes)}); accepted is one.")
        recipe = read_recipe(find_recipe(*recipes), overrides)
        run = Run(recipe, args.resume)
    except ValueError as error:
        sys.exit(f"train.py: {error}")
    try:
        run.train()
    except FloatingPointError as error:
        sys.exit(f"train.py: {error}")
    run.finish()


class Run:
    """One training run: a recipe, its data, its model, and how far it has come.

    Everything that can be wrong with the recipe, the data or the output folder is found out here, before
    the first epoch, and raised as ValueError.
    """

    def __init__(self, recipe: Recipe, resume: bool):
        self.recipe = recipe
        self.output = Path(recipe.output)
        self.accelerator = Accelerator(
            mixed_precision=recipe.precision,
            gradient_accumulation_steps=recipe.accumulation,
            log_with=recipe.trackers or None,
            project_dir=self.output,
        )
        world = self.accelerator.num_processes
        if processes_asked_for() > world:
            self.accelerator.print(
                f"note: {processes_asked_for()} processes were asked for and {world} runs; on CPU, "
                "ACCELERATE_USE_CPU=true torchrun --nproc_per_node N training/train.py starts more"
            )
        if recipe.batch_size % world:
            raise ValueError(f"batch_size={recipe.batch_size} is not divisible by {world} processes.")
        if self.accelerator.device.type == "cpu":
            # The launcher asks for one thread unless told otherwise.
            torch.set_num_threads(recipe.threads or max(1, os.cpu_count() // world))
        self.check_output(resume)
        self.data = load_data(recipe, self.accelerator.print)
        if self.data.skipped:
            self.accelerator.print(f"data: left out {self.data.skipped} broken files")
        self.model = self.build_model()
        normalise = Normalise(self.model.pretrained_cfg).to(self.accelerator.device)
        self.evaluator = Evaluator(self.model, normalise, self.accelerator, 4 * recipe.batch_size)
        self.location_std = self.model.location_std
        self.stages = plan_stages(
            self.model.num_steps,
            recipe.stages,
            curriculum=recipe.curriculum,
            context=self.model.context != "none",
        )
        if not self.stages:
            raise ValueError("stages.encoder.epochs, ram.epochs and dtram.epochs leave nothing to train.")
        for stage in self.stages:
            for name in stage.splits:
                check_choice(f"stages.{stage.kind}.split", name, self.data.splits)
            batches = sum(len(self.data.splits[name]) for name in stage.splits) // recipe.batch_size
            if recipe.accumulation > max(1, batches):
                raise ValueError(
                    f"accumulation={recipe.accumulation} is more than the {max(1, batches)} batches in an "
                    f"epoch of stage {stage.name!r}, which trains on {stage.split!r}."
                )
        self.states = self.output / "checkpoints"
        self.progress, self.resumed = last_progress(self.states) if resume else (Progress(), None)
        borrowed = []
        if recipe.stages_from and self.resumed is None:
            borrowed = shared_stages(Path(recipe.stages_from), recipe, self.stages)
        if not resume:
            self.open_output()
        self.borrow_stages(borrowed)

    def check_output(self, resume: bool) -> None:
        """Refuse to write over another run, or to continue one with another recipe."""
        written = self.output / "recipe.yaml"
        if resume:
            if not written.is_file():
                raise ValueError(f"--resume: output={str(self.output)!r} holds no run to go on with.")
            before, now = OmegaConf.load(written), OmegaConf.structured(self.recipe)
            changed = [key for key in now if key != "threads" and now[key] != before.get(key)]
            if changed:
                raise ValueError(f"--resume: the run in {str(self.output)!r} has another {changed[0]!r}.")
        elif written.is_file():
            raise ValueError(
                f"output={str(self.output)!r} holds a run already; pass --resume to go on with it, "
                "or output=FOLDER for another."
            )

    def open_output(self) -> None:
        """Make the run's folder, with the recipe as it is run."""
        if self.accelerator.is_main_process:
            (self.output / "stages").mkdir(parents=True, exist_ok=True)
            packages = (dtram_hub, timm, torch, accelerate)
            versions = [f"{package.__name__} {package.__version__}" for package in packages]
            write_recipe(
                self.recipe,
                self.output / "recipe.yaml",
                versions=", ".join([*versions, f"python {platform.python_version()}"]),
                command=" ".join(["accelerate launch", *sys.argv]),
            )
        self.accelerator.wait_for_everyone()

    def borrow_stages(self, stages: list[Stage]) -> None:
        """Take over what another run has kept of these stages, and the time that it took.

        What they did not train may differ in this run, and starts afresh.
        """
        if not stages:
            return
        source = Path(self.recipe.stages_from)
        seconds = json.loads((source / "metrics.json").read_text())["seconds"]
        if self.accelerator.is_main_process:
            for stage in stages:
                kept = source / "stages" / f"{stage.name}.safetensors"
                checkpoint.load_weights(self.model, kept, fitting=True)
                checkpoint.save_weights(self.model, self.stage_file(stage))
        self.accelerator.wait_for_everyone()
        self.progress = Progress(len(stages), seconds={stage.name: seconds[stage.name] for stage in stages})

    def build_model(self) -> DTRAM:
        recipe = self.recipe
        accelerate.utils.set_seed(recipe.seed)
        classes = len(self.data.class_names)
        asked = recipe.model.get("num_classes", classes)
        if asked != classes:
            raise ValueError(f"model.num_classes={asked}, but data.source has {classes} classes.")
        arguments = recipe.model | {"num_classes": classes}
        models = timm.list_models("dtram*")
        if recipe.architecture not in models:
            raise ValueError(
                f"architecture={recipe.architecture!r} is not a DT-RAM.{nearest(recipe.architecture, models)}"
            )
        model = timm.create_model(recipe.architecture, **arguments)
        model.pretrained_cfg |= TRANSFORM
        if recipe.encoder_weights:
            model.load_encoder(None if recipe.encoder_weights == "timm" else recipe.encoder_weights)
        # Convolutions are several times as fast this way, on CPUs and GPUs alike.
        return model.to(memory_format=torch.channels_last) if recipe.channels_last else model

    def train(self) -> None:
        """Run all stages that are not done yet."""
        if self.recipe.trackers:
            self.accelerator.init_trackers("logs")
        while self.progress.stage < len(self.stages):
            stage = self.stages[self.progress.stage]
            self.train_stage(stage)
            self.progress = Progress(self.progress.stage + 1, seconds=self.progress.seconds)

    def train_stage(self, stage: Stage) -> None:
        """Train one stage from where it stands, keeping the weights that do best on validation."""
        if self.progress.stage:
            checkpoint.load_weights(self.model, self.stage_file(self.stages[self.progress.stage - 1]))
        enter_stage(self.model, stage)
        self.task = self.make_task(stage)
        self.optimizer = make_optimizer(self.model, self.recipe.optimizer, stage.learning_rate)
        task, optimizer = self.accelerator.prepare(self.task, self.optimizer)
        if self.resumed is not None:
            self.accelerator.load_state(str(self.resumed))
            self.resumed = None
        split = data.join([self.data.splits[name] for name in stage.splits])
        for epoch in range(self.progress.epochs_done, stage.epochs):
            start = time.perf_counter()
            scores = self.train_epoch(stage, epoch, split, task, optimizer)
            # What was trained on validation is not to be chosen by it: its last epoch is kept, untested.
            learned = "validation" in stage.splits
            if not learned:
                scores["validation_return"] = self.validate(stage)
            score = scores.get("validation_return", scores["reward"])
            # Of equals the last: few images to validate on tie often, and the rate has fallen further since.
            if learned or score >= self.progress.best:
                self.progress.best = score
                if self.accelerator.is_main_process:
                    checkpoint.save_weights(self.model, self.stage_file(stage))
            self.progress.epochs_done = epoch + 1
            seconds = self.progress.seconds.get(stage.name, 0.0) + time.perf_counter() - start
            self.progress.seconds[stage.name] = seconds
            self.accelerator.log(
                {f"{stage.name}/{name}": value for name, value in scores.items()}, step=epoch
            )
            told = "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in scores.items())
            self.accelerator.print(
                f"{stage.name:8} epoch {epoch + 1:2}/{stage.epochs}  {told}  {seconds:.0f} s"
            )
            save_progress(self.accelerator, self.states, self.progress)
        self.accelerator.free_memory()

    def train_epoch(self, stage: Stage, epoch: int, split: data.Split, task, optimizer) -> dict[str, float]:
        """One pass over a split, whose order and draws depend on seed, stage and epoch alone."""
        recipe, accelerator = self.recipe, self.accelerator
        key = [recipe.seed, self.progress.stage, epoch]
        accelerate.utils.set_seed(derive_seed(*key, accelerator.process_index))
        batches = data.batches(
            split,
            recipe.batch_size,
            seed=derive_seed(*key),
            rank=accelerator.process_index,
            world=accelerator.num_processes,
        )
        # Gradients must not wait across an epoch's end, where the state is saved.
        count = max(1, len(split) // recipe.batch_size // recipe.accumulation * recipe.accumulation)
        task.train()
        totals = torch.zeros(3, dtype=torch.float64)
        bar = tqdm(
            itertools.islice(batches, count),
            total=count,
            desc=stage.name,
            leave=False,
            disable=not accelerator.is_main_process or not sys.stderr.isatty(),
        )
        for i, batch in enumerate(bar):
            images, labels = (tensor.to(accelerator.device) for tensor in batch)
            if recipe.data.flip:
                images = augment.flip(images)
            crop = recipe.data.crop if stage.crop is None else stage.crop
            images = augment.crop_and_colour(images, crop, recipe.data.colour)
            if any(recipe.data.distort.values()):
                images = augment.distort(images, **recipe.data.distort)
            factor = rate_factor(recipe.optimizer, epoch + i / count, stage.epochs)
            set_learning_rate(optimizer, stage.learning_rate * factor)
            self.set_exploration(stage, epoch + i / count)
            with accelerator.accumulate(task):
                loss = task(images, labels)
                if not math.isfinite(loss.total.item()):
                    raise FloatingPointError(
                        f"the loss of stage {stage.name!r}, epoch {epoch + 1}, batch {i + 1} is not finite; "
                        f"the last good state is in {self.output}. A smaller learning_rate may help."
                    )
                accelerator.backward(loss.total)
                if accelerator.sync_gradients and recipe.optimizer.clip_norm:
                    accelerator.clip_grad_norm_(task.parameters(), recipe.optimizer.clip_norm)
                optimizer.step()
                optimizer.zero_grad()
            totals += torch.stack([loss.total, loss.reward, loss.steps]).detach().cpu().double()
        totals = accelerator.reduce(totals.to(accelerator.device, torch.float32), "mean").cpu() / count
        return dict(zip(("loss", "reward", "steps"), totals.tolist(), strict=True))

    def set_exploration(self, stage: Stage, epoch: float) -> None:
        """The spread of the location policy, as a function of the (fractional) epoch alone."""
        end = self.location_std
        start = end if stage.location_std is None else stage.location_std
        self.model.location_std = start + (end - start) * epoch / stage.epochs

    def validate(self, stage: Stage) -> float:
        """Mean return on validation: for a RAM, its accuracy."""
        found = self.evaluator.predict(self.data.splits["validation"])
        return found.mean_return(self.recipe.loss.discount if stage.dynamic else 1.0)

    def make_task(self, stage: Stage) -> Task:
        recipe = self.recipe
        loss = recipe.loss if stage.reward is None else replace(recipe.loss, reward=stage.reward)
        return Task(
            self.model,
            self.evaluator.normalise,
            loss,
            freeze_encoder=stage.freeze != "nothing",
            freeze_batch_norm=recipe.freeze_batch_norm,
            num_rollouts=recipe.num_rollouts,
        )

    def stage_file(self, stage: Stage) -> Path:
        return self.output / "stages" / f"{stage.name}.safetensors"

    def finish(self) -> None:
        """Test every stage once, save the model, write and draw the results, print the table."""
        self.model.location_std = self.location_std
        world = self.accelerator.num_processes
        self.model.to(self.accelerator.device)
        report.write_report(
            self.output,
            self.model,
            self.data,
            self.stages,
            self.evaluator.normalise,
            self.accelerator,
            self.evaluator.batch_size,
            {
                "seed": self.recipe.seed,
                "seconds": self.progress.seconds,
                "machine": describe_machine(self.accelerator.device, world),
                "version": dtram_hub.__version__,
            },
            self.recipe.mean_steps,
        )
        minutes = sum(self.progress.seconds.values()) / 60
        self.accelerator.print(f"All stages together trained for {minutes:.1f} minutes.")
        self.accelerator.end_training()


def find_recipe(word: str = "digits") -> Path:
    """A recipe by its path, or one of `recipes/` by its name alone."""
    named = RECIPES / f"{word}.yaml"
    return named if named.is_file() and not Path(word).is_file() else Path(word)


def describe_machine(device: torch.device, world: int) -> str:
    """What a run ran on, in words."""
    if device.type == "cuda":
        return f"{world} x {torch.cuda.get_device_name(device)}"
    threads = torch.get_num_threads()
    processes = "" if world == 1 else f", each of {world} processes"
    return f"{threads} CPU thread{'s' if threads > 1 else ''}{processes} ({platform.machine()})"


def processes_asked_for() -> int:
    """--num_processes of the launcher above this process; on CPU, accelerate may run fewer in silence."""
    launcher = psutil.Process().parent()
    asked = re.search(r"--num[_-]processes[= ](\d+)", " ".join(launcher.cmdline()) if launcher else "")
    return int(asked[1]) if asked else 1


def derive_seed(*parts: int) -> int:
    """One seed from several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


if __name__ == "__main__":
    main()
