"""The page of `dtram demo` in a real browser: predictions, budgets, broken images, models of the Hub.

    apt-get install chromium; pip install playwright "dtram-hub[demo]"
    pytest -m long tests/test_demo_page.py

The server may reach nothing but the loopback interface, and the browser nothing but the server.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from draw_examples import draw_digit
from hub_faults import make_model
from loopback_hub import LoopbackHub

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LACKING = [name for name in ("gradio", "playwright") if find_spec(name) is None]
LACKING += [] if CHROMIUM else ["chromium"]
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(LACKING), reason=f"not installed: {', '.join(LACKING)}"),
]
ROOT = Path(__file__).parents[1]
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
# Imported by Python before all else: every other address is written down and refused.
GUARD = """
import os, socket
connect = socket.socket.connect
def guarded(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        open(os.environ["GUARD_LOG"], "a").write(f"{address}\\n")
        raise OSError(f"no way to {address}")
    return connect(self, address)
socket.socket.connect = guarded
lookup = socket.getaddrinfo
def looked_up(host, *rest, **more):
    if host not in (None, "", "127.0.0.1", "::1", "localhost", "0.0.0.0"):
        open(os.environ["GUARD_LOG"], "a").write(f"{host}\\n")
        raise OSError(f"no way to {host}")
    return lookup(host, *rest, **more)
socket.getaddrinfo = looked_up
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def serving(folder: Path, *words: str, **environment: str) -> Iterator[str]:
    """The address of a demo that Python runs with these words. In the end it has called nobody."""
    (folder / "sitecustomize.py").write_text(GUARD)
    calls = folder / "calls"
    calls.touch()
    path = os.pathsep.join([str(folder), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": path, "GUARD_LOG": str(calls)} | environment
    command = [sys.executable, *words]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            address, *rest = process.stdout.readline().split()
            assert rest == ["shows", "the", "demo;", "Ctrl-C", "ends", "it."]
            yield address
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    assert calls.read_text() == ""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running `dtram demo`."""
    words = ("-m", "dtram_cli", "demo", "--port", str(free_port()))
    with serving(tmp_path_factory.mktemp("server"), *words) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(server: str, chromium, request: pytest.FixtureRequest):
    """The page, which has told its first story. At the end it has asked nobody else, and raised no error."""
    size = getattr(request, "param", {"width": 1280, "height": 900})
    page = chromium.new_page(viewport=size)
    asked, faults = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.goto(server)
    page.wait_for_selector(".dtram-story", timeout=60_000)
    yield page
    page.close()
    assert {url.split("/")[2] for url in asked if url.startswith("http")} == {server.split("/")[2]}
    assert faults == []


def choose(page, model: str) -> None:
    box = page.get_by_label("Model")
    box.fill(model)
    box.press("Enter")


def drop(page, path: Path) -> None:
    page.set_input_files("input[type=file]", path)


def shows(page, selector: str, text: str) -> None:
    """Wait until the first element of a selector contains a text."""
    page.locator(selector, has_text=text).first.wait_for(timeout=30_000)


def count(page, selector: str, number: int) -> None:
    """Wait until so many elements have a selector."""
    page.wait_for_function(f"document.querySelectorAll('{selector}').length === {number}")


def digit(path: Path, scan: int = 7) -> Path:
    """A picture of a scan of scikit-learn's digits; 7 is a seven."""
    from sklearn.datasets import load_digits

    Image.fromarray(draw_digit(load_digits().images[scan])).save(path)
    return path


def test_a_prediction_a_budget_and_a_broken_image(page, tmp_path: Path) -> None:
    assert page.title() == "dtram demo"
    shows(page, ".answer strong", "mousebite")
    count(page, ".box", 2)
    assert page.locator(".dtram-story li").count() == 2
    shows(page, ".rest", "Looks 3 and 4 were not taken.")
    page.locator("button.gallery-item").nth(1).click()
    shows(page, ".answer strong", "open")
    shows(page, ".answer small", "board-open.png")

    choose(page, "dtram_glimpse_mlp.mnist_dtram98")
    shows(
        page, ".dtram-note", "10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9. At most 7 looks: all at 8 x 8 pixels."
    )
    shows(page, ".answer small", "digit-2.png")  # an example of the other model gives way
    drop(page, digit(tmp_path / "mine.png"))
    shows(page, ".answer small", "mine.png")
    shows(page, ".answer strong", "7")
    count(page, ".box", 4)
    shows(page, ".why", "It stopped after look 4 of at most 7, because its stop probability of ")
    place = page.locator(".box").first.bounding_box()
    whole = page.locator(".scene").bounding_box()
    assert place["width"] == pytest.approx(whole["width"] * 8 / 28, abs=1)

    budget = page.get_by_label("number input for Budget: mean looks per image")
    budget.fill("1")
    budget.press("Enter")
    count(page, ".box", 1)
    shows(page, ".dtram-note", "10,000 test images took about 1.0 looks on average")
    shows(page, ".rest", "Looks 2 to 7 were not taken.")
    page.locator("input[type=range]").press("End")
    count(page, ".box", 7)
    shows(page, ".why", "It took all 7 looks")

    broken = tmp_path / "broken.png"
    broken.write_bytes((tmp_path / "mine.png").read_bytes()[:120])
    for path in (broken, Path(__file__)):
        drop(page, path)
        shows(page, ".dtram-message", f"{path.name} is no readable image (")
        assert (
            page.locator(".dtram-message").inner_text().count(".") == 2
        )  # that of the name, and of the sentence
        assert "Traceback" not in page.inner_text("body")
    drop(page, digit(tmp_path / "again.png"))
    shows(page, ".answer small", "again.png")


def test_other_models(page, hub: LoopbackHub, tmp_path: Path) -> None:
    make_model(1).save_pretrained(tmp_path / "tiny", ["ant", "<b>bee</b>", "cow\x1b[2J"])
    hub.add("me/tiny", {path.name: path.read_bytes() for path in (tmp_path / "tiny").iterdir()})
    choose(page, "me/tiny")
    shows(page, ".dtram-note", r"3 classes: ant, <b>bee</b>, cow\x1b[2J.")
    page.get_by_label("number input for Stop threshold").wait_for()
    shows(page, ".dtram-welcome", "Drop an image")
    drop(page, digit(tmp_path / "mine.png"))
    count(page, ".dtram-story", 1)
    choose(page, "me/none")
    shows(page, ".dtram-message", "'me/none' does not exist")
    choose(page, "/etc")
    shows(page, ".dtram-message", "model '/etc' is not on the list; accepted is a name on it, or org/name")
    choose(page, "dtram_glimpse_mlp.mnist_ram4")
    shows(page, ".why", "This model takes 4 looks at every image.")
    shows(page, ".answer small", "mine.png")
    assert page.locator("input[type=range]:visible").count() == 0


@pytest.mark.parametrize("page", [{"width": 390, "height": 844}], indirect=True)
def test_a_phone_shows_the_story_after_a_choice(page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.locator("button.gallery-item").nth(3).click()
    shows(page, ".answer small", "board-spur.png")
    page.wait_for_function("document.querySelector('.answer').getBoundingClientRect().top < 200")
    for bar in page.locator(".bar").all():
        assert bar.bounding_box()["width"] > 100


def test_the_space_serves_the_same_page(tmp_path: Path) -> None:
    port = str(free_port())
    with (
        serving(tmp_path, str(ROOT / "demo" / "app.py"), GRADIO_SERVER_PORT=port) as address,
        urllib.request.urlopen(f"{address}config") as answer,
    ):
        assert address == f"http://127.0.0.1:{port}/"
        assert json.load(answer)["title"] == "dtram demo"


def test_a_port_that_is_taken_is_one_sentence(dtram, server: str) -> None:
    port = server.rsplit(":", 1)[1].rstrip("/")
    code, printed, complaint = dtram("demo", "--port", port)
    assert (code, printed) == (1, "")
    assert complaint.startswith(
        f"dtram: no page can be served at host='127.0.0.1', port={port}; accepted are"
    )
