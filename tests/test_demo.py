"""The page of `dtram demo` without Gradio: budgets, a visitor's words, examples, and the HTML of a story."""

import json
import re
import shutil
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import draw_examples
from dtram_hub.demo.opened import EXAMPLES, accepted, offered, open_model
from dtram_hub.demo.replies import Replies, fitting
from dtram_hub.demo.story_page import COLOURS, apart, percent, render, why_it_stopped
from dtram_hub.inference.story import Belief, Look, Story, Window
from dtram_hub.models.registry import SHIPPED, WEIGHTS
from dtram_hub.plots import COLOURS as PLOTTED

DIGITS, RAM = "dtram_glimpse_mlp.mnist_dtram98", "dtram_glimpse_mlp.mnist_ram4"
BOARDS = "dtram_tf_efficientnet_lite0.deeppcb"
SPACE = Path(__file__).parents[1] / "demo"
PAGE = Replies(offered(None))


def story_of(*stop_probs: float | None, names: str = "aab") -> Story:
    """A story of looks with these stop probabilities and most probable classes."""
    looks = [
        Look(i, i == 1, Window(0, 0, 1, 1), np.zeros((4, 4), np.uint8), [Belief(name, 0.9)], prob)
        for i, (prob, name) in enumerate(zip(stop_probs, names, strict=False), start=1)
    ]
    return Story("a.png", np.zeros((4, 8), np.uint8), looks)


def test_the_slider_starts_at_the_models_own_threshold_and_ends_at_one_look_and_at_all() -> None:
    for word, start in ((DIGITS, 3.0), (BOARDS, 2.0)):
        opened = open_model(word)
        slider, most = opened.slider, opened.model.num_steps
        assert (slider.low, slider.high, slider.start) == (1.0, most, start)
        assert slider.at(start).threshold == opened.model.stop_threshold
        assert "the model's own stop threshold" in slider.at(start).expect
        assert (slider.at(1.0).threshold, slider.at(most).threshold) == (0.0, 1.0)
        thresholds = [slider.at(1 + k / 20).threshold for k in range(20 * (most - 1) + 1)]
        assert thresholds == sorted(thresholds)
    metrics = json.loads((WEIGHTS / DIGITS / "metrics.json").read_text())
    own = open_model(DIGITS).slider.own
    assert (
        (own.mean_steps, own.accuracy)
        == (3.0152, 0.9925)
        == tuple(metrics["results"][0][name] for name in ("mean_steps", "accuracy"))
    )
    curve = metrics["curves"]["learned stops of the DT-RAM"]
    for point in curve[5:-5:9]:
        expect = open_model(DIGITS).slider.at(point["mean_steps"]).expect
        looks, right = map(float, re.search(r"about ([\d.]+) looks .* ([\d.]+) % of", expect).groups())
        assert looks == pytest.approx(point["mean_steps"], abs=0.06)
        assert right == pytest.approx(100 * point["accuracy"], abs=1.5)


def test_sliders_of_other_models(tmp_path: Path) -> None:
    assert not open_model(RAM).slider.is_shown
    assert open_model(RAM).slider.at(0.0).expect == "This model is a RAM: it takes 4 looks at every image."
    run = shutil.copytree(WEIGHTS / DIGITS, tmp_path / "bare")
    (run / "metrics.json").unlink()
    slider = open_model(str(run)).slider
    assert (slider.label, slider.start) == ("Stop threshold", open_model(DIGITS).model.stop_threshold)
    assert slider.at(0.25).threshold == 0.25
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"^stop threshold=.* is not a number in"):
            slider.at(value)
    run = shutil.copytree(WEIGHTS / DIGITS, tmp_path / "other")
    config = json.loads((run / "config.json").read_text())
    config["model_args"]["stop_threshold"] = 0.5  # set after the run had been measured
    (run / "config.json").write_text(json.dumps(config))
    slider = open_model(str(run)).slider
    assert slider.start < 3.0
    assert slider.at(slider.start).threshold == 0.5
    run = shutil.copytree(WEIGHTS / DIGITS, tmp_path / "damaged")
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics["curves"]["learned stops of the DT-RAM"][3]["threshold"]
    (run / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(ValueError, match=r"metrics\.json: threshold=None is not a number in \[0, 1\]"):
        open_model(str(run))


def test_only_listed_models_and_those_of_the_hub_are_opened(tmp_path: Path) -> None:
    assert offered(None)[0] == BOARDS
    assert sorted(offered(None)) == sorted(SHIPPED)
    assert offered("runs/mine") == ["runs/mine", *offered(None)]
    assert offered(DIGITS)[0] == DIGITS
    assert len(offered(DIGITS)) == len(SHIPPED)
    assert accepted("runs/mine", ["runs/mine"]) == "runs/mine"
    assert accepted("me/birds@v1", []) == accepted("hf-hub:me/birds@v1", []) == "hf-hub:me/birds@v1"
    for word in (
        "",
        None,
        "..",
        "/etc",
        "local-dir:runs",
        "a/b/c",
        "~/x",
        str(tmp_path),
        "resnet50",
        "a/b\n",
    ):
        with pytest.raises(ValueError, match=r"^model .* is not on the list"):
            accepted(word, PAGE.known)
        assert PAGE.story(word, None, None).startswith('<p class="dtram-message" role="alert">model ')


def test_examples_are_those_of_the_program_and_models_get_their_own() -> None:
    drawn = draw_examples.draw_all()
    assert {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.png")} == {*drawn}
    for name, pixels in drawn.items():
        with Image.open(EXAMPLES / name) as picture:
            assert (np.asarray(picture.convert("L")) == pixels).all()
    digits, boards = (open_model(word) for word in (DIGITS, BOARDS))
    right = [PAGE.story(DIGITS, path, None) for path in digits.examples]
    for path, html in zip(digits.examples, right, strict=True):
        assert f"<strong>{path[-5]}</strong>" in html
    assert len({html.count('class="box"') for html in right}) == 5  # few looks and many
    assert {Path(path).name for path in boards.examples} == {
        f"board-{name}.png" for name in draw_examples.BOARDS
    }
    assert fitting(boards, digits.examples[0]) == boards.examples[0]
    assert fitting(digits, digits.examples[2]) == digits.examples[2]
    assert fitting(boards, "/tmp/mine.jpg") == "/tmp/mine.jpg"
    assert fitting(replace(boards, examples=[]), digits.examples[0]) is None


def test_a_smaller_budget_takes_fewer_looks_and_a_broken_image_is_one_sentence(tmp_path: Path) -> None:
    image = open_model(DIGITS).examples[0]
    counts = [PAGE.moved(DIGITS, image, value)[1].count('class="box"') for value in (1, 2, 3, 7)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (1, 7)
    assert "took about 2.0 looks on average" in PAGE.moved(DIGITS, image, 2)[0]
    broken = tmp_path / "<b>broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    said = PAGE.story(DIGITS, str(broken), None)
    assert said.startswith('<p class="dtram-message" role="alert">&lt;b&gt;broken.png is no readable image (')
    assert said.count("<") == 2
    assert "budget=9 is not a number in [1.0, 7.0]" in PAGE.story(DIGITS, image, 9)
    assert "Drop an image" in PAGE.story(DIGITS, None, None)


def test_the_reason_of_the_stop() -> None:
    story = story_of(0.2, 0.62, 0.9)
    assert [len(story.until(threshold)) for threshold in (0.0, 0.2, 0.61, 0.62, 0.9, 1.0)] == [
        1,
        2,
        2,
        3,
        3,
        3,
    ]
    stopped = "It stopped after look 2 of at most 3, because its stop probability of 0.62 is above the "
    assert why_it_stopped(story, 0.5) == stopped + "threshold of 0.50."
    assert why_it_stopped(story, 0.6199) == stopped.replace("0.62 ", "0.6200 ") + "threshold of 0.6199."
    all_looks = "It took all 3 looks, because no earlier stop probability is above the threshold of 0.70."
    assert why_it_stopped(story, 0.7) == all_looks
    assert why_it_stopped(story_of(None, None), 0.5) == "This model takes 2 looks at every image."
    assert why_it_stopped(story_of(0.1), 0.5) == "This model takes 1 look at every image."
    assert apart(0.5, 0.5) == ("0.50", "0.50")
    assert [percent(share) for share in (0, 0.424, 0.995, 0.99999, 1)] == [
        *("0 %", "42 %", "99.5 %", "99.9 %", "100 %")
    ]


def test_a_story_shows_each_look_and_no_markup_of_others() -> None:
    story = replace(story_of(0.2, 0.3, 0.9), name='"><script>', warning="<i>dark")
    html = render(story, 0.25)
    assert html.count('class="box"') == html.count("<li") == 2
    assert "Look 3 was not taken." in html
    assert "Looks 2 and 3 were not taken." in render(story, 0.1)
    assert "changed its mind" not in html
    assert "above 0.25: it stops" in html
    html = render(story, 1.0)
    assert html.count("changed its mind") == 1
    assert "not taken" not in html
    assert "the last look in any case" in html
    assert "<script>" not in html
    assert "&lt;i&gt;dark" in html
    hostile = [Belief("<img src=x onerror=alert(1)>\x1b[2J\u202e", 0.5)]
    html = render(replace(story, looks=[replace(look, beliefs=hostile) for look in story.looks]), 0.5)
    assert "<img src=x" not in html
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert [*COLOURS] == ["#" + "".join(f"{round(255 * part):02x}" for part in rgb) for rgb in PLOTTED]


def test_without_gradio_one_sentence_names_the_extra(dtram, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "dtram_hub.demo.layout", raising=False)
    said = "dtram: this command needs gradio; pip install 'dtram-hub[demo]' installs it."
    assert dtram("demo") == (1, "", said)


def test_the_space_names_its_files() -> None:
    front = yaml.safe_load((SPACE / "README.md").read_text().split("---")[1])
    assert (front["sdk"], front["app_file"]) == ("gradio", "app.py")
    assert (SPACE / front["app_file"]).is_file()
    assert len(front["short_description"]) <= 60  # as the Hub wants it
    extras = tomllib.loads((SPACE.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert (SPACE / "requirements.txt").read_text() == "dtram-hub[demo]\n"
    assert "demo" in extras
