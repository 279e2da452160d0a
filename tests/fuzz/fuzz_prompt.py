"""The program `dtram` on hostile words: names of files and labels, damaged images, devices, repositories."""

import contextlib
import io
import json
import os
import signal
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import timm
import torch
from hypothesis import strategies as st
from PIL import Image

import dtram_cli
import dtram_hub.plots  # noqa: F401  (registers the models; a slow import is no hang)
from campaign import FINE, REFUSED

ANSI, TITLE, TURN = "\x1b[31mred", "\x1b]0;title\x07", "exe\u202egnp"
STEMS = st.sampled_from(
    ["x", "X", "y", ANSI, TITLE, TURN, "two\nlines", "bytes\udcff", "l" * 240, "ä", "x_glimpses"]
)
ENDINGS = st.sampled_from([".png", ".jpg", ".PNG"])
CONTENTS = st.sampled_from([*["photo"] * 12, "noise", "half", "nothing", "strip", "other", "pipe"])
IMAGES = st.lists(
    st.tuples(st.sampled_from(["A", "B"]), STEMS, ENDINGS, CONTENTS),
    min_size=1,
    max_size=4,
    unique_by=lambda i: i[:3],
)
MODELS = st.sampled_from([*["good"] * 5, "ram", "overflow"])
WORDS = st.sampled_from(
    [*["good"] * 3, "runs/nope", "a/b/c", "./nope", "/nope", "nope", "local-dir:nope", f"./{ANSI}", "pipe"]
)
DEVICES = st.sampled_from([*["cpu"] * 4, "cpu:0", "nope", "meta", "cuda:77", "cpu:9", "", "fpga", ANSI])
REPOS = st.sampled_from(
    ["me/x", "noslash", "a/b/c", "", "me/", "/x", "-me/x", "me/x y", f"me/{ANSI}", "me/a--b"]
)
PREDICTIONS = st.fixed_dictionaries(
    {
        "command": st.just("predict"),
        "model": MODELS,
        "images": IMAGES,
        "json": st.booleans(),
        "save": st.sampled_from([None, None, "g", ".", "A/x.png/g"]),
        "threshold": st.sampled_from([None, None, "0.5"]),
    }
)
CASES = st.one_of(
    PREDICTIONS,
    PREDICTIONS,
    st.fixed_dictionaries(
        {"command": st.just("info"), "model": st.one_of(MODELS, WORDS), "json": st.booleans()}
    ),
    st.fixed_dictionaries({"command": st.just("device"), "model": st.just("good"), "device": DEVICES}),
    st.fixed_dictionaries({"command": st.just("card"), "model": st.just("good"), "repo": REPOS}),
)


class Hang(BaseException):
    """The program waits for something that never comes."""


def outcome(case: dict) -> str:
    """What becomes of one call of the program, in an empty folder."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            return _outcome(case)
        finally:
            os.chdir(before)


def _outcome(case: dict) -> str:
    Path("runs").mkdir()
    images = case.get("images", [("A", "x", ".png", "photo")])
    paths = [_write(*image) for image in images]
    words = {
        "predict": ["predict", _model(case["model"]), *paths],
        "info": ["info", _model(case["model"])],
        "device": ["predict", _model("good"), *paths, f"--device={case.get('device')}"],
        "card": ["card", _model("good"), "--", case.get("repo")],
    }[case["command"]]
    words += ["--json"] if case.get("json") else []
    words += [f"--save={case['save']}"] if case.get("save") else []
    words += [f"--stop-threshold={case['threshold']}"] if case.get("threshold") else []
    content = {path: Path(path).read_bytes() for path in paths if Path(path).is_file()}
    try:
        code, out, err = _call(words)
    except Hang:
        return "hangs"
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:60]}"
    for path, kept in content.items():
        if Path(path).read_bytes() != kept:
            return "an image is overwritten"
    return _judge(case, paths, code, out.splitlines(), err)


def _judge(case: dict, paths: list[str], code: int, out: list[str], err: str) -> str:
    if not all(line.isprintable() for line in [*out, *err.splitlines()]):
        return "raw text on the terminal"
    if code and not err:
        return "fails without a word"
    if code == 2 or (code and not out and err.startswith("dtram: ") and err.count("\n") <= 1):
        return REFUSED
    if case["command"] == "card":
        return FINE if "/" in case["repo"] and " " not in case["repo"] else "a card for no repository"
    if case.get("json"):
        try:
            rows = [json.loads(line, parse_constant=int) for line in out]
        except ValueError:
            return "no JSON"
    if case["command"] != "predict":
        return FINE
    if len(out) + err.count("\ndtram: ") + err.startswith("dtram: ") - err.count(" images failed.") != len(
        paths
    ):
        return "an image is neither answered nor named"
    if any("(nan %)" in line for line in out):
        return "nan for an answer"
    if bool(code) != (len(out) < len(paths)):
        return "a wrong exit code"
    if case["threshold"] and case["model"] == "ram":
        return "a threshold is ignored"
    if (
        case["save"]
        and case.get("json")
        and len({Path(row["picture"]).name.casefold() for row in rows}) < len(rows)
    ):
        return "a picture for two images"
    return FINE


def _call(words: list[str]) -> tuple[int, str, str]:
    """Run the program; its exit code, and what it printed on stdout and stderr."""
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    before = signal.signal(signal.SIGALRM, _hang)
    signal.alarm(10)
    sys.argv = ["dtram", *words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            dtram_cli.main()
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        sys.argv = argv
    if isinstance(code, str):
        return 1, out.getvalue(), err.getvalue() + code + "\n"
    return code, out.getvalue(), err.getvalue()


def _hang(*_: object) -> None:
    raise Hang


def _write(folder: str, stem: str, ending: str, content: str) -> str:
    """Write an image file, and return its path."""
    Path(folder).mkdir(exist_ok=True)
    path = Path(folder, stem[: 255 - len(ending)] + ending)
    if content == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(_contents()[content])
    return str(path)


@cache
def _contents() -> dict[str, bytes]:
    pixels = np.random.default_rng(0).integers(255, size=(20, 24, 3), dtype=np.uint8)
    files = {}
    for name, image in {"photo": pixels, "strip": pixels[:, :1].repeat(15, axis=0)}.items():
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        files[name] = file.getvalue()
    return files | {
        "noise": bytes(range(256)),
        "half": files["photo"][: len(files["photo"]) // 2],
        "nothing": b"",
        "other": b"DDS " + 31 * b"\x7c\0\0\0",
    }


@cache
def _models() -> Path:
    """A folder with small models of hostile class names."""
    folder = Path(tempfile.mkdtemp(prefix="dtram-fuzz-"))
    sizes = {"image_size": 16, "context": "resize", "context_size": 8, "glimpse_crop": 8, "hidden_size": 8}
    for name in ("good", "ram", "overflow"):
        torch.manual_seed(0)
        model = timm.create_model(
            "dtram", backbone="glimpse_convnet", num_classes=3, num_steps=2, dynamic=name != "ram", **sizes
        )
        if name == "overflow":  # the weights are finite, the answers are not
            for parameter in model.parameters():
                parameter.data *= 1e30
        model.save_pretrained(folder / name, class_names=[ANSI, "two\nlines", TURN])
    os.mkfifo(folder / "pipe")
    return folder


def _model(word: str) -> str:
    path = _models() / word
    return str(path) if word in ("good", "ram", "overflow", "pipe") else word
