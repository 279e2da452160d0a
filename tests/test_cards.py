"""Model cards: every number is a run's, every text is shown as it is."""

import html
import json
import os
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import timm
import yaml
from huggingface_hub import ModelCard

import dtram_hub
from dtram_hub.inference.uncertainty import Budget
from dtram_hub.models.registry import WEIGHTS
from dtram_hub.sharing import cards
from hub_faults import REPO, TOKEN, make_model
from loopback_hub import LoopbackHub

SHIPPED = WEIGHTS / "dtram_glimpse_mlp.mnist_dtram98"


def test_every_code_block_of_a_card_runs(hub: LoopbackHub) -> None:
    dtram_hub.push(SHIPPED, "me/carded", token=TOKEN)
    card = ModelCard(hub.repos["models", "me/carded"].files["README.md"].decode())
    found = {r.metric_type: r.metric_value for r in card.data.eval_results}
    assert found == {
        "accuracy": 0.9925,
        "balanced_accuracy": 0.992459,
        "mean_steps": 3.0152,
        "gflops": 0.001329,
    }
    blocks = re.findall(r"```python\n(.*?)```", card.text, flags=re.DOTALL)
    assert len(blocks) == card.text.count("```") // 2 == 1
    assert 'create_model("hf-hub:me/carded"' in blocks[0]
    exec(blocks[0], {})
    assert "head" in hub.requests


def test_a_card_without_metrics_claims_nothing(tmp_path: Path) -> None:
    make_model(1).save_pretrained(tmp_path)
    text = cards.render_card(tmp_path, "mine").content
    assert "Nothing was measured" in text
    assert "model-index" not in text
    assert "%" not in text.split("---", 2)[2]


EVIL = "<script>alert(1)</script> | `x` [y](http://z)\n\n# big **b** \x1b[2J ![p](http://q) $x$"


def hostile_run(folder: Path, **changes) -> Path:
    """A copy of the shipped run with changed metrics and hostile texts."""
    for path in SHIPPED.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    metrics = json.loads((SHIPPED / "metrics.json").read_text())
    metrics |= {"machine": EVIL, "version": EVIL, "note": EVIL, "classes": [EVIL, *metrics["classes"][1:]]}
    metrics["scores"]["class_accuracy"][0] = 0.0
    metrics["curves"] = {EVIL: next(iter(metrics["curves"].values()))}
    (folder / "metrics.json").write_text(json.dumps(metrics | changes))
    config = json.loads((SHIPPED / "config.json").read_text())
    config["label_names"] = [EVIL, *map(str, range(1, 10))]
    (folder / "config.json").write_text(json.dumps(config))
    recipe = yaml.safe_load((SHIPPED / "recipe.yaml").read_text())
    recipe["data"]["source"] = f"hub:{EVIL}"
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def test_texts_of_a_run_are_no_markup_in_its_card(tmp_path: Path) -> None:
    card = cards.render_card(hostile_run(tmp_path), EVIL, EVIL)
    assert yaml.safe_load(card.content.split("---", 2)[1])["model-index"][0]["name"] == EVIL
    before, code, after = card.text.split("```")
    assert json.loads(re.search(r"create_model\((.*), pretrained", code).group(1)) == EVIL
    shown = (before + after).replace("\n", "")
    assert shown.isprintable()
    assert not re.search(r"<script|<[a-z]|\[y\]|!\[p\]|\*\*", shown)
    assert not re.search(r"^# big", card.text, flags=re.MULTILINE)
    tables = [line for line in card.text.splitlines() if line.startswith("| mean steps | stop threshold")]
    assert [line.count("|") for line in tables] == [6]
    readable = html.unescape(card.text)
    assert readable.count("<script>alert(1)</script> | `x` [y](http://z) # big **b** \\x1b[2J ![p]") >= 6


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"results": [{"model": "m"}]}, ""),
        ({"test_images": "<b>"}, "test_images"),
        ({"test_images": None}, "test_images"),
        ({"seed": [1]}, "seed"),
        ({"seconds": {"dtram": float("nan")}}, "seconds.dtram"),
        ({"seconds": {}}, "dtram"),
        ({"curves": {"x": [{"mean_steps": "<b>", "accuracy": 1}]}}, "curves.x.0.mean_steps"),
        ({"curves": [1]}, "curves"),
        ({"budget": {"mean_steps": 1}}, "budget"),
        ({"budget": {}}, "budget"),
        ({"stage_kinds": {"dtram": "evil"}}, "stages.evil.epochs"),
        ({"budgets": [{"mean_steps": 1, "accuracy": 1, "budget": "<b>", "stop_threshold": 1}]}, "budgets.0"),
        ({"classes": ["a"]}, "classes have other lengths"),
        ({"scores": {"accuracy": "<b>"}}, "scores.accuracy"),
        ({"images": {"test": "<b>"}}, "images.test"),
        ({"images": {"<b>": 1}}, "images.<b>"),
    ],
)
def test_metrics_that_are_no_numbers_are_refused_by_name(tmp_path: Path, change: dict, where: str) -> None:
    folder = hostile_run(tmp_path, **change)
    for call in (cards.render_card, cards.facts, cards.eval_results):
        with pytest.raises(ValueError, match=r"is not in the format of a run \(") as refused:
            call(folder)
        assert where in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_push_follows_no_link_out_of_the_folder(hub: LoopbackHub, tmp_path: Path) -> None:
    secret, run = tmp_path / "secret", tmp_path / "run"
    secret.write_text("private")
    make_model(1).save_pretrained(run)
    (run / "README.md").symlink_to(secret)
    with pytest.raises(ValueError, match=r"README\.md' is no file of its own; a push takes no pipes and no"):
        dtram_hub.push(run, REPO, token=TOKEN)
    (run / "README.md").unlink()
    os.mkfifo(run / "steps.png")
    with pytest.raises(ValueError, match=r"steps\.png' is no file of its own"):
        dtram_hub.push(run, REPO, token=TOKEN)
    assert hub.repos == {}
    (run / "steps.png").unlink()
    (run / "text.md").write_text("---\nlicense: mit\n---\nmine")
    (run / "README.md").symlink_to("text.md")
    (tmp_path / "link").symlink_to(run)
    dtram_hub.push(tmp_path / "link", REPO, token=TOKEN)
    assert hub.repos["models", REPO].files["README.md"].endswith(b"mine")
    os.remove(run / "config.json")
    os.mkfifo(run / "config.json")
    with pytest.raises(ValueError, match=r"has no config\.json"):
        dtram_hub.push(run, REPO, token=TOKEN)


def test_a_card_tells_how_sure_a_budget_is(tmp_path: Path) -> None:
    budget = Budget(1.4, 0.25, images=24, measured=1.375, low=1.151, high=1.912)
    text = cards.render_card(hostile_run(tmp_path, budget=asdict(budget)), "mine").text
    assert (
        "\nThe stop threshold 0.2500 was set for 1.4 mean steps. It takes 1.38 on the 24 validation" in text
    )
    assert "1.15 to 1.91 on new images like them (95 % confidence). A narrower range takes more" in text
    assert "was set for" not in cards.render_card(SHIPPED).text


def table(text: str, head: str) -> list[list[str]]:
    """The rows of a table of the card, below its two lines of head."""
    lines = text[text.index(head) :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_a_card_shows_what_a_mean_hides_and_only_budgets_that_differ(tmp_path: Path) -> None:
    text = cards.render_card(SHIPPED).text
    metrics = json.loads((SHIPPED / "metrics.json").read_text())
    scores = metrics["scores"]
    assert f"| balanced accuracy | {100 * scores['balanced_accuracy']:.2f} % |" in text
    assert f"| top-5 accuracy | {100 * scores['top5_accuracy']:.2f} % |" in text
    assert f"| expected calibration error | {100 * scores['calibration_error']:.2f} % |" in text
    worst = min(range(10), key=scores["class_accuracy"].__getitem__)
    assert f"known least: {worst} ({100 * scores['class_accuracy'][worst]:.1f} % right)," in text
    rows = table(text, "| mean steps | stop threshold | GFLOPs per image | learned stops of the DT-RAM |")
    assert 4 < len(rows) < len(metrics["budgets"]) - 1  # from one look to where more looks change nothing
    by_steps = {f"{row['mean_steps']:.2f}": row for row in metrics["budgets"][1:]}
    for steps, threshold, _, error, *_ in rows:
        assert threshold == f"{by_steps[steps]['stop_threshold']:.4g}"
        assert error == f"{100 * (1 - by_steps[steps]['accuracy']):.2f} %"
    old = json.loads((hostile_run(tmp_path) / "metrics.json").read_text())
    for name in ("budgets", "classes", "scores", "images"):
        del old[name]
    (tmp_path / "metrics.json").write_text(json.dumps(old))
    text = cards.render_card(tmp_path, "old").text
    assert "balanced accuracy" not in text
    steps = [row[0] for row in table(text, "| mean steps | GFLOPs per image | &#60;")]
    assert steps[:3] == ["1.00", "1.50", "2.00"]
    assert len(steps) < 13


def test_a_card_states_what_its_owner_states(tmp_path: Path) -> None:
    folder = hostile_run(tmp_path)
    data = cards.render_card(folder, "mine").data
    assert (data.license, data.base_model) == (None, None)
    assert "Licence of the weights" not in cards.render_card(folder, "mine").text
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text()) | {"encoder_weights": "timm"}
    card = cards.render_card(folder, "mine", terms={"license": "cc-by-4.0"})
    assert card.data.license == "cc-by-4.0"
    assert "Licence of the weights: cc-by-4.0." in card.text
    for changes, expected in {
        ("dtram_resnet18.a1_in1k", None): "timm/resnet18.a1_in1k",
        ("dtram", "resnet18"): "timm/resnet18.a1_in1k",
        ("dtram", "hf-hub:me/encoder"): "me/encoder",
        ("dtram", "glimpse_mlp"): None,
    }.items():
        asked = recipe | {"architecture": changes[0], "model": {"backbone": changes[1]}}
        (folder / "recipe.yaml").write_text(yaml.safe_dump(asked))
        model = timm.create_model("dtram_resnet18" if changes[0] != "dtram" else "dtram_glimpse_mlp")
        assert cards.base_model(asked, model) == expected
    assert cards.render_card(folder, "mine").data.base_model is None


def test_a_card_without_pictures(tmp_path: Path) -> None:
    folder = hostile_run(tmp_path)
    (folder / "steps.png").write_bytes(b"picture")
    text = cards.write_card(folder, "me/shown").read_text()
    assert "![Histogram of steps](steps.png)" in text
    text = cards.write_card(folder, "me/bare", overwrite=True, license="mit", pictures=False).read_text()
    assert ".png" not in text
    assert "\nlicense: mit\n" in text
    with pytest.raises(ValueError, match="license='MIT' is no licence"):
        cards.write_card(folder, "me/bare", overwrite=True, license="MIT")


def test_a_folder_of_images_has_sizes_and_no_name(tmp_path: Path) -> None:
    folder = hostile_run(tmp_path, images={"train": 1200, "validation": 150, "test": 300})
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    recipe["data"] |= {"source": "imagefolder", "root": "/home/ann/secret"}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    text = cards.render_card(folder, "mine").content
    assert "secret" not in text
    assert "images of 10 classes, which `config.json` names: 1,200 for train, 150 for validation, 300" in text


@pytest.mark.parametrize("repo", ["noslash", "a/b/c", "me/x y", "", "me/", "-me/x", "me/a--b"])
def test_a_card_takes_the_names_that_a_push_takes(dtram, hub: LoopbackHub, tmp_path: Path, repo: str) -> None:
    folder = tmp_path / "run"
    make_model(1).save_pretrained(folder)
    code, _, complaint = dtram("card", folder, "--", repo)
    assert code == 1
    assert complaint.startswith(f"dtram: repo_id={repo!r}")
    assert not (folder / "README.md").exists()
    assert dtram("push", folder, "--", repo)[2] == complaint
    assert hub.requests == []
