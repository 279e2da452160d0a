"""Training RAM on MNIST: our step and our epochs against plain PyTorch, and against the bare layers.

    python benchmarks/mnist_training.py [--root FOLDER_OF_THE_IDX_FILES]

RAM with 6 glimpses of 8x8 pixels, batch 128, one thread. Four sides take turns in one run; medians are
compared:

- ours: `dtram_glimpse_mlp` in `Task`, as training/train.py runs it, gradient clipping and optimizer included;
- bf16: the same with `precision=bf16`, where everything else is in single precision;
- plain: the same layers in straightforward PyTorch, which crops image by image in a Python loop, and for
  epochs sits behind a torchvision dataset, torchvision's transforms and a DataLoader;
- bound: the same linear layers as one chain, forward and backward on ready-made glimpses and locations: no
  crops, no sampling, no loss, no optimizer.

Without --root the images are random, which changes no time.
"""

import argparse
import platform
import struct
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms

import dtram_hub
from dtram_hub.data.augment import Augmentation
from dtram_hub.data.loader import train_loader
from dtram_hub.data.mnist import IDX_FILES, read_mnist
from dtram_hub.data.splits import Split
from dtram_hub.learning.curriculum import Stage, enter_stage
from dtram_hub.learning.losses import LossConfig
from dtram_hub.learning.task import Task
from timing import alternate

STEPS, CROP, WIDTH, BATCH, STD = 6, 8, 256, 128, 0.1
SHIFT, ROTATE, SCALE = 1, 8, 0.08


class PlainRAM(nn.Module):
    """RAM in straightforward PyTorch: a loop over steps, and inside it a loop over images."""

    def __init__(self):
        super().__init__()
        self.what, self.where = nn.Linear(CROP * CROP, 128), nn.Linear(2, 128)
        self.glimpse = nn.Linear(256, WIDTH)
        self.input_to_hidden = nn.Linear(WIDTH, WIDTH)
        self.hidden_to_hidden = nn.Linear(WIDTH, WIDTH, bias=False)
        self.locator, self.baseline = nn.Linear(WIDTH, 2), nn.Linear(WIDTH, 1)
        self.classifier = nn.Linear(WIDTH, 10)

    def crop(self, images: Tensor, locations: Tensor) -> Tensor:
        side = images.shape[-1]
        start = ((locations + 1) / 2 * side).long()  # in the padded image
        end = start + CROP
        padded = nn.functional.pad(images, [CROP // 2] * 4)
        patches = [padded[i, :, start[i, 0] : end[i, 0], start[i, 1] : end[i, 1]] for i in range(len(images))]
        return torch.stack(patches)

    def step(self, patches: Tensor, locations: Tensor, hidden: Tensor) -> Tensor:
        seen = torch.cat([self.what(patches.flatten(1)), self.where(locations)], dim=1).relu()
        features = self.glimpse(seen).relu()
        return (self.input_to_hidden(features) + self.hidden_to_hidden(hidden)).relu()

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of one batch: classification after the last step, REINFORCE with a learned baseline."""
        hidden = images.new_zeros(len(images), WIDTH)
        log_probs, baselines = [], []
        for _ in range(STEPS):
            policy = torch.distributions.Normal(self.locator(hidden).tanh(), STD)
            locations = policy.sample()
            log_probs.append(policy.log_prob(locations).sum(1))
            locations = locations.clamp(-1, 1)
            baselines.append(self.baseline(hidden.detach()).squeeze(1))
            hidden = self.step(self.crop(images, locations), locations, hidden)
        logits = self.classifier(hidden)
        returns = (logits.detach().argmax(1) == labels).float()[:, None].expand(-1, STEPS)
        log_probs, baselines = torch.stack(log_probs, 1), torch.stack(baselines, 1)
        reinforce = -(log_probs * (returns - baselines.detach())).sum(1).mean()
        return (
            nn.functional.cross_entropy(logits, labels)
            + nn.functional.mse_loss(baselines, returns)
            + reinforce
        )


def ours(bf16: bool = False) -> Callable[[Tensor, Tensor], None]:
    """The training step of training/train.py."""
    model = timm.create_model("dtram_glimpse_mlp", num_steps=STEPS, location_std=STD)
    enter_stage(model, Stage(kind="ram", num_steps=STEPS))
    task = Task(model, LossConfig()).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, 1e-3, fused=True)

    def step(images: Tensor, labels: Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = task(images, labels).total
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def plain() -> Callable[[Tensor, Tensor], None]:
    """The plain training step."""
    model = PlainRAM()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        model(images, labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()

    return step


def bound() -> Callable[[], None]:
    """The layers alone, forward and backward."""
    model = PlainRAM()
    patches, locations = torch.rand(STEPS, BATCH, CROP * CROP), torch.rand(STEPS, BATCH, 2)

    def step() -> None:
        hidden, states = torch.zeros(BATCH, WIDTH), []
        for patch, location in zip(patches, locations, strict=True):
            hidden = model.step(patch, location, hidden)
            states.append(hidden)
        states = torch.stack(states)
        heads = (model.classifier, model.locator, model.baseline)
        sum(head(states).sum() for head in heads).backward()
        model.zero_grad()

    return step


def torchvision_mnist(images: Tensor, labels: Tensor, folder: Path) -> torchvision.datasets.MNIST:
    """torchvision's dataset of these images, with torchvision's transforms."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split in IDX_FILES:
        for name, array in zip(IDX_FILES[split], (images.squeeze(1), labels.to(torch.uint8)), strict=True):
            head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (raw / name.removesuffix(".gz")).write_bytes(head + array.numpy().tobytes())
    steps = [
        transforms.RandomAffine(
            ROTATE,
            translate=(SHIFT / 28, SHIFT / 28),
            scale=(1 - SCALE, 1 + SCALE),
            interpolation=transforms.InterpolationMode.BILINEAR,
        ),
        transforms.ToTensor(),
    ]
    return torchvision.datasets.MNIST(folder, train=True, transform=transforms.Compose(steps))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", help="folder with MNIST's four .gz files; random images without it")
    parser.add_argument("--repeats", type=int, default=200, help="timed steps of each side")
    parser.add_argument("--epochs", type=int, default=3, help="timed epochs of each side")
    parser.add_argument("--images", type=int, default=60_000, help="images per epoch")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    print(
        f"{platform.machine()}, 1 thread, python {platform.python_version()}, torch {torch.__version__}, "
        f"torchvision {torchvision.__version__}, dtram_hub {dtram_hub.__version__}, seed {args.seed}"
    )
    if args.root:
        images, labels = (torch.tensor(array) for array in read_mnist(args.root, "train"))
        images, labels = images[: args.images, None], labels[: args.images].long()
    else:
        images = torch.randint(0, 256, (args.images, 1, 28, 28), dtype=torch.uint8)
        labels = torch.randint(0, 10, (args.images,))

    our_steps = {"ours": ours(), "bf16": ours(bf16=True)}
    plain_step, bound_step = plain(), bound()
    batch, targets = images[:BATCH], labels[:BATCH]
    floats = batch.float() / 255
    sides = {name: partial(step, batch, targets) for name, step in our_steps.items()}
    sides |= {"plain": partial(plain_step, floats, targets), "bound": bound_step}
    times = alternate(sides, args.repeats)
    print(f"training step: plain {1e3 * times['plain']:.2f} ms, bound {1e3 * times['bound']:.2f} ms")
    for name in our_steps:
        print(
            f"  {name} {1e3 * times[name]:.2f} ms: plain / {name} {times['plain'] / times[name]:.2f}, "
            f"{name} / bound {times[name] / times['bound']:.2f}",
            flush=True,
        )

    with tempfile.TemporaryDirectory() as folder:
        loader = DataLoader(
            torchvision_mnist(images, labels, Path(folder)), BATCH, shuffle=True, drop_last=True
        )

        split = Split(images, labels)
        distortion = Augmentation(distort={"shift": SHIFT, "rotate": ROTATE, "scale": SCALE})

        def our_epoch(step: Callable[[Tensor, Tensor], None]) -> None:
            for moved, targets, _ in train_loader(split, BATCH, seed=(args.seed,), augmentation=distortion):
                step(moved, targets)

        def plain_epoch() -> None:
            for moved, targets in loader:
                plain_step(moved, targets)

        sides = {name: partial(our_epoch, step) for name, step in our_steps.items()}
        times = alternate(sides | {"plain": plain_epoch}, args.epochs)
        print(f"epoch of {len(images)} images: plain {times['plain']:.1f} s")
        for name in our_steps:
            print(f"  {name} {times[name]:.1f} s: plain / {name} {times['plain'] / times[name]:.2f}")


if __name__ == "__main__":
    main()
