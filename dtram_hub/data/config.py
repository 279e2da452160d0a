"""The section `data` of a recipe: where images come from, how they are split, read and augmented."""

from dataclasses import dataclass, field

from ..checks import check_integer, check_number
from .augment import Augmentation

HUB = "hub:org/name"  # how a data set of the Hub is named


@dataclass
class Origin:
    """Where images come from and how they are split.

    source: "digits" (embedded, nothing to download), "mnist", "imagefolder" (one folder per class, optionally
        under train/, validation/ and test/), "parquet", "cub" and "cars" (CUB-200-2011 and Stanford Cars as
        they are distributed), or "hub:org/name", a data set of the Hub.
    root: the folder of the data; for "mnist" that of its four original .gz files, or None for the Hub's copy.
    options: keyword arguments of the source alone: of "digits" those of `load_digits`, of "mnist"
        `num_validation`, the number of training images to hold out.
    skip_broken: leave unreadable files out instead of refusing them.
    validation_fraction, test_fraction: the share of train to hold out where the source lacks the split.
    streaming: read train from the Hub while training, instead of downloading and decoding all of it before;
        only for "hub:org/name".
    shuffle_buffer: of a streamed split, how many undecoded images are held to be shuffled.
    cache: folder for decoded images; beside the Hub's cache unless given.
    workers: processes that read and augment training images ahead; 0 does so in the training process.
    """

    source: str = "digits"
    root: str | None = None
    options: dict[str, int] = field(default_factory=dict)
    skip_broken: bool = False
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    streaming: bool = False
    shuffle_buffer: int = 1000
    cache: str | None = None
    workers: int = 0


@dataclass
class DataConfig(Augmentation, Origin):
    """All keys of the section: those of `Origin`, then those of `Augmentation`.

    Raises:
        ValueError: a value is out of range, or two do not go together.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("validation_fraction", "test_fraction"):
            check_number(f"data.{name}", getattr(self, name), 0, 0.9, open_low=True)
        check_integer("data.shuffle_buffer", self.shuffle_buffer, 1)
        check_integer("data.workers", self.workers, 0)
        if self.streaming and not self.on_hub:
            raise ValueError(
                f"data.streaming=true reads from the Hub; data.source={self.source!r} is no {HUB!r}."
            )
        if self.streaming and self.skip_broken:
            raise ValueError("data.skip_broken=true cannot be told in advance of data.streaming=true.")

    @property
    def on_hub(self) -> bool:
        """Whether the source is a data set of the Hub."""
        return self.source.startswith("hub:")


def check_grey(config: DataConfig, in_chans: int) -> None:
    """ValueError unless a source of grey images is asked for one channel."""
    if in_chans != 1:
        raise ValueError(f"in_chans={in_chans}; data.source={config.source!r} is grey and takes in_chans=1.")
