"""The recipe's section `data`: the source of the images, their splits, reading and augmentation."""

from dataclasses import dataclass, field
from typing import Any

from ..checks import check_choice, check_integer, check_number, check_range, check_workers
from .augment import Augmentation
from .canvas import Form
from .squares import SQUARES

HUB = "hub:org/name"  # form of the name of a data set on the Hub


@dataclass
class Origin:
    """The source of the images and their splits.

    source: "digits" (embedded), "mnist", "imagefolder" (a folder per class, optionally under train/,
        validation/ and test/), "parquet", "cub" (CUB-200-2011), "cars" (Stanford Cars), "deeppcb" (circuit
        boards), or "hub:org/name".
    root: the folder of the data. "mnist" takes a folder with the four original .gz files, or None to download
        them from the Hub.
    options: keyword arguments of the source: of `load_digits` for "digits", of `load_mnist` for "mnist",
        and of `load_deeppcb` for "deeppcb".
    skip_broken: whether to leave out unreadable images and rows without a label; otherwise they are an error.
    validation_fraction, test_fraction: the share of train to hold out if the source lacks the split, in
        (0, 0.9].
    streaming: whether to read train from the Hub during training, without a download beforehand; only for
        "hub:org/name".
    shuffle_buffer: number of undecoded images from which a stream picks its next one at random.
    own_shards: whether each process and each worker of a stream reads files of its own. Otherwise all read
        everything and decode their share, so that the order does not depend on their number.
    balance: how much more often an image of a rare class is drawn than one of a frequent class, in [0, 1],
        see `balance.class_shares`. 1 draws all classes alike.
    levels: the levels of black and white in files of 16 bits or floats, such as [0, 4095]; 0 and 65535 by
        default. The model keeps them.
    crop_mode: how a photograph becomes a square: "centre" cuts the longer side, "squash" changes the aspect,
        "pad" adds margins of the colour `mean`.
    mean, std: with which pixels in [0, 1] are normalised, one number for each channel or one for all; None
        for those that the encoder's weights want.
    keep_decoded: whether to decode photographs once, into files that training reads; otherwise they are
        decoded whenever they are read, by `workers`, for more photographs than a disk holds.
    cache: folder for decoded images; beside the Hub's cache by default.
    workers: number of processes that read and augment training images; 0 for the training process itself.
    """

    source: str = "digits"
    root: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    skip_broken: bool = False
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    streaming: bool = False
    shuffle_buffer: int = 1000
    own_shards: bool = False
    balance: float = 0.0
    levels: list[float] | None = None
    crop_mode: str = "centre"
    mean: list[float] | None = None
    std: list[float] | None = None
    keep_decoded: bool = True
    cache: str | None = None
    workers: int = 0


@dataclass
class DataConfig(Augmentation, Origin):
    """All keys of the section: those of `Origin`, then those of `Augmentation`.

    Raises:
        ValueError: a value is out of range, or two values exclude each other.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("validation_fraction", "test_fraction"):
            check_number(f"data.{name}", getattr(self, name), 0, 0.9, open_low=True)
        check_number("data.balance", self.balance, 0, 1)
        check_integer("data.shuffle_buffer", self.shuffle_buffer, 1)
        check_workers("data.workers", self.workers, least=0)
        if self.levels is not None:
            check_range("data.levels", self.levels)
        check_choice("data.crop_mode", self.crop_mode, SQUARES)
        for name, least in (("mean", 0.0), ("std", 1e-4)):
            for value in getattr(self, name) or ():
                check_number(f"data.{name}", value, least, 1)
        if self.streaming and not self.on_hub:
            raise ValueError(
                f"data.streaming=true reads from the Hub; data.source={self.source!r} is no {HUB!r}."
            )
        if self.streaming and self.balance:
            raise ValueError(
                f"data.balance={self.balance} needs data.streaming=false; a stream does not know its classes."
            )
        if self.streaming and self.skip_broken:
            raise ValueError(
                "data.skip_broken=true needs data.streaming=false; a stream meets broken files in training."
            )

    @property
    def on_hub(self) -> bool:
        """Whether the source is a data set of the Hub."""
        return self.source.startswith("hub:")


def check_form(config: DataConfig, form: Form, side: int | None = None) -> None:
    """ValueError unless a form is that of grey squares, of `side` pixels if that is given.

    Squares keep their aspect in any case.
    """
    if form.crop_mode != Form.crop_mode:
        raise ValueError(
            f"data.crop_mode={form.crop_mode!r} is for photographs; the images of "
            f"data.source={config.source!r} are squares."
        )
    if form.channels != 1:
        raise ValueError(
            f"in_chans={form.channels}; data.source={config.source!r} is grey and takes in_chans=1."
        )
    if form.side is None or side not in (None, form.side):
        accepted = "makes images of a given size" if side is None else f"has images of {side} pixels"
        raise ValueError(f"image_size={form.side or 'null'}; data.source={config.source!r} {accepted}.")
