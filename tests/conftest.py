"""Shared fixtures: a Hub on the loopback interface, a model that runs anywhere, the program; one thread."""

import os
import signal
import tempfile
from collections.abc import Iterable
from pathlib import Path

from loopback_hub import LoopbackHub

# The client reads these once, when it is imported.
HUB = LoopbackHub()
_home = tempfile.TemporaryDirectory(prefix="dtram-tests-")
os.environ |= {
    "HF_ENDPOINT": HUB.url,
    "HF_HOME": _home.name,
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "OMP_NUM_THREADS": "1",  # of the programs that tests start: the other worker has the other core
}
for _name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
    os.environ.pop(_name, None)

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

import dtram_cli  # noqa: E402
from dtram_hub import DTRAM  # noqa: E402

torch.set_num_threads(1)  # one of the two workers
# A shell lets its jobs in the background ignore Ctrl-C, and the programs that they start as well.
signal.signal(signal.SIGINT, signal.default_int_handler)
HANDLERS = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _signals() -> None:
    """Programs that earlier tests have called change what signals do, and may end the process later."""
    for number, handler in HANDLERS.items():
        signal.signal(number, handler)


@pytest.fixture
def hub() -> LoopbackHub:
    """The Hub that every client in the tests speaks to, empty."""
    HUB.clear()
    return HUB


def make_undecided(model: DTRAM, images: torch.Tensor) -> DTRAM:
    """Random heads, and a stop policy that stops half of `images` after the first look."""
    names = ("linear", "query", "of_cell", "of_hidden")
    policy = [part for name, part in model.locator.named_children() if name in names]
    for module in (model.stopper.net[-1], *policy, model.head):
        torch.nn.init.normal_(module.weight)
    with torch.no_grad():
        model.stopper.net[-1].bias -= model.rollout(images).stop_logits[:, 0].median()
    return model


def tiny_model(context: str, aggregate: str, **changes) -> DTRAM:
    """A DT-RAM of at most three looks at 24-pixel grey images of three classes."""
    sizes = (3, 1, 3, 24, context, 12, 12)
    words = {"backbone": "glimpse_convnet", "location_input": True} | changes
    return DTRAM(words.pop("backbone"), *sizes, hidden_size=16, aggregate=aggregate, **words)


@pytest.fixture
def small_model() -> DTRAM:
    """A DT-RAM of at most four looks at 32-pixel grey images, whose stop policy is undecided."""
    model = DTRAM("glimpse_convnet", 5, 1, 4, 32, "resize", 12, 12, hidden_size=32, aggregate="last")
    return make_undecided(model.eval(), torch.rand(64, 1, 32, 32))


def only_long(values: Iterable) -> list:
    """Parameters that the long suite alone runs; a tuple has values for several."""
    rows = (value if isinstance(value, tuple) else (value,) for value in values)
    return [pytest.param(*row, marks=pytest.mark.long) for row in rows]


def first_of(values: Iterable) -> list:
    """Parameters of which the plain suite runs the first, and the long one the others."""
    first, *others = values
    return [first, *only_long(others)]


@pytest.fixture
def dtram(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture):
    """Call the program: words -> exit status, what it printed, what it complained of."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["dtram", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            dtram_cli.main()
        printed = capfd.readouterr()
        code = ended.value.code or 0
        return (code, printed.out, printed.err) if isinstance(code, int) else (1, printed.out, code)

    return call


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """The files of three small photographs."""
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.png" for name in ("one", "two", "three")]
    for path in paths:
        Image.fromarray(generator.integers(255, size=(40, 30, 3), dtype=np.uint8)).save(path)
    return paths
