"""Model cards: every number is a run's, every text is shown as it is."""

import html
import json
import os
import re
from dataclasses import asdict
from pathlib import Path

import pytest
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
    assert found == {"accuracy": 0.9925, "mean_steps": 3.0152, "gflops": 0.001329}
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
    metrics |= {"machine": EVIL, "version": EVIL, "note": EVIL}
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
    tables = [line for line in card.text.splitlines() if line.startswith("| mean steps | &#60;")]
    assert [line.count("|") for line in tables] == [3]
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
