"""Lying configurations and damaged weights: a sound model or one sentence, and no other file is opened."""

import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import timm
import torch
from hypothesis import strategies as st
from torch import nn

from campaign import FINE, REFUSED
from dtram_hub.images.views import Normalise
from dtram_hub.models import checkpoint

HOME = tempfile.TemporaryDirectory(prefix="dtram-configs-")
SAVED, LYING, SECRET = (Path(HOME.name) / name for name in ("saved", "lying", "secret"))
MOST_SECONDS = 20
os.environ["HF_HUB_OFFLINE"] = "1"
opened: list[str] = []


def _save() -> dict:
    """A checkpoint of a small model, a folder that no configuration may open, and the configuration."""
    words = {"num_classes": 3, "in_chans": 1, "num_steps": 3, "image_size": 24, "context": "resize"}
    words |= {"context_size": 12, "glimpse_crop": 12, "hidden_size": 16, "aggregate": "last"}
    model = timm.create_model("dtram", backbone="glimpse_convnet", locator="stepwise", **words)
    SAVED.mkdir()
    checkpoint.save(model, SAVED, ["ant", "bee", "cow"])
    shutil.copytree(SAVED, SECRET)
    torch.save(model.encoder.state_dict(), SECRET / "weights.pth")  # safetensors opens files unnoticed
    return json.loads((SAVED / "config.json").read_text())


def _notice(event: str, details: tuple) -> None:
    if event == "open" and str(details[0]).startswith(str(SECRET)):
        opened.append(str(details[0]))


CONFIG = _save()
sys.addaudithook(_notice)

LOADING = ["checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "pruned"]
KEYS = [
    *LOADING,
    "device",
    "dtype",
    "features_only",
    "img_size",
    "file",
    "url",
    "source",
    "hf_hub_id",
    "nope",
]
PLACES = [(key,) for key in CONFIG] + [
    (section, key) for section in ("model_args", "pretrained_cfg") for key in CONFIG[section]
]
NEW = st.tuples(st.sampled_from(["model_args", "pretrained_cfg"]), st.sampled_from(KEYS))
FILES = [str(SECRET), str(SECRET / "weights.pth"), f"local-dir:{SECRET}", "hf-hub:me/evil"]
PLAIN = st.one_of(
    st.sampled_from([None, True, False, 0, 1, -1, 2, 3, 7, 10_000, 10**9, 10**30, "", "x", "meta", *FILES]),
    st.sampled_from(
        [0.5, -0.5, 1e-9, 1e300, float("nan"), float("inf"), "resnet10t", "dtram_resnet18", "none"]
    ),
    st.text(max_size=5),
)
VALUES = st.one_of(
    PLAIN, st.lists(PLAIN, max_size=4), st.dictionaries(st.sampled_from(KEYS), PLAIN, max_size=2),
    st.integers(2, 300).map(lambda depth: json.loads("[" * depth + "]" * depth)),
)  # fmt: skip
LOADS = st.sampled_from([("model_args", key) for key in [*LOADING, "backbone"]])
LIES = st.one_of(
    st.tuples(st.one_of(st.sampled_from(PLACES), NEW), VALUES, st.booleans()),
    st.tuples(LOADS, st.sampled_from(FILES), st.just(False)),
)
TEXTS = st.sampled_from([None] * 20 + ["[" * 200_000, '{"model_args":' * 100_000, "", "null", "[1]", "\x00"])
DAMAGE = st.one_of(
    *[st.none()] * 3,
    st.tuples(st.just("cut"), st.integers(1, 20_000)),
    st.tuples(st.just("byte"), st.tuples(st.integers(0, 3000), st.integers(0, 255))),
    st.tuples(st.just("type"), st.sampled_from(["I32", "U32", "F16", "BF16", "I8", "X"])),
    st.tuples(st.just("number"), st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e38])),
    st.tuples(st.just("length"), st.sampled_from([0, 1, 100, 2**31, 2**63])),
)
CASES = st.tuples(st.lists(LIES, max_size=3), TEXTS, DAMAGE)


class Wrong(Exception):
    """An answer that a sound model does not give."""


def _lied(lies: list, text: str | None) -> str:
    if text is not None:
        return text
    config = deepcopy(CONFIG)
    for (*sections, key), value, gone in lies:
        inside = config
        for section in sections:
            inside = inside.get(section)
        if isinstance(inside, dict):
            inside[key] = value
            if gone:
                del inside[key]
    return json.dumps(config)


def _damaged(content: bytes, damage: tuple | None) -> bytes:
    kind, how = damage or ("", None)
    length = int.from_bytes(content[:8], "little")
    if kind == "cut":
        return content[:-how]
    if kind == "byte":
        return content[: how[0]] + bytes([how[1]]) + content[how[0] + 1 :]
    if kind == "type":
        return (
            content[:8]
            + content[8 : 8 + length].replace(b'"F32"', f'"{how}"'.encode(), 1)
            + content[8 + length :]
        )
    if kind == "number":
        start = 8 + length
        return content[:start] + torch.tensor(how).numpy().tobytes() + content[start + 4 :]
    if kind == "length":
        return how.to_bytes(8, "little") + content[8:]
    return content


def _answer(load: Callable[[], nn.Module]) -> None:
    """Load a model and show it an image, if the image is small."""
    model = load().eval()
    if model.image_size > 100:
        return
    pixels = torch.zeros(1, model.in_chans, model.image_size, model.image_size, dtype=torch.uint8)
    logits = model.predict(Normalise(model.pretrained_cfg)(pixels)).logits
    names = model.pretrained_cfg.get("label_names")
    if not logits.isfinite().all():
        raise Wrong("an answer that is no number")
    if model.num_classes and (
        logits.shape[1] != model.num_classes or len(names or logits[0]) != logits.shape[1]
    ):
        raise Wrong("answers of another number of classes")


def _word(load: Callable[[], nn.Module], by_timm: bool) -> str:
    opened.clear()
    try:
        _answer(load)
        word = FINE
    except Wrong as wrong:
        word = str(wrong)
    except ValueError as error:
        word = REFUSED if 0 < len(str(error).splitlines()) <= 3 else "ValueError without a sentence"
    except Exception as error:
        ours = any(
            f"dtram_hub{os.sep}" in frame.filename for frame in traceback.extract_tb(error.__traceback__)
        )
        # timm reads the file before it calls us, and trips in its own way.
        word = (
            f"{type(error).__name__}: {' '.join(str(error).split())[:60]}" if ours or not by_timm else REFUSED
        )
    return "opened a file" if opened else word


def _too_slow(*_) -> None:
    raise Wrong("too slow")


def outcome(case: tuple) -> str:
    """Both loaders on one lying folder; FINE if both answer, and a fault if either has one."""
    lies, text, damage = case
    shutil.rmtree(LYING, ignore_errors=True)
    LYING.mkdir()
    (LYING / "config.json").write_text(_lied(lies, text))
    (LYING / "model.safetensors").write_bytes(_damaged((SAVED / "model.safetensors").read_bytes(), damage))
    before = signal.signal(signal.SIGALRM, _too_slow)
    signal.alarm(MOST_SECONDS)
    try:
        words = [
            _word(lambda: checkpoint.load(LYING), by_timm=False),
            _word(lambda: timm.create_model(f"local-dir:{LYING}", pretrained=True), by_timm=True),
        ]
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    faults = [word for word in words if word not in (FINE, REFUSED)]
    return faults[0] if faults else max(words)  # "refused" comes after "fine"
